"""Where an ELF file has a section or a dynamic symbol: 64-bit, little-endian, and read in bounds whatever it holds."""

from __future__ import annotations

import os
import struct

from sandbox.sensor.offsets import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

MAGIC = b"\x7fELF\x02\x01"
LARGEST = 1 << 20
"""Bytes of a table that is read; the dynamic symbols of the largest interpreters have a third."""
LONGEST = 512
"""Bytes of a name."""
MOST_HEADERS = 1024
MOST_SYMBOLS = 1 << 13
"""Of a library whose function is looked for: it takes a millisecond."""
PT_LOAD, SHT_DYNAMIC, SHT_NOBITS, SHT_DYNSYM = 1, 6, 8, 11
DT_SONAME = 14
SHT_GNU_HASH = 0x6FFFFFF6
MOST_CHAINED = 256
"""Symbols of one bucket of a hash table."""
FUNCTION = 2
"""STT_FUNC, the lower half of st_info."""
SYMBOL = 24
"""Bytes of Elf64_Sym: st_name at 0, st_info at 4, st_shndx at 6, st_value at 8, st_size at 16."""

_HEADER = struct.Struct("<32xQQ6xHHHHH")
_SEGMENT = struct.Struct("<I4xQQ8xQ16x")
_SYMBOL = struct.Struct("<IB3xQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")


class Elf:
    """One file, by a descriptor that stays open meanwhile. Raises Unreadable for what is not such a file."""

    __slots__ = ("_fd", "_names", "_sections", "loads")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        head = self._bytes(0, 64)
        if not head.startswith(MAGIC):
            raise Unreadable("is not a 64-bit ELF file")
        segments_at, sections_at, segment_size, segments, section_size, sections, names = _HEADER.unpack(head)
        if segment_size != _SEGMENT.size or section_size != _SECTION.size or max(segments, sections) > MOST_HEADERS:
            raise Unreadable("has odd ELF headers")
        parts = _SEGMENT.iter_unpack(self._bytes(segments_at, segment_size * segments))
        self.loads: Final = [part[1:] for part in parts if part[0] == PT_LOAD and not (part[1] | part[3]) >> 62]
        """(offset in the file, address, bytes in the file) of each PT_LOAD that can be in a file."""
        self._sections = list(_SECTION.iter_unpack(self._bytes(sections_at, section_size * sections)))
        self._names = self._texts(names)

    def section(self, name: str) -> int | None:
        """The offset in the file of a section's data; None without such a section, or without data in the file."""
        for section in self._sections:
            if self._names.startswith(name.encode() + b"\0", section[0]) and section[1] != SHT_NOBITS:
                return int(section[4])
        return None

    def symbol(self, name: str) -> int | None:
        """The offset in the file of what a dynamic symbol names; these stay where strip(1) takes the others."""
        section = self._only(SHT_DYNSYM)
        if section is None:
            return None
        texts = b"\0" + self._texts(section[6])
        table = self._bytes(section[4], section[5])
        text = b"\0" + name.encode() + b"\0"
        at = texts.find(text)  # of the name's first byte in the table, which has one byte less before it
        entry = table.find(struct.pack("<I", at)) if at >= 0 else -1
        while entry >= 0:
            if entry % SYMBOL == 0 and entry + SYMBOL <= len(table):
                index, value = struct.unpack_from("<HQ", table, entry + 6)
                if index:
                    return self.offset(value)
            entry = table.find(struct.pack("<I", at), entry + 1)
        return None

    def soname(self) -> str:
        """What a shared library calls itself; '' where it does not."""
        section = self._only(SHT_DYNAMIC)
        if section:
            for tag, value in struct.iter_unpack("<QQ", self._bytes(section[4], section[5] & ~15)):
                if tag == DT_SONAME:
                    return _name(self._texts(section[6]), value)
        return ""

    def number(self, name: str) -> int | None:
        """The 32-bit number that a dynamic symbol names, by the file's hash table; None for none."""
        hashed = 5381
        for byte in name.encode():
            hashed = hashed * 33 + byte & 0xFFFFFFFF
        section, symbols = self._only(SHT_GNU_HASH), self._only(SHT_DYNSYM)
        if not section or not symbols or symbols[6] >= len(self._sections):
            return None
        buckets, first, blooms, _ = struct.unpack("<4I", self._bytes(section[4], 16))
        start = section[4] + 16 + 8 * blooms
        index = self._uint(start + 4 * (hashed % buckets)) if buckets else 0
        for place in range(index, index + MOST_CHAINED if index >= first > 0 else 0):
            found = self._uint(start + 4 * (buckets + place - first))
            if found | 1 == hashed | 1:
                text, _, section_index, value = struct.unpack("<IHHQ", self._bytes(symbols[4] + SYMBOL * place, 16))
                spelled = self._bytes(self._sections[symbols[6]][4] + text, len(name) + 1)
                if section_index and spelled == name.encode() + b"\0":
                    offset = self.offset(value)  # none in the file: what is zero need not be there
                    return int.from_bytes(self._bytes(offset, 4), "little", signed=True) if offset else 0
            if found & 1:
                break
        return None

    def _uint(self, offset: int) -> int:
        return int.from_bytes(self._bytes(offset, 4), "little")

    def function(self, offsets: Sequence[int]) -> str:
        """The dynamic symbol of the function that has the first of some offsets in the file that any has; '' for none.

        It reads all symbols.
        """
        places: list[int] = []
        for one in offsets:
            places += [at + one - start for start, at, size in self.loads if start <= one < start + size][:1]
        section = self._only(SHT_DYNSYM)
        if not section or section[5] > MOST_SYMBOLS * SYMBOL:
            return ""
        found: dict[int, int] = {}
        for name, info, value, size in _SYMBOL.iter_unpack(self._bytes(section[4], section[5] // SYMBOL * SYMBOL)):
            if info & 15 == FUNCTION:
                for order, place in enumerate(places):
                    if value <= place < value + size:
                        found[order] = name
        return _name(self._texts(section[6]), found[min(found)]) if found else ""

    def offset(self, address: int) -> int | None:
        """The offset in the file of what lies at an address, as the file counts them; None for none."""
        for offset, start, size in self.loads:
            if start <= address < start + size:
                return int(offset + address - start)
        return None

    def _only(self, kind: int) -> tuple[int, ...] | None:
        """The section of a type of which a file has one; of more, as no linker makes them, the others are not read."""
        return next((section for section in self._sections if section[1] == kind), None)

    def _texts(self, section: int) -> bytes:
        if section >= len(self._sections):
            raise Unreadable("has odd ELF sections")
        return self._bytes(self._sections[section][4], self._sections[section][5])

    def _bytes(self, offset: int, size: int) -> bytes:
        if size > LARGEST or offset >> 62:
            raise Unreadable("has a table of an odd size")
        try:
            data = os.pread(self._fd, size, offset)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise Unreadable("ends within a table")
        return data


def _name(texts: bytes, at: int) -> str:
    return texts[at : at + LONGEST].partition(b"\0")[0].decode("utf-8", "replace")
