"""`sandbox events --format ocsf|emf|asff`: a log's violations, anomalies and starts as alarms elsewhere want them."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator

from sandbox.cli.output import emit, json_line, json_text
from sandbox.errors import UsageError
from sandbox.violations import reader


class EventForm(enum.StrEnum):
    """What --format takes."""

    text = "text"
    json = "json"
    ocsf = "ocsf"
    emf = "emf"
    asff = "asff"


ALERTS = (EventForm.ocsf, EventForm.emf, EventForm.asff)


def write(found: Iterator[reader.Line], wanted: reader.Filter, form: EventForm, arn: str) -> None:
    """One JSON document a line, at once. Raises UsageError for a resource that is missing or not an ARN."""
    from sandbox.alerts import finding, metrics, security_hub
    from sandbox.alerts.resource import resource

    if form is EventForm.asff and not arn:
        todo = "name the function: --resource arn:aws:lambda:REGION:ACCOUNT:function:NAME"
        raise UsageError("needs to know whose findings they are", where="--format asff", todo=todo)
    on = resource(arn) if arn else None
    chosen = (line for line in found if _admits(line, wanted))
    if form is EventForm.emf:
        for document in metrics.documents(chosen):
            # In one write, and on a line of its own: others may write there, too, and have left theirs unended.
            emit(f"\n{json_text(document)}\n")
            sys.stdout.flush()
    elif form is EventForm.asff and on:
        for batch in security_hub.batches(chosen, on):
            emit(json_text(batch) + "\n")
    else:
        for line in chosen:
            if one := finding.finding(line, on):
                json_line(one)


def _admits(line: reader.Line, wanted: reader.Filter) -> bool:
    """Whether a line is asked for; one that tells of no call where nothing is asked that it cannot answer."""
    if line.call:
        return wanted.admits(line.call)
    at = line.fields.get("time", 0.0)
    late = wanted.since is None or (line.record is None and isinstance(at, int | float) and at >= wanted.since)
    return late and not (wanted.syscalls or wanted.phase or wanted.risk)
