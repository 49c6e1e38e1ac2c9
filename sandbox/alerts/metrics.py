"""CloudWatch metrics by function, as documents in the Embedded Metric Format: one for each line that counts something.

A document has at most as many metrics as METRICS, where the format takes 100 and drops the others in silence. It is
shorter than 4 KiB, which is one piece in a pipe (PIPE_BUF, man 7 pipe), where the format takes 256.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from sandbox.errors import printable
from sandbox.violations import activities
from sandbox.violations.activity import Activity
from sandbox.violations.reader import STATUS, Line
from sandbox.violations.record import Degraded, Summary, Suspected, Violation, cut

NAMESPACE = "Sandbox"
METRICS = {
    "Violations": "Count", "HighRiskViolations": "Count", "Anomalies": "Count", "Starts": "Count",
    "DegradedStarts": "Count", "Losses": "Count", "SupervisorCost": "Milliseconds",
}  # fmt: skip
"""The metrics with their units. `Losses` are what supervisors had to do without after a start."""
LONGEST_NAME = 250
"""Bytes of a function's name; a dimension takes 1,024 characters."""
LONGEST_TEXT = 400
"""Bytes of any other text."""


def documents(lines: Iterable[Line]) -> Iterator[dict[str, object]]:
    """One document for each line that counts something, in order.

    Violations without a line of their own are those of the summaries; what only the last summary of a run counts is
    what the others lost. A status line has no moment: it gets that of the line before it, or now.
    """
    counted: dict[str, int] = {}
    last = 0.0
    for line in lines:
        last = _moment(line, last)
        function = line.fields.get("function")
        values = _values(line, counted)
        if values:
            yield _document(function if isinstance(function, str) else "", last or time.time(), values, line)


def _moment(line: Line, last: float) -> float:
    at = line.fields.get("time")
    return float(at) if isinstance(at, int | float) else last


def _values(line: Line, counted: dict[str, int]) -> dict[str, float]:
    """What a line counts; `counted` are the violations of each supervisor until here."""
    supervisor = line.supervisor or ""
    if isinstance(line.record, Violation):
        counted[supervisor] = counted.get(supervisor, 0) + 1
        high, suspected = line.record.risk == "high", bool(line.record.anomaly)
        return {"Violations": 1, "HighRiskViolations": int(high), **({"Anomalies": 1} if suspected else {})}
    if isinstance(line.record, Suspected):
        return {"Anomalies": 1}
    if isinstance(line.record, Summary):
        count = _uncounted(line.record, counted, supervisor)
        return {"Violations": count} if count else {}
    event = line.fields["event"]
    if event == STATUS:
        return {"Starts": 1, "DegradedStarts": int(bool(line.fields.get("degraded")))}
    if event == Degraded.event:
        return {"Losses": 1}
    if event == Activity.event:
        found = activities.read(line)
        if isinstance(found, Activity) and found.cost is not None:
            return {"SupervisorCost": found.cost}
    return {}


def _uncounted(summary: Summary, counted: dict[str, int], supervisor: str) -> int:
    """How many violations a summary tells of for the first time."""
    count = sum(summary.counts.values())
    known = counted.get(supervisor, 0)
    if summary.final:
        count = max(0, (count if summary.total is None else summary.total) - known)
    counted[supervisor] = known + count
    return count


def _document(function: str, at: float, values: Mapping[str, float], line: Line) -> dict[str, object]:
    """The document. What is not a metric in it is for searches; CloudWatch takes it as it is."""
    name = cut(printable(function), LONGEST_NAME).strip() or "unknown"
    record = line.call
    told: dict[str, str] = {}
    if record:
        told = {
            "call": str(record.call), "target": record.target, "risk": record.risk, "technique": record.technique,
            "verdict": record.verdict if isinstance(record, Violation) else "", "phase": record.phase,
            "request": record.request or "",
        }  # fmt: skip
    elif line.fields["event"] in (STATUS, Degraded.event):
        degraded = line.fields.get("degraded")
        listed = [str(one) for one in degraded] if isinstance(degraded, list) else []
        texts = {"mode": line.fields.get("mode"), "reason": line.fields.get("reason"), "degraded": "; ".join(listed)}
        told = {key: str(text) for key, text in texts.items() if text}
    return {
        "_aws": {
            "Timestamp": round(at * 1000),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE, "Dimensions": [["Function"], []],
                "Metrics": [{"Name": metric, "Unit": METRICS[metric]} for metric in values],
            }],
        },
        "Function": name.lstrip(":") or "unknown", **values,
        **{key: cut(text, LONGEST_TEXT) for key, text in told.items()},
    }  # fmt: skip
