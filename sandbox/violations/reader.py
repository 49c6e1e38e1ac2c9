"""Reading journals back: lines of ours out of any log, filters, and the summary that a person acts on.

A log holds lines of others, halves of lines, and what somebody put there to look like ours. Nothing in it is trusted:
what does not fit is skipped, and every text is made printable before it is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from sandbox.behaviour.call import Call
from sandbox.errors import printable
from sandbox.violations import origin
from sandbox.violations.activity import AccessRecord, Activity
from sandbox.violations.record import (
    LONGEST,
    Beginning,
    CallRecord,
    Degraded,
    Heartbeat,
    Summary,
    Suspected,
    Violation,
    counted_as,
)

BEGIN = b'{"event": "'
PIECE = 1 << 16
"""Bytes that are read at once of a line that is longer; one of ours, which may lie anywhere in it, has LONGEST."""

STATUS = "sandbox"
"""The event of the line that each start writes: what is in force, without a moment of its own."""

LATEST = 253402300799
"""The last second of the year 9999."""

_TEXTS = (
    "function", "phase", "comm", "syscall", "class", "target", "verdict", "errno", "reason", "risk", "technique",
    "allow",
)  # fmt: skip
_SUSPICION = ("anomaly", "detail")
_OUTCOME = ("verdict", "errno", "reason")
EVENTS = (
    STATUS, Violation.event, Suspected.event, Summary.event, Beginning.event, Heartbeat.event, Degraded.event,
    Activity.event, AccessRecord.event,
)  # fmt: skip
"""What our lines call themselves. Lines of others may begin alike, with events of their own."""
_NAME = re.compile(rb'[\w.-]{1,40}"')
UNLISTED = "not listed one by one"
"""The target of what only summaries count."""


@dataclass(frozen=True)
class Line:
    """One line of ours: where it stands, its exact text, and what it says.

    `record` is None for what matters to the chain of signatures alone. `supervisor` and `seq` are None where the line
    names none, `lost` is 0 there. `fields` are those of the text, for whoever prints them again; a violation's are
    complete.
    """

    number: int
    text: str
    record: Violation | Suspected | Summary | None
    supervisor: str | None
    seq: int | None
    lost: int
    fields: Mapping[str, object]

    @property
    def call(self) -> Violation | Suspected | None:
        """The call that it tells of; None for anything else."""
        return self.record if isinstance(self.record, Violation | Suspected) else None

    @property
    def violation(self) -> Violation | None:
        """The violation that it is; None for a summary and anything else."""
        return self.record if isinstance(self.record, Violation) else None


@dataclass(frozen=True)
class Filter:
    """Which calls are asked for; what is empty or None asks for nothing."""

    syscalls: frozenset[str] = frozenset()
    phase: str = ""
    risk: str = ""
    since: float | None = None

    def admits(self, record: CallRecord) -> bool:
        """Whether a call is one of those."""
        checks = (
            not self.syscalls or record.syscall in self.syscalls,
            not self.phase or record.phase == self.phase,
            not self.risk or record.risk == self.risk,
            self.since is None or record.time >= self.since,
        )
        return all(checks)

    @property
    def counts_summaries(self) -> bool:
        """Whether the counts of summaries, which know neither phase nor risk nor time, can be filtered alike."""
        return not self.phase and not self.risk and self.since is None


def lines(file: BinaryIO, *, starts: bool = False) -> Iterator[Line]:
    """The lines of ours, as they come; with `starts` also status lines. Never raises for what a line holds."""
    number, rest = 1, b""
    while piece := file.readline(PIECE):
        text = rest + piece
        ended = piece.endswith(b"\n")
        used = 0
        for line, end in _found(text, number, starts):
            used = end
            yield line
        # What the next piece may complete.
        rest = b"" if ended else text[max(used, len(text) - LONGEST) :]
        number += ended


def parse(line: bytes, number: int = 1) -> Iterator[Line]:
    """Those of ours in a line: behind a log's prefix, another's unended line, or one another."""
    return (found for found, _ in _found(line, number, False))


def _found(text: bytes, number: int, starts: bool) -> Iterator[tuple[Line, int]]:
    """The same, each with where it ends."""
    found = ((line, end) for line, _, end in candidates(text, number) if line)
    return ((line, end) for line, end in found if starts or line.fields["event"] != STATUS)


def candidates(text: bytes, number: int = 1) -> Iterator[tuple[Line | None, int, int]]:
    """(line, start, end) of what begins like one of ours; None for one that is cut, too long or altered.

    Status lines are among them, with neither record nor supervisor. However many beginnings there are, each is tried:
    whoever writes to the log, too, could else hide ours behind his.
    """
    start = text.find(BEGIN)
    while start >= 0:
        end = start + len(BEGIN)
        if not _NAME.match(text, end):
            start = text.find(BEGIN, end)
            continue
        candidate = text[start : start + LONGEST].decode("utf-8", "surrogateescape")
        try:
            value, length = json.JSONDecoder().raw_decode(candidate)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and _fits(value):
            said = candidate[:length]
            end = start + len(said.encode("utf-8", "surrogateescape"))
            yield _line(number, said, value), start, end
        elif candidate[len(BEGIN) :].partition('"')[0] in EVENTS:
            yield None, start, end
        start = text.find(BEGIN, end)


def _fits(fields: dict[str, Any]) -> bool:
    """Whether the fields are of the right kind, as far as anything here relies on them; a violation's made complete."""
    if fields["event"] == STATUS:
        return _is_status(fields)
    time = fields.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= LATEST:
        return False
    if fields["event"] in (Violation.event, Suspected.event):
        args = fields.setdefault("args", [])
        return (
            all(isinstance(fields.setdefault(key, ""), str) for key in _TEXTS)
            and all(isinstance(fields.get(key, ""), str) for key in _SUSPICION)
            and bool(fields["syscall"])
            and isinstance(fields.setdefault("request", None), str | None)
            and isinstance(args, list)
            and all(isinstance(word, str) for word in args)
        )
    if fields["event"] == Summary.event:
        counts = fields.get("counts")
        return isinstance(counts, dict) and all(
            isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1 << 63 for count in counts.values()
        )
    # Other lines of a supervisor matter to the chain alone.
    return isinstance(fields.get("supervisor"), str) and isinstance(fields.get("seq"), int)


