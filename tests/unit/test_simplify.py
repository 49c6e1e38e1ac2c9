"""Idle comparisons go, verdicts stay."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_strategies import profiles

from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Instruction, Program
from sandbox.policy import compiler
from sandbox.policy.compiler import without_idle_comparisons
from sandbox.policy.rules import rules_for
from sandbox.policy.simulator import check, simulate
from sandbox.profile.model import Profile

LOW, HIGH = bpf.OFFSET_ARGS, bpf.OFFSET_ARGS + 4
YES: Instruction = (bpf.RET_K, 0, 0, bpf.ALLOW)
NO: Instruction = (bpf.RET_K, 0, 0, bpf.ERRNO)
LOAD_HIGH: Instruction = (bpf.LD_ABS, 0, 0, HIGH)
LOAD_LOW: Instruction = (bpf.LD_ABS, 0, 0, LOW)
MASK: Instruction = (bpf.AND_K, 0, 0, 0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(), st.sampled_from(tables.ARCHES), st.integers(0, 1 << 32))
def test_trees_keep_their_verdicts(profile: Profile, arch: str, seed: int) -> None:
    """What libseccomp makes of random profiles answers random calls as before, and is never longer."""
    rules = rules_for(profile, arch)
    tree = compiler._tree(rules, set(rules.allow))
    simple = without_idle_comparisons(tree)
    check(simple)
    assert len(simple) <= len(tree)
    chance = random.Random(seed)
    values = [c.value for found in rules.allow.values() for rule in found for c in rule.conditions]
    for _ in range(200):
        args = [chance.choice((chance.getrandbits(64), chance.choice(values), 0)) for _ in range(6)]
        nr = chance.choice(sorted(rules.allow))
        one, other = (simulate(program, tables.AUDIT_ARCH[arch], nr, args) for program in (tree, simple))
        assert one.action == other.action
        assert one.instructions >= other.instructions


def test_an_idle_comparison_goes() -> None:
    """Three instructions that always lead to the same place are left out, with what only they led to."""
    program: Program = (
        LOAD_HIGH, MASK, (bpf.JEQ_K, 0, 3, 0), LOAD_LOW, (bpf.JEQ_K, 0, 1, 5), YES, NO,
    )  # fmt: skip
    assert without_idle_comparisons(program) == (LOAD_LOW, (bpf.JEQ_K, 0, 1, 5), YES, NO)


@pytest.mark.parametrize(
    "program",
    [
        (LOAD_HIGH, (bpf.AND_K, 0, 0, 1), (bpf.JEQ_K, 0, 1, 0), YES, NO),
        (LOAD_HIGH, MASK, (bpf.JEQ_K, 0, 1, 1), YES, NO),
        # What follows compares what was loaded.
        (LOAD_HIGH, MASK, (bpf.JEQ_K, 0, 1, 0), (bpf.JEQ_K, 0, 1, 0), YES, NO),
        # Somebody comes from elsewhere with another word.
        (LOAD_LOW, (bpf.JEQ_K, 1, 0, 7), LOAD_HIGH, MASK, (bpf.JEQ_K, 0, 1, 0), YES, NO),
    ],
)
def test_what_decides_stays(program: Program) -> None:
    """A mask with a bit, another constant, a value used later, a way in from elsewhere: the same answers as before."""
    simple = without_idle_comparisons(program)
    check(simple)
    for value in (0, 1, 5, 7, 1 << 32, 7 << 32, 7 | 1 << 32):
        args = (value, 0, 0, 0, 0, 0)
        assert simulate(simple, 0, 0, args).action == simulate(program, 0, 0, args).action, hex(value)


def test_a_jump_that_would_reach_too_far_stays_two() -> None:
    """Where the way behind an idle comparison is longer than one jump, a jump stays in its place."""
    filler: Program = ((bpf.JEQ_K, 0, 0, 1),) * 254
    program: Program = (
        LOAD_LOW, (bpf.JEQ_K, 0, 255, 9), *filler, YES, LOAD_HIGH, MASK, (bpf.JEQ_K, 5, 0, 0), *[NO] * 5, LOAD_LOW, YES,
    )  # fmt: skip
    simple = without_idle_comparisons(program)
    check(simple)
    assert MASK not in simple
    for value in (9, 8):
        assert simulate(simple, 0, 0, (value,) + (0,) * 5).action == bpf.ALLOW
