"""The verifier: does the compiled program do what the rules say? It never sees the compiler.

For every number up to well past the highest known, on the filter's own and on foreign architectures and with the x32
bit, it runs the program and compares the verdict with the rules. For each argument that a rule compares it takes the
compared value, its neighbours, every bit of the mask turned, and both halves of the register dirty. What the rules do
not compare the program must not even look at, so that no other argument can change an answer. The constants with which
the program itself compares are tried too, where it compares with them: it may know values that no rule has.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sandbox.behaviour.arguments import FULL, LOW
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.errors import PolicyUnverified
from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Program
from sandbox.policy.rules import Rule, Rules
from sandbox.policy.simulator import InvalidProgram, check, simulate

Args = tuple[int, int, int, int, int, int]

BEYOND = 64
"""How many numbers past the highest known one are checked one by one."""
FOREIGN = {"i386": 0x40000003, "arm": 0x40000028, "riscv64": 0xC00000F3}
REPORT = "nothing was written; please report this together with the profile and your libseccomp version"
_NUMBER_AND_ARCH = 0b11
RANDOM_CALLS = 24
"""Random argument vectors for each syscall with conditions, on top of the systematic ones."""


@dataclass(frozen=True)
class Evidence:
    """What was checked: how many calls, and how long the way of a call can be in instructions."""

    calls: int
    longest: int


def verify(program: Program, rules: Rules) -> Evidence:
    """Compare the program with the rules. Raises PolicyUnverified with the first call on which they differ."""
    try:
        check(program)
    except InvalidProgram as error:
        raise PolicyUnverified(f"the kernel would refuse the program: {error}", where=rules.arch) from error
    _check_widths(rules)
    readable = {nr: _words(found) for nr, found in rules.compared().items()}
    calls = longest = 0
    follow = _Follower(program)
    for arch, nr, args in itertools.chain(_calls(rules, program), follow):
        way: list[int] = []
        wanted = rules.verdict(arch, nr, args)
        got = simulate(program, arch, nr, args, way=way)
        if got.words > _NUMBER_AND_ARCH:
            follow.note(arch, nr, args, way)
        calls += 1
        longest = max(longest, got.instructions)
        if got.words & ~readable.get(nr, _NUMBER_AND_ARCH):
            raise PolicyUnverified(
                f"the program looks at more of {tables.names(rules.arch).get(nr, f'number {nr:#x}')} than the profile "
                f"compares (words {got.words:#x} of struct seccomp_data)",
                where=rules.arch, todo=REPORT,
            )  # fmt: skip
        if got.action != wanted:
            name = tables.names(rules.arch).get(nr, f"number {nr:#x}")
            raise PolicyUnverified(
                f"{name}({', '.join(hex(a) for a in args)}) on {arch:#x}: the profile says {wanted:#x}, "
                f"the program {got.action:#x}",
                where=rules.arch,
                todo=REPORT,
            )
    return Evidence(calls, longest)


class _Follower:
    """Calls that turn the comparisons which other calls met on their way: once for each number and word compared."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._ways: set[tuple[int, ...]] = set()
        self._met: set[tuple[int, int, int]] = set()
        self._next: deque[tuple[int, int, Args]] = deque()

    def note(self, arch: int, nr: int, args: Args, way: Sequence[int]) -> None:
        """Remember what to try next to a call that took this way through the program."""
        if (nr, *way) in self._ways:
            return
        self._ways.add((nr, *way))
        word = 0
        for at in way:
            code, _, _, k = self._program[at]
            if code == bpf.LD_ABS:
                word = k // 4
            elif code & 7 == 5 and code != bpf.JA and word >= 4 and (nr, at, word) not in self._met:
                self._met.add((nr, at, word))
                for value in (k, k + 1, k - 1, ~k):
                    self._next.append((arch, nr, _with_word(args, word, value & LOW)))

    def __iter__(self) -> Iterator[tuple[int, int, Args]]:
        while self._next:
            yield self._next.popleft()


def _with_word(args: Args, word: int, value: int) -> Args:
    argument, high = (word - 4) // 2, word % 2
    kept = args[argument] & (LOW if high else FULL ^ LOW)
    return _fill(dict(enumerate(args)) | {argument: kept | value << 32 * high})


def _words(found: Iterable[Rule]) -> int:
    """The words of struct seccomp_data that rules compare, and the number and architecture before them."""
    words = _NUMBER_AND_ARCH
    for rule in found:
        for condition in rule.conditions:
            words |= 1 << bpf.arg_offset(condition.argument, high=False) // 4
            words |= 1 << bpf.arg_offset(condition.argument, high=True) // 4
    return words


