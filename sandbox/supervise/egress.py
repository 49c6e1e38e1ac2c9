"""The egress broker: makes connects and addressed sends itself, on a duplicate of the caller's socket.

The address is copied once, decided on, and used: what the caller's memory holds afterwards no longer matters. Nothing
here is ever answered with "go on" (man 2 seccomp_unotify: a check of what a pointer names can be raced).

A connect that may sleep runs in a thread of its own, so that it sleeps for its caller alone.
"""

from __future__ import annotations

import _thread
import errno
import os
import struct

from sandbox.kernel import sockaddr
from sandbox.supervise import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.memory import Memory
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.supervise.destinations import Destinations
    from sandbox.supervise.names import Forwarder

LOW = 0xFFFFFFFF
DNS_PORT = 53
LONGEST_ADDRESS = 128  # sizeof(struct sockaddr_storage)
LARGEST_DATAGRAM = 1 << 20
MOST_PIECES = 1024  # UIO_MAXIOV
MSG_DONTWAIT = 0x40
MSG_NOSIGNAL = 0x4000
SCM_RIGHTS = 1
STACK = 128 << 10  # bytes for a thread that only sleeps in connect(2)

CALLS = ("connect", "sendto", "sendmsg", "sendmmsg")


class Denied(Exception):
    """A destination that the profile does not name."""

    def __init__(self, target: str, reason: str, allow: str) -> None:
        super().__init__(reason)
        self.target = target
        self.reason = reason
        self.allow = allow
        self.reported = False  # audit mode: let through all the same


