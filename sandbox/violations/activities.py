"""Reading back what functions did: the lines of SANDBOX_ACTIVITY out of a log, as text and added up.

As with violations nothing in a log is trusted: what does not fit is skipped, and every text is made printable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sandbox.behaviour.call import Call
from sandbox.errors import printable
from sandbox.violations import origin
from sandbox.violations.activity import AccessRecord, Activity, Reached
from sandbox.violations.reader import Line

_SORTS = {"destinations": "to", "listeners": "at", "programs": "path"}
"""The lists of a line, and the name under which each item has its thing."""
_ACCESS = ("phase", "comm", "syscall", "class", "reach", "target", "verdict")


def read(line: Line) -> Activity | AccessRecord | None:
    """What a line says that a function did; None for any other line, and for what only looks like one."""
    event, fields = line.fields.get("event"), line.fields
    if event == Activity.event:
        return _activity(fields)
    return _access(fields) if event == AccessRecord.event else None


def _activity(fields: Mapping[str, object]) -> Activity | None:
    request, duration, written = fields.get("request"), fields.get("duration"), fields.get("written")
    if not isinstance(request, str | None) or isinstance(duration, bool) or not isinstance(duration, int | float):
        return None
    if not 0 <= duration < 1 << 63:  # JSON says infinity, not-a-number, and integers that no float is
        return None
    reached = {name: list(_reached(fields.get(name), thing)) for name, thing in _SORTS.items()}
    return Activity(
        function=_text(fields, "function"), phase=_text(fields, "phase"), request=request, duration=float(duration),
        answered=fields.get("answered") is True, shared=fields.get("shared") is True,
        accesses=_counts(fields.get("accesses")), destinations=reached["destinations"],
        listeners=reached["listeners"], programs=reached["programs"],
        written=None if written is None else _texts(written), refused=_counts(fields.get("refused")),
        anomalies=_counts(fields.get("anomalies")), new=_texts(fields.get("new")),
        outlived=_texts(fields.get("outlived")), more=_number(fields.get("more")),
        cost=_milliseconds(fields.get("cost")), time=_time(fields),
    )  # fmt: skip


def _access(fields: Mapping[str, object]) -> AccessRecord | None:
    request = fields.get("request")
    texts = {name: _text(fields, name) for name in _ACCESS}
    if not texts["syscall"] or not isinstance(request, str | None):
        return None
    return AccessRecord(
        function=_text(fields, "function"), phase=texts["phase"], request=request, pid=_number(fields.get("pid")),
        tid=_number(fields.get("tid")), comm=texts["comm"], call=Call(texts["syscall"], texts["class"]),
        reach=texts["reach"], target=texts["target"], verdict=texts["verdict"], by=origin.parse(fields.get("by")),
        time=_time(fields),
    )  # fmt: skip


def _reached(value: object, name: str) -> Iterator[Reached]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict) and isinstance(one.get(name), str):
            yield Reached(one[name], _number(one.get("count")), _texts(one.get("by")))


def _counts(value: object) -> dict[str, int]:
    found = value.items() if isinstance(value, dict) else ()
    return {name: _number(count) for name, count in found if _number(count)}


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63 else 0


def _milliseconds(value: object) -> float | None:
    measured = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return float(str(value)) if measured else None


def _time(fields: Mapping[str, object]) -> float:
    return float(str(fields["time"]))


def describe(record: Activity | AccessRecord) -> str:
    """One record on one line, safe to print."""
    where = " ".join(filter(None, (record.function, record.phase, record.request)))
    if isinstance(record, AccessRecord):
        what = " ".join(filter(None, (str(record.call), record.reach, record.target)))
        return printable(f"{where}: {what}, {record.verdict}" + (f"; by {record.by}" if record.by else ""))
    return printable(f"{where}: {'; '.join([_length(record), *_parts(record)])}")


def _length(record: Activity) -> str:
    unanswered = "" if record.answered or record.request is None else ", not answered"
    return f"{record.duration:.1f} ms{unanswered}" + (", beside another invocation" if record.shared else "")


def _parts(record: Activity) -> Iterator[str]:
    counts = ", ".join(f"{count} {reach}" for reach, count in record.accesses.items())
    yield f"accesses: {counts}" if counts else "no accesses"
    for title, found in (
        ("connects to", record.destinations), ("listens at", record.listeners), ("starts", record.programs),
    ):  # fmt: skip
        if found:
            yield f"{title} {', '.join(map(_named, found))}"
    if record.written:
        yield f"writes {', '.join(record.written)}"
    for title, kinds in (("refused", record.refused), ("suspected", record.anomalies)):
        if kinds:
            yield f"{title}: {', '.join(f'{name} ({count})' for name, count in kinds.items())}"
    if record.new:
        yield f"new: {', '.join(record.new)}"
    if record.outlived:
        yield f"left behind: {', '.join(record.outlived)}"
    if record.more:
        yield f"{record.more} more that the line leaves out"


def _named(one: Reached) -> str:
    by = f" by {' and '.join(one.by)}" if one.by else ""
    return f"{one.thing} ({one.count}{by})"


@dataclass
class Total:
    """One thing over all invocations: in how many lines it stands, how often it was reached, and by which libraries."""

    sort: str
    thing: str
    lines: int = 0
    count: int = 0
    by: set[str] = field(default_factory=set)


@dataclass
class Totals:
    """What all lines say together. `durations` are the milliseconds of the invocations, in order of their lines."""

    things: list[Total]
    durations: list[float]


def summarise(records: Iterable[Activity | AccessRecord]) -> Totals:
    """Add up the lines of invocations; within a sort the most frequent first."""
    found: dict[tuple[str, str], Total] = {}
    durations = []

    def add(sort: str, thing: str, count: int, by: Iterable[str] = ()) -> None:
        total = found.setdefault((sort, thing), Total(sort, thing))
        total.lines += 1
        total.count += count
        total.by.update(by)

    for record in records:
        if isinstance(record, AccessRecord):
            continue  # the line of its invocation counts it
        if record.request is not None:
            durations.append(record.duration)
        for sort, listed in (
            ("destination", record.destinations), ("listener", record.listeners), ("program", record.programs),
        ):  # fmt: skip
            for one in listed:
                add(sort, one.thing, one.count, one.by)
        for sort, texts in (("written", record.written or ()), ("new", record.new), ("left behind", record.outlived)):
            for text in texts:
                add(sort, text, 1)
        for sort, counts in (("refused", record.refused), ("suspected", record.anomalies)):
            for name, count in counts.items():
                add(sort, name, count)
    order = ("destination", "listener", "program", "written", "refused", "suspected", "new", "left behind")
    things = sorted(found.values(), key=lambda one: (order.index(one.sort), -one.count, one.thing))
    return Totals(things, durations)
