"""The doctor's verdict: a pure function of what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.doctor import judge, lines, report
from sandbox.doctor.examination import PROBES
from sandbox.doctor.installation import IN_FORCE, KILLABLE, LISTENER
from sandbox.doctor.listening import DUPLICATE, LET_THROUGH, ROUND_TRIP
from sandbox.doctor.measured import Facts, Measured, Probed
from sandbox.doctor.surroundings import SENSOR, SHARED
from sandbox.doctor.tripwire import TRIPWIRE
from sandbox.doctor.verdict import MEANS, Tier

WORKS = Probed("works")
NEEDED = (IN_FORCE, LISTENER, ROUND_TRIP, LET_THROUGH, SHARED)
OUTCOMES = (
    WORKS, Probed("refused", "EPERM"), Probed("killed", detail="by SIGSYS"), Probed("no answer", detail="in 2 s"),
    Probed("fails", detail="nothing came"), Probed("not tried", detail="the time was over"),
)  # fmt: skip


def measured(without: Mapping[str, Probed], landlock: str = "ABI 7", machine: str = "x86_64") -> Measured:
    """A platform on which everything works but this."""
    all_of_them = dict.fromkeys(PROBES, WORKS) | {"Landlock": Probed("works", detail=landlock)}
    return Measured(Facts(machine=machine, no_new_privs=1), all_of_them | dict(without))


@st.composite
def platforms(draw: st.DrawFn) -> Measured:
    """Any outcome of any probe."""
    found = {name: draw(st.sampled_from(OUTCOMES)) for name in PROBES}
    if found["Landlock"].works:
        found["Landlock"] = Probed("works", detail=f"ABI {draw(st.integers(1, 9))}")
    return measured(found)


@given(platforms())
def test_any_platform_has_a_verdict(platform: Measured) -> None:
    """No combination of outcomes is without a tier, and a tier is given only where what it rests on works."""
    verdict = judge(platform)
    assert verdict.means == MEANS[verdict.tier]
    assert (verdict.tier == "kernel + supervisor") == all(map(platform.works, NEEDED))
    assert verdict.tier.startswith("kernel") == platform.works(IN_FORCE)
    if verdict.tier != "not known":
        assert bool(verdict.why) == (verdict.tier != "kernel + supervisor")
    assert json.loads(json.dumps(report(platform, verdict)))["verdict"]["tier"] == verdict.tier
    assert all("\n" not in line for line in lines(platform, verdict))


REFUSED = Probed("refused", "EPERM")
ABSENT = Probed("fails", detail="it is not there")


@pytest.mark.parametrize(
    ("without", "tier", "settings"),
    [
        ({}, "kernel + supervisor", {"SANDBOX_SUPERVISE": "1", "SANDBOX_ON_UNAVAILABLE": "fail"}),
        ({LISTENER: REFUSED}, "kernel only", {"SANDBOX_SUPERVISE": "0", "SANDBOX_ON_UNAVAILABLE": "fail"}),
        ({SHARED: REFUSED}, "kernel only", {"SANDBOX_SUPERVISE": "0", "SANDBOX_ON_UNAVAILABLE": "fail"}),
        ({IN_FORCE: REFUSED}, "detects", {"SANDBOX_SUPERVISE": "0", "SANDBOX_ON_UNAVAILABLE": "detect"}),
        ({IN_FORCE: REFUSED, TRIPWIRE: ABSENT}, "sensor only",
         {"SANDBOX_SUPERVISE": "0", "SANDBOX_ON_UNAVAILABLE": "warn"}),
        ({IN_FORCE: REFUSED, TRIPWIRE: ABSENT, SENSOR: REFUSED}, "nothing",
         {"SANDBOX_SUPERVISE": "0", "SANDBOX_ON_UNAVAILABLE": "warn"}),
    ],
)
def test_tiers_and_what_to_set(without: Mapping[str, Probed], tier: Tier, settings: Mapping[str, str]) -> None:
    """Each tier has its settings, and names what keeps it from the one above."""
    verdict = judge(measured(without))
    assert (verdict.tier, dict(verdict.settings)) == (tier, settings)
    assert all(any(reason.startswith(name) for reason in verdict.why) for name in without if name != SENSOR)


def test_a_filter_that_only_pretends_gives_no_tier() -> None:
    """An installation that succeeded and refuses nothing counts for nothing."""
    verdict = judge(measured({IN_FORCE: Probed("fails", detail="the call passed all the same")}))
    assert verdict.tier == "detects"
    assert any("passed all the same" in reason for reason in verdict.why)


def test_nothing_tried_is_not_known() -> None:
    """Where no probe could be made the verdict does not guess."""
    untried = Probed("not tried", "EPERM", "no process can be made for it (fork)")
    assert judge(measured(dict.fromkeys(PROBES, untried))).tier == "not known"
    assert judge(measured(dict.fromkeys(PROBES, untried), machine="riscv64")).tier == "nothing"


@pytest.mark.parametrize(
    ("without", "landlock", "note"),
    [
        ({"Landlock": Probed("refused", "ENOSYS")}, "", "Landlock: refused ENOSYS"),
        ({}, "ABI 2", "Landlock ABI 2"),
        ({DUPLICATE: Probed("refused", "ENOSYS")}, "ABI 7",
         "pidfd_getfd: refused ENOSYS; the supervisor makes the function's sockets"),
        ({DUPLICATE: Probed("fails", detail="of this process alone")}, "ABI 7",
         "pidfd_getfd: fails of this process alone; a supervisor cannot connect in the function's place"),
        ({KILLABLE: Probed("refused", "EINVAL")}, "ABI 7", "no WAIT_KILLABLE_RECV"),
        ({"prctl SET_DUMPABLE": REFUSED}, "ABI 7", "prctl is refused"),
    ],
)
def test_what_is_less_is_noted(without: Mapping[str, Probed], landlock: str, note: str) -> None:
    """Within a tier, what is missing is said."""
    assert any(line.startswith(note) for line in judge(measured(without, landlock)).notes)