def _is_status(fields: dict[str, Any]) -> bool:
    degraded = fields.get("degraded")
    return (
        all(isinstance(fields.get(key, ""), str) for key in ("mode", "function", "policy"))
        and isinstance(degraded, list)
        and all(isinstance(one, str) for one in degraded)
    )


def _line(number: int, text: str, fields: dict[str, Any]) -> Line:
    record: Violation | Suspected | Summary | None = None
    if fields["event"] in (Violation.event, Suspected.event):
        call = {
            **{key: fields[key] for key in _TEXTS if key not in ("class", *_OUTCOME)}, "arg_class": fields["class"],
            **{key: fields.get(key, "") for key in _SUSPICION},
            "pid": _number(fields, "pid") or 0, "tid": _number(fields, "tid") or 0, "request": fields["request"],
            "args": fields["args"], "by": origin.parse(fields.get("by")), "time": fields["time"],
        }  # fmt: skip
        if fields["event"] == Suspected.event:
            record = Suspected(**call)
        else:
            record = Violation(**call, **{key: fields[key] for key in _OUTCOME})
    elif fields["event"] == Summary.event:
        function = fields.get("function")
        record = Summary(
            function if isinstance(function, str) else "", fields["counts"], final=fields.get("final") is True,
            total=_number(fields, "total"), time=fields["time"],
        )  # fmt: skip
    supervisor = fields.get("supervisor")
    return Line(
        number, text, record, supervisor if isinstance(supervisor, str) else None, _number(fields, "seq"),
        _number(fields, "lost") or 0, fields,
    )  # fmt: skip


def _number(fields: Mapping[str, object], key: str) -> int | None:
    value = fields.get(key)
    return value if isinstance(value, int) else None


