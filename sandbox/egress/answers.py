"""Receives on sockets that were led to the forwarder: the caller sees the resolver that it asked instead.

c-ares, musl, dnspython and others drop an answer whose source is not the address that they asked. So the supervisor
receives in their place, on a duplicate of the socket, and puts the resolver's address in. Receiving decides nothing: on
any other socket, and wherever something is odd, the call goes on as it is.

What the caller's memory names is read once, before; what is written lies where the kernel would have written. Whether
that can be done here the length of the address tells, which is written back as it stands before anything is received.
"""

from __future__ import annotations

import errno
import os
import struct
import time

from sandbox.egress import sockets
from sandbox.egress.brokered import Brokered, Target
from sandbox.egress.destinations import Denied
from sandbox.egress.sockets import MSG_DONTWAIT
from sandbox.kernel import sockaddr
from sandbox.kernel.memory import (
    CONTROL_LENGTH,
    FLAGS,
    MMSGHDR,
    MOST_PIECES,
    MSGHDR,
    NAME_LENGTH,
    message_header,
)  # fmt: skip
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, MAPPED, SOCK_DGRAM
from sandbox.kernel.task import socket_kind, socket_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.egress.brokered import Answer, SocketSource
    from sandbox.egress.sockets import Received
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task

LOW = 0xFFFFFFFF
HIGHEST_INT = 0x7FFFFFFF
MSG_ERRQUEUE, MSG_WAITFORONE, MSG_CMSG_COMPAT = 0x2000, 0x10000, 0x80000000  # linux/socket.h
RECEIVES = ("recvfrom", "recvmsg", "recvmmsg", "getpeername")
"""The calls that say who sent, or who would."""
MOST_SOCKETS = 4096
LARGEST_DATAGRAM = 65535
LARGEST_CONTROL = 1 << 16
_LINK_LOCAL = 0xFE80 >> 6


class Resolvers:
    """Which resolver a socket asked, by the cookie that the kernel gives each socket, and by the question's id."""

    def __init__(self) -> None:
        self._asked: dict[tuple[bytes, bytes], bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._asked)

    def note(self, fd: int, resolver: bytes, question: bytes = b"") -> None:
        """A socket of ours was led to the forwarder instead of to a resolver, with this question if it has sent one."""
        cookie = sockets.cookie(fd)
        for key in {(cookie, b""), (cookie, question[:2])}:
            self._asked.pop(key, None)
            self._asked[key] = resolver
        while len(self._asked) > MOST_SOCKETS:
            del self._asked[next(iter(self._asked))]

    def of(self, fd: int, answer: bytes = b"") -> bytes:
        """The struct sockaddr of the resolver whom this answer would come from; b"" for a socket that asked none."""
        cookie = sockets.cookie(fd)
        return self._asked.get((cookie, answer[:2])) or self._asked.get((cookie, b""), b"")


def resolver_seen(domain: int, address: SocketAddress, data: bytes) -> bytes:
    """The struct sockaddr that a socket of AF_INET or AF_INET6 reports for a peer, which `data` named in a call."""
    value, port = address.value, address.port
    assert isinstance(value, bytes)
    if domain == AF_INET:
        return struct.pack("<H", AF_INET) + struct.pack(">H4s8x", port, value)
    scope = data[24:28] if len(value) == 16 and int.from_bytes(value[:2], "big") >> 6 == _LINK_LOCAL else b""
    whole = value if len(value) == 16 else MAPPED + value
    return struct.pack("<H", AF_INET6) + struct.pack(">HI16s4s", port, 0, whole, scope)


