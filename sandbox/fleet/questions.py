"""What a platform team asks of a fleet, each as one Ibis expression that DuckDB and Spark run alike.

    with opened(store) as engine:
        engine.rows(QUESTIONS["violations"].ask(engine.tables, Window.until(time.time())))

Values of a person (a name, a day) are literals of an expression, which the engine's own printer writes: no text of ours
or anybody's becomes SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Tables = Mapping[str, Any]
DAY = 86_400_000
MINUTE = 60_000
UNNAMED = "(unnamed)"


@dataclass(frozen=True)
class Window:
    """What counts as new, as at once, and as unused. `now` is in milliseconds since 1970.

    Lines from after `now` are left out: a clock that is wrong must not make everything else old.
    """

    now: int
    days: int = 7
    minutes: int = 10
    functions: int = 3
    unused: int = 30
    function: str = ""
    """Only this one, '' for all."""


@dataclass(frozen=True)
class FleetQuestion:
    """One question: what it tells, for people, and its expression."""

    name: str
    about: str
    ask: Callable[[Tables, Window], Any]


def _of(tables: Tables, name: str, window: Window) -> Any:
    table = tables[name]
    table = table.filter(table.time.isnull() | (table.time <= window.now))
    return table.filter(table.function == window.function) if window.function else table


def coverage(tables: Tables, window: Window) -> Any:
    """How each function runs: by tier, with the releases, the runs that its lines name, and when."""
    statuses = _of(tables, "statuses", window).select("function", "tier", "mode", "release", "degraded")
    runs = _of(tables, "runs", window)
    runs = runs.filter(runs.tier != "")
    seen = runs.group_by("function", "tier", "release").aggregate(
        runs=runs.supervisor.nunique(), first=runs.time.min(), last=runs.time.max()
    )
    told = statuses.group_by("function", "tier", "release").aggregate(why=statuses.degraded.max())
    joined = told.left_join(seen, ["function", "tier", "release"])
    found = joined.select(
        function=told.function, tier=told.tier, release=told.release, runs=seen.runs.fill_null(0), first=seen.first,
        last=seen.last, why=told.why,
    )  # fmt: skip
    known = _names(tables, window)
    silent = known.anti_join(told, "function")
    silent = silent.mutate(
        tier=_text("unknown"), release=_text(""), runs=_number(0), first=_null(), last=_null(),
        why=_text("no status line"),
    )  # fmt: skip
    return found.union(silent.select(*found.columns)).order_by("function", "tier", "release")


def _names(tables: Tables, window: Window) -> Any:
    parts = [
        _of(tables, name, window).select("function")
        for name in ("violations", "counts", "things", "observations", "profiles", "bundles")
    ]
    found = parts[0]
    for part in parts[1:]:
        found = found.union(part)
    return found.distinct()


def violations(tables: Tables, window: Window) -> Any:
    """Each kind by function and release: how many lines, when first and last."""
    table = _released(tables, _of(tables, "violations", window))
    table = table.filter(table.event == "violation")
    keys = ("function", "release", "syscall", "class", "target", "verdict")
    found = table.group_by(*keys).aggregate(
        count=table.count(), first=table.time.min(), last=table.time.max(), risk=table.risk.max(),
        technique=table.technique.max(), allow=table.allow.max(),
    )  # fmt: skip
    return found.order_by(found["count"].desc(), *keys)


def _released(tables: Tables, table: Any) -> Any:
    """A table with the release that its supervisor ran under, '' where no line says that."""
    runs = tables["runs"]
    runs = runs.filter(runs.supervisor != "").group_by("supervisor").aggregate(release=runs.release.max())
    joined = table.left_join(runs, "supervisor")
    return joined.select(*[table[name] for name in table.columns], release=runs.release.fill_null(""))


def unlisted(tables: Tables, window: Window) -> Any:
    """Violations that had no line of their own: a flood gets few lines, and exact counts."""
    import ibis

    counts = _of(tables, "counts", window)
    lines = _of(tables, "violations", window)
    lines = lines.filter(lines.event == "violation")
    keys = ("function", "supervisor", "kind")
    counted = counts.group_by(*keys).aggregate(
        more=counts["count"].sum(where=~counts.final).fill_null(0),
        total=counts["count"].sum(where=counts.final).fill_null(0),
        last=counts.time.max(),
    )
    listed = lines.group_by(*keys).aggregate(listed=lines.count())
    joined = counted.left_join(listed, list(keys))
    found = joined.select(
        function=counted.function, kind=counted.kind, last=counted.last, total=counted.total,
        written=counted.more + listed.listed.fill_null(0), listed=listed.listed.fill_null(0),
    )  # fmt: skip
    found = found.mutate(count=ibis.greatest(found.total, found.written) - found.listed)
    found = found.filter(found["count"] > 0)
    found = found.group_by("function", "kind").aggregate(count=found["count"].sum(), last=found["last"].max())
    return found.order_by(found["count"].desc(), "function", "kind")


def new(tables: Tables, window: Window) -> Any:
    """Destinations, programs and libraries that no function of the fleet had reached before the last days."""
    reached = _reached(tables, window)
    found = reached.group_by("sort", "thing").aggregate(
        first=reached.time.min(), last=reached.time.max(), functions=reached.function.nunique(),
        function=reached.function.min(), refused=reached.refused.sum(), count=reached["count"].sum(),
    )  # fmt: skip
    found = found.filter(found["first"] > window.now - window.days * DAY)
    return found.order_by(found["first"].desc(), "sort", "thing")


def _reached(tables: Tables, window: Window) -> Any:
    """What was reached, and what was refused: destinations, programs and libraries, with who and when."""
    things = _of(tables, "things", window)
    things = things.filter(things.time.notnull())
    refused = _of(tables, "violations", window)
    listed = things.filter(things.sort.isin(["destination", "program", "library"]) & (things.thing != ""))
    parts = [listed.select("function", "time", "sort", "thing", "count", refused=_number(0))]
    by = things.filter(things.library != "")
    parts.append(by.select("function", "time", "count", sort=_text("library"), thing=by.library, refused=_number(0)))
    by = refused.filter(refused.library != "")
    parts.append(
        by.select("function", "time", sort=_text("library"), thing=by.library, count=_number(1), refused=_number(1))
    )
    for sort, calls in (("destination", NETWORK), ("program", PROGRAMS)):
        some = refused.filter(refused.syscall.isin(calls) & (refused.target != ""))
        parts.append(
            some.select("function", "time", sort=_text(sort), thing=some.target, count=_number(1), refused=_number(1))
        )
    columns = ("function", "time", "sort", "thing", "count", "refused")
    found = parts[0].select(*columns)
    for part in parts[1:]:
        found = found.union(part.select(*columns))
    return found


NETWORK = ["connect", "sendto", "sendmsg", "sendmmsg"]
PROGRAMS = ["execve", "execveat"]


def together(tables: Tables, window: Window) -> Any:
    """The same access refused in several functions within minutes: one attack, or one bad release of a library."""
    table = _of(tables, "violations", window)
    table = table.filter((table.event == "violation") & table.time.notnull())
    size = window.minutes * MINUTE
    slot = table.time // size
    chosen = ("function", "syscall", "class", "target", "library", "time")
    # Each line counts in its own stretch of time and in the one before: what happened within the minutes shares one.
    here = table.mutate(slot=slot).select(*chosen, "slot")
    before = table.mutate(slot=slot - 1).select(*chosen, "slot")
    both = here.union(before)
    keys = ("syscall", "class", "target")
    stretches = both.group_by(*keys, "slot").aggregate(
        functions=both.function.nunique(), lines=both.count(), first=both.time.min(), last=both.time.max(),
        library=both.library.max(),
    )  # fmt: skip
    stretches = stretches.filter(stretches.functions >= window.functions)
    most = stretches.group_by(*keys).aggregate(most=stretches.functions.max())
    joined = stretches.join(most, list(keys))
    joined = joined.filter(joined.functions == joined.most)
    found = joined.group_by(*keys).aggregate(
        functions=joined.functions.max(), lines=joined.lines.max(), first=joined["first"].min(),
        last=joined["last"].max(), library=joined.library.max(),
    )  # fmt: skip
    return found.order_by(found.functions.desc(), *keys)


def used(tables: Tables, window: Window) -> Any:
    """What each function reached, and when last: what a profile's rights are held against."""
    things = _of(tables, "things", window)
    things = things.filter(things.time.notnull() & (things.time > window.now - window.unused * DAY))
    found = things.group_by("function", "sort", "thing").aggregate(last=things.time.max(), count=things["count"].sum())
    return found.order_by("function", "sort", "thing")


