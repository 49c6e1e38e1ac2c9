"""Reading journals back: lines of ours out of any log, filters, and the summary that a person acts on.

A log holds lines of others, halves of lines, and what somebody put there to look like ours. Nothing in it is trusted:
what does not fit is skipped, and every text is made printable before it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from sandbox.behaviour.quoting import printable
from sandbox.violations.event import SUMMARY, VIOLATION

BEGIN = b'{"event": "'
LONGEST = 1 << 16
"""Bytes of a line that are looked at; ours have 4096, a log's own prefix comes on top."""

LATEST = 253402300799
"""The last second of the year 9999."""

MOST = 16
"""Beginnings of an event that are tried in one line."""

_TEXTS = (
    "function", "phase", "comm", "syscall", "class", "target", "verdict", "errno", "reason", "risk", "technique",
    "allow",
)  # fmt: skip
UNLISTED = "not listed one by one"
"""The target of what only summaries count."""


@dataclass(frozen=True)
class Entry:
    """One line of ours: where it stands, its exact text, and its fields."""

    number: int
    line: str
    event: Mapping[str, Any]

    @property
    def is_violation(self) -> bool:
        """Whether it is one violation, and not a summary or another event."""
        return bool(self.event["event"] == VIOLATION)


@dataclass(frozen=True)
class Filter:
    """Which violations are asked for; what is empty or None asks for nothing."""

    syscalls: frozenset[str] = frozenset()
    phase: str = ""
    risk: str = ""
    since: float | None = None

    def admits(self, event: Mapping[str, Any]) -> bool:
        """Whether a violation is one of those."""
        checks = (
            not self.syscalls or event["syscall"] in self.syscalls,
            not self.phase or event["phase"] == self.phase,
            not self.risk or event["risk"] == self.risk,
            self.since is None or event["time"] >= self.since,
        )
        return all(checks)

    @property
    def counts_summaries(self) -> bool:
        """Whether the counts of summaries, which know neither phase nor risk nor time, can be filtered alike."""
        return not self.phase and not self.risk and self.since is None


def entries(file: BinaryIO) -> Iterator[Entry]:
    """The lines of ours, as they come. Never raises for what a line holds."""
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        for text, event in parse(line):
            yield Entry(number, text, event)
        while line and not line.endswith(b"\n"):  # too long for one of ours: skip the rest
            line = file.readline(LONGEST)


def parse(line: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(exact text, fields) of the events in a line: behind a log's prefix, another's unended line, or one another."""
    rest = line
    for _ in range(MOST):
        start = rest.find(BEGIN)
        if start < 0:
            return
        text = rest[start:].decode("utf-8", "surrogateescape")
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            value, end = None, len(BEGIN)
        if isinstance(value, dict) and _fits(value):
            yield text[:end], value
        rest = text[end:].encode("utf-8", "surrogateescape")


def _fits(event: dict[str, Any]) -> bool:
    """Whether an event has fields of the right kind, as far as anything here relies on them."""
    time = event.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= LATEST:
        return False
    if event["event"] == VIOLATION:
        args = event.setdefault("args", [])
        return (
            all(isinstance(event.setdefault(key, ""), str) for key in _TEXTS)
            and bool(event["syscall"])
            and isinstance(event.setdefault("request", None), str | None)
            and isinstance(args, list)
            and all(isinstance(word, str) for word in args)
        )
    if event["event"] == SUMMARY:
        counts = event.get("counts")
        return isinstance(counts, dict) and all(
            isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1 << 63 for count in counts.values()
        )
    # Other events of a supervisor matter to the chain alone.
    return isinstance(event.get("supervisor"), str) and isinstance(event.get("seq"), int)


def moment(time: float) -> str:
    """2025-01-31T12:00:00.123Z"""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe(event: Mapping[str, Any]) -> str:
    """One violation on one line, safe to print: the call, what became of it, and why."""
    call = f"{event['syscall']}({', '.join(event['args'])})"
    outcome = f" = {event['errno']}" if event["errno"] else ""
    where = " ".join(filter(None, (event["phase"], event["request"])))
    what = f"{event['risk']} {event['technique']} {where}: {call}{outcome}, {event['verdict']}: {event['reason']}"
    return printable(f"{what}; to allow: {event['allow'] or 'nothing can'}")


@dataclass
class Row:
    """All violations of one kind: how often, and what would allow them."""

    syscall: str
    name: str
    target: str
    risk: str = ""
    technique: str = ""
    allow: str = ""
    count: int = 0
    verdicts: set[str] = field(default_factory=set)
    phases: set[str] = field(default_factory=set)


def summarise(found: Iterable[Entry], wanted: Filter) -> list[Row]:
    """Rows by syscall, class and target, the most frequent first; with the exact totals where a journal was closed."""
    rows: dict[tuple[str, str, str], Row] = {}
    listed: dict[tuple[str, str], int] = {}
    more: dict[tuple[str, str], int] = {}
    totals: dict[tuple[str, str], int] = {}
    for entry in found:
        event = entry.event
        supervisor = str(event.get("supervisor", ""))
        if entry.is_violation:
            key = (supervisor, _kind(event))
            listed[key] = listed.get(key, 0) + 1
            if wanted.admits(event):
                _add(rows, event)
        elif event["event"] == SUMMARY:
            counts = totals if event.get("final") is True else more
            for kind, count in event["counts"].items():
                counts[supervisor, kind] = counts.get((supervisor, kind), 0) + count
    if wanted.counts_summaries:
        for supervisor, kind in sorted({*listed, *more, *totals}):
            key = (supervisor, kind)
            said = listed.get(key, 0) + more.get(key, 0)
            _add_unlisted(rows, kind, max(totals.get(key, 0), said) - listed.get(key, 0), wanted)
    return sorted(rows.values(), key=lambda row: (-row.count, row.syscall, row.name, row.target))


def _kind(event: Mapping[str, Any]) -> str:
    return f"{' '.join(filter(None, (event['syscall'], event['class'])))}: {event['verdict']}"


def _add(rows: dict[tuple[str, str, str], Row], event: Mapping[str, Any]) -> None:
    key = (event["syscall"], event["class"], event["target"])
    row = rows.setdefault(key, Row(*key))
    row.count += 1
    row.risk, row.technique, row.allow = event["risk"], event["technique"], event["allow"]
    row.verdicts.add(event["verdict"])
    row.phases.add(event["phase"])


def _add_unlisted(rows: dict[tuple[str, str, str], Row], kind: str, count: int, wanted: Filter) -> None:
    call, _, verdict = kind.rpartition(": ")
    syscall, _, name = call.partition(" ")
    if count <= 0 or (wanted.syscalls and syscall not in wanted.syscalls):
        return
    alike = [row for row in rows.values() if (row.syscall, row.name) == (syscall, name)]
    # Without any target there is but one thing that they can have been.
    target = "" if alike and all(not row.target for row in alike) else UNLISTED
    row = rows.setdefault((syscall, name, target), Row(syscall, name, target))
    row.count += count
    row.verdicts.add(verdict)
    if alike:
        row.risk, row.technique = row.risk or alike[0].risk, row.technique or alike[0].technique
        row.allow = row.allow or ("" if target else alike[0].allow)
