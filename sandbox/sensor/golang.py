"""Which module of a Go program a function is of, and its version: from the build information that Go puts into it.

Functions are those of the table that Go's runtime itself unwinds with, which strip(1) leaves (Go's debug/gosym and
debug/buildinfo). Read in bounds, whatever the file holds.
"""

from __future__ import annotations

import os
import struct

from sandbox.sensor.elf import Elf
from sandbox.sensor.offsets import Unreadable

INFORMATION = ".go.buildinfo"
FUNCTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
CODE = ".text"
MAGIC = b"\xff Go buildinf:"
INLINE = 2
"""Flag: version and modules follow right behind, from Go 1.18 on."""
TABLES = (0xFFFFFFF0, 0xFFFFFFF1)
"""Go 1.18, and 1.20 and later; their tables are laid out alike."""
LARGEST = 1 << 18
"""Bytes of build information; the programs with the most modules have a tenth."""
LONGEST = 512
MOST_FUNCTIONS = 1 << 22
FURTHEST = 1 << 40
MOST_KNOWN = 256


class GoProgram:
    """One program, by a descriptor that it closes. Raises Unreadable for what is not built by Go 1.18 or later."""

    __slots__ = ("_count", "_fd", "_known", "_names", "_start", "_table", "main", "modules", "version")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._known: dict[int, str] = {}
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        elf = Elf(self._fd)
        information = elf.section(INFORMATION)
        if information is None:
            raise Unreadable("is not a program of Go")
        self.version, self.main, self.modules = built(self._fd, information)
        tables = [at for name in FUNCTIONS if (at := elf.section(name)) is not None]
        code = elf.section(CODE)
        if not tables or code is None:
            raise Unreadable("has no table of functions")
        self._table = tables[0]
        head = struct.unpack("<I3xBQ8xQQ24xQ", self._bytes(self._table, 72))
        magic, size, self._count, start, names, functions = head
        if magic not in TABLES or size != 8 or self._count > MOST_FUNCTIONS:
            raise Unreadable("has a table of functions that is not known")
        at = elf.offset(start) if start else None
        self._start = code if at is None else at  # a position-independent one has its start only in memory
        self._names = self._table + names
        self._table += functions

    def close(self) -> None:
        """Give the descriptor back; the object can be closed twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def function(self, offset: int) -> str:
        """The full name of the function at an offset in the file: `net/http.(*Client).do`; '' for none."""
        known = self._known.get(offset)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[offset] = self._function(offset)
        return known

    def _function(self, offset: int) -> str:
        place = offset - self._start
        low, high = 0, self._count
        while low < high:
            middle = (low + high) >> 1
            if struct.unpack("<I", self._bytes(self._table + 8 * middle, 4))[0] <= place:
                low = middle + 1
            else:
                high = middle
        if not low or place < 0:
            return ""
        (record,) = struct.unpack("<I", self._bytes(self._table + 8 * low - 4, 4))
        (name,) = struct.unpack("<i", self._bytes(self._table + record + 4, 4))
        at = self._names + name
        text, ended, _ = (os.pread(self._fd, LONGEST, at) if 0 <= at < FURTHEST else b"").partition(b"\0")
        return text.decode("utf-8", "replace") if ended else ""

    def module(self, function: str) -> tuple[str, str] | None:
        """(path, version) of the module that a function is of; the version is '' for the program's own.

        None for Go's own packages.
        """
        package = package_of(function)
        if package == "main" or self._within(package, self.main):
            return self.main or "main", ""
        found = max((path for path in self.modules if self._within(package, path)), key=len, default="")
        return (found, self.modules[found]) if found else None

    @staticmethod
    def _within(package: str, module: str) -> bool:
        return bool(module) and (package == module or package.startswith(f"{module}/"))

    def _bytes(self, offset: int, size: int) -> bytes:
        return _bytes(self._fd, offset, size)


def built(fd: int, at: int) -> tuple[str, str, dict[str, str]]:
    """(Go's version, path of the program's own module, {path: version} of the others) by its build information.

    Raises Unreadable.
    """
    head = _bytes(fd, at, 32)
    if not head.startswith(MAGIC) or not head[15] & INLINE:
        raise Unreadable("has build information that is not known")
    version, rest = _text(os.pread(fd, LARGEST, at + 32))
    main, modules = "", {}
    # Between two marks of 16 bytes.
    for line in _text(rest)[0][16:-16].decode("utf-8", "replace").split("\n"):
        kind, *words = line.split("\t")
        if kind == "mod" and words:
            main = words[0][:LONGEST]
        elif kind == "dep" and len(words) > 1:
            modules[words[0][:LONGEST]] = words[1][:LONGEST]
    return version.decode("utf-8", "replace")[:64], main, modules


def package_of(function: str) -> str:
    """The import path of a function's package: up to the first dot behind the last slash before its name's brackets."""
    name = function.partition("[")[0].partition("(")[0]
    folder, slash, last = name.rpartition("/")
    return (folder + slash + last.partition(".")[0]).replace("%2e", ".")


def _bytes(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset) if 0 <= offset < FURTHEST else b""
    if len(data) != size:
        raise Unreadable("ends within a table")
    return data


def _text(data: bytes) -> tuple[bytes, bytes]:
    """A text with its length before it as a varint, and what is behind it. Raises Unreadable."""
    size = 0
    for place, byte in enumerate(data[:4]):
        size |= (byte & 127) << 7 * place
        if byte < 128:
            end = place + 1 + size
            if end > len(data):
                break
            return data[place + 1 : end], data[end:]
    raise Unreadable("has build information that ends")
