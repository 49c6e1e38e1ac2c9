"""A task's sockets, by a descriptor of our own: look at one, connect it or send on it, with the task's own semantics.

A call that would sleep sleeps here in the task's place, and ends as the task's own would when a signal comes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import time

from sandbox.kernel import abi, sockaddr
from sandbox.kernel.memory import FLAGS, MSGHDR, MessageHeader, packed_header
from sandbox.kernel.task import socket_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.kernel.notification import Listener, Notification

SOL_SOCKET, SO_RCVTIMEO, SO_SNDTIMEO, SO_COOKIE = 1, 20, 21, 57  # asm-generic/socket.h
IPPROTO_IPV6, IPV6_V6ONLY = 41, 26  # linux/in6.h
MSG_DONTWAIT = 0x40
SHUT_WR = 1
MSG_FASTOPEN = 0x20000000
_FAMILY4 = sockaddr.AF_INET.to_bytes(2, "little")
_ZERO, _LOOPBACK = bytes(12), b"\x7f\0\0\1"

ERESTARTSYS = 512  # linux/errno.h
SHORTEST, LONGEST = 0.001, 0.02
"""Seconds between looks at a task that waits, at first and after a while."""
MOST_ASLEEP, SHARE = 128, 4
"""Threads that sleep at a time, of which each has a descriptor: no more than a SHARE-th part of those that we may have.
"""
FEW = 8
"""Threads of which each looks as often as one alone."""
_FIELDS = (b"Tgid", b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")

_LIBC = abi.LIBC
_CONNECT = _LIBC.connect
_CONNECT.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_BIND = _LIBC.bind
_BIND.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_GETSOCKOPT = _LIBC.getsockopt
_GETSOCKOPT.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_SENDTO = _LIBC.sendto
_SENDTO.restype = ctypes.c_ssize_t
_RECVMSG = _LIBC.recvmsg
_RECVMSG.restype = ctypes.c_ssize_t
_RECVMSG.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
_SENDTO.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Asleep:
    """Counts the threads that sleep for their tasks. Each method is one step to the others."""

    def __init__(self) -> None:
        self._count: list[None] = []

    def begin(self) -> bool:
        """Whether one more may; then it counts. For one thread alone to call."""
        if len(self._count) >= min(MOST_ASLEEP, os.sysconf("SC_OPEN_MAX") // SHARE):
            return False
        self._count.append(None)
        return True

    def end(self) -> None:
        """One of them is awake."""
        self._count.pop()

    @property
    def longest(self) -> float:
        """LONGEST, or more where many look."""
        return LONGEST * max(1, len(self._count) // FEW)


ASLEEP = Asleep()


def make(domain: int, kind: int, protocol: int) -> int:
    """socket(2) with the registers of another's call, close-on-exec in any case. Raises OSError."""
    fd: int = _LIBC.socket(ctypes.c_int(domain), ctypes.c_int(kind | os.O_CLOEXEC), ctypes.c_int(protocol))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def option(fd: int, name: int) -> int:
    """A number that getsockopt(2) says of SOL_SOCKET; -1 where it says none."""
    value, size = ctypes.c_int(), ctypes.c_uint32(4)
    return value.value if _GETSOCKOPT(fd, SOL_SOCKET, name, ctypes.byref(value), ctypes.byref(size)) == 0 else -1


def cookie(fd: int) -> bytes:
    """The 8 bytes that stand for a socket, whatever descriptors lead to it, and for no other until the next boot."""
    value, size = ctypes.create_string_buffer(8), ctypes.c_uint32(8)
    _GETSOCKOPT(fd, SOL_SOCKET, SO_COOKIE, value, ctypes.byref(size))
    return value.raw


