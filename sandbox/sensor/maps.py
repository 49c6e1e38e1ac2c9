"""What a process has mapped at one address: by a question of its own from Linux 6.11 on, else in /proc/PID/maps.

See PROCMAP_QUERY in linux/fs.h, and man 5 proc_pid_maps.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import time

from sandbox.sensor import runtime
from sandbox.sensor.offsets import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_QUERY = struct.Struct("<9Q4I2Q")
PROCMAP_QUERY = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17
WRITABLE = 2
"""PROCMAP_QUERY_VMA_WRITABLE"""
LONGEST = 4096 + 16
"""Bytes of a name: PATH_MAX, and that it is deleted."""
_name = ctypes.create_string_buffer(LONGEST)  # the loop that answers notifications alone uses it


class Mapped:
    """One mapping. `path` is as the kernel writes it: '' for anonymous memory, `[vdso]`, `/memfd:x (deleted)`."""

    __slots__ = ("path", "writable")

    def __init__(self, path: str, *, writable: bool) -> None:
        self.path: Final = path
        self.writable: Final = writable

    def __str__(self) -> str:
        return self.path or "anonymous"


def mapped(pid: int, address: int, deadline: float) -> Mapped | None:
    """What a process has at an address; None where nothing is, or maps cannot be read by `deadline` (monotonic)."""
    if not 0 <= address < 1 << 64 or time.monotonic() > deadline:
        return None
    try:
        fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _asked(fd, address)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return None
    finally:
        os.close(fd)
    try:
        return next(filter(None, (_line(line, address) for line in runtime.lines(pid, deadline))), None)
    except Unreadable:
        return None  # it has ended


def _asked(fd: int, address: int) -> Mapped | None:
    """The kernel's answer for one address. Raises OSError: ENOENT where nothing is, ENOTTY before Linux 6.11."""
    query = bytearray(_QUERY.pack(_QUERY.size, 0, address, *[0] * 8, LONGEST, 0, ctypes.addressof(_name), 0))
    fcntl.ioctl(fd, PROCMAP_QUERY, query)
    fields = _QUERY.unpack(query)
    name = _name.raw[: max(fields[11] - 1, 0)].replace(b"\n", b"\\012")  # it counts the NUL
    return Mapped(name.decode("utf-8", "replace"), writable=bool(fields[5] & WRITABLE))


def _line(line: bytes, address: int) -> Mapped | None:
    """The mapping of a line, if the address is in it."""
    span, _, more = line.partition(b" ")
    start, _, end = span.partition(b"-")
    try:
        if not int(start, 16) <= address < int(end, 16):
            return None
    except ValueError:
        return None
    fields = more.split(b" ", 4)
    path = fields[4].strip() if len(fields) == 5 else b""
    return Mapped(path.decode("utf-8", "replace"), writable=b"w" in fields[0])
