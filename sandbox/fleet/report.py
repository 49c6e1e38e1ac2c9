"""The report over a fleet: every question's rows, as data and as markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sandbox.errors import printable
from sandbox.fleet.engines import FleetEngine, Value
from sandbox.fleet.narrowing import Unused, unused
from sandbox.fleet.questions import DAY, QUESTIONS, Window, newest_profiles, used
from sandbox.logs.counts import many
from sandbox.violations.reader import LATEST, moment

ASKED = ("coverage", "violations", "unlisted", "together", "new", "stale", "trainings", "estimates")
"""The questions of a report, in its order."""
TIMES = frozenset({"first", "last"})
SHOWN = 50
"""Rows of a question that a page shows; the data has all."""
OLD = 180
"""Days after which a training is worth a word."""


Answer = Mapping[str, Value]
"""One row of an answer."""


@dataclass(frozen=True)
class FleetReport:
    """What a report says. `tables` are rows by question, times in milliseconds since 1970."""

    window: Window
    engine: str
    tables: Mapping[str, Sequence[Answer]]
    narrowing: Sequence[Unused]


def gather(engine: FleetEngine, window: Window) -> FleetReport:
    """Ask everything."""
    tables = {name: engine.rows(QUESTIONS[name].ask(engine.tables, window)) for name in ASKED}
    profiles = engine.rows(newest_profiles(engine.tables, window))
    reached = engine.rows(used(engine.tables, window)) if profiles else []
    return FleetReport(window, engine.name, tables, tuple(unused(profiles, reached)))


def data(report: FleetReport) -> dict[str, object]:
    """The report for machines: times as ISO 8601."""
    return {
        "schema": 1, "now": moment_of(report.window.now), "days": report.window.days,
        "minutes": report.window.minutes, "unused_days": report.window.unused,
        **{name: [shown(row) for row in rows] for name, rows in report.tables.items()},
        "narrowing": [
            {"function": one.function, "entries": one.entries, "diff": list(one.change)} for one in report.narrowing
        ],
    }  # fmt: skip


def shown(row: Answer) -> dict[str, Value]:
    """A row with its times as ISO 8601."""
    return {name: moment_of(value) if name in TIMES else value for name, value in row.items()}


def moment_of(milliseconds: Value) -> str | None:
    """ISO 8601 of milliseconds since 1970."""
    known = isinstance(milliseconds, int | float) and 0 <= milliseconds <= LATEST * 1000
    return moment(float(milliseconds or 0) / 1000) if known else None


def total(rows: Sequence[Answer], name: str) -> int:
    """The sum of a column of numbers."""
    return sum(value for row in rows if isinstance(value := row[name], int))


def functions_by_tier(report: FleetReport) -> dict[str, set[str]]:
    """The functions that have each tier; one of two releases may have two."""
    found: dict[str, set[str]] = {}
    for row in report.tables["coverage"]:
        found.setdefault(str(row["tier"]), set()).add(str(row["function"]))
    return found


def markdown(report: FleetReport) -> str:
    """The report for people."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: FleetReport) -> Iterator[str]:
    tables, window = report.tables, report.window
    yield f"# Fleet report, {moment_of(window.now)}"
    yield ""
    by_tier = functions_by_tier(report)
    functions = set[str]().union(*by_tier.values())
    tiers = ", ".join(f"{len(names)} {tier}" for tier, names in sorted(by_tier.items()))
    refused, more = total(tables["violations"], "count"), total(tables["unlisted"], "count")
    yield f"{many(len(functions), 'function')}: {tiers or 'none'}. {many(refused, 'violation')} listed, {more} counted."
    for _, title, rows in chapters(report):
        yield from ("", f"## {title}", "")
        yield from table(rows)
    yield from ("", f"## Rights that nothing used in the last {many(window.unused, 'day')}", "")
    if not report.narrowing:
        yield "None that activity or observations could show."
    for one in report.narrowing[:SHOWN]:
        yield from (f"{_cell(one.function)}:", "", "```diff", *map(printable, one.change), "```", "")


def chapters(report: FleetReport) -> Iterator[tuple[str, str, Sequence[Answer]]]:
    """(question, title, rows) in the order of a report; of trainings those that are old."""
    window = report.window
    titles = {
        "coverage": "Coverage", "violations": "Violations", "unlisted": "Violations without a line of their own",
        "together": f"Refused in {window.functions} functions or more within {window.minutes} minutes",
        "new": f"New in the fleet in the last {many(window.days, 'day')}", "stale": "No longer what was trained",
        "trainings": f"Trainings older than {OLD} days", "estimates": "Completeness of the newest profiles",
    }  # fmt: skip
    for name in ASKED:
        rows = report.tables[name]
        if name == "trainings":
            old = moment_of(max(0, window.now - OLD * DAY)) or ""
            rows = [row for row in rows if "" < str(row["date"]) < old[:10]]
        yield name, titles[name], rows


def table(rows: Sequence[Answer]) -> Iterator[str]:
    """A table of markdown."""
    if not rows:
        yield "None."
        return
    columns = list(rows[0])
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows[:SHOWN]:
        yield f"| {' | '.join(_cell(value) for value in shown(row).values())} |"
    if len(rows) > SHOWN:
        yield f"\n{len(rows) - SHOWN} more; `sandbox fleet query` shows all."


def _cell(value: object) -> str:
    """A value in a cell: whatever a stranger has written stays in it, and stays text."""
    if isinstance(value, float):
        return f"{value:.3g}"
    text = "" if value is None else printable(str(value))
    if len(text) == 64 and all(character in "0123456789abcdef" for character in text):
        text = text[:12]
    for character in "&<>":
        text = text.replace(character, f"&#{ord(character)};")
    for character in "\\`|*_[]":
        text = text.replace(character, f"\\{character}")
    return text
