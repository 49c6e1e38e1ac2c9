"""Which CPython a process runs, and where its `_PyRuntime` lies: from its mappings and the files behind them."""

from __future__ import annotations

import os
import struct

from sandbox.sensor import files, layout
from sandbox.sensor.elf import Elf
from sandbox.sensor.layout import COOKIE, Offsets, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kernel.memory import Readable

MOST_MAPS = 4 << 20
"""Bytes of /proc/PID/maps that are read; 65,530 mappings, the kernel's default limit, take about as much."""
HEAD = 8 * 96
"""Bytes at the start of _PyRuntime that tell of all else, from 3.13 on."""
SYMBOLS = ("_PyRuntime", "Py_Version")
SECTION = ".PyRuntime"
"""Holds _PyRuntime alone, and is there where strip(1) has taken every symbol."""
MOST_FILES = 16
_known: dict[tuple[int, int, int, int], dict[str, int]] = {}


class Piece:
    """One line of /proc/PID/maps: where a piece of a file, from `offset` on, is in memory."""

    __slots__ = ("end", "offset", "path", "start", "writable")

    def __init__(self, start: int, end: int, offset: int, path: str, *, writable: bool) -> None:
        self.start = start
        self.end = end
        self.offset = offset
        self.path = path
        self.writable = writable


def locate(pid: int, memory: Readable) -> tuple[int, Offsets]:
    """(address of _PyRuntime, layout) of a process. Raises Unreadable: there is none, or its version is not known."""
    pieces = mappings(pid)
    for path in _candidates(pid, pieces):
        found = _offsets(pid, path)
        at = found.get(SYMBOLS[0], -1)
        # Pieces of the file may be mapped again anywhere, by libffi for one: only the one that holds the data counts.
        for piece in pieces if at >= 0 else ():
            if piece.path == path and piece.writable and piece.offset <= at < piece.offset + piece.end - piece.start:
                address = piece.start + at - piece.offset
                return address, _layout(memory, address, found.get(SYMBOLS[1], 0))
    raise Unreadable("")


def _layout(memory: Readable, address: int, version: int) -> Offsets:
    head = memory.read(address, HEAD)
    if head[:8] == COOKIE:
        return layout.told(head)
    return layout.listed(version)


def mappings(pid: int) -> list[Piece]:
    """The mappings of files of a process. Raises Unreadable where it does not show them."""
    try:
        fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable("") from error
    pieces: list[bytes] = []
    size = 0
    try:
        while size < MOST_MAPS and (piece := os.read(fd, 1 << 16)):
            pieces.append(piece)
            size += len(piece)
    except OSError as error:
        raise Unreadable("") from error
    finally:
        os.close(fd)
    whole = b"".join(pieces).rpartition(b"\n")[0]
    return [_piece(line) for line in whole.split(b"\n") if b" /" in line]


def _piece(line: bytes) -> Piece:
    where, access, offset, _, _, path = line.split(None, 5)
    start, _, end = where.partition(b"-")
    # The kernel writes a newline in a name, and nothing else, as \012.
    name = os.fsdecode(path.replace(b"\\012", b"\n"))
    return Piece(int(start, 16), int(end, 16), int(offset, 16), name, writable=access[1:2] == b"w")


def _candidates(pid: int, pieces: list[Piece]) -> Iterator[str]:
    """The files that may hold an interpreter: the program itself, and what is called like one."""
    try:
        program = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        program = ""
    seen = set()
    for path in (program, *(piece.path for piece in pieces)):
        name = path.rpartition("/")[2]
        if path not in seen and (path == program or name.startswith(("libpython3", "python3"))):
            seen.add(path)
            if len(seen) > MOST_FILES:
                return
            yield path


def _offsets(pid: int, path: str) -> dict[str, int]:
    """{"_PyRuntime": offset in the file, "Py_Version": PY_VERSION_HEX} of a file; without what it does not have."""
    try:
        fd = files.opened(pid, path)
    except OSError:
        return {}
    try:
        about = os.fstat(fd)
        key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        if key not in _known:
            if len(_known) >= MOST_FILES:
                _known.clear()
            _known[key] = _read(fd)
        return _known[key]
    finally:
        os.close(fd)


def _read(fd: int) -> dict[str, int]:
    try:
        file = Elf(fd)
        found = file.symbols(*SYMBOLS)
        version = found.pop(SYMBOLS[1], -1)
        if version >= 0:
            data = os.pread(fd, 8, version)
            if len(data) == 8:
                (found[SYMBOLS[1]],) = struct.unpack("<Q", data)
        if SYMBOLS[0] not in found and (at := file.section(SECTION)) is not None:
            found[SYMBOLS[0]] = at
    except (Unreadable, OSError):
        return {}
    return found
