"""Where an ELF file has a symbol or a section: 64-bit, little-endian, and read in bounds whatever the file holds."""

from __future__ import annotations

import os
import struct

from sandbox.sensor.layout import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MAGIC = b"\x7fELF\x02\x01"
MOST_TABLE = 8 << 20
"""Bytes of a symbol table or its names; the largest interpreters have a tenth."""
MOST_HEADERS = 1024
PT_LOAD, SHT_SYMTAB, SHT_DYNSYM = 1, 2, 11
SYMBOL = 24
"""Bytes of Elf64_Sym, whose value stands at 8."""

_HEADER = struct.Struct("<32xQQ6xHHHHH")
_SEGMENT = struct.Struct("<I4xQQ8xQQ8x")
_SECTION = struct.Struct("<IIQQQQIIQQ")


class Elf:
    """One file: its segments, and look-ups by name. Raises Unreadable for what is not such a file."""

    __slots__ = ("_fd", "_names", "_sections", "loads")

    def __init__(self, fd: int) -> None:
        """`fd` stays open."""
        self._fd = fd
        head = self._bytes(0, 64)
        if not head.startswith(MAGIC):
            raise Unreadable("is not a 64-bit ELF file")
        segments_at, sections_at, segment_size, segments, section_size, sections, self._names = _HEADER.unpack(head)
        if segment_size < _SEGMENT.size or not 0 < segments <= MOST_HEADERS or sections > MOST_HEADERS:
            raise Unreadable("has odd ELF headers")
        data = self._bytes(segments_at, segment_size * segments)
        parts = [_SEGMENT.unpack_from(data, index * segment_size) for index in range(segments)]
        self.loads: Final = [part[1:] for part in parts if part[0] == PT_LOAD]
        """(file offset, address, bytes in the file, bytes in memory) of each PT_LOAD."""
        self._sections: list[tuple[int, ...]] = []
        if sections and section_size == _SECTION.size:
            data = self._bytes(sections_at, section_size * sections)
            self._sections = list(_SECTION.iter_unpack(data))

    def _bytes(self, offset: int, size: int) -> bytes:
        if not 0 <= size <= MOST_TABLE or offset >> 62:
            raise Unreadable("has a table of an odd size")
        try:
            data = os.pread(self._fd, size, offset)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise Unreadable("ends within a table")
        return data

    def symbols(self, *names: str) -> dict[str, int]:
        """Where the file has the data of these symbols: {name: offset}; the dynamic ones first, as strip(1) leaves."""
        found: dict[str, int] = {}
        for type_ in (SHT_DYNSYM, SHT_SYMTAB):
            for section in self._sections:
                if section[1] == type_ and len(found) < len(names):
                    self._look_up(section, [name for name in names if name not in found], found)
        return found

    def _look_up(self, section: tuple[int, ...], names: list[str], found: dict[str, int]) -> None:
        if section[6] >= len(self._sections):
            return
        of_names = self._sections[section[6]]
        texts = b"\0" + self._bytes(of_names[4], of_names[5])
        table = self._bytes(section[4], section[5])
        for name in names:
            at = texts.find(b"\0" + name.encode() + b"\0")
            while at >= 0:
                value = self._value(table, struct.pack("<I", at))
                if value is not None:
                    found[name] = value
                    break
                at = texts.find(b"\0" + name.encode() + b"\0", at + 1)

    def _value(self, table: bytes, name: bytes) -> int | None:
        """The file's offset of the defined symbol whose st_name are these four bytes."""
        at = table.find(name)
        while at >= 0:
            if at % SYMBOL == 0 and at + SYMBOL <= len(table):
                index, value = struct.unpack_from("<HQ", table[at + 6 : at + 16])
                if index and (offset := self._offset(value)) is not None:
                    return offset
            at = table.find(name, at + 1)
        return None

    def _offset(self, address: int) -> int | None:
        for offset, start, size, _ in self.loads:
            if start <= address < start + size:
                return int(offset + address - start)
        return None

    def section(self, name: str) -> int | None:
        """The file's offset of a section's data; None without such a section, or one without data in the file."""
        if self._names >= len(self._sections):
            return None
        of_names = self._sections[self._names]
        texts = b"\0" + self._bytes(of_names[4], of_names[5])
        at = texts.find(b"\0" + name.encode() + b"\0")
        for section in self._sections if at >= 0 else ():
            if section[0] == at and section[4] and section[1] != 8:  # SHT_NOBITS
                return section[4]
        return None
