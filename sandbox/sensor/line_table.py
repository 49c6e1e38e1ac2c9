"""The line of an instruction, from co_linetable of CPython 3.11 and newer (Objects/locations.md): bounded, any bytes.

An entry is a byte 1CCCCLLL (code, length in units less one) and bytes without the high bit that belong to it.
"""

from __future__ import annotations

from sandbox.memo import bounded_memo

MOST, LARGEST = 256, 2048
"""Lines that are known by heart, and bytes of their tables. The whole content is the key: it cannot be out of date."""

NO_LINE, NO_COLUMNS, LONG = 15, 13, 14
ONE_LINE = (10, 11, 12)
"""Their lines are 0, 1 and 2 further."""


def line_of(table: bytes, first: int, unit: int) -> int:
    """The line of the code unit `unit` (two bytes each); 0 where the table gives it none.

    `first` is co_firstlineno: the line before the first instruction has run.
    """
    if unit < 0:
        return first
    return (_known if len(table) <= LARGEST else _line)(table, first, unit)


def _line(table: bytes, first: int, unit: int) -> int:
    line, at, index, size = first, 0, 0, len(table)
    while index < size:
        head = table[index]
        index += 1
        code = head >> 3 & 15
        if code in (NO_COLUMNS, LONG):
            value = shift = 0
            while index < size and shift < 36:
                byte = table[index]
                index += 1
                value |= (byte & 63) << shift
                shift += 6
                if not byte & 64:
                    break
            line += -(value >> 1) if value & 1 else value >> 1
        elif code in ONE_LINE:
            line += code - ONE_LINE[0]
        at += (head & 7) + 1
        if unit < at:
            return line if code != NO_LINE and 0 < line < 1 << 31 else 0
        while index < size and not table[index] & 128:
            index += 1
    return 0


_known = bounded_memo(_line, MOST)
