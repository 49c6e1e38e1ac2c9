"""The way to the Runtime API through the supervisor, which so learns the id of the request that is being served.

For SANDBOX_REQUEST_ID=relay alone, which puts that id into each violation line: it costs each invocation some wake-ups
of the supervisor. Bytes pass as they are, in both directions and with the backpressure of either end. Only heads of
HTTP/1.1 messages are looked at, and never changed: a body may hold anything, also what looks like a head.
"""

from __future__ import annotations

import _socket
import errno
import select
import struct
import time

from sandbox.kernel import sockaddr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Follower(Protocol):
        """What hears of invocations (sandbox/supervise/activity.py)."""

        def began(self, request: str) -> None: ...
        def answered(self, request: str) -> None: ...
        def ended(self, request: str) -> None: ...

PIECE = 1 << 18
"""Bytes that are read at once, and that wait for one end at most."""
MOST = 16
"""Connections at a time: a client of the Runtime API has one or two, and each may hold two pieces."""
LONGEST_LINE = 8192
LARGEST_HEAD = 1 << 18
LONGEST_ID = 128
ID_HEADER = b"lambda-runtime-aws-request-id"

_HEAD, _BODY, _SIZE, _TRAILER, _LOST = range(5)
FAREWELL = 0.5
"""Seconds that the function's last words to the Runtime API may take after its end."""
_NON_BLOCKING = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


class Relay:
    """Listens on loopback for the handler's connections, each of which gets one of its own to the Runtime API.

    Raises OSError when loopback cannot be bound.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._owners: dict[int, Callable[[int], None]] = {}
        self._listening: dict[int, _socket.socket] = {}
        self._open = 0
        self._served: dict[str, bool] = {}  # the ids of requests, and whether they have been answered
        self.stopped = False
        """The function is ended: what it says from now on does not reach the Runtime API."""
        self.follower: Follower | None = None
        """Hears when a request begins, is answered, and ends."""
        self.upstream: tuple[int, bytes] = (_socket.AF_INET, b"")
        for family, host in ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1")):
            try:
                sock = _socket.socket(family, _socket.SOCK_STREAM | _NON_BLOCKING)
                sock.bind((host, 0))
                sock.listen(64)
            except OSError:
                if family == _socket.AF_INET:
                    raise
            else:
                self._listening[family] = sock
                self._watch(sock, select.EPOLLIN, self._accepting(sock))

    def address(self, host: str, port: int, family: int) -> bytes:
        """The struct sockaddr in place of the Runtime API's (`host`, `port`), for a socket of AF_INET or AF_INET6."""
        self.upstream = (_socket.AF_INET6 if ":" in host else _socket.AF_INET, f"{host} {port}".encode())
        own = self._listening.get(family)
        number = (own or self._listening[_socket.AF_INET]).getsockname()[1]
        loopback = b"\x7f\0\0\1"
        if family == _socket.AF_INET:
            return struct.pack("<H", family) + struct.pack(">H4s8x", number, loopback)
        place = bytes(15) + b"\1" if own else sockaddr.MAPPED + loopback
        return struct.pack("<H", family) + struct.pack(">HI16sI", number, 0, place, 0)

    def request(self) -> str | None:
        """The id of the request that is being served; None where it is none, or more than one."""
        return next(iter(self._served)) if len(self._served) == 1 else None

    def descriptor(self) -> int:
        """What to poll for input; the same for as long as the relay lives."""
        return self._epoll.fileno()

    def handle(self) -> None:
        """Pass on what there is, without waiting."""
        ready = [(number, events, self._owners.get(number)) for number, events in self._epoll.poll(0, 64)]
        for number, events, owner in ready:
            if owner is not None and self._owners.get(number) is owner:
                owner(events)

    def finish(self) -> None:
        """The function has ended: what it said last still goes to the Runtime API, for FAREWELL seconds at most."""
        deadline = time.monotonic() + FAREWELL
        for sock in self._listening.values():
            self._unwatch(sock)
            sock.close()
        self._listening.clear()
        while self._owners and (left := deadline - time.monotonic()) > 0:
            select.select([self._epoll.fileno()], [], [], left)
            self.handle()

    def took(self, request: str) -> None:
        """The function was given this request."""
        if self.follower and request not in self._served:
            self.follower.began(request)
        self._served[request] = False

    def answered(self, request: str) -> None:
        """Its answer has arrived; it is served until the next one is asked for."""
        if request in self._served:
            self._served[request] = True
            if self.follower:
                self.follower.answered(request)

    def asks(self, before: str | None) -> None:
        """The next request is asked for, by a connection that was given `before` the last time."""
        over = [request for request, done in self._served.items() if done or request == before]
        for request in over:
            del self._served[request]
            if self.follower:
                self.follower.ended(request)

    def _watch(self, sock: _socket.socket, events: int, owner: Callable[[int], None]) -> None:
        number = sock.fileno()
        if number in self._owners:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._owners[number] = owner

    def _unwatch(self, sock: _socket.socket) -> None:
        if self._owners.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def watch(self, sock: _socket.socket, events: int, owner: Callable[[int], None]) -> None:
        """Call `owner(events)` when the socket is ready; without events not even for its end."""
        if events:
            self._watch(sock, events, owner)
        else:
            self._unwatch(sock)

    def _accepting(self, listening: _socket.socket) -> Callable[[int], None]:
        return lambda _events: self._accept(listening)

    def _accept(self, listening: _socket.socket) -> None:
        try:
            number, _ = listening._accept()  # type: ignore[attr-defined]  # socket.accept's core
        except OSError:
            return  # gone already, or no descriptor left: then the connection waits in the backlog
        client = _socket.socket(fileno=number)
        family, place = self.upstream
        host, port = place.decode().split(" ")
        try:
            upstream = _socket.socket(family, _socket.SOCK_STREAM | _NON_BLOCKING)
        except OSError:
            client.close()
            return
        client.setblocking(False)
        failed = upstream.connect_ex((host, int(port)))
        for sock in (client, upstream):
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._open += 1
        if self._open == MOST:  # the next wait in the backlog
            for sock in self._listening.values():
                self._unwatch(sock)
        Connection(self, client, upstream, refused=failed not in (0, errno.EINPROGRESS))

    def closed(self) -> None:
        """A connection has ended."""
        self._open -= 1
        for sock in self._listening.values():
            self._watch(sock, select.EPOLLIN, self._accepting(sock))