def stale(tables: Tables, window: Window) -> Any:
    """Functions whose host, interpreter, handler or lock file differs from that of the training."""
    table = _of(tables, "statuses", window)
    table = table.filter(table.stale != "")
    found = table.group_by("function", "release", "stale").aggregate(mode=table["mode"].max())
    return found.order_by("function", "release", "stale")


def trainings(tables: Tables, window: Window) -> Any:
    """On what each function's newest profile was trained."""
    table = _newest(tables, "trainings", window)
    columns = ("function", "date", "tool", "kernel", "libc", "python", "architecture", "platform", "training")
    return table.select(*columns).distinct().order_by(*columns)


def estimates(tables: Tables, window: Window) -> Any:
    """How complete each function's newest profile is, by phase: the weakest first."""
    table = _newest(tables, "estimates", window)
    columns = ("function", "phase", "samples", "items", "novelty", "bound", "training")
    found = table.select(*columns).distinct()
    return found.order_by(found.bound.desc(), "function", "phase", "training")


def newest_profiles(tables: Tables, window: Window) -> Any:
    """The newest profile of each function, with its text."""
    table = _newest(tables, "profiles", window)
    found = table.group_by("function", "profile").aggregate(text=table.text.max(), source=table.source.max())
    return found.order_by("function")


def _newest(tables: Tables, name: str, window: Window) -> Any:
    profiles = _of(tables, "profiles", window)
    times = profiles.group_by("function", "profile").aggregate(changed=profiles.time.max().fill_null(0))
    last = times.group_by("function").aggregate(newest=times.changed.max())
    joined = times.join(last, "function")
    joined = joined.filter(joined.changed == joined.newest)
    chosen = joined.group_by("function").aggregate(profile=joined.profile.max())
    table = _of(tables, name, window)
    return table.semi_join(chosen, ["function", "profile"])


def _text(text: str) -> Any:
    import ibis

    return ibis.literal(text, "string")


def _number(number: int) -> Any:
    import ibis

    return ibis.literal(number, "int64")


def _null() -> Any:
    import ibis

    return ibis.null("int64")


QUESTIONS: Mapping[str, FleetQuestion] = {
    name: FleetQuestion(name, about, ask) for name, about, ask in (
        ("coverage", "how each function runs", coverage),
        ("violations", "what was refused, by kind, function and release", violations),
        ("unlisted", "violations without a line of their own", unlisted),
        ("together", "the same access refused in several functions at once", together),
        ("new", "destinations, programs and libraries that are new in the fleet", new),
        ("used", "what each function reached", used),
        ("stale", "functions that no longer run what was trained", stale),
        ("trainings", "on what the newest profiles were trained", trainings),
        ("estimates", "how complete the newest profiles are", estimates),
    )
}  # fmt: skip