def _check_widths(rules: Rules) -> None:
    """A comparison must not see bits that the kernel does not read, nor half of a register that it reads whole."""
    for found in rules.compared().values():
        for rule in found:
            for condition in rule.conditions:
                width = tables.width(rule.syscall, condition.argument)
                whole = FULL if width == 64 else LOW
                half = condition.mask == LOW and width == 64
                if half or condition.mask & ~whole or condition.value & ~condition.mask:
                    raise PolicyUnverified(
                        f"{rule.call}: compares other bits of argument {condition.argument} "
                        f"than the kernel reads ({condition.mask:#x} of {width} bits)",
                        where=rules.arch,
                    )


def _calls(rules: Rules, program: Program) -> Iterator[tuple[int, int, Args]]:
    own = tables.AUDIT_ARCH[rules.arch]
    zero: Args = (0, 0, 0, 0, 0, 0)
    full: Args = (FULL, FULL, FULL, FULL, FULL, FULL)
    numbers = {*range(tables.highest(rules.arch) + BEYOND), 0x3FFFFFFF, 0x7FFFFFFF, 0x80000000, LOW}
    for code, _, _, k in program:
        if code & 7 == 5 and code != bpf.JA:
            numbers |= {k, (k - 1) & LOW, (k + 1) & LOW}
    for nr in sorted(numbers):
        for arch in (*FOREIGN.values(), *(value for value in tables.AUDIT_ARCH.values() if value != own)):
            yield arch, nr, zero
        yield own, nr | bpf.X32_BIT, zero
        yield own, nr, zero
        yield own, nr, full
    for nr, found in rules.compared().items():
        if any(rule.conditions for rule in found):
            for args in _vectors(found, seed=nr):
                yield own, nr, args


def _vectors(found: tuple[Rule, ...], seed: int) -> Iterator[Args]:
    """Arguments for one syscall, each vector once, however many rules ask for it."""
    tried: set[Args] = set()
    for args in itertools.chain(_systematic(found), _random(found, random.Random(seed))):
        if args not in tried:
            tried.add(args)
            yield args


def _systematic(found: tuple[Rule, ...]) -> Iterator[Args]:
    """The compared values in combination, then one argument varied beside the other arguments of each rule.

    It takes the edges of what some rule compares it with beside these others, and the plain values of all rules, which
    the program must not mix up. So the edges grow with the rules, not with the product of rules and values.
    """
    compared = [condition for rule in found for condition in rule.conditions]
    values = {argument: sorted({c.value for c in compared if c.argument == argument}) for argument, _, _ in compared}
    for combination in itertools.islice(itertools.product(*values.values()), 4096):
        yield _fill(dict(zip(values, combination, strict=True)))
    for argument, plain in values.items():
        beside: dict[Conjunction, set[Condition]] = {}
        for rule in found:
            others = tuple(condition for condition in rule.conditions if condition.argument != argument)
            beside.setdefault(others, set()).update(c for c in rule.conditions if c.argument == argument)
        bits = {edge for mask in {c.mask for c in compared if c.argument == argument} for edge in _edges(mask, 0)}
        for others in beside:
            fixed = {condition.argument: condition.value for condition in others}
            edges = bits.union(plain)
            for conditions, met in beside.items():
                if all(condition.holds(_fill(fixed)) for condition in conditions):
                    edges.update(edge for c in met for edge in _edges(c.mask, c.value))
            for value in sorted(edges):
                yield _fill(fixed | {argument: value})


def _random(found: tuple[Rule, ...], chance: random.Random) -> Iterator[Args]:
    edges: dict[int, set[int]] = {}
    for condition in (condition for rule in found for condition in rule.conditions):
        edges.setdefault(condition.argument, set()).update(_edges(condition.mask, condition.value))
    choices = {argument: sorted(values) for argument, values in edges.items()}
    for _ in range(RANDOM_CALLS):
        yield _fill({argument: chance.getrandbits(64) for argument in choices})
        yield _fill({argument: chance.choice(values) for argument, values in choices.items()})


def _edges(mask: int, value: int) -> Iterable[int]:
    yield from (value, (value + 1) & FULL, (value - 1) & FULL, 0, FULL, LOW, FULL ^ LOW)
    yield value | (FULL ^ mask)
    yield value | (1 << 32)
    yield value | (1 << 63)
    yield (value << 32) & FULL
    yield value & LOW
    yield value & (FULL ^ LOW)
    for bit in range(64):
        if mask >> bit & 1:
            yield value ^ (1 << bit)


def _fill(values: dict[int, int]) -> Args:
    found = [0, 0, 0, 0, 0, 0]
    for argument, value in values.items():
        found[argument] = value
    return (found[0], found[1], found[2], found[3], found[4], found[5])