class Responses:
    """The responses of one connection. What cannot be followed is not guessed at: then nothing more is said of it.

    `request` is the id in the head that came last and had one, `finished` how many responses are over.
    """

    __slots__ = ("_buffer", "_chunked", "_left", "_state", "finished", "request")

    def __init__(self) -> None:
        self.request: str | None = None
        self.finished = 0
        self._buffer = bytearray()
        self._left = 0
        self._chunked = False
        self._state = _HEAD

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._state == _BODY and len(data) < self._left:
            self._left -= len(data)
        elif self._state != _LOST:
            self._buffer += data
            while self._step():
                pass

    def _step(self) -> bool:
        """Go on by one part; False when more bytes are needed."""
        buffer = self._buffer
        if self._state == _BODY:
            taken = min(self._left, len(buffer))
            del buffer[:taken]
            self._left -= taken
            if self._left:
                return False
            return self._begin(_SIZE) if self._chunked else self._finish()
        end = b"\r\n\r\n" if self._state == _HEAD else b"\r\n"
        at = buffer.find(end)
        if at < 0:
            return self._lose() if len(buffer) > LARGEST_HEAD else False
        text = bytes(buffer[:at])
        del buffer[: at + len(end)]
        if self._state == _HEAD:
            return self._head(text)
        if self._state == _TRAILER:
            return True if text else self._finish()
        return self._size(text)

    def _head(self, text: bytes) -> bool:
        lines = text.split(b"\r\n")
        words = lines[0].split(b" ")
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            return self._lose()
        fields: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        code = int(words[1])
        found = fields.get(ID_HEADER, b"")
        if found and len(found) <= LONGEST_ID and found.isascii() and found.decode().isprintable():
            self.request = found.decode()
        if code < 200:  # the answer proper follows
            return self._begin(_HEAD)
        if code in (204, 304):
            return self._finish()
        length = fields.get(b"content-length", b"")
        self._chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        if self._chunked:
            return self._begin(_SIZE)
        if not length.isdigit() or len(length) > 18:
            return self._lose()  # it ends with the connection
        self._left = int(length)
        return self._begin(_BODY)

    def _size(self, text: bytes) -> bool:
        digits = text.partition(b";")[0].strip()
        if not 0 < len(digits) <= 15 or digits.strip(b"0123456789abcdefABCDEF"):
            return self._lose()
        size = int(digits, 16)
        self._left = size + 2  # with the line's end behind the data
        return self._begin(_BODY if size else _TRAILER)

    def _begin(self, state: int) -> bool:
        self._state = state
        return True

    def _finish(self) -> bool:
        self.finished += 1
        return self._begin(_HEAD)

    def _lose(self) -> bool:
        self._state = _LOST
        self._buffer.clear()
        return False


