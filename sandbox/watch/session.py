"""What a live view knows of a function: where it is, what it did last, and how much there was in all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.errors import printable
from sandbox.logs.counts import Counts
from sandbox.violations import activities, reader
from sandbox.violations.activity import ALLOWED, AccessRecord, Activity
from sandbox.violations.origin import Origin
from sandbox.violations.reader import STATUS, Line
from sandbox.violations.record import Beginning, Suspected, Violation

MOST = 2000
"""Rows that are kept: a view is for what happens now, and `sandbox events` for all."""
SUSPECTED = "suspected"
ALLOW = "to allow"
"""The name of the line of a profile that would allow it."""


@dataclass(frozen=True)
class WatchedAccess:
    """One access as it came. `number` counts rows from 1; every text is safe to show."""

    number: int
    time: float
    phase: str
    request: str
    verdict: str
    call: str
    target: str
    by: str
    details: tuple[tuple[str, str], ...]

    @property
    def is_refusal(self) -> bool:
        """Whether it is more than an access that the profile allows."""
        return self.verdict != ALLOWED


@dataclass
class WatchedFunction:
    """Takes the lines of one log. `mode` is '' until a start says it."""

    function: str = ""
    mode: str = ""
    phase: str = ""
    request: str = ""
    degraded: tuple[str, ...] = ()
    starts: int = 0
    invocations: int = 0
    by_verdict: dict[str, int] = field(default_factory=dict)
    rows: deque[WatchedAccess] = field(default_factory=lambda: deque(maxlen=MOST))
    counts: Counts = field(default_factory=Counts)
    ended: str = ""
    _held: AccessRecord | None = None

    def take(self, line: Line) -> list[WatchedAccess]:
        """The rows that a line adds; what else it tells changes the state.

        An access that was not allowed waits for the next line, which is that of its violation and says more.
        """
        held, self._held = self._held, None
        record = self._told(line)
        rows = []
        if held and not (isinstance(record, Violation) and _is_of(record, held)):
            rows.append(self._added(held))
        if isinstance(record, AccessRecord) and record.verdict != ALLOWED:
            self._held = record
        elif record:
            rows.append(self._added(record))
        return rows

    def _told(self, line: Line) -> Violation | Suspected | AccessRecord | None:
        """The access that a line tells of."""
        fields = line.fields
        if fields["event"] == STATUS:
            self._start(str(fields.get("mode", "")), str(fields.get("function", "")))
            degraded = fields.get("degraded")
            self.degraded = tuple(printable(str(one)) for one in degraded) if isinstance(degraded, list) else ()
            return None
        if fields["event"] == Beginning.event:
            self.mode = printable(str(fields.get("mode", "")))
            return None
        record = line.call or activities.read(line)
        if record is None:
            return None
        self.function = printable(record.function) or self.function
        self.phase = printable(record.phase) or self.phase
        if isinstance(record, Activity):
            self.invocations += record.request is not None
            self.request = ""
            return None
        self.request = printable(record.request or "")
        return record

    def _added(self, record: Violation | Suspected | AccessRecord) -> WatchedAccess:
        row = self._row(record)
        self.by_verdict[row.verdict] = self.by_verdict.get(row.verdict, 0) + 1
        self.rows.append(row)
        return row

    def _start(self, mode: str, function: str) -> None:
        self.starts += 1
        self.mode, self.function = printable(mode), printable(function) or self.function
        self.phase, self.request = "init", ""

    def _row(self, record: Violation | Suspected | AccessRecord) -> WatchedAccess:
        verdict = SUSPECTED if isinstance(record, Suspected) else record.verdict
        number = self.rows[-1].number + 1 if self.rows else 1
        return WatchedAccess(
            number, record.time, printable(record.phase), printable(record.request or ""), printable(verdict),
            printable(str(record.call)), printable(record.target), printable(str(record.by or "")),
            tuple((name, printable(text)) for name, text in _details(record) if text),
        )  # fmt: skip


def _is_of(violation: Violation, access: AccessRecord) -> bool:
    return (violation.tid, violation.call, violation.target) == (access.tid, access.call, access.target)


def _details(record: Violation | Suspected | AccessRecord) -> Iterator[tuple[str, str]]:
    """What is shown of the selected one, by name, and first what a small screen has room for."""
    if isinstance(record, AccessRecord):
        yield "call", f"{record.call} ({record.reach})" if record.reach else str(record.call)
        yield "outcome", record.verdict
    else:
        yield "call", f"{record.syscall}({', '.join(record.args)})"
        yield "outcome", reader.explained(record)
        yield ALLOW, reader.allowing(record)
    yield "reaches", record.target
    yield from _stack(record.by)
    if not isinstance(record, AccessRecord):
        yield "class", record.arg_class
        yield "risk", f"{record.risk}, ATT&CK {record.technique}" if record.risk else ""
    yield "request", record.request or ""
    yield "thread", f"{record.comm}, {record.tid} of process {record.pid}"
    yield "time", reader.moment(record.time)


def _stack(by: Origin | None) -> Iterator[tuple[str, str]]:
    """Who made it, the innermost first."""
    if by is None:
        return
    started = "a program started by " * by.started
    if by.library:
        frame = by.library
        name = " ".join(filter(None, (by.distribution, by.version)))
        yield "library", f"{started}{name} {frame.file} {frame.function}{_at(frame.line)}"
    if by.handler:
        frame = by.handler
        yield "from", f"{frame.file} {frame.function}{_at(frame.line)}"


def _at(line: int) -> str:
    return f" line {line}" if line else ""