def state(fd: int) -> int:
    """What poll(2) says at once of a socket of one destination.

    POLLHUP: not connected. POLLOUT alone: connected. Neither: on its way, listening, or out of room (net/ipv4/tcp.c,
    tcp_poll; net/unix/af_unix.c, unix_poll).
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return sum(event for _, event in poll.poll(0))


def specified(fd: int, address: bytes) -> bytes:
    """A struct sockaddr of AF_INET or AF_INET6, with the host that the kernel would put for 0.0.0.0 or ::.

    Nobody can be reached at the unspecified address, and yet a connect to it succeeds: the kernel puts another in its
    place, and which one depends on the socket. For 0.0.0.0 that is the address that the socket is bound to, else
    127.0.0.1 (net/ipv4/route.c, ip_route_output_key_hash_rcu: `if (!fl4->daddr)`). For :: it is always ::1, or
    ::ffff:127.0.0.1 for a socket that is bound to an IPv4-mapped address (net/ipv6/tcp_ipv6.c, tcp_v6_connect;
    datagram.c, __ip6_datagram_connect; udp.c, udpv6_sendmsg). A decision about 0.0.0.0 as loopback would be wrong for a
    socket that is bound to 10.0.0.5, which so reaches this host's services there. What comes out here is both decided
    on and used, so that the kernel has nothing left to put.
    """
    four = address[:2] == _FAMILY4
    start, length = (4, 4) if four else (8, 16)
    host = address[start : start + length]
    if len(host) < length or any(host[-4:]) or not (four or host[:12] in (_ZERO, sockaddr.MAPPED)):
        return address
    own = _own_host(fd)
    mapped = own[:-4] == sockaddr.MAPPED
    if four or host.startswith(sockaddr.MAPPED):
        found = own[-4:] if (len(own) == 4 or mapped) and any(own[-4:]) else _LOOPBACK
        host = found if four else sockaddr.MAPPED + found
    else:
        host = sockaddr.MAPPED + _LOOPBACK if mapped else bytes(15) + b"\1"
    return address[:start] + host + address[start + length :]


def _own_host(fd: int) -> bytes:
    """The 4 or 16 bytes of the address that a socket is bound to; zeroes where it is to none."""
    try:
        name = socket_name(fd)
    except OSError:
        return bytes(4)
    return name[4:8] if name[:2] == _FAMILY4 else name[8:24]


def is_blocking(fd: int) -> bool:
    """Whether a call on the descriptor may sleep."""
    return os.get_blocking(fd)


def connect(fd: int, address: bytes | None) -> int:
    """connect(2); returns 0 or the errno."""
    return 0 if _CONNECT(fd, address, len(address or b"")) == 0 else ctypes.get_errno()


def bind(fd: int, address: bytes) -> int:
    """bind(2); returns 0 or the errno."""
    return 0 if _BIND(fd, address, len(address)) == 0 else ctypes.get_errno()


def listen(fd: int, backlog: int) -> int:
    """listen(2), whose backlog is read as the kernel reads the register; returns 0 or the errno."""
    return 0 if _LIBC.listen(fd, ctypes.c_int(backlog)) == 0 else ctypes.get_errno()


def is_ipv6_only(fd: int) -> bool:
    """Whether an IPv6 socket takes nothing from IPv4 (man 7 ipv6, IPV6_V6ONLY)."""
    value, size = ctypes.c_int(1), ctypes.c_uint32(4)
    return _GETSOCKOPT(fd, IPPROTO_IPV6, IPV6_V6ONLY, ctypes.byref(value), ctypes.byref(size)) != 0 or bool(value.value)


def connect_mute(fd: int, address: bytes | None) -> int:
    """connect(2) of a datagram socket that can send nothing from then on; returns 0 or the errno.

    It is shut down for writing first, so that another thread finds no moment to send in: that works on an unconnected
    socket although it says ENOTCONN (net/ipv4/af_inet.c, inet_shutdown). No later connect opens it again, and every
    send is EPIPE. The socket keeps the source address that the route gives it, by which getaddrinfo(3) sorts.
    """
    _LIBC.shutdown(fd, SHUT_WR)
    number = connect(fd, address)
    if not number and _LIBC.shutdown(fd, SHUT_WR):
        connect(fd, bytes(16))  # AF_UNSPEC dissolves it
        return errno.EPERM
    return number


SLEEPS = (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN)
"""What a non-blocking connect says where a blocking one would sleep."""


def connect_without_sleep(fd: int, address: bytes | None) -> int:
    """connect(2) on a blocking descriptor as far as it goes at once: 0 or the errno, one of SLEEPS if it would sleep.

    For a moment the descriptor is non-blocking; who looks at it in the middle of its own connect sees that.
    """
    os.set_blocking(fd, False)
    try:
        number = connect(fd, address)
        if number == errno.EINPROGRESS:
            # On loopback the answer is there by now; a second call takes it (net/ipv4/af_inet.c, SS_CONNECTING).
            again = connect(fd, address)
            return number if again in SLEEPS else again
        return number
    finally:
        os.set_blocking(fd, True)


def wait_writable(fd: int, seconds: float) -> bool:
    """Whether a socket is connected, failed or otherwise ready to be asked again, within a time."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(int(seconds * 1000)))