def asks_for_next(line: bytes) -> bool:
    """Whether a request line asks for the next invocation."""
    words = line.split(b" ")
    return len(words) > 1 and words[0] == b"GET" and words[1].endswith(b"/invocation/next")


def answers(line: bytes) -> str | None:
    """The id of the request that a request line answers, with a response or an error; None for any other line."""
    words = line.split(b" ")
    parts = words[1].split(b"/") if len(words) > 1 and words[0] == b"POST" else []
    if len(parts) > 3 and parts[-3] == b"invocation" and parts[-1] in (b"response", b"error"):
        return parts[-2].decode("ascii", "replace")
    return None


class _End:
    """One end of a connection, and what waits to be sent to it."""

    __slots__ = ("hung_up", "shut_down", "sock", "waiting")

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.waiting = b""
        self.hung_up = False
        """It sends nothing more."""
        self.shut_down = False
        """Its writing half is closed, as the other end sends nothing more."""


class Connection:
    """A connection of the handler and its other half to the Runtime API."""

    def __init__(self, relay: Relay, client: _socket.socket, upstream: _socket.socket, *, refused: bool) -> None:
        self._relay = relay
        self._client, self._upstream = _End(client), _End(upstream)
        self._responses = Responses()
        self._line: bytes | None = b""
        self._answering: str | None = None
        self._request_id: str | None = None
        self._connecting = True
        if refused:
            self._abort()
        else:
            self._rearm()

    def _client_ready(self, events: int) -> None:
        self._ready(self._client, self._upstream, self._heard_client)

    def _upstream_ready(self, events: int) -> None:
        if self._connecting:
            number = self._upstream.sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if number:
                self._abort()
                return
            self._connecting = False
        self._ready(self._upstream, self._client, self._heard_upstream)

    def _ready(self, end: _End, other: _End, heard: Callable[[bytes], None]) -> None:
        try:
            self._send(end)
            if not end.hung_up and not other.waiting:
                try:
                    data = end.sock.recv(PIECE)
                except BlockingIOError:
                    pass
                else:
                    heard(data)
                    if self._relay.stopped:
                        self._abort()
                        return
                    end.hung_up = not data
                    other.waiting = data
                    if not (other is self._upstream and self._connecting):
                        self._send(other)
        except OSError:
            self._abort()
            return
        self._rearm()

    def _send(self, end: _End) -> None:
        """Send what waits, then the end of the other. Raises OSError for a peer that is gone."""
        if end.waiting:
            try:
                end.waiting = end.waiting[end.sock.send(end.waiting, _socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                return
        other = self._client if end is self._upstream else self._upstream
        if other.hung_up and not end.waiting and not end.shut_down:
            end.shut_down = True
            end.sock.shutdown(_socket.SHUT_WR)

    def _rearm(self) -> None:
        client, upstream = self._client, self._upstream
        if client.shut_down and upstream.shut_down:
            self._close()
            return
        for end, other, ready in (
            (client, upstream, self._client_ready), (upstream, client, self._upstream_ready),
        ):  # fmt: skip
            reading = select.EPOLLIN if not end.hung_up and not other.waiting else 0
            if end is upstream and self._connecting:
                reading = select.EPOLLOUT
            self._relay.watch(end.sock, reading | (select.EPOLLOUT if end.waiting else 0), ready)

    def _heard_client(self, data: bytes) -> None:
        """The request line of each request, which comes when nothing is under way."""
        if self._line is None:
            return
        self._line += data[:LONGEST_LINE]
        line, found, _ = self._line.partition(b"\r\n")
        if found or len(line) > LONGEST_LINE:
            self._line = None
            self._answering = answers(line)
            if asks_for_next(line):
                self._relay.asks(self._request_id)
                self._request_id = None

    def _heard_upstream(self, data: bytes) -> None:
        """Before the handler hears it, so that no call of its comes too early."""
        responses = self._responses
        before = responses.finished
        responses.feed(data)
        if responses.request:
            self._request_id, responses.request = responses.request, None
            self._relay.took(self._request_id)
        if responses.finished != before:
            self._line = b""
            if self._answering:
                self._relay.answered(self._answering)
                self._answering = None

    def _abort(self) -> None:
        """One end is gone in the middle: the other hears it the same way, by a reset."""
        for end in (self._client, self._upstream):
            try:
                end.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("<ii", 1, 0))
            except OSError:
                continue
        self._close()

    def _close(self) -> None:
        if self._client.sock.fileno() < 0:
            return
        for end in (self._client, self._upstream):
            self._relay.watch(end.sock, 0, self._client_ready)
            end.sock.close()
        self._relay.closed()


def make() -> Relay | None:
    """A relay; None where loopback cannot be bound."""
    try:
        return Relay()
    except OSError:
        return None
