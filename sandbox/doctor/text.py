"""The report for people: facts, probes, verdict, as plain lines."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.doctor.measured import Measured
from sandbox.doctor.verdict import Assessment, said

WIDTH = 44


def lines(measured: Measured, verdict: Assessment) -> Iterator[str]:
    """The report; the verdict comes last, where a terminal shows it."""
    for name, value in measured.facts.named():
        yield f"{name:{WIDTH}} {'?' if value is None else value}"
    yield ""
    for name in measured.probes:
        yield f"{name:{WIDTH}} {said(measured, name)}"
    yield ""
    yield f"verdict: {verdict.tier}"
    yield f"  {verdict.means}"
    for reason in verdict.why:
        yield f"  missing: {reason}"
    for note in verdict.notes:
        yield f"  note: {note}"
    for name, value in verdict.settings:
        yield f"  set: {name}={value}"