def time_limit(fd: int, option_name: int) -> float | None:
    """SO_SNDTIMEO or SO_RCVTIMEO in seconds; None where a call waits for as long as it takes."""
    value, size = (ctypes.c_long * 2)(), ctypes.c_uint32(16)  # struct timeval, 64-bit
    if _GETSOCKOPT(fd, SOL_SOCKET, option_name, ctypes.byref(value), ctypes.byref(size)):
        return None
    return value[0] + value[1] / 1e6 if value[0] or value[1] else None


def connect_to_its_end(fd: int, address: bytes | None, first: int) -> int:
    """Go on, sleeping, with a connect of which `connect_without_sleep` said `first`; returns 0 or the errno."""
    number = connect(fd, address)
    # When SO_SNDTIMEO ends the wait, the task's own first call would have said that it goes on.
    return errno.EINPROGRESS if number == errno.EALREADY and first == errno.EINPROGRESS else number


def wait_connected(listener: Listener, call: Notification, fd: int, address: bytes | None, first: int) -> int:
    """Wait for a connect of which `connect_without_sleep` said `first`, as its task would: 0 or the errno.

    The kernel holds signals for the task back until the answer (WAIT_KILLABLE_RECV). A bare blocking connect is
    interrupted by one: EINTR, or a restart behind the handler. ERESTARTSYS as the answer gives the same: the kernel
    then does for the call what it does for its own (kernel/signal.c, arch_do_signal_or_restart). A thread without a
    signal would see errno 512; so it is only given where a signal is certain to be delivered.
    """
    limit = time_limit(fd, SO_SNDTIMEO)
    deadline, pause = time.monotonic() + (limit or 0.0), SHORTEST
    while True:
        left = None if limit is None else deadline - time.monotonic()
        ready = wait_writable(fd, pause if left is None else max(0.0, min(pause, left)))
        if not listener.is_valid(call.id):
            return errno.EINTR  # nobody waits any more: the connect goes on without us, as after any signal
        if ready:
            number = connect_without_sleep(fd, address)
            if number not in SLEEPS:
                return 0 if number == errno.EISCONN else number
        interrupted = interruption(call.pid)
        if interrupted:
            return interrupted if limit is None else errno.EINTR  # net/sock.h, sock_intr_errno
        if left is not None and left <= pause:
            return first
        pause = min(2 * pause, ASLEEP.longest)


def wait_received(listener: Listener, call: Notification, fd: int) -> int:
    """Wait as its task would until something has come: 0, or EAGAIN after SO_RCVTIMEO, or what a signal makes of it."""
    limit = time_limit(fd, SO_RCVTIMEO)
    deadline, pause = time.monotonic() + (limit or 0.0), SHORTEST
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        left = pause if limit is None else min(pause, deadline - time.monotonic())
        ready = poll.poll(max(0.0, left) * 1000)
        if not listener.is_valid(call.id):
            return errno.EINTR  # nobody waits any more, and what comes is for the next call
        if ready:
            return 0
        if interrupted := interruption(call.pid):
            return interrupted if limit is None else errno.EINTR  # net/sock.h, sock_intr_errno
        if limit is not None and time.monotonic() >= deadline:
            return errno.EAGAIN
        pause = min(2 * pause, ASLEEP.longest)


