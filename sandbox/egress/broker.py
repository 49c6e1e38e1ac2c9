"""The egress broker: makes connects and addressed sends itself, on a duplicate of the caller's socket.

The address is copied once, decided on, and used: what the caller's memory holds afterwards no longer matters. Nothing
here is ever answered with "go on" (man 2 seccomp_unotify: a check of what a pointer names can be raced).

What may sleep does so in a thread of its own, for its caller alone.
"""

from __future__ import annotations

import _thread
import errno
import os
import struct

from sandbox.behaviour.destination import RUNTIME_API
from sandbox.egress import messages, sockets
from sandbox.egress.messages import Message
from sandbox.egress.sockets import MSG_DONTWAIT, MSG_FASTOPEN
from sandbox.kernel import sockaddr
from sandbox.kernel.memory import MMSGHDR, MOST_PIECES, MSGHDR
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, SOCK_DGRAM, SOCK_STREAM
from sandbox.kernel.task import socket_kind
from sandbox.names import DNS_PORT
from sandbox.remember import remember_few

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from sandbox.egress.destinations import Destinations
    from sandbox.egress.relay import Relay
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.task import Task
    from sandbox.names.forwarder import Forwarder

    class Source(Protocol):
        """Where descriptors of callers' sockets come from: Duplicates, or sandbox/egress/owned.py.

        `duplicate` raises OSError, or Denied for a socket of which it has none.
        """

        def duplicate(self, task: Task, number: int) -> int: ...
        def release(self, fd: int) -> None: ...

    Answer = tuple[int, int]  # the call's value, and an errno that is 0 where there is a value

LOW = 0xFFFFFFFF
NOWHERE = bytes(4)  # 0.0.0.0
MSG_NOSIGNAL = 0x4000
STACK = 128 << 10  # bytes for a thread that only sleeps in one system call
SUN_PATH = 110  # sizeof(struct sockaddr_un)

