"""The head of a filter: whatever the outcomes of the numbers, each number has its own, in few steps."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Program
from sandbox.policy.numbers import THROUGH, head
from sandbox.policy.simulator import check, simulate

FELL = bpf.TRAP | 77
"""What the programs of these tests answer behind the head."""
OUTCOMES = (bpf.ALLOW, bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS, bpf.USER_NOTIF, THROUGH)


def program_of(arch: str, outcomes: Mapping[int, int], default: int) -> Program:
    """A head for outcomes, with one answer behind it that says that the number was loaded."""
    found = head(arch, lambda nr: outcomes.get(nr, default))
    return (*found, (bpf.JEQ_K, 0, 0, 0), (bpf.RET_K, 0, 0, FELL))


def answers(arch: str, outcomes: Mapping[int, int], default: int) -> None:
    """Each number of the tables, those around them and those of x32 have the outcome that was asked for."""
    program = program_of(arch, outcomes, default)
    check(program)
    known = tables.names(arch)
    for nr in [*range(tables.highest(arch) + 3), 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]:
        wanted = outcomes.get(nr, default) if nr in known else bpf.ERRNO | errno.ENOSYS
        if arch == "x86_64" and bpf.X32_BIT <= nr < bpf.NEGATIVE:
            wanted = bpf.KILL_PROCESS
        found = simulate(program, tables.AUDIT_ARCH[arch], nr, (0,) * 6)
        assert found.action == (FELL if wanted == THROUGH else wanted), nr
        assert found.words & ~0b11 == 0
    for other in (0, 0x40000003, *(value for name, value in tables.AUDIT_ARCH.items() if name != arch)):
        assert simulate(program, other, 0, (0,) * 6).action == bpf.KILL_PROCESS


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(tables.ARCHES), st.dictionaries(st.integers(0, 470), st.sampled_from(OUTCOMES), max_size=200),
    st.sampled_from(OUTCOMES),
)  # fmt: skip
def test_every_number_has_its_outcome(arch: str, outcomes: dict[int, int], default: int) -> None:
    """For random outcomes, scattered and dense, the head answers as it was asked to."""
    answers(arch, outcomes, default)


@pytest.mark.parametrize("arch", tables.ARCHES)
@pytest.mark.parametrize("every", [3, 5])
def test_far_jumps(arch: str, every: int) -> None:
    """Where each number differs from the next, jumps reach further than one byte says, and still arrive."""
    outcomes = {nr: OUTCOMES[nr % every] for nr in range(500)}
    answers(arch, outcomes, bpf.USER_NOTIF)
    assert len(program_of(arch, outcomes, bpf.USER_NOTIF)) > bpf.FAR


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_the_way_is_short(arch: str) -> None:
    """With every third number allowed none takes more than a search through all of them; with few it takes less."""
    for outcomes, most in ((dict.fromkeys(range(0, 500, 3), bpf.ALLOW), 16), (dict.fromkeys((0, 57), bpf.ALLOW), 9)):
        program = program_of(arch, outcomes, bpf.ERRNO | errno.EPERM)
        ways = [simulate(program, tables.AUDIT_ARCH[arch], nr, (0,) * 6) for nr in range(tables.highest(arch))]
        assert max(way.instructions for way in ways) <= most