class Answers:
    """Answers the calls of RECEIVES. `is_forwarder` tells the forwarder's own addresses from others.

    `heard(syscall)` is called when a socket that asked a resolver receives, or asks for its peer.
    """

    def __init__(
        self, resolvers: Resolvers, source: SocketSource, is_forwarder: Callable[[SocketAddress], bool],
        heard: Callable[[str], None] = lambda syscall: None,
    ) -> None:  # fmt: skip
        self._resolvers = resolvers
        self._source = source
        self._is_forwarder = is_forwarder
        self._heard = heard

    def take(self, listener: Listener, call: Notification, syscall: str, task: Task) -> bool:
        """Answer one call of RECEIVES, now or in a thread; False for one that is to go on as it is."""
        if not self._resolvers or (syscall == "recvfrom" and not call.args[4]):
            return False
        try:
            fd = self._source.duplicate(task, call.args[0] & LOW)
        except (OSError, Denied):
            return False
        brokered = Brokered(listener, call, syscall, task, fd, self._source)
        try:
            if not self._resolvers.of(fd):
                return False
            brokered.domain, brokered.socket_type = socket_kind(fd)
            if syscall == "getpeername":
                answer = self._peer(brokered)
            else:
                answer = self._receive(brokered) if brokered.socket_type == SOCK_DGRAM else None
        except OSError:
            return False
        finally:
            if not brokered.in_thread:
                self._source.release(fd)
        if answer:
            brokered.answer(*answer)
        return bool(answer) or brokered.in_thread

    def _peer(self, brokered: Brokered) -> Answer | None:
        task, (_, at, length_at, *_) = brokered.task, brokered.call.args
        name = self._resolver_for(brokered.fd, socket_name(brokered.fd, peer=True))
        room = _room(task, length_at)
        self._heard(brokered.syscall)
        if room is None:
            return None
        return (0, 0) if _put_name(task, name, at, room, length_at) else (0, errno.EFAULT)

    def _receive(self, brokered: Brokered) -> Answer | None:
        args = brokered.call.args
        flags = args[2 if brokered.syscall == "recvmsg" else 3] & LOW
        if flags & MSG_ERRQUEUE:
            return None
        several = brokered.syscall == "recvmmsg"
        if several:
            wanted = [_message(brokered.task, args[1] + MMSGHDR * i) for i in range(min(args[2] & LOW, MOST_PIECES))]
        elif brokered.syscall == "recvmsg":
            wanted = [_message(brokered.task, args[1])]
        else:
            flags &= ~MSG_CMSG_COMPAT
            wanted = [_from(brokered.task, args)]
        buffers = [one for one in wanted if one is not None]
        if len(buffers) != len(wanted) or not buffers or not any(one.name for one in buffers):
            return None
        self._heard(brokered.syscall)
        if not brokered.listener.is_valid(brokered.call.id):
            return None
        timeout = _timeout(brokered.task, args[4]) if several and args[4] else None
        blocking = not flags & MSG_DONTWAIT and sockets.is_blocking(brokered.fd)
        taking = _Taking(self._resolver_for, brokered, buffers, flags & ~MSG_WAITFORONE | MSG_DONTWAIT, several=several)
        taking.take()
        if not blocking or not taking.waits or (taking.count and flags & MSG_WAITFORONE):
            return taking.answer()
        try:
            return brokered.sleep(lambda: taking.wait(timeout, one=bool(flags & MSG_WAITFORONE)), Target(None))
        except Denied:  # too many sleep: it goes on, and sees the forwarder's own address
            return None

    def _resolver_for(self, fd: int, name: bytes, answer: bytes = b"") -> bytes:
        """The address that a receive reports: the resolver's in place of the forwarder's, any other as it is."""
        address = sockaddr.parse(name)
        if address is None or not address.is_ip or not self._is_forwarder(address):
            return name
        return self._resolvers.of(fd, answer) or name


class _Buffers:
    """Where one datagram goes in the caller's memory: `name` and `control` are 0 where nothing is asked for.

    `header` is the struct user_msghdr with the lengths; 0 for recvfrom, whose `length_at` names the address's length.
    """

    __slots__ = ("control", "control_room", "header", "length_at", "name", "name_room", "pieces")

    def __init__(self, pieces: Sequence[tuple[int, int]], name: int, name_room: int, length_at: int) -> None:
        self.pieces = pieces
        self.name = name
        self.name_room = name_room
        self.length_at = length_at
        self.header = self.control = self.control_room = 0

    @property
    def room(self) -> int:
        return min(sum(length for _, length in self.pieces), LARGEST_DATAGRAM)

    def put(self, task: Task, got: Received, name: bytes) -> bool:
        """Write what was received, in the kernel's order; False where the memory does not take it."""
        rest = got.data
        for at, length in self.pieces:
            piece, rest = rest[:length], rest[length:]
            if piece and not task.write(at, piece):
                return False
        if self.name and not _put_name(task, name, self.name, self.name_room, self.length_at):
            return False
        if not self.header:
            return True
        return (
            (not got.control or task.write(self.control, got.control))
            and task.write(self.header + FLAGS, struct.pack("<I", got.flags))
            and task.write(self.header + CONTROL_LENGTH, struct.pack("<Q", len(got.control)))
        )


