"""Another process's sockets, by a duplicate: look at one, connect it or send on it, with the caller's own semantics."""

from __future__ import annotations

import ctypes
import errno
import os

from sandbox.kernel import abi

SOL_SOCKET, SO_TYPE, SO_DOMAIN = 1, 3, 39  # asm-generic/socket.h
SOCK_STREAM, SOCK_DGRAM = 1, 2
MSG_DONTWAIT = 0x40
MSG_FASTOPEN = 0x20000000

_LIBC = abi.LIBC


class Msghdr(ctypes.Structure):
    """struct msghdr (linux/socket.h, 64-bit)."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


def option(fd: int, name: int) -> int:
    """An integer option of the socket level. Raises OSError (ENOTSOCK)."""
    value, size = ctypes.c_int(), ctypes.c_uint32(4)
    if _LIBC.getsockopt(fd, SOL_SOCKET, name, ctypes.byref(value), ctypes.byref(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value.value


def kind(fd: int) -> tuple[int, int]:
    """(domain, type) of a socket. Raises OSError (ENOTSOCK)."""
    return option(fd, SO_DOMAIN), option(fd, SO_TYPE)


def is_blocking(fd: int) -> bool:
    """Whether a call on the descriptor may sleep."""
    return os.get_blocking(fd)


def connect(fd: int, address: bytes) -> int:
    """connect(2); returns 0 or the errno."""
    return 0 if _LIBC.connect(fd, address, len(address)) == 0 else ctypes.get_errno()


def connect_without_sleep(fd: int, address: bytes) -> int | None:
    """connect(2) on a blocking descriptor as far as it goes at once: 0 or the errno, None when it would sleep.

    Where it would sleep the connection may be on its way: connect(2) again waits for it. For a moment the descriptor is
    non-blocking; who looks at it in the middle of its own connect sees that.
    """
    os.set_blocking(fd, False)
    try:
        number = connect(fd, address)
        if number == errno.EINPROGRESS:
            # On loopback the answer is there by now; a second call takes it (net/ipv4/af_inet.c, SS_CONNECTING).
            number = connect(fd, address)
    finally:
        os.set_blocking(fd, True)
    return None if number in (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN) else number


def send(fd: int, data: bytes, flags: int, address: bytes, control: bytes = b"") -> tuple[int, int]:
    """sendmsg(2) of one buffer; returns (bytes sent, 0) or (0, errno)."""
    buffer = ctypes.create_string_buffer(data, len(data)) if data else None
    iov = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer) if buffer else 0, len(data))
    name = ctypes.create_string_buffer(address, len(address)) if address else None
    ancillary = ctypes.create_string_buffer(control, len(control)) if control else None
    header = Msghdr(
        ctypes.addressof(name) if name else None, len(address), ctypes.addressof(iov), 1,
        ctypes.addressof(ancillary) if ancillary else None, len(control), 0,
    )  # fmt: skip
    result = _LIBC.sendmsg(fd, ctypes.byref(header), flags)
    return (result, 0) if result >= 0 else (0, ctypes.get_errno())
