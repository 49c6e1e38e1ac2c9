"""Raw system calls through libc's syscall(2), resolved once so that a narrow filter cannot disturb them."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from collections.abc import Mapping

from sandbox.kernel.tables import numbers

MACHINE = platform.machine()
NUMBERS: Mapping[str, int] = numbers(MACHINE)

LIBC = ctypes.CDLL(None, use_errno=True)
_syscall = LIBC.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] * 7
_mmap = LIBC.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_mprotect = LIBC.mprotect
_mprotect.restype = ctypes.c_int
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

PAGE = 4096
PROT_RW, PROT_RX = 3, 5  # asm-generic/mman-common.h
MAP_PRIVATE_ANONYMOUS = 0x22
MAP_FIXED_NOREPLACE = 0x100000
AT_FDCWD = -100  # linux/fcntl.h
AT_EMPTY_PATH = 0x1000


def call_number(number: int, *args: int) -> int:
    """The call's return value, or minus its errno."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    value: int = _syscall(number, *(ctypes.c_long(argument).value for argument in padded))
    return -ctypes.get_errno() if value == -1 else value


def call(name: str, *args: int) -> int:
    """The call's return value, or minus its errno. Raises KeyError for a call that this machine lacks."""
    return call_number(NUMBERS[name], *args)


def require(name: str, *args: int) -> int:
    """Like call(), but raises OSError that names the call."""
    value = call(name, *args)
    if -4096 < value < 0:
        raise OSError(-value, f"{name}: {os.strerror(-value)}")
    return value


def address(buffer: ctypes.Array[ctypes.c_char] | ctypes.c_char) -> int:
    """Where the buffer lies; the caller keeps it alive."""
    return ctypes.addressof(buffer)


def map_page(protection: int = PROT_RW, *, at: int = 0, content: bytes = b"") -> int:
    """A private page that holds `content` under `protection` (OSError if the kernel or a filter refuses)."""
    flags = MAP_PRIVATE_ANONYMOUS | (MAP_FIXED_NOREPLACE if at else 0)
    where = _mmap(at, PAGE, PROT_RW, flags, -1, 0)
    if where is None or where == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap: {os.strerror(number)}")
    ctypes.memmove(where, content, len(content))
    if protection != PROT_RW and _mprotect(where, PAGE, protection) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"mprotect: {os.strerror(number)}")
    return int(where)


def sockaddr_in(port: int, host: str = "127.0.0.1") -> bytes:
    """struct sockaddr_in (ip(7)): 16 bytes."""
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def sockaddr_in6(port: int, host: str = "::1") -> bytes:
    """struct sockaddr_in6 (ipv6(7)): 28 bytes."""
    return (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI", port, 0)
        + socket.inet_pton(socket.AF_INET6, host)
        + struct.pack("=I", 0)
    )


def sockaddr_un(name: bytes) -> bytes:
    """struct sockaddr_un (unix(7)) for a path, or for an abstract name that starts with NUL."""
    return struct.pack("=H", socket.AF_UNIX) + name + (b"" if name.startswith(b"\0") else b"\0")