def moment(time: float) -> str:
    """2025-01-31T12:00:00.123Z"""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe(record: Violation | Suspected) -> str:
    """One call on one line, safe to print: what it was, what became of it, and why."""
    call = f"{record.syscall}({', '.join(record.args)})"
    where = " ".join(filter(None, (record.risk, record.technique, record.phase, record.request)))
    said = f" = {record.errno}" if isinstance(record, Violation) and record.errno else ""
    what = f"{where}: {call}{said}, {explained(record)}"
    if record.by:
        what += f"; by {record.by}"
    return printable(f"{what}; to allow: {allowing(record)}")


def allowing(record: CallRecord) -> str:
    """The line of a profile that would allow a call; of the kernel's own records, which name no phase, nobody knows."""
    return record.allow or ("nothing can" if record.phase else "not known")


def explained(record: Violation | Suspected) -> str:
    """What became of a call and why, with what a detector says of it."""
    suspicion = f"{record.anomaly}: {record.detail}" if record.anomaly else ""
    if isinstance(record, Suspected):
        return f"let through, suspected: {suspicion}"
    if not suspicion or record.reason == suspicion:
        return f"{record.verdict}: {record.reason}"
    return f"{record.verdict}: {record.reason}; {suspicion}"


@dataclass
class Tally:
    """All violations of one kind: how often, and what would allow them."""

    syscall: str
    arg_class: str
    target: str
    risk: str = ""
    technique: str = ""
    allow: str = ""
    count: int = 0
    verdicts: set[str] = field(default_factory=set)
    phases: set[str] = field(default_factory=set)


def summarise(found: Iterable[Line], wanted: Filter) -> list[Tally]:
    """By syscall, class and target, the most frequent first; with the exact totals where a journal was closed."""
    kinds: dict[tuple[str, str, str], Tally] = {}
    listed: dict[tuple[str, str], int] = {}
    more: dict[tuple[str, str], int] = {}
    totals: dict[tuple[str, str], int] = {}
    for line in found:
        supervisor = line.supervisor or ""
        if isinstance(line.record, Violation):
            key = (supervisor, counted_as(line.record.call, line.record.verdict))
            listed[key] = listed.get(key, 0) + 1
            if wanted.admits(line.record):
                _add(kinds, line.record)
        elif isinstance(line.record, Summary):
            counts = totals if line.record.final else more
            for text, count in line.record.counts.items():
                counts[supervisor, text] = counts.get((supervisor, text), 0) + count
    if wanted.counts_summaries:
        for supervisor, text in sorted({*listed, *more, *totals}):
            key = (supervisor, text)
            written = listed.get(key, 0) + more.get(key, 0)
            _add_unlisted(kinds, text, max(totals.get(key, 0), written) - listed.get(key, 0), wanted)
    return sorted(kinds.values(), key=lambda kind: (-kind.count, kind.syscall, kind.arg_class, kind.target))


def _add(kinds: dict[tuple[str, str, str], Tally], violation: Violation) -> None:
    key = (violation.syscall, violation.arg_class, violation.target)
    kind = kinds.setdefault(key, Tally(*key))
    kind.count += 1
    kind.risk, kind.technique, kind.allow = violation.risk, violation.technique, violation.allow
    kind.verdicts.add(violation.verdict)
    kind.phases.add(violation.phase)


def _add_unlisted(kinds: dict[tuple[str, str, str], Tally], text: str, count: int, wanted: Filter) -> None:
    what, _, verdict = text.rpartition(": ")
    call = Call.parse(what)
    if count <= 0 or (wanted.syscalls and call.syscall not in wanted.syscalls):
        return
    alike = [kind for kind in kinds.values() if (kind.syscall, kind.arg_class) == call]
    # Without any target there is but one thing that they can have been.
    target = "" if alike and all(not kind.target for kind in alike) else UNLISTED
    kind = kinds.setdefault((*call, target), Tally(*call, target))
    kind.count += count
    kind.verdicts.add(verdict)
    if alike:
        kind.risk, kind.technique = kind.risk or alike[0].risk, kind.technique or alike[0].technique
        kind.allow = kind.allow or ("" if target else alike[0].allow)
