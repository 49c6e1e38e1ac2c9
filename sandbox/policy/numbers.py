"""The head of a filter: what the number of a syscall decides by itself, as a binary search over ranges.

An installing kernel runs a filter once for every number it knows, to remember those that always pass
(kernel/seccomp.c: seccomp_cache_prepare; Linux 5.11), and older kernels run it for every call. So each number takes
few steps, however many are allowed. Numbers that need a look at arguments fall off the end, with the number loaded.
"""

from __future__ import annotations

import errno
from bisect import bisect_left
from collections.abc import Callable

from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Instruction, Program

Range = tuple[int, int]
"""From a number on, up to the next range's, calls have one outcome: an action, or THROUGH."""

THROUGH = -1
CHAIN = 3
"""Single numbers in a range of another outcome that are compared one by one; more are worth a search."""


def head(arch: str, outcome: Callable[[int], int]) -> Program:
    """The instructions that decide by `outcome(number)`, for numbers of the tables; all others have one outcome.

    Foreign architectures and x32 numbers end the process; what the tables do not know is ENOSYS.
    """
    highest = tables.highest(arch)
    enosys = bpf.ERRNO | errno.ENOSYS
    known = tables.names(arch)
    found = [(nr, outcome(nr) if nr in known else enosys) for nr in range(highest + 1)] + [(highest + 1, enosys)]
    if arch == "x86_64":
        found += [(bpf.X32_BIT, bpf.KILL_PROCESS), (bpf.NEGATIVE, enosys)]
    ranges = [here for before, here in zip([None, *found], found, strict=False) if not before or before[1] != here[1]]
    code = _Code()
    start = code.search(ranges, 1 << 32, highest)
    code.put((bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), start)
    code.put((bpf.RET_K, 0, 0, bpf.KILL_PROCESS))
    code.put((bpf.JEQ_K, 1, 0, tables.AUDIT_ARCH[arch]))
    code.put((bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH))
    return code.program()


class _Code:
    """Instructions written from the last to the first, so that every target is there before its jump.

    BPF jumps forward only, by the number of instructions skipped (linux/filter.h: jt, jf, and k of BPF_JA). Counted
    from the front, that number changes with all that is still to be written between the two; counted from the end, a
    position is fixed once it is written. Position p is the instruction with p - 1 others behind it; 0 is behind the
    last one. A jump that is written when `here` instructions stand skips `here - p` of them to reach p: none where p
    is `here`, the instruction right behind the jump.

    An offset that is wrong by one leads into a neighbouring range: a number gets another number's action. The verifier
    runs every number and refuses the program with the first that differs, before anything is written.
    """

    def __init__(self) -> None:
        self._reversed: list[Instruction] = []
        self._returns: dict[int, int] = {THROUGH: 0}

    def program(self) -> Program:
        """What was written."""
        return tuple(reversed(self._reversed))

    def put(self, instruction: Instruction, before: int | None = None) -> int:
        """Write an instruction that goes on at the position `before`, if that is not the next anyway; its position."""
        here = len(self._reversed)
        if before is not None and before != here:
            self._reversed.append((bpf.JA, 0, 0, here - before))
        self._reversed.append(instruction)
        return len(self._reversed)

    def search(self, ranges: list[Range], end: int, highest: int) -> int:
        """Write the search through ranges up to the number `end`; the position where it begins."""
        if len(ranges) == 1:
            return self._leave(ranges[0][1])
        singles = _singles(ranges, end)
        if singles:
            here = self._leave(ranges[0][1])
            for nr, outcome in reversed(singles):
                here = self._compare(bpf.JEQ_K, nr, self._leave(outcome), here)
            return here
        middle = _middle(ranges, min(end, highest + 1))
        upper = self.search(ranges[middle:], end, highest)
        lower = self.search(ranges[:middle], ranges[middle][0], highest)
        return self._compare(bpf.JGE_K, ranges[middle][0], upper, lower)

    def _leave(self, outcome: int) -> int:
        position = self._returns.get(outcome)
        if position is not None and len(self._reversed) - position < bpf.FAR // 2:
            return position
        if outcome == THROUGH:
            self._reversed.append((bpf.JA, 0, 0, len(self._reversed)))
        else:
            self._reversed.append((bpf.RET_K, 0, 0, outcome))
        self._returns[outcome] = len(self._reversed)
        return self._returns[outcome]

    def _compare(self, code: int, k: int, holds: int, fails: int) -> int:
        """A comparison that leads to one of two positions, over a jump where one is too far; its own position."""
        near = []
        for position in (fails, holds):
            # One less than a comparison can skip: for `fails`, the jump written for `holds` may still come between.
            if len(self._reversed) - position > bpf.FAR - 1:
                self._reversed.append((bpf.JA, 0, 0, len(self._reversed) - position))
                position = len(self._reversed)
            near.append(position)
        here = len(self._reversed)
        self._reversed.append((code, here - near[1], here - near[0], k))
        return here + 1


def _singles(ranges: list[Range], end: int) -> list[Range]:
    """The single numbers among ranges that else have the first one's outcome, where they are few; none otherwise."""
    around = ranges[0][1]
    ends = [start for start, _ in ranges[1:]] + [end]
    found = [(here, after) for here, after in zip(ranges, ends, strict=True) if here[1] != around]
    few = len(found) <= CHAIN and all(after - start == 1 for (start, _), after in found)
    return [here for here, _ in found] if few else []


def _middle(ranges: list[Range], end: int) -> int:
    """The range with which the upper half begins, by how many of the tables' numbers lie on either side."""
    half = (ranges[0][0] + end) // 2
    starts = [start for start, _ in ranges]
    above = min(max(bisect_left(starts, half), 1), len(ranges) - 1)
    return above - 1 if above > 1 and half - starts[above - 1] < starts[above] - half else above
