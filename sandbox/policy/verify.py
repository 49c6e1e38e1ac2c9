"""The verifier: does the compiled program do what the rules say? It never sees the compiler.

For every number up to well past the highest known, on the filter's own and on foreign architectures and with the x32
bit, it runs the program and compares the verdict with the rules. For each argument that a rule compares it takes the
compared value, its neighbours, every bit of the mask turned, and both halves of the register dirty.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sandbox.errors import PolicyUnverified
from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Program
from sandbox.policy.rules import Rule, Rules
from sandbox.policy.simulator import InvalidProgram, check, simulate
from sandbox.profile.arguments import FULL, LOW

Args = tuple[int, int, int, int, int, int]

BEYOND = 64
"""How many numbers past the highest known one are checked one by one."""
FOREIGN = {"i386": 0x40000003, "arm": 0x40000028, "riscv64": 0xC00000F3}
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
        raise PolicyUnverified(f"the kernel would refuse the program: {error}", where=rules.arch) from None
    _check_widths(rules)
    calls = longest = 0
    for arch, nr, args in _calls(rules):
        wanted = rules.verdict(arch, nr, args)
        got = simulate(program, arch, nr, args)
        calls += 1
        longest = max(longest, got.instructions)
        if got.action != wanted:
            name = tables.names(rules.arch).get(nr, f"number {nr:#x}")
            raise PolicyUnverified(
                f"{name}({', '.join(hex(a) for a in args)}) on {arch:#x}: the profile says {wanted:#x}, "
                f"the program {got.action:#x}",
                where=rules.arch,
                todo="nothing was written; please report this together with the profile and your libseccomp version",
            )
    return Evidence(calls, longest)


def _check_widths(rules: Rules) -> None:
    """A comparison must see all bits that the kernel reads, and none that it does not."""
    for found in rules.allow.values():
        for rule in found:
            for condition in rule.conditions:
                width = tables.width(rule.syscall, condition.argument)
                whole = FULL if width == 64 else LOW
                if condition.mask & ~whole or condition.value & ~condition.mask:
                    raise PolicyUnverified(
                        f"{rule.syscall} {rule.name}: compares bits of argument {condition.argument} "
                        f"that the kernel does not read ({condition.mask:#x} of {width} bits)",
                        where=rules.arch,
                    )


def _calls(rules: Rules) -> Iterator[tuple[int, int, Args]]:
    own = tables.AUDIT_ARCH[rules.arch]
    zero: Args = (0, 0, 0, 0, 0, 0)
    full: Args = (FULL, FULL, FULL, FULL, FULL, FULL)
    numbers = [*range(tables.highest(rules.arch) + BEYOND), 0x3FFFFFFF, 0x7FFFFFFF, 0x80000000, LOW]
    for nr in numbers:
        for arch in (*FOREIGN.values(), *(value for value in tables.AUDIT_ARCH.values() if value != own)):
            yield arch, nr, zero
        yield own, nr | bpf.X32_BIT, zero
        yield own, nr, zero
        yield own, nr, full
    for nr, found in rules.allow.items():
        if any(rule.conditions for rule in found):
            for args in _vectors(found, seed=nr):
                yield own, nr, args


def _vectors(found: tuple[Rule, ...], seed: int) -> Iterator[Args]:
    interesting: dict[int, set[int]] = {}
    for rule in found:
        for condition in rule.conditions:
            interesting.setdefault(condition.argument, set()).update(_edges(condition.mask, condition.value))
    # The compared values themselves in every combination, then each rule's own values with one argument varied.
    exact = {
        argument: {c.value for rule in found for c in rule.conditions if c.argument == argument}
        for argument in interesting
    }
    combinations = itertools.product(*(sorted(values) for values in exact.values()))
    for values in itertools.islice(combinations, 4096):
        yield _fill(dict(zip(exact, values, strict=True)))
    for rule in found:
        base = {condition.argument: condition.value for condition in rule.conditions}
        for argument, values in interesting.items():
            for value in sorted(values):
                yield _fill(base | {argument: value})
    chance = random.Random(seed)
    for _ in range(RANDOM_CALLS):
        yield _fill({argument: chance.getrandbits(64) for argument in interesting})
        yield _fill({argument: chance.choice(sorted(values)) for argument, values in interesting.items()})


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
