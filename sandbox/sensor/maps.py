"""What a process has mapped at one address: one line of /proc/PID/maps (man 5 proc_pid_maps)."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PIECE = 1 << 16
MOST = 8 << 20
"""Bytes of maps that are read: some 80,000 mappings, of which a process may have 65,530 (vm.max_map_count)."""


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
    try:
        fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        rest, size = b"", 0
        while size < MOST and time.monotonic() <= deadline:
            data = os.read(fd, PIECE)
            size += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                found = _line(line, address)
                if found:
                    return found
            if not data:
                break
    except OSError:
        pass  # it has ended
    finally:
        os.close(fd)
    return None


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
