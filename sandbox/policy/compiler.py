"""From rules to BPF: numbers are decided by a head of ours (numbers.py), arguments by libseccomp's tree.

libseccomp (through pyseccomp) cannot say "every number above the highest known is ENOSYS", nor "kill x32 on every
host", and it takes more steps for a number than an installing kernel, which tries them all, should have to take.

libseccomp of a host knows foreign architectures only by the names that its release knows. So a filter for another
architecture is built under the host's own, where any number passes as it is, and the one constant that differs (the
AUDIT_ARCH_* value that the program compares first) is replaced. The verifier judges the result, not this reasoning.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Set
from dataclasses import dataclass
from functools import cache

from sandbox.behaviour.arguments import FULL
from sandbox.behaviour.comparison import Condition
from sandbox.bundle import LAUNCHED
from sandbox.errors import KernelUnsupported, PolicyUnverified
from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import FAR, Program
from sandbox.policy.numbers import THROUGH, head
from sandbox.policy.rules import Rules

API_LEVEL = 5  # seccomp_api_get(3): process kills and user notification; Linux 5.0
OPTIMIZE_TREE = 2  # seccomp.h: SCMP_FLTATR_CTL_OPTIMIZE, 2 sorts the syscalls into a binary tree


def compile_rules(rules: Rules) -> Program:
    """The program for a set of rules. Raises KernelUnsupported when libseccomp is missing."""
    first, rest = halves(rules)
    return first + rest


def halves(rules: Rules) -> tuple[Program, Program]:
    """The program in two parts: the head, off whose end falls what needs more than the number, and the rest.

    Between the two, with the number loaded, the launcher puts what only it knows (sandbox/confine/single_exec.py), so
    that calls of LAUNCHED always fall through. Raises KernelUnsupported when libseccomp is missing.
    """
    numbers = tables.numbers(rules.arch)
    through = {numbers[name] for name in LAUNCHED if name in numbers}
    through |= {nr for nr, found in rules.compared().items() if any(rule.conditions for rule in found)}

    def outcome(nr: int) -> int:
        if nr in through:
            return THROUGH
        if nr in rules.allow:
            return bpf.ALLOW
        if nr in rules.refuse:
            return bpf.ERRNO | rules.refuse[nr]
        return bpf.ERRNO | errno.EPERM if nr in rules.static else rules.default

    tree = _without_preamble(_tree(rules, through), rules.arch)
    return head(rules.arch, outcome), without_idle_comparisons(tree)


def _without_preamble(tree: Program, arch: str) -> Program:
    """libseccomp's program without what the head has looked at: the architecture and x32.

    All jumps lead forward, so that what nobody jumps over can go, and at the end the answer to another architecture, to
    which only the preamble led. Another release's preamble stays as it is.
    """
    number = (bpf.LD_ABS, bpf.OFFSET_NR)
    known = [(bpf.LD_ABS, bpf.OFFSET_ARCH), (bpf.JEQ_K, tables.AUDIT_ARCH[arch]), number]
    if arch == "x86_64":
        known += [(bpf.JGE_K, bpf.X32_BIT), (bpf.JEQ_K, 0xFFFFFFFF), number]
    if [(code, k) for code, _, _, k in tree[: len(known)]] != known:
        return tree
    rest = tree[len(known) :]
    led = {at + 1 + jump for at, (_, jt, jf, _) in enumerate(rest) for jump in (jt, jf) if jump}
    return rest[:-1] if len(rest) - 1 not in led and rest[-2][0] == bpf.RET_K else rest


@cache
def _libseccomp():  # type: ignore[no-untyped-def]  # pyseccomp ships no types
    try:
        import pyseccomp

        # libseccomp asks the running kernel what it may build; what we build is for other kernels too.
        pyseccomp.set_api(API_LEVEL)
    except (ImportError, RuntimeError, OSError) as error:  # NotImplementedError is a RuntimeError
        raise KernelUnsupported(
            f"libseccomp cannot be used: {error}",
            todo="install libseccomp2 (Debian, Ubuntu) or libseccomp, 2.5 or newer",
        ) from error
    return pyseccomp


def _tree(rules: Rules, through: Set[int]) -> Program:
    """What libseccomp makes of the rules on numbers that fall through the head."""
    library = _libseccomp()
    filter_ = library.SyscallFilter(rules.default)
    filter_.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)
    filter_.set_attr(library.Attr.CTL_OPTIMIZE, OPTIMIZE_TREE)
    for action, rulings in ((library.ALLOW, rules.allow), (library.ERRNO(errno.EPERM), rules.static)):
        for nr, found in rulings.items():
            for rule in found if nr in through else ():
                filter_.add_rule_exactly(action, nr, *[_compare(library, c) for c in rule.conditions])
    with open(os.memfd_create("filter"), "w+b") as file:  # libseccomp says of a full disk only that it cannot
        filter_.export_bpf(file)
        file.seek(0)
        program = bpf.unpack(file.read())
    return _retarget(program, tables.AUDIT_ARCH[tables.machine()], tables.AUDIT_ARCH[rules.arch])


def _compare(library, condition: Condition):  # type: ignore[no-untyped-def]  # pyseccomp ships no types
    if condition.mask == FULL:
        return library.Arg(condition.argument, library.EQ, condition.value)
    return library.Arg(condition.argument, library.MASKED_EQ, condition.mask, condition.value)


def _retarget(program: Program, native: int, wanted: int) -> Program:
    if native == wanted:
        return program
    load, compare = program[0], program[1]
    if load != (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH) or compare[0] != bpf.JEQ_K or compare[3] != native:
        raise PolicyUnverified(
            "libseccomp's program does not begin with the architecture, so that it cannot be retargeted",
            todo="compile on a machine of that architecture, or report this with your libseccomp version",
        )
    return (load, (*compare[:3], wanted), *program[2:])


@dataclass
class _Step:
    """An instruction with the steps that may follow it: where its comparison holds, and where not."""

    code: int
    k: int
    holds: int
    fails: int


def without_idle_comparisons(program: Program) -> Program:
    """The same verdicts in fewer instructions: a quarter of a function's program decides nothing.

    libseccomp compares register halves of which no bit counts:

        ld [high half of an argument]; and 0; jeq 0, holds, fails      always goes on at `holds`

    All jumps of a program lead forward (man 2 seccomp).
    """
    steps = [_step(at, *instruction) for at, instruction in enumerate(program)]
    for at in range(len(steps) - 3, -1, -1):
        if _idle(steps, at):
            steps[at] = _Step(bpf.JA, 0, steps[at + 2].holds, steps[at + 2].holds)
    for at, step in enumerate(steps):
        if _jumps(step):
            step.holds, step.fails = _passed(steps, at, step.holds), _passed(steps, at, step.fails)
    start = 0
    while steps[start].code == bpf.JA:
        start = steps[start].holds
    return _laid_out(steps, start)


def _step(at: int, code: int, jt: int, jf: int, k: int) -> _Step:
    if code == bpf.JA:
        return _Step(code, 0, at + 1 + k, at + 1 + k)
    return _Step(code, k, at + 1 + jt, at + 1 + jf)


def _jumps(step: _Step) -> bool:
    return step.code & 7 == 5


def _idle(steps: list[_Step], at: int) -> bool:
    """Whether three steps compare nothing, and what follows loads or returns, so that it does not miss their load."""
    load, masked, compared = steps[at : at + 3]
    if (load.code, masked.code, masked.k, compared.code, compared.k) != (bpf.LD_ABS, bpf.AND_K, 0, bpf.JEQ_K, 0):
        return False
    return steps[_passed(steps, at, compared.holds)].code in (bpf.LD_ABS, bpf.RET_K)


def _passed(steps: list[_Step], start: int, at: int) -> int:
    """Where a jump from `start` to a jump leads in the end, as far as one jump reaches."""
    while steps[at].code == bpf.JA and steps[at].holds - start <= FAR:
        at = steps[at].holds
    return at


def _laid_out(steps: list[_Step], start: int) -> Program:
    """What is reached from a step, in the old order."""
    reached = {start}
    for at, step in enumerate(steps):
        if at in reached and step.code != bpf.RET_K:
            reached |= {step.holds, step.fails}
    kept = sorted(reached)
    position = {at: number for number, at in enumerate(kept)}
    found = []
    for number, at in enumerate(kept):
        step = steps[at]
        jt, jf, k = 0, 0, step.k
        if step.code == bpf.JA:
            k = position[step.holds] - number - 1
        elif _jumps(step):
            jt, jf = position[step.holds] - number - 1, position[step.fails] - number - 1
        found.append((step.code, jt, jf, k))
    return tuple(found)
