"""Instructions that decide nothing, taken out of a program: libseccomp compares register halves of which no bit counts.

    ld [high half of an argument]; and 0; jeq 0, holds, fails      always goes on at `holds`
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.kernel import bpf
from sandbox.kernel.bpf import FAR, Program


@dataclass
class _Step:
    """An instruction with the steps that may follow it: where its comparison holds, and where not."""

    code: int
    k: int
    holds: int
    fails: int


def without_idle_comparisons(program: Program) -> Program:
    """The same verdicts in fewer instructions. All jumps of a program lead forward (man 2 seccomp)."""
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
    place = {at: number for number, at in enumerate(kept)}
    found = []
    for number, at in enumerate(kept):
        step = steps[at]
        jt, jf, k = 0, 0, step.k
        if step.code == bpf.JA:
            k = place[step.holds] - number - 1
        elif _jumps(step):
            jt, jf = place[step.holds] - number - 1, place[step.fails] - number - 1
        found.append((step.code, jt, jf, k))
    return tuple(found)
