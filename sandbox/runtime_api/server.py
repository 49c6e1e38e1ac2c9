"""HTTP/1.1 on a loopback port: one thread for each connection, h11 for the protocol.

What a request means is decided by a Service; this module only reads whole requests and writes whole replies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import re
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import h11

from sandbox.errors import EmulatorError

_RECEIVE = 256 * 1024
# awslambdaric puts up to 1 MiB of X-Ray cause into one request header.
_HEAD_LIMIT = 1280 * 1024
# A refused body is read to its end so that the client sees the refusal and not a reset; not for ever, though.
_DRAIN_LIMIT = 64 * 1024 * 1024
_LINGER = 1.0
_ACKNOWLEDGE = 0.2
_ABSOLUTE_FORM = re.compile(r"^https?://[^/?]*", re.IGNORECASE)


@dataclass(frozen=True)
class HttpRequest:
    """One request, read to its end. Header and trailer names are in lower case.

    `oversize`: the body was longer than the service's limit and was thrown away. `truncated`: the connection
    or the framing broke inside the body; `body` is what had arrived.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    trailers: Mapping[str, str] | None = None
    oversize: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class Reply:
    """One response. `lost` is called when it turns out that the client had hung up before it came."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    lost: Callable[[], None] | None = None


class Service(Protocol):
    """What a server serves. Both methods are called from connection threads, several at once."""

    def body_limit(self, headers: Mapping[str, str]) -> int:
        """Return how many bytes of body a request with these headers may have."""

    def answer(self, request: HttpRequest) -> Reply | None:
        """Return the reply, or None to close the connection without one. May block for any time."""

    def broken(self, error: RuntimeError) -> None:
        """Hear that a connection could not be served: no thread could be started for it."""


def problem(status: int, error_type: str, message: str, *headers: tuple[str, str]) -> Reply:
    """Return an error reply in the Runtime API's form."""
    body = json.dumps({"errorMessage": message, "errorType": error_type}).encode() + b"\n"
    return Reply(status, body, (("Content-Type", "application/json"), *headers))