class Egress:
    """Decides and makes the calls of CALLS. `connected_to_api` is called at the first connection to the Runtime API."""

    def __init__(
        self,
        destinations: Destinations,
        process: Callable[[int], int],
        memory: Callable[[int], Memory],
        connected_to_api: Callable[[], None],
        report: Callable[[Notification, str, Denied], None],
        *,
        audit: bool,
    ) -> None:
        self._destinations = destinations
        self.forwarder: Forwarder | None = None
        self._process = process
        self._memory = memory
        self._connected_to_api = connected_to_api
        self._report = report
        self._audit = audit
        _thread.stack_size(STACK)

    def take(self, listener: Listener, call: Notification, syscall: str) -> None:
        """Answer one call of CALLS. What is denied (in audit mode: let through) is reported while it waits."""
        try:
            fd = sockets.duplicate(self._process(call.pid), call.a0 & LOW)
        except OSError as error:
            listener.refuse(call.id, error.errno or errno.EPERM)
            return
        keep = False
        self._call, self._syscall = call, syscall
        try:
            _, kind = sockets.kind(fd)
            if syscall == "connect":
                keep = self._connect(listener, call, fd, kind)
            elif syscall == "sendto":
                self._sendto(listener, call, fd, kind)
            else:
                self._sendmsg(listener, call, fd, kind, many=syscall == "sendmmsg")
        except OSError as error:
            listener.refuse(call.id, error.errno or errno.EPERM)
        except Denied as denied:
            self._report(call, syscall, denied)
            listener.refuse(call.id, errno.EPERM)
        finally:
            if not keep:
                os.close(fd)

    def _connect(self, listener: Listener, call: Notification, fd: int, kind: int) -> bool:
        """Returns whether a thread took over the duplicate."""
        length = call.a2 & LOW
        if length > LONGEST_ADDRESS:
            raise OSError(errno.EINVAL, "")
        address = self._memory(call.pid).read(call.a1, length)
        if len(address) != length:
            raise OSError(errno.EFAULT, "")
        if not listener.is_valid(call.id):
            return False
        address = self._decide(address, kind)
        if not sockets.is_blocking(fd) or kind == sockets.SOCK_DGRAM:
            self._answer(listener, call.id, sockets.connect(fd, address))
            return False
        _thread.start_new_thread(self._connect_and_answer, (listener, call.id, fd, address))
        return True

    def _connect_and_answer(self, listener: Listener, id_: int, fd: int, address: bytes) -> None:
        try:
            self._answer(listener, id_, sockets.connect(fd, address))
        finally:
            os.close(fd)

    @staticmethod
    def _answer(listener: Listener, id_: int, number: int) -> None:
        if number:
            listener.refuse(id_, number)
        else:
            listener.answer(id_, 0)

    def _decide(self, address: bytes, kind: int) -> bytes:
        """The address to use: the caller's, or the forwarder's for a resolver. Raises Denied."""
        place = sockaddr.parse(address)
        if place is None:
            return address  # AF_UNSPEC dissolves an association; what is too short the kernel refuses
        family, host, port = place
        if family == "AF_UNIX":
            protocol = "unix"
        else:
            protocol = {sockets.SOCK_STREAM: "tcp", sockets.SOCK_DGRAM: "udp"}.get(kind, f"type{kind}")
        if port == DNS_PORT and self.forwarder and protocol in ("tcp", "udp"):
            return self.forwarder.address(protocol, int.from_bytes(address[:2], "little"))
        names = self.forwarder.names_of(host) if self.forwarder else frozenset()
        decision = self._destinations.decide(protocol, host, port, names)
        if decision.rule == "runtime-api":
            self._connected_to_api()
        if not decision.allowed:
            text = self._destinations.text_to_allow(protocol, host, port, names)
            denied = Denied(text, decision.reason, f"network: [{text}]" if text else "")
            if not self._audit:
                raise denied
            denied.reported = True
            self._report(self._call, self._syscall, denied)
        return address

    def _sendto(self, listener: Listener, call: Notification, fd: int, kind: int) -> None:
        memory = self._memory(call.pid)
        length = call.a5 & LOW
        address = memory.read(call.a4, min(length, LONGEST_ADDRESS)) if call.a4 else b""
        data = self._copy(memory, call.a1, call.a2)
        if not listener.is_valid(call.id):
            return
        if address:
            address = self._decide_send(address, kind)
        self._send(listener, call.id, fd, data, call.a3 & LOW, address)

    def _decide_send(self, address: bytes, kind: int) -> bytes:
        place = sockaddr.parse(address)
        if place and place[2] == DNS_PORT and self.forwarder and place[0] != "AF_UNIX":
            # The answer would come from the forwarder's address, which such a client does not take.
            reason = "a DNS question without connect; the resolver must connect its socket (musl and c-ares do not)"
            raise Denied("", reason, "")
        return self._decide(address, kind)

    def _send(
        self, listener: Listener, id_: int, fd: int, data: bytes, flags: int, address: bytes, control: bytes = b""
    ) -> None:
        """Send at once; what does not fit now is EAGAIN, also to a caller that would have slept."""
        sent, number = sockets.send(fd, data, flags | MSG_DONTWAIT | MSG_NOSIGNAL, address, control)
        if number:
            listener.refuse(id_, number)
        else:
            listener.answer(id_, sent)

    @staticmethod
    def _copy(memory: Memory, address: int, length: int) -> bytes:
        if length > LARGEST_DATAGRAM:
            raise OSError(errno.EMSGSIZE, "")
        data = memory.read(address, length) if length else b""
        if len(data) != length:
            raise OSError(errno.EFAULT, "")
        return data

    def _sendmsg(self, listener: Listener, call: Notification, fd: int, kind: int, *, many: bool) -> None:
        memory = self._memory(call.pid)
        flags = (call.a3 if many else call.a2) & LOW
        count = min(call.a2 & LOW, MOST_PIECES) if many else 1
        sent = 0
        for i in range(count):
            at = call.a1 + 64 * i  # sizeof(struct mmsghdr)
            try:
                address, data, control = self._message(memory, at)
                if not listener.is_valid(call.id):
                    return
                if address:
                    address = self._decide_send(address, kind)
                done, number = sockets.send(fd, data, flags | MSG_DONTWAIT | MSG_NOSIGNAL, address, control)
                if number:
                    raise OSError(number, "")
            except (OSError, Denied):
                if not sent:
                    raise
                break
            if not many:
                listener.answer(call.id, done)
                return
            memory.write(at + 56, struct.pack("<I", done))  # msg_len behind the struct msghdr
            sent += 1
        listener.answer(call.id, sent)

    def _message(self, memory: Memory, at: int) -> tuple[bytes, bytes, bytes]:
        """(address, data, control) of a struct msghdr. Raises OSError or Denied."""
        header = memory.read(at, 56)
        if len(header) != 56:
            raise OSError(errno.EFAULT, "")
        name, namelen, iov, iovlen, control, controllen = struct.unpack("<QI4xQQQQ", header[:48])
        if iovlen > MOST_PIECES:
            raise OSError(errno.EMSGSIZE, "")
        vector = self._copy(memory, iov, 16 * iovlen) if iovlen else b""
        data = b""
        for base, length in struct.iter_unpack("<QQ", vector):
            data += self._copy(memory, base, length)
            if len(data) > LARGEST_DATAGRAM:
                raise OSError(errno.EMSGSIZE, "")
        ancillary = self._copy(memory, control, controllen) if control and controllen else b""
        if ancillary and struct.unpack_from("<Qii", ancillary.ljust(16, b"\0"))[1:] == (sockets.SOL_SOCKET, SCM_RIGHTS):
            raise Denied("", "hands over a descriptor on a socket that the supervisor watches", "")
        address = memory.read(name, min(namelen, LONGEST_ADDRESS)) if name and namelen else b""
        return address, data, ancillary