class Denied(Exception):
    """A destination that the profile does not name. `final`: nothing lets it through, no mode and no response."""

    def __init__(self, target: str, reason: str, allow: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.target = target
        self.reason = reason
        self.allow = allow
        self.final = final


class Duplicates:
    """The sockets of callers by pidfd_getfd(2)."""

    @staticmethod
    def duplicate(task: Task, number: int) -> int:
        """A descriptor of our own for a number of the task. Raises OSError."""
        return task.duplicate(number)

    @staticmethod
    def release(fd: int) -> None:
        """The call is made, and its caller has no answer yet."""
        os.close(fd)


class Way:
    """An address to use, None to go where the socket is connected to; `pin` is a descriptor of what it names, or -1."""

    __slots__ = ("address", "pin")

    def __init__(self, address: bytes | None, pin: int = -1) -> None:
        self.address = address
        self.pin = pin

    def close(self) -> None:
        """Let go of what it names."""
        if self.pin >= 0:
            os.close(self.pin)
            self.pin = -1


class Request:
    """One call on its way through the broker, with the duplicate of its socket."""

    __slots__ = ("call", "domain", "fd", "kept", "kind", "listener", "syscall", "task")

    def __init__(self, listener: Listener, call: Notification, syscall: str, task: Task, fd: int) -> None:
        self.listener = listener
        self.call = call
        self.syscall = syscall
        self.task = task
        self.fd = fd
        self.kept = False
        """A thread has taken over the duplicate."""
        self.domain = self.kind = 0

    def answer(self, value: int, number: int) -> None:
        """A value, or an errno that is not 0."""
        if number:
            self.listener.refuse(self.call.id, number)
        else:
            self.listener.answer(self.call.id, value)


class Egress:
    """Decides and makes the calls of tables.WITH_DESTINATION.

    `connected_to_api` is called when the Runtime API is connected to. `report(call, task, syscall, denied)` hears
    of every destination that is not allowed, while the call still waits, and says whether it goes through all the same.
    """

    def __init__(
        self, destinations: Destinations, connected_to_api: Callable[[], None],
        report: Callable[[Notification, Task, str, Denied], bool], source: Source | None = None,
    ) -> None:  # fmt: skip
        self._source = source or Duplicates()
        self._destinations = destinations
        self._verdict = remember_few(destinations.decide, 256)
        self.forwarder: Forwarder | None = None
        self.relay: Relay | None = None
        self._connected_to_api = connected_to_api
        self._report = report
        _thread.stack_size(STACK)

    def take(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        """Answer one call of tables.WITH_DESTINATION."""
        try:
            fd = self._source.duplicate(task, call.args[0] & LOW)
        except OSError as error:
            listener.refuse(call.id, error.errno or errno.EPERM)
            return
        except Denied as denied:
            # Let through by a report only: the kernel looks at the number anew, and at the address.
            if self._report(call, task, syscall, denied):
                listener.let_through(call.id)
            else:
                listener.refuse(call.id, errno.EPERM)
            return
        request = Request(listener, call, syscall, task, fd)
        answer: Answer | None
        try:
            request.domain, request.kind = socket_kind(fd)
            if syscall == "connect":
                answer = self._connect(request)
            elif syscall == "sendmmsg":
                answer = self._send_many(request)
            else:
                answer = self._send_one(request)
        except OSError as error:
            answer = 0, error.errno or errno.EPERM
        except Denied as denied:
            if denied.final:
                self._report(call, task, syscall, denied)
            answer = 0, errno.EPERM
        finally:
            # Before the answer: a socket that the caller closes at once is closed then, and not when we come to it.
            if not request.kept:
                self._source.release(fd)
        if answer:
            request.answer(*answer)

    def _connect(self, request: Request) -> Answer | None:
        call, fd = request.call, request.fd
        address = messages.read_address(request.task, call.args[1], call.args[2] & LOW)
        if not request.listener.is_valid(call.id):
            return None
        way = self._decide(request, address)
        try:
            if request.kind == SOCK_DGRAM or not sockets.is_blocking(fd):
                return 0, sockets.connect(fd, way.address)
            number = sockets.connect_without_sleep(fd, way.address)
            if number in sockets.SLEEPS:
                return self._sleep(request, lambda: (0, _connected(request, way, number)), way)
            return 0, number
        finally:
            if not request.kept:
                way.close()

    def _sleep(self, request: Request, perform: Callable[[], Answer], way: Way) -> Answer | None:
        """Answer with what `perform` returns, in a thread: it may take as long as its caller waits."""

        def run() -> None:
            try:
                answer = perform()
            finally:
                self._source.release(request.fd)
                way.close()
            request.answer(*answer)

        request.kept = True
        try:
            _thread.start_new_thread(run, ())
        except RuntimeError:  # no more threads
            request.kept = False
            return 0, errno.ENOBUFS
        return None

    def _decide(self, request: Request, address: bytes, *, sending: bool = False) -> Way:
        """How to go to where the caller wants, to the forwarder in place of a resolver. Raises Denied, OSError."""
        domain = request.domain
        if domain == AF_UNIX:
            return self._decide_unix(request, address)
        if domain not in (AF_INET, AF_INET6):
            if sending or int.from_bytes(address[:2], "little") != AF_UNSPEC:
                self._judge(request, "family", _family(domain), 0, frozenset())
            return Way(address)
        read = address
        if sending and len(address) >= 2 and int.from_bytes(address[:2], "little") == AF_UNSPEC:
            # Senders of datagrams take AF_UNSPEC for the socket's own family (net/ipv4/udp.c, net/ipv6/raw.c).
            read = domain.to_bytes(2, "little") + address[2:]
        if domain == AF_INET6 or read[4:8] == NOWHERE:
            read = sockets.specified(request.fd, read)
            address = address[:2] + read[2:]
        place = _parse(read)
        if place is None or not place.is_ip:
            return Way(address)  # the kernel refuses it; AF_UNSPEC to connect dissolves an association
        port = place.port
        protocol = sockaddr.protocol(request.kind)
        forwarder = self.forwarder
        if port == DNS_PORT and forwarder and protocol in ("tcp", "udp"):
            if sending:
                # The answer would come from the forwarder's address, which such a client does not take.
                reason = "a DNS question without connect; the resolver must connect its socket (musl and c-ares do not)"
                denied = Denied("", reason, "")
                if not self._report(request.call, request.task, request.syscall, denied):
                    raise denied
                return Way(address)
            return Way(forwarder.address(protocol, int.from_bytes(address[:2], "little")))
        names = forwarder.names_of(place.value) if forwarder else frozenset()
        rule = self._judge(request, protocol, place.value, port, names)
        if rule == RUNTIME_API and self.relay and not sending:
            return Way(self.relay.address(place.host, port, domain))
        return Way(address)

    def _decide_unix(self, request: Request, address: bytes) -> Way:
        if len(address) <= 2 or int.from_bytes(address[:2], "little") != AF_UNIX:
            return Way(address)  # dissolves an association, or the kernel refuses it
        if len(address) > SUN_PATH:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        place = _parse(address)
        if address[2] == 0:
            self._judge(request, "unix", place.host if place else "", 0, frozenset())
            return Way(address)
        # A path in a folder that the function can write may lead anywhere by a link: what is decided on is where it
        # leads, and that, kept by a descriptor, is what is connected to.
        path = address[2:].split(b"\0")[0]
        base = b"/proc/%d/cwd" % request.task.tid
        try:
            pin = os.open(os.path.join(base, path), os.O_PATH | os.O_CLOEXEC)
        except OSError:
            with_base = path if path.startswith(b"/") else os.path.join(_link(base), path)
            self._judge(request, "unix", os.path.realpath(with_base).decode(errors="replace"), 0, frozenset())
            raise
        way = Way(struct.pack("<H", AF_UNIX) + b"/proc/self/fd/%d\0" % pin, pin)
        try:
            real = _link(b"/proc/self/fd/%d" % pin)
            self._judge(request, "unix", real.decode(errors="replace"), 0, frozenset())
        except (OSError, Denied):
            way.close()
            raise
        return way

    def _judge(self, request: Request, protocol: str, host: str | bytes, port: int, names: frozenset[str]) -> str:
        """The entry that allows it, '' where only the report says to go on. Raises Denied."""
        decision = self._verdict(protocol, host, port, names)
        if decision.allowed:
            if decision.rule == RUNTIME_API:
                self._connected_to_api()
            return decision.rule
        from sandbox.behaviour import spelling  # a start without violations does without

        text = self._destinations.text_to_allow(protocol, host, port, names)
        denied = Denied(text, decision.reason, spelling.of_entry("network", text) if text else "")
        if not self._report(request.call, request.task, request.syscall, denied):
            raise denied
        return ""

    def _send_one(self, request: Request) -> Answer | None:
        call, memory, stream = request.call, request.task, request.kind == SOCK_STREAM
        if request.syscall == "sendto":
            address = messages.read_address(memory, call.args[4], call.args[5] & LOW) if call.args[4] else None
            message = Message(address, messages.read_data(memory, call.args[1], call.args[2], stream=stream))
            flags = call.args[3] & LOW
        else:
            message = messages.read_message(memory, call.args[1], stream=stream)
            flags = call.args[2] & LOW
        if not request.listener.is_valid(call.id):
            return None
        way = self._way(request, message)
        try:
            blocking = not flags & MSG_DONTWAIT and sockets.is_blocking(request.fd)
            if not blocking or not flags & MSG_FASTOPEN:
                sent, number = _send(request, message, flags | MSG_DONTWAIT, way)
                if number != errno.EAGAIN or not blocking:
                    return sent, number
            return self._sleep(request, lambda: _send(request, message, flags, way), way)
        finally:
            if not request.kept:
                way.close()

    def _send_many(self, request: Request) -> Answer | None:
        call, task = request.call, request.task
        flags = call.args[3] & LOW
        blocking = not flags & MSG_DONTWAIT and sockets.is_blocking(request.fd)
        sent = 0
        for i in range(min(call.args[2] & LOW, MOST_PIECES)):
            at = call.args[1] + MMSGHDR * i
            try:
                message = messages.read_message(task, at, stream=request.kind == SOCK_STREAM)
                if not request.listener.is_valid(call.id):
                    return None
                way = self._way(request, message)
                try:
                    done, number = _send(request, message, flags | MSG_DONTWAIT, way)
                    if number == errno.EAGAIN and blocking and not sent:
                        last = self._last_of(request, message, flags, way, at)
                        return self._sleep(request, last, way)
                    if number:
                        raise OSError(number, os.strerror(number))
                finally:
                    if not request.kept:
                        way.close()
            except (OSError, Denied) as error:
                if not sent:
                    raise
                if isinstance(error, Denied) and error.final:
                    self._report(call, task, request.syscall, error)
                break
            if not task.write(at + MSGHDR, struct.pack("<I", done)):
                if not sent:
                    raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
                break
            sent += 1
        return sent, 0

    @staticmethod
    def _last_of(request: Request, message: Message, flags: int, way: Way, at: int) -> Callable[[], Answer]:
        """What sends the first message of several, for which there was no room: the call ends with it."""

        def last() -> Answer:
            done, number = _send(request, message, flags, way)
            if not number and not request.task.write(at + MSGHDR, struct.pack("<I", done)):
                return 0, errno.EFAULT
            return (0, number) if number else (1, 0)

        return last

    def _way(self, request: Request, message: Message) -> Way:
        objection = messages.objection(message.control)
        if objection:
            raise Denied("", objection, "", final=True)
        return Way(None) if message.address is None else self._decide(request, message.address, sending=True)


_parse = remember_few(sockaddr.parse, 64)


def _connected(request: Request, way: Way, first: int) -> int:
    if request.domain == AF_UNIX:  # a full backlog cannot be polled
        return sockets.connect_to_its_end(request.fd, way.address, first)
    from sandbox.egress.interruption import wait_connected

    return wait_connected(request.listener, request.call, request.fd, way.address, first)


def _send(request: Request, message: Message, flags: int, way: Way) -> Answer:
    answer = sockets.send(request.fd, message.data, flags | MSG_NOSIGNAL, way.address, message.control)
    if answer[1] == errno.EPIPE and request.kind == SOCK_STREAM and not flags & MSG_NOSIGNAL:
        request.task.raise_pipe()
    return answer


def _family(domain: int) -> str:
    from sandbox.kernel import tables

    return tables.name_of("socket_family", domain) or str(domain)


def _link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:
        return b"?"
