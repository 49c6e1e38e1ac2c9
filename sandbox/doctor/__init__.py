"""How far this platform lets a process confine itself: probes, a verdict, a report.

`sandbox doctor` shows it. With the folder `sandbox/` in a function's package, `sandbox.doctor.handler` is a handler for
AWS Lambda's Python runtimes (or anything else that calls a handler with an event): it needs the standard library alone.
"""

from __future__ import annotations

import sys
from typing import Any

from sandbox.doctor.examination import BUDGET, examine, report
from sandbox.doctor.verdict import judge, lines
from sandbox.errors import printable

__all__ = ["examine", "handler", "judge", "lines", "report"]

MARGIN = 0.5
"""Seconds of the invocation's time that are left for the answer."""


def handler(event: object, context: Any) -> dict[str, object]:
    """Examine the platform within the time that the invocation has; the report, which also goes to the log as text.

    `event` is not looked at. `context` is the runtime client's, or anything without get_remaining_time_in_millis.
    """
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    budget = min(BUDGET, remaining() / 1000 - MARGIN) if remaining else BUDGET
    measured = examine(budget)
    verdict = judge(measured)
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines(measured, verdict)))
    sys.stderr.flush()
    return report(measured, verdict)
