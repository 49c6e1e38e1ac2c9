"""From the lines of one source to rows: what each of ours says, and what stands around it.

Lines are other people's. What does not fit is counted and left out; what fits is kept as text and never obeyed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.errors import ObservationError
from sandbox.fleet.schema import VERSION, identity
from sandbox.fleet.store import Row
from sandbox.learn import attribution, rights
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.observations import Reader
from sandbox.logs.reading import LogReader
from sandbox.violations import activities
from sandbox.violations.activity import Activity
from sandbox.violations.library import named
from sandbox.violations.reader import LATEST, STATUS, Line
from sandbox.violations.record import Summary, Violation, counted_as

ENVIRONMENT, LABEL = b"environment", b"label"
"""One of these is in each line of observations, also where that is a string of JSON."""
LONGEST_LINE = 1 << 20
"""Bytes of a line of observations with its envelope, and more."""
SORTS = {
    "network": "destination", "listen": "listener", "program": "program", "exec": "program", "write": "written",
    "read": "read",
}  # fmt: skip
"""What a thing is called by the reach of the access, or the fact, that it comes from."""
Found = tuple[str, Row]
"""A table and a row of it."""


@dataclass
class Ingested:
    """What became of the lines of some sources: how many, ours, cut or altered, and sources that are damaged."""

    sources: int = 0
    lines: int = 0
    ours: int = 0
    not_understood: int = 0
    damaged: int = 0

    def add(self, other: Ingested) -> None:
        """Add those of other sources."""
        self.sources += other.sources
        self.lines += other.lines
        self.ours += other.ours
        self.not_understood += other.not_understood
        self.damaged += other.damaged


@dataclass(frozen=True)
class _Status:
    release: str
    mode: str
    tier: str


class Lines:
    """Takes the bytes of one source in their order, whatever envelope its lines are in (sandbox/logs)."""

    def __init__(self, source: str) -> None:
        self._log = LogReader()
        self.problem = ""
        """Why some observations of this source were left out, '' where none were."""
        self._observations: Reader | None = Reader(source, keeps_text=True)
        self._rest = b""
        self._number = 0
        self._statuses: dict[str, _Status] = {}
        self._supervisors: set[str] = set()

    @property
    def counts(self) -> Ingested:
        """What became of its lines."""
        log = self._log.counts
        return Ingested(1, log.lines, log.ours + log.starts, log.not_understood, int(bool(self.problem)))

    def feed(self, data: bytes) -> Iterator[Found]:
        """The rows of the lines that end in the next bytes, and of what those end."""
        for line in self._log.feed(data, starts=True):
            yield from self._row(line)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for text in lines:
            yield from self._observed(text)
        if len(self._rest) > LONGEST_LINE:
            yield from self._observed(self._rest)
            self._rest = b""

    def end(self) -> Iterator[Found]:
        """The rows of what the end of the source ends."""
        for line in self._log.end(starts=True):
            yield from self._row(line)
        if self._rest:
            yield from self._observed(self._rest)
        try:
            for found in self._observations.end() if self._observations else ():
                yield from observed(found)
        except ObservationError as error:
            self._give_up(error)

    def _observed(self, line: bytes) -> Iterator[Found]:
        self._number += 1
        if self._observations is None or (ENVIRONMENT not in line and LABEL not in line):
            return
        try:
            for found in self._observations.take(line, self._number):
                yield from observed(found)
        except ObservationError as error:
            self._give_up(error)

    def _give_up(self, error: ObservationError) -> None:
        self._observations = None
        self.problem = str(error)

    def _row(self, line: Line) -> Iterator[Found]:
        fields, text = line.fields, line.text
        function = _text(fields, "function")
        if fields["event"] == STATUS:
            status = _Status(_text(fields, "policy").removeprefix("sha256:"), _text(fields, "mode"), tier_of(fields))
            self._statuses[function] = status
            lists = ("; ".join(_texts(fields.get(name))) for name in ("requested", "enforced", "degraded", "stale"))
            key = identity("status", text)
            yield "statuses", (VERSION, key, "", function, None, status.mode, status.tier, status.release, *lists)
            return
        seconds = float(str(fields["time"]))
        stamp = day_of(seconds), function, round(seconds * 1000)
        supervisor = line.supervisor or ""
        if supervisor and function and supervisor not in self._supervisors:
            self._supervisors.add(supervisor)
            yield self._run(fields, supervisor, stamp)
        key = identity("line", text)
        if call := line.call:
            by = call.by
            library = by.distribution if by and by.library else ""
            outcome = (call.verdict, call.errno, call.reason) if isinstance(call, Violation) else ("", "", "")
            verdict = outcome[0] or "suspected"
            yield "violations", (
                VERSION, key, *stamp, str(fields["event"]), call.phase, call.request or "", call.comm, call.syscall,
                call.arg_class, ", ".join(call.args), call.target, verdict, *outcome[1:], call.risk, call.technique,
                call.allow, call.anomaly, call.detail, named(library), by.version if by and library else "",
                str(by) if by else "", supervisor, _number(line.seq), counted_as(call.call, verdict),
            )  # fmt: skip
        elif isinstance(line.record, Summary):
            for kind, count in line.record.counts.items():
                row = identity("count", text, kind)
                yield "counts", (VERSION, row, *stamp, supervisor, kind, count, line.record.final)
        elif record := activities.read(line):
            if isinstance(record, Activity):
                yield from _done(record, text, stamp)
            elif sort := SORTS.get(record.reach):
                library = named(record.by.distribution) if record.by and record.by.library else ""
                things = (VERSION, key, *stamp, "access", record.phase, sort, record.target, 1, library)
                yield "things", things

    def _run(self, fields: Mapping[str, object], supervisor: str, stamp: tuple[str, str, int]) -> Found:
        status = self._statuses.get(stamp[1], _Status("", "", ""))
        if fields["event"] == "begin":
            digest = _text(fields, "policy").removeprefix("sha256:")
            status = _Status(digest, _text(fields, "mode"), status.tier if digest == status.release else "")
        key = identity("run", supervisor, status.release, status.mode, status.tier, str(stamp[2]))
        return "runs", (VERSION, key, *stamp, supervisor, status.release, status.mode, status.tier)


def _done(record: Activity, text: str, stamp: tuple[str, str, int]) -> Iterator[Found]:
    number = 0
    listed = [
        (sort, one.thing, one.count, by)
        for sort, things in (
            ("destination", record.destinations), ("listener", record.listeners), ("program", record.programs),
        )
        for one in things for by in (one.by or ("",))
    ]  # fmt: skip
    listed += [("written", path, 1, "") for path in record.written or ()]
    for number, (sort, thing, count, library) in enumerate(listed):
        key = identity("thing", text, str(number))
        yield "things", (VERSION, key, *stamp, "activity", record.phase, sort, thing, count, named(library))


def observed(found: ColdStart) -> Iterator[Found]:
    """The rows of a cold start that was observed: its lines as they are, and each thing that it reached."""
    seconds = max((sample.time for sample in found.samples), default=0.0)
    seconds = seconds if 0 < seconds <= LATEST else 0.0
    stamp = day_of(seconds), found.start.function, round(seconds * 1000) if seconds else None
    # A line that is not UTF-8 is damaged: what it says of paths is lost, not the rest.
    text = found.text.decode("utf-8", "replace")
    yield "observations", (VERSION, identity("cold start", text), *stamp, found.id, found.start.host, text)
    reached = {(SORTS[thing.reach], thing.text) for _, thing in rights.things(found, found.listen)}
    reached |= {("library", library.name) for library in attribution.libraries((found,))}
    for sort, thing in sorted(reached):
        row = identity("observed", found.id, sort, thing)
        yield "things", (VERSION, row, *stamp, "observation", "", sort, thing, 1, "")


def tier_of(fields: Mapping[str, Any]) -> str:
    """What a status line says that a function runs under, in one word.

    enforced, audited, degraded (enforced in part), detects (the tripwire alone), learning, unprotected.
    """
    if fields.get("mode") == "off" or fields.get("tier") == "nothing":
        return "unprotected"
    if fields.get("tier") == "detects":
        return "detects"
    if fields.get("mode") in ("audit", "learn"):
        return "audited" if fields["mode"] == "audit" else "learning"
    return "degraded" if _texts(fields.get("degraded")) else "enforced"


def day_of(seconds: float) -> str:
    """YYYY-MM-DD in UTC of seconds since 1970, '' for 0."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds else ""


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(value: int | None) -> int:
    """What a column holds; 0 for a number that no supervisor writes."""
    return value if value is not None and 0 <= value < 1 << 63 else 0


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
