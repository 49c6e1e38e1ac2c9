"""How deep a frame's value stack is at an instruction: from all that stand before it, as the compiler counted it.

bytecode.json has the opcodes of 3.11 to 3.13, made by tools/bytecode from interpreters; they stay within a minor
version (its magic number), and what an instruction becomes when it has run often counts as what it was. Of a version
without, of code that is traced line by line, and of what is reached from behind alone the depth is not known.
"""

from __future__ import annotations

import os

from sandbox.memo import bounded_memo, memo
from sandbox.plain_json import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Operation = tuple[int, int, int | tuple[int, ...], int | None]
    """Cache units behind it, its effect, what its argument adds (each one, or each bit), and the effect of its jump
    forward; None where it makes none."""

MOST, LARGEST = 64, 4096
"""Depths that are known by heart, and bytes of instructions before a call that are looked at."""


class Bytecode:
    """The opcodes of one minor version."""

    __slots__ = ("calls", "ends", "extends", "operations", "unpacked", "with_names")

    def __init__(self, row: dict[str, list[int]], operations: list[Operation | None]) -> None:
        self.operations: Final = operations
        """By opcode; None for an unknown one."""
        self.calls: Final = frozenset(row["calls"])
        """CALL, and 3.11's PRECALL: `oparg` arguments."""
        self.with_names: Final = frozenset(row["with_names"])
        """CALL_KW: with one object more, the names of its last arguments."""
        self.unpacked: Final = frozenset(row["unpacked"])
        """CALL_FUNCTION_EX: a tuple, and a dict where `oparg` is odd."""
        self.ends: Final = frozenset(row["ends"])
        """Behind these the next instruction is not reached."""
        self.extends: Final = frozenset(row["extends"])
        """EXTENDED_ARG."""


@memo
def table() -> dict[tuple[int, int], Bytecode]:
    """{(major, minor): Bytecode} of bytecode.json."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "bytecode.json"), encoding="utf-8") as file:
        rows = parse(file.read())
    found = {}
    for version, row in rows.items():
        operations: list[Operation | None] = [None] * 256
        for opcode, (caches, effect, more, *jump) in row["operations"].items():
            more = tuple(more) if isinstance(more, list) else more
            operations[int(opcode)] = (caches, effect, more, jump[0] if jump else None)
        for opcode, usual in row["as"].items():
            operations[int(opcode)] = operations[usual]
        major, _, minor = version.partition(".")
        found[int(major), int(minor)] = Bytecode(row, operations)
    return found


def _depth(minor: tuple[int, int], before: bytes, handlers: bytes) -> int:
    operations, ends, extends = table()[minor].operations, table()[minor].ends, table()[minor].extends
    depths = _handlers(handlers)
    depth = unit = extended = 0
    count = len(before) >> 1
    while unit < count:
        depth = depths.get(unit, depth)
        opcode, argument = before[2 * unit], before[2 * unit + 1] | extended << 8
        operation = operations[opcode]
        if operation is None:
            return -1
        extended = argument & 0xFFFFFF if opcode in extends else 0
        caches, effect, more, jump = operation
        unit += 1 + caches
        if depth < 0:
            continue
        if jump is not None:
            depths.setdefault(unit + argument, depth + jump)
        if isinstance(more, int):
            effect += more * argument
        else:
            effect += sum(weight for bit, weight in enumerate(more) if argument >> bit & 1)
        depth = -1 if opcode in ends else depth + effect
    return max(depths.get(count, depth), -1) if unit == count and not extended else -1


depth = bounded_memo(_depth, MOST)
"""How many values lie on the stack at the instruction behind `before`, with co_exceptiontable; -1: nobody knows."""


def _handlers(content: bytes) -> dict[int, int]:
    """{unit: depth} of the code that exceptions lead to (Objects/exception_handling_notes.txt)."""
    numbers, number = [], 0
    for byte in content:
        number = (number << 6 | byte & 63) & 0xFFFFFF
        if not byte & 64:
            numbers.append(number)
            number = 0
    entries = range(0, len(numbers) - 3, 4)  # start, length, target, twice the depth and whether lasti is pushed
    return {numbers[at + 2]: (numbers[at + 3] >> 1) + 1 + (numbers[at + 3] & 1) for at in entries}
