"""Another process's sockets: duplicate one, look at it, connect it or send on it, with the caller's own semantics."""

from __future__ import annotations

import _socket
import ctypes
import os

from sandbox.kernel import abi

SOL_SOCKET, SO_TYPE, SO_DOMAIN = 1, 3, 39  # asm-generic/socket.h
O_NONBLOCK = 0o4000
SOCK_STREAM, SOCK_DGRAM = 1, 2

_LIBC = abi.LIBC


class Msghdr(ctypes.Structure):
    """struct msghdr (linux/socket.h, 64-bit)."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


def duplicate(pid: int, fd: int) -> int:
    """A duplicate of a descriptor of another process. Raises OSError: EBADF, or what refuses pidfd_getfd(2)."""
    pidfd = abi.syscall(abi.number("pidfd_open"), pid, 0)
    try:
        return abi.syscall(abi.number("pidfd_getfd"), pidfd, fd, 0)
    finally:
        os.close(pidfd)


def kind(fd: int) -> tuple[int, int]:
    """(domain, type) of a socket. Raises OSError (ENOTSOCK)."""
    found = _socket.socket(fileno=os.dup(fd))
    try:
        return found.getsockopt(SOL_SOCKET, SO_DOMAIN), found.getsockopt(SOL_SOCKET, SO_TYPE)
    finally:
        found.close()


def is_blocking(fd: int) -> bool:
    """Whether a call on the descriptor may sleep."""
    return os.get_blocking(fd)


def connect(fd: int, address: bytes) -> int:
    """connect(2); returns 0 or the errno."""
    return _errno(_LIBC.connect(fd, address, len(address)))


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


def _errno(result: int) -> int:
    return 0 if result == 0 else ctypes.get_errno()
