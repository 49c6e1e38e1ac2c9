"""Do two filters give the same answer to every call? A proof for what compiled filters are made of, apart from the
verifier: numbers and architectures are tried at every value at which a comparison can turn, arguments symbolically.

    >>> difference(program, mutant)
    Call(arch=3221225534, nr=59, args=(0, 0, 0, 0, 0, 0))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.kernel import bpf
from sandbox.kernel.bpf import Instruction, Program

WORD = 0xFFFFFFFF
COMPARES = (bpf.JEQ_K, bpf.JGT_K, bpf.JGE_K, bpf.JSET_K)


class Undecided(Exception):
    """A program does what this proof cannot follow."""


@dataclass(frozen=True)
class Call:
    """A call to which two programs answer differently."""

    arch: int
    nr: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """`word & mask` compared with a constant by a jump, and whether it held."""

    code: int
    mask: int
    k: int
    held: bool

    def agrees(self, word: int) -> bool:
        """Whether the jump goes that way for this word."""
        a = word & self.mask
        found = {
            bpf.JEQ_K: a == self.k,
            bpf.JGT_K: a > self.k,
            bpf.JGE_K: a >= self.k,
            bpf.JSET_K: bool(a & self.k),
        }[self.code]
        return found == self.held


Path = dict[int, frozenset[Comparison]]


@dataclass
class _Solver:
    """Finds a word that passes all tests on it, or knows that there is none."""

    known: dict[frozenset[Comparison], int | None] = field(default_factory=dict)

    def word(self, tests: frozenset[Comparison]) -> int | None:
        if tests not in self.known:
            self.known[tests] = next((w for w in self._candidates(tests) if all(t.agrees(w) for t in tests)), None)
        return self.known[tests]

    def _candidates(self, tests: frozenset[Comparison]) -> Iterator[int]:
        if all(test.mask == WORD and test.code != bpf.JSET_K for test in tests):
            # Between two neighbouring constants nothing changes.
            ends = {0, WORD} | {test.k for test in tests}
            yield from sorted({min(max(end + step, 0), WORD) for end in ends for step in range(-len(tests), 2)})
            return
        fixed = fixed_bits = 0
        for test in tests:
            if test.code == bpf.JEQ_K and test.held:
                fixed |= test.mask
                fixed_bits |= test.k & test.mask
        small = 0
        for test in tests:
            if test.code == bpf.JSET_K:
                small |= test.mask & test.k
            elif test.mask != WORD:
                small |= test.mask
            elif test.code != bpf.JEQ_K:
                raise Undecided("an order beside a mask")
        small &= ~fixed
        if small.bit_count() > 14:
            raise Undecided(f"{small.bit_count()} bits to try")
        rest = WORD & ~small & ~fixed
        fillings = [_spread(j, rest) for j in range(min(len(tests) + 1, 1 << rest.bit_count()))]
        for i in range(1 << small.bit_count()):
            for filling in fillings:
                yield fixed_bits | _spread(i, small) | filling


def _spread(value: int, mask: int) -> int:
    """The low bits of value, laid into the bits of mask."""
    found = 0
    while mask and value:
        lowest = mask & -mask
        if value & 1:
            found |= lowest
        mask ^= lowest
        value >>= 1
    return found


def difference(one: Program, other: Program) -> Call | None:
    """A call that the two programs answer differently, or None when there is none. Raises Undecided."""
    solver = _Solver()
    if any(_masked(program) for program in (one, other)):
        raise Undecided("a mask on the number or the architecture")
    archs, numbers = _turning_points(one, other, bpf.OFFSET_ARCH), _turning_points(one, other, bpf.OFFSET_NR)
    for arch in sorted(archs):
        for nr in sorted(numbers):
            for action, path in _answers(one, nr, arch, {}, solver):
                for differs, found in _answers(other, nr, arch, path, solver):
                    if differs != action:
                        words = [solver.word(found.get(word, frozenset())) or 0 for word in range(16)]
                        args = tuple(words[4 + 2 * i] | words[5 + 2 * i] << 32 for i in range(6))
                        return Call(arch, nr, args)
    return None


def _masked(program: Program) -> bool:
    """Whether an AND (with more than 0, which libseccomp likes) stands behind a load of number or architecture."""
    last = -1
    for code, _, _, k in program:
        if code == bpf.LD_ABS:
            last = k
        elif code == bpf.AND_K and k and last in (bpf.OFFSET_NR, bpf.OFFSET_ARCH):
            return True
    return False


def _turning_points(one: Program, other: Program, offset: int) -> set[int]:
    """Values of a word around every constant that it may be compared with."""
    found = {0, WORD}
    for program in (one, other):
        if any(code == bpf.LD_ABS and k == offset for code, _, _, k in program):
            for code, _, _, k in program:
                if code in COMPARES:
                    found |= {max(k - 1, 0), k, min(k + 1, WORD)}
    return found


def _answers(program: Program, nr: int, arch: int, path: Path, solver: _Solver) -> Iterator[tuple[int, Path]]:
    """Every way through a program for one number and architecture: its answer, and the tests that lead there."""
    todo: list[tuple[int, int | None, int, int, Path]] = [(0, None, 0, WORD, path)]
    while todo:
        at, word, value, mask, tests = todo.pop()
        while True:
            code, jt, jf, k = program[at]
            at += 1
            if code == bpf.RET_K:
                yield k, tests
                break
            if code == bpf.LD_ABS:
                mask = WORD
                word = None if k in (bpf.OFFSET_NR, bpf.OFFSET_ARCH) else k // 4
                value = nr if k == bpf.OFFSET_NR else arch
            elif code == bpf.AND_K:
                mask &= k
                value &= k
            elif code == bpf.JA:
                at += k
            elif code in COMPARES and word is None:
                at += jt if Comparison(code, WORD, k, True).agrees(value) else jf
            elif code in COMPARES:
                assert word is not None
                ways = []
                for held, step in ((True, jt), (False, jf)):
                    more = tests | {word: tests.get(word, frozenset()) | {Comparison(code, mask, k, held)}}
                    if solver.word(more[word]) is not None:
                        ways.append((at + step, more))
                if len(ways) == 2:
                    todo.append((ways[1][0], word, value, mask, ways[1][1]))
                at, tests = ways[0]
            else:
                raise Undecided(f"opcode {code:#x}")


def constants_flipped(program: Program, at: int, bit: int) -> Program:
    """The program with one bit of one constant turned."""
    code, jt, jf, k = program[at]
    return replaced(program, at, (code, jt, jf, k ^ 1 << bit))


def replaced(program: Program, at: int, instruction: Instruction) -> Program:
    """The program with one other instruction."""
    return (*program[:at], instruction, *program[at + 1 :])