class Server:
    """A listening socket on 127.0.0.1, bound at once; `start` serves, `close` ends all its threads.

    `close_every`: after that many replies on a connection the server announces and closes it; 0 is never.
    Raises EmulatorError when no port can be bound.
    """

    def __init__(self, service: Service, *, close_every: int = 0) -> None:
        self._service = service
        self._close_every = close_every
        self._changed = threading.Condition()
        self._connections: set[_Connection] = set()
        self._acceptor: threading.Thread | None = None
        self._closed = threading.Event()
        self._marker: object = None
        try:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        except OSError as error:
            raise EmulatorError(
                f"no port could be bound: {error.strerror}",
                where="127.0.0.1",
                todo="check that the loopback interface is up and that sockets are permitted",
            ) from error
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        """Begin to accept; does nothing the second time."""
        if self._acceptor is None:
            acceptor = threading.Thread(target=self._accept, name=f"runtime-api-{self.port}", daemon=True)
            acceptor.start()
            self._acceptor = acceptor

    def drain(self, timeout: float) -> None:
        """Let connections finish what their clients had sent, at most `timeout` seconds; then cut them."""
        # The backlog is a queue: when a connection of our own comes out of it, all earlier ones have.
        with socket.socket() as marker, contextlib.suppress(OSError):
            marker.bind(("127.0.0.1", 0))
            self._marker = marker.getsockname()
            marker.settimeout(timeout)
            marker.connect(("127.0.0.1", self.port))
            with self._changed:
                self._changed.wait_for(lambda: self._marker is None, timeout)
        with self._changed:
            waiting = set(self._connections)
            if not self._changed.wait_for(lambda: not waiting & self._connections, timeout):
                for connection in waiting & self._connections:
                    connection.cut()
                self._changed.wait_for(lambda: not waiting & self._connections)

    def close(self) -> None:
        """Stop listening, cut all connections and wait for their threads. Idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        # shutdown wakes accept(2) with EINVAL; close alone would leave it asleep.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor is not None:
            self._acceptor.join()
        self._listener.close()
        with self._changed:
            threads = [connection.thread for connection in self._connections]
            for connection in self._connections:
                connection.cut()
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                peer, name = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The connection stays in the backlog; try again when descriptors may have been freed.
                    self._closed.wait(0.1)
                elif error.errno not in (errno.ECONNABORTED, errno.EPROTO, errno.EINTR):
                    return
                continue
            connection = _Connection(peer, self._service, self._close_every, self._forget)
            with self._changed:
                self._connections.add(connection)
                if name == self._marker:
                    self._marker = None
                    self._changed.notify_all()
            try:
                connection.thread.start()
            except RuntimeError as error:
                peer.close()
                self._forget(connection)
                self._service.broken(error)

    def _forget(self, connection: _Connection) -> None:
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()


class _Connection:
    """One client: requests in, replies out, until one side closes."""

    def __init__(
        self, peer: socket.socket, service: Service, close_every: int, forget: Callable[[_Connection], None]
    ) -> None:
        self._peer = peer
        self._service = service
        self._close_every = close_every
        self._forget = forget
        self._replies = 0
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
        self._closing = threading.Lock()
        self._unconfirmed: Callable[[], None] | None = None
        self.thread = threading.Thread(target=self._run, name="runtime-api-connection", daemon=True)

    def cut(self) -> None:
        """Wake the thread from whatever it does on the socket; the thread itself closes it."""
        with self._closing, contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A client that vanishes ends its own connection and nothing else.
            with contextlib.suppress(OSError):
                while self._serve():
                    pass
        finally:
            with self._closing:
                self._peer.close()
            self._forget(self)

    def _serve(self) -> bool:
        """Serve one request; return whether another may follow."""
        try:
            event = self._event()
        except h11.RemoteProtocolError as error:
            self._refuse(error)
            return False
        if not isinstance(event, h11.Request):
            return False
        request = self._read(event)
        reply = self._service.answer(request)
        if reply is None:
            return False
        self._replies += 1
        last = self._close_every > 0 and self._replies % self._close_every == 0
        broken = request.truncated or self._http.their_state is not h11.DONE
        self._send(reply, head_only=request.method == "HEAD", close=last or broken)
        if broken:
            self._linger()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                proceed = h11.InformationalResponse(status_code=100, headers=[])
                self._peer.sendall(self._http.send(proceed) or b"")
            self._http.receive_data(self._receive())

    def _receive(self) -> bytes:
        try:
            data = self._peer.recv(_RECEIVE)
        except OSError:
            self._confirm(arrived=False)
            raise
        if self._unconfirmed is not None:
            self._confirm(arrived=bool(data) or self._arrived())
        return data

    def _confirm(self, *, arrived: bool) -> None:
        lost, self._unconfirmed = self._unconfirmed, None
        if lost is not None and not arrived:
            lost()

    def _arrived(self) -> bool:
        """Return whether the peer's kernel took all that was sent; one whose program had closed answers with RST.

        TIOCOUTQ counts bytes that are not acknowledged (tcp(7), SIOCOUTQ); acknowledging may take it 40 ms.
        """
        watch = select.poll()
        watch.register(self._peer, 0)
        end = time.monotonic() + _ACKNOWLEDGE
        while time.monotonic() < end:
            (pending,) = struct.unpack("i", fcntl.ioctl(self._peer, termios.TIOCOUTQ, bytes(4)))
            if pending == 0 or watch.poll(5):
                break
        return not watch.poll(0)

    def _read(self, head: h11.Request) -> HttpRequest:
        headers = _texts(head.headers)
        method = head.method.decode("ascii")
        path = _ABSOLUTE_FORM.sub("", head.target.decode("latin-1")).partition("?")[0]
        limit = self._service.body_limit(headers)
        body = bytearray()
        size = 0
        trailers: dict[str, str] = {}
        truncated = False
        while size <= limit + _DRAIN_LIMIT:
            try:
                event = self._event()
            except (h11.RemoteProtocolError, ConnectionError):
                truncated = True
                break
            if isinstance(event, h11.Data):
                size += len(event.data)
                if size <= limit:
                    body += event.data
            elif isinstance(event, h11.EndOfMessage):
                trailers = _texts(event.headers)
                break
        oversize = size > limit
        return HttpRequest(method, path, headers, b"" if oversize else bytes(body), trailers, oversize, truncated)

    def _send(self, reply: Reply, *, head_only: bool, close: bool) -> None:
        headers = [*reply.headers, ("Content-Length", str(len(reply.body)))]
        if close:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(reply.status).phrase.encode()
        head = h11.Response(status_code=reply.status, headers=headers, reason=reason)
        data = self._http.send(head) or b""
        if reply.body and not head_only:
            data += self._http.send(h11.Data(data=reply.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        self._unconfirmed = reply.lost
        try:
            self._peer.sendall(data)
        except OSError:
            self._confirm(arrived=False)
            raise
        if close and self._unconfirmed is not None:
            self._confirm(arrived=self._arrived())

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        self._send(
            problem(error.error_status_hint, "InvalidRequest", str(error)), head_only=False, close=True
        )
        self._linger()

    def _linger(self) -> None:
        """Read on for a moment: closing with unread bytes would reset the reply that is on its way."""
        self._peer.shutdown(socket.SHUT_WR)
        end = time.monotonic() + _LINGER
        with contextlib.suppress(TimeoutError):
            while (left := end - time.monotonic()) > 0:
                self._peer.settimeout(left)
                if not self._peer.recv(_RECEIVE):
                    return


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("ascii").lower(), value.decode("latin-1")
        texts[key] = f"{texts[key]}, {text}" if key in texts else text
    return texts