def interruption(tid: int) -> int:
    """What a signal that waits for a thread makes of its call: ERESTARTSYS, EINTR, or 0 where none does.

    ERESTARTSYS only where the kernel is certain to have chosen this very thread: a signal of its own, or one for the
    process that every other thread blocks (kernel/signal.c, complete_signal and retarget_shared_pending). One for the
    process with a handler, which its first thread would take first, gives EINTR, which needs no such certainty.
    """
    own = _status(f"/proc/{tid}/status")
    if not own:
        return 0
    heard = ~(own[b"SigBlk"] | own[b"SigIgn"])
    if own[b"SigPnd"] & heard:
        return ERESTARTSYS
    shared = own[b"ShdPnd"] & heard
    if not shared:
        return 0
    process = own[b"Tgid"]
    try:
        others = [name for name in os.listdir(f"/proc/{process}/task") if name != str(tid)]
    except OSError:
        return 0
    if all(not shared & ~_status(f"/proc/{process}/task/{name}/status").get(b"SigBlk", 0) for name in others):
        return ERESTARTSYS
    return errno.EINTR if tid == process and shared & own[b"SigCgt"] else 0


def _status(path: str) -> Mapping[bytes, int]:
    """The fields of a task's status as numbers; none for a task that is gone."""
    found: dict[bytes, int] = {}
    try:
        with open(path, "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name in _FIELDS:
                    found[name] = int(value, 10 if name == b"Tgid" else 16)
    except OSError:
        return {}
    return found


def send(fd: int, data: bytes, flags: int, address: bytes | None, control: bytes = b"") -> tuple[int, int]:
    """sendto(2), with control messages sendmsg(2), of one buffer; returns (bytes sent, 0) or (0, errno)."""
    if not control:  # the kernel tells a name of no length from no name in sendto only
        length = len(address) if address is not None else 0
        result = _SENDTO(fd, data, len(data), flags, address, length)
        return (result, 0) if result >= 0 else (0, ctypes.get_errno())
    buffer = ctypes.create_string_buffer(data, len(data)) if data else None
    iov = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer) if buffer else 0, len(data))
    name = ctypes.create_string_buffer(address, len(address)) if address else None
    ancillary = ctypes.create_string_buffer(control, len(control)) if control else None
    header = packed_header(
        ctypes.addressof(name) if name else 0, len(address or b""), ctypes.addressof(iov), 1,
        ctypes.addressof(ancillary) if ancillary else 0, len(control),
    )  # fmt: skip
    result = _LIBC.sendmsg(fd, header, flags)
    return (result, 0) if result >= 0 else (0, ctypes.get_errno())


class Received:
    """One message as recvmsg(2) gave it: `value` is what it returned, `name` whom it came from."""

    __slots__ = ("control", "data", "flags", "name", "value")

    def __init__(self, value: int, data: bytes, name: bytes, control: bytes, flags: int) -> None:
        self.value = value
        self.data = data
        self.name = name
        self.control = control
        self.flags = flags


def receive(fd: int, room: int, control_room: int, flags: int) -> tuple[Received | None, int]:
    """recvmsg(2) into buffers of so many bytes: the message and 0, or None and the errno."""
    data, name = ctypes.create_string_buffer(max(room, 1)), ctypes.create_string_buffer(sockaddr.LONGEST)
    control = ctypes.create_string_buffer(max(control_room, 1))
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(data), room)
    header = ctypes.create_string_buffer(
        packed_header(
            ctypes.addressof(name), sockaddr.LONGEST, ctypes.addressof(vector), 1,
            ctypes.addressof(control) if control_room else 0, control_room,
        ), MSGHDR,
    )  # fmt: skip
    value = _RECVMSG(fd, header, flags)
    if value < 0:
        return None, ctypes.get_errno()
    got = MessageHeader(header.raw)
    said = int.from_bytes(header.raw[FLAGS : FLAGS + 4], "little")
    return Received(
        value, data.raw[: min(value, room)], name.raw[: got.name_length], control.raw[: got.control_length], said
    ), 0
