"""Which CPython a process runs, and where its `_PyRuntime` lies: from its mappings and the files behind them."""

from __future__ import annotations

import os
import struct
import time

from sandbox.sensor import files, offsets
from sandbox.sensor.elf import Elf
from sandbox.sensor.offsets import COOKIE, HEAD, Offsets, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kernel.memory import Readable
    from sandbox.sensor.early import Early

MOST_MAPS = 8 << 20
"""Bytes of /proc/PID/maps that are read; the kernel's default limit of 65,530 mappings makes about as many."""
MOST_PIECES = 1024
"""Mappings of interpreters that are looked at; one has five."""
MOST_FILES = 16
SECTION = ".PyRuntime"
"""Holds _PyRuntime, and nothing else. It is there where strip(1) has taken the symbols."""
VERSION = "Py_Version"
NAMES = ("libpython3", "python3")
"""How a file that holds an interpreter is called, unless it is the program itself."""

_known: dict[tuple[int, int, int, int], tuple[int, int] | None] = {}


class Piece:
    """One mapping of a file that may hold an interpreter, writable: from `offset` in the file on, at `start`."""

    __slots__ = ("end", "offset", "path", "start")

    def __init__(self, start: int, end: int, offset: int, path: str) -> None:
        self.start = start
        self.end = end
        self.offset = offset
        self.path = path


def locate(pid: int, memory: Readable, deadline: float, early: Early | None = None) -> tuple[int, Offsets]:
    """(address of _PyRuntime, where its parts are) of a process; mappings are read until `deadline` (time.monotonic()).

    `early` is of this process, for where it does not show itself any more. Raises Unreadable: it runs no CPython
    (without a text), or one whose version is not known.
    """
    viewer, met = pid, None
    try:
        program = os.readlink(f"/proc/{pid}/exe")
        root = os.readlink(f"/proc/{pid}/root").rstrip("/")  # of a chroot, below ours: maps and exe name it, too
    except OSError as error:
        if early is None or not early.shares:
            raise Unreadable("") from error
        program, root, met, viewer = early.program, "", early, os.getpid()
    known: dict[str, tuple[int, int] | None] = {}
    # Code of the file may be mapped again anywhere, by libffi for one: only what holds the data counts.
    for piece in _pieces(lines(pid, deadline, met), program):
        if piece.path not in known:
            if len(known) >= MOST_FILES:
                break
            own = piece.path[len(root) :] if piece.path.startswith(f"{root}/") else piece.path
            known[piece.path] = _interpreter(viewer, own)
        found = known[piece.path]
        if found and piece.offset <= found[0] < piece.offset + piece.end - piece.start:
            address = piece.start + found[0] - piece.offset
            head = memory.read(address, HEAD)
            return address, offsets.told(head) if head.startswith(COOKIE) else offsets.listed(found[1])
    raise Unreadable("")


def _pieces(mapped: Iterator[bytes], program: str) -> Iterator[Piece]:
    count = 0
    for line in mapped:
        fields = line.split(None, 5)
        if len(fields) < 6 or fields[1][1:2] != b"w":
            continue
        path = os.fsdecode(fields[5].replace(b"\\012", b"\n"))  # as the kernel writes a newline in a name
        if path == program or path.rpartition("/")[2].startswith(NAMES):
            start, _, end = fields[0].partition(b"-")
            yield Piece(int(start, 16), int(end, 16), int(fields[2], 16), path)
            count += 1
            if count >= MOST_PIECES:
                return


def lines(pid: int, deadline: float, early: Early | None = None) -> Iterator[bytes]:
    """The lines of /proc/PID/maps, as they come; by `early` where it shows them to nobody else any more.

    Raises Unreadable where they cannot be read.
    """
    try:
        with early.maps() if early else open(f"/proc/{pid}/maps", "rb") as file:
            size = 0
            for line in file:
                yield line.rstrip(b"\n")
                size += len(line)
                if size > MOST_MAPS or time.monotonic() > deadline:
                    return
    except OSError as error:
        raise Unreadable("") from error


def _interpreter(pid: int, path: str) -> tuple[int, int] | None:
    """(offset in the file of _PyRuntime, PY_VERSION_HEX or 0) of a file, None where it holds no interpreter."""
    try:
        fd = files.opened(pid, path)
    except OSError:
        return None
    try:
        about = os.fstat(fd)
        key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        if key not in _known:
            if len(_known) >= MOST_FILES:
                _known.clear()
            _known[key] = _read(fd)
        return _known[key]
    except (Unreadable, OSError):
        return None
    finally:
        os.close(fd)


def _read(fd: int) -> tuple[int, int] | None:
    file = Elf(fd)
    runtime = file.section(SECTION)
    if runtime is None:
        return None
    version = file.symbol(VERSION)
    data = os.pread(fd, 8, version) if version is not None else b""
    return runtime, struct.unpack("<Q", data)[0] if len(data) == 8 else 0
