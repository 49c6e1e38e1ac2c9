"""What a log holds, made as small as a page needs: kinds, spans of time, and the last calls one by one.

A log may hold any number of lines that anybody wrote. It is read once, line by line; what is kept has an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sandbox.logs.counts import Counts
from sandbox.report.surface import RISKS
from sandbox.violations.reader import Filter, Line, Tally, moment, summarise
from sandbox.violations.record import Suspected, Violation

SPANS = 48
"""Bars of the time line."""
STEPS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600,
    7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600,
)  # fmt: skip
"""Seconds that a bar may stand for."""
LAST = 50
"""Calls that are shown one by one."""
KINDS = 40
"""Kinds of violations that are shown; how many more there are is said."""
MOMENTS = 1 << 17
"""Different seconds that are kept before they are counted by the hour."""


@dataclass(frozen=True)
class Bar:
    """How many violations of a risk fall into the span that begins at `start` (seconds since 1970)."""

    start: float
    risk: str
    count: int


@dataclass
class ReadLog:
    """What a page says of a log. `others` are lines of ours that are no violations; `anomalies` were let through."""

    kinds: tuple[Tally, ...] = ()
    last: tuple[Violation | Suspected, ...] = ()
    bars: tuple[Bar, ...] = ()
    step: float = 1.0
    violations: int = 0
    listed: int = 0
    anomalies: int = 0
    functions: tuple[str, ...] = ()
    first_moment: str = ""
    last_moment: str = ""
    by_risk: dict[str, int] = field(default_factory=dict)
    verdict: str = ""
    """How much was read of it."""
    nothing_ours: bool = False
    """Whether nothing of a supervisor's was there to read, so that it says nothing about violations."""


def read(lines: Iterable[Line], counts: Counts) -> ReadLog:
    """The log of some lines of ours, in any order; `counts` are those of whoever reads them."""
    kept: deque[Violation | Suspected] = deque(maxlen=LAST)
    times: dict[tuple[float, str], int] = {}
    functions: set[str] = set()
    log = ReadLog()

    def passing() -> Iterator[Line]:
        for line in lines:
            if (call := line.call) is not None:
                kept.append(call)
                if len(functions) < KINDS:
                    functions.add(call.function)
                if isinstance(call, Suspected):
                    log.anomalies += 1
                else:
                    log.listed += 1
                    risk = call.risk if call.risk in RISKS else "low"
                    at = call.time if len(times) < MOMENTS else call.time // 3600 * 3600
                    times[at, risk] = times.get((at, risk), 0) + 1
            yield line

    kinds = summarise(passing(), Filter())
    log.violations = sum(kind.count for kind in kinds)
    log.kinds = tuple(kinds)
    log.verdict, log.nothing_ours = counts.verdict(), counts.nothing_ours
    log.last = tuple(sorted(kept, key=lambda call: -call.time))
    log.functions = tuple(sorted(functions - {""}))
    for kind in kinds:
        risk = kind.risk if kind.risk in RISKS else "low"
        log.by_risk[risk] = log.by_risk.get(risk, 0) + kind.count
    if times:
        first, last = min(at for at, _ in times), max(at for at, _ in times)
        log.first_moment, log.last_moment = moment(first), moment(last)
        log.step, log.bars = _bars(times, first, last)
    return log


def _bars(times: dict[tuple[float, str], int], first: float, last: float) -> tuple[float, tuple[Bar, ...]]:
    step = next((step for step in STEPS if (last - first) / step < SPANS), (last - first) / (SPANS - 1) or 1.0)
    found: dict[tuple[float, str], int] = {}
    begin = first // step * step
    for (at, risk), count in times.items():
        start = begin + int((at - begin) / step) * step
        found[start, risk] = found.get((start, risk), 0) + count
    return step, tuple(Bar(start, risk, count) for (start, risk), count in sorted(found.items()))


def span(step: float) -> str:
    """How long a bar is, for people: `5 minutes`."""
    for seconds, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if step >= seconds:
            count = step / seconds
            return name if count == 1 else f"{count:g} {name}s"
    return f"{step * 1000:g} ms"