class _Taking:
    """The datagrams of one call, as they come: `count` so far, and the errno that ended it, EAGAIN while it waits."""

    def __init__(
        self, resolver_for: Callable[[int, bytes, bytes], bytes], brokered: Brokered, buffers: Sequence[_Buffers],
        flags: int, *, several: bool,
    ) -> None:  # fmt: skip
        self._resolver_for = resolver_for
        self._brokered = brokered
        self._buffers = buffers
        self._flags = flags
        self._several = several
        self._value = 0
        self._errno = 0
        self.count = 0

    @property
    def waits(self) -> bool:
        """Whether there is room for more than has come."""
        return self._errno == errno.EAGAIN

    def answer(self) -> Answer:
        if self.count:
            return (self.count if self._several else self._value), 0
        return 0, self._errno

    def take(self, most: int = MOST_PIECES) -> None:
        """Take what is there."""
        fd, task = self._brokered.fd, self._brokered.task
        for buffers in self._buffers[self.count : self.count + most]:
            got, self._errno = sockets.receive(fd, buffers.room, buffers.control_room, self._flags)
            if got is None:
                return
            name = self._resolver_for(fd, got.name, got.data)
            written = buffers.put(task, got, name)
            if written and self._several:
                written = task.write(buffers.header + MSGHDR, struct.pack("<I", got.value))
            if not written:
                self._errno = errno.EFAULT
                return
            self._value = got.value
            self.count += 1

    def wait(self, timeout: float | None, *, one: bool) -> Answer:
        """Take what comes, asleep in a thread of its own, until all have come, or `one` of them, or time is up.

        The kernel looks at the timeout of recvmmsg(2) only when a datagram has come (man 2 recvmmsg, BUGS).
        """
        brokered, start = self._brokered, time.monotonic()
        while self.waits:
            number = sockets.wait_received(brokered.listener, brokered.call, brokered.fd)
            if number:
                self._errno = number
                break
            self.take(most=MOST_PIECES if timeout is None else 1)
            if self.count and (one or (timeout is not None and time.monotonic() - start >= timeout)):
                break
        return self.answer()


def _from(task: Task, args: Sequence[int]) -> _Buffers | None:
    room = _room(task, args[5]) if args[4] else None
    return None if room is None else _Buffers([(args[1], args[2])], args[4], room, args[5])


def _message(task: Task, at: int) -> _Buffers | None:
    """The buffers of a struct user_msghdr; None for one that is left to the kernel."""
    header = message_header(task, at)
    if header is None or header.vector_length > MOST_PIECES or header.name_length > HIGHEST_INT:
        return None
    vector = task.read(header.vector, 16 * header.vector_length) if header.vector_length else b""
    if len(vector) != 16 * header.vector_length or _room(task, at + NAME_LENGTH) is None:
        return None
    found = _Buffers(list(struct.iter_unpack("<QQ", vector)), header.name, header.name_length, at + NAME_LENGTH)
    found.header = at
    found.control = header.control
    found.control_room = min(header.control_length, LARGEST_CONTROL) if header.control else 0
    return found


def _room(task: Task, at: int) -> int | None:
    """The length of an address's buffer, where it can be written, too; None for what is left to the kernel."""
    data = task.read(at, 4)
    room = int.from_bytes(data, "little")
    return room if len(data) == 4 and room <= HIGHEST_INT and task.write(at, data) else None


def _put_name(task: Task, name: bytes, at: int, room: int, length_at: int) -> bool:
    """As much of an address as fits, and its true length (net/socket.c, move_addr_to_user)."""
    part = name[:room]
    return (not part or task.write(at, part)) and task.write(length_at, struct.pack("<I", len(name)))


def _timeout(task: Task, at: int) -> float | None:
    data = task.read(at, 16)  # struct __kernel_timespec
    if len(data) < 16:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    seconds, more = struct.unpack("<qq", data)
    return float(seconds + more / 1e9)
