"""The examination: facts, every probe in a child of its own, a budget of time for all; and the report for machines."""

from __future__ import annotations

import dataclasses
import time

from sandbox import __version__
from sandbox.doctor import installation, isolate, listening, surroundings, tripwire
from sandbox.doctor.measured import Measured, Probed, facts
from sandbox.doctor.verdict import Assessment
from sandbox.kernel import abi

BUDGET = 20.0
"""Seconds for everything; with nothing that hangs it takes a fraction of one."""
LIMIT = 4.0
"""Seconds for one probe."""

PROBES = {**installation.PROBES, **listening.PROBES, **surroundings.PROBES, **tripwire.PROBES}


def examine(budget: float = BUDGET) -> Measured:
    """Measure this platform. What does not fit into `budget` seconds is not tried, and says so."""
    deadline = time.monotonic() + budget
    probes: dict[str, Probed] = {}
    for name, probe in PROBES.items():
        left = deadline - time.monotonic()
        if not abi.AUDIT_ARCH:
            probes[name] = Probed("not tried", detail=f"no system call numbers for {abi.MACHINE}")
        elif left <= 0:
            probes[name] = Probed("not tried", detail=f"the time was over ({budget:g} s)")
        else:
            probes[name] = isolate.run(probe, min(LIMIT, left))
    return Measured(facts(), probes)


def report(measured: Measured, verdict: Assessment) -> dict[str, object]:
    """Everything as plain values, for JSON."""
    return {
        "event": "doctor", "version": __version__, "facts": dict(measured.facts.named()),
        "probes": {name: dataclasses.asdict(probed) for name, probed in measured.probes.items()},
        "verdict": {**dataclasses.asdict(verdict), "settings": dict(verdict.settings)},
    }  # fmt: skip
