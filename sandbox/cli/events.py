"""`sandbox events`: find a supervisor's records in a log, filter them, count them, verify their chain."""

from __future__ import annotations

import enum
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import typer

from sandbox.behaviour.call import Call
from sandbox.cli import alerting
from sandbox.cli.alerting import ALERTS, EventForm
from sandbox.cli.following import following
from sandbox.cli.output import json_line, on_terminal, say, warn
from sandbox.cli.screen import columns
from sandbox.errors import UsageError, printable
from sandbox.logs.counts import Counts, many
from sandbox.logs.reading import LogReader
from sandbox.violations import activities, reader
from sandbox.violations.activity import AccessRecord, Activity
from sandbox.violations.chain import SignedRun, Verifier

WIDE = 120
"""Characters of a terminal on which a table of violations can be read; on others each is a line."""
STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}
_AGO = re.compile(r"(\d{1,9})(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Risk(enum.StrEnum):
    """What --risk takes."""

    high = "high"
    medium = "medium"
    low = "low"


class LogFormat(enum.StrEnum):
    """What --log-format takes: envelopes.FORMATS."""

    auto = "auto"
    plain = "plain"
    cloudwatch = "cloudwatch"
    docker = "docker"
    journald = "journald"
    json = "json"
    cri = "cri"
    audit = "audit"


class Phase(enum.StrEnum):
    """What --phase takes."""

    init = "init"
    invoke = "invoke"
    run = "run"


def events(
    file: Annotated[str, typer.Argument(help="A log or events file; - for standard input", metavar="FILE|-")],
    log_format: Annotated[LogFormat, typer.Option(help="What carries the lines; auto looks at each")] = LogFormat.auto,
    syscall: Annotated[list[str] | None, typer.Option(help="Only these syscalls")] = None,
    phase: Annotated[Phase | None, typer.Option(help="Only this phase")] = None,
    risk: Annotated[Risk | None, typer.Option(help="Only this risk")] = None,
    since: Annotated[str, typer.Option(help="Only later ones: 10m, 2h, 1d, a date and time, seconds since 1970")] = "",
    summary: Annotated[bool, typer.Option("--summary", help="Count by syscall, class and target")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check signatures and order; exit 1 at a break")] = False,
    key_file: Annotated[
        str, typer.Option(help="File with the key that SANDBOX_EVENT_KEY held: lines that it did not sign are left out")
    ] = "",
    expect: Annotated[
        int, typer.Option(min=-1, show_default=False, help="With --verify: how many runs there must be", metavar="N")
    ] = -1,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="With --verify: accept runs without an end (killed, or still running)")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="JSON lines instead of text")] = False,
    form: Annotated[
        EventForm, typer.Option("--format", help="json as --json; ocsf, emf (CloudWatch metrics), asff (Security Hub)")
    ] = EventForm.text,
    resource: Annotated[str, typer.Option(help="With --format ocsf or asff: the function", metavar="ARN")] = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is written later, over rotations, until Ctrl-C or SIGTERM")
    ] = False,
    activity: Annotated[
        bool, typer.Option("--activity", help="What each invocation did (SANDBOX_ACTIVITY) instead of violations")
    ] = False,
) -> None:
    """Show the violations that a supervisor wrote to a log, what detectors suspected, or what invocations did.

    Example: sandbox events function.log --since 2h --summary
    """
    if verify and not key_file:
        raise UsageError("--verify needs the key", where="sandbox events", todo="name its file with --key-file")
    if not verify and (unfinished or expect >= 0):
        raise UsageError("--expect and --unfinished are about --verify", where="sandbox events", todo="add --verify")
    if activity and (verify or syscall or risk):
        raise UsageError(
            "--syscall, --risk and --verify are not about invocations", where="sandbox events",
            todo="leave out --activity, or these",
        )  # fmt: skip
    json_output = json_output or form is EventForm.json
    if form in ALERTS and (verify or summary or activity or json_output):
        todo = "leave out --json, --summary, --activity and --verify, or --format"
        raise UsageError("is a form of its own", where=f"--format {form}", todo=todo)
    wanted = reader.Filter(
        frozenset(syscall or ()), phase.value if phase else "", risk.value if risk else "", moment_of(since)
    )
    if follow and (verify or summary or form is EventForm.asff):
        todo = "leave out --follow, or --verify, --summary and --format asff, which need the end of a log"
        raise UsageError("--follow has no end", where="sandbox events", todo=todo)
    reading = LogReader(log_format.value)
    with _followed(file, reading, form) if follow else _read(file, reading, form) as found:
        if verify:
            _verify(found, reading.counts, key_of(key_file), expect, unfinished, json_output)
            return
        if key_file:
            found = signed(found, key_of(key_file))
        if form in ALERTS:
            alerting.write(found, wanted, form, resource)
        elif summary and activity:
            totals = activities.summarise(record for _, record in _activities(found, wanted))
            if not reading.counts.nothing_ours:
                _totals(totals, json_output)
        elif activity:
            _activity(found, wanted, json_output)
        elif summary:
            kinds = reader.summarise(found, wanted)
            if not reading.counts.nothing_ours:
                _summary(kinds, json_output)
        else:
            _list(found, wanted, json_output, follow)
    told(file, reading.counts)


@contextmanager
def _read(file: str, reading: LogReader, form: EventForm) -> Iterator[Iterator[reader.Line]]:
    """The lines of a log that is there."""
    with opened(file) as source:
        yield reading.lines(source, starts=form is EventForm.emf)


@contextmanager
def _followed(file: str, reading: LogReader, form: EventForm) -> Iterator[Iterator[reader.Line]]:
    """The lines of a log that grows."""
    if file != "-" and not os.path.exists(file):
        warn(f"{file}: is not there yet; waiting for it")
    with opened("-") if file == "-" else nullcontext(), following(file) as follower:
        yield follower.lines(reading, starts=form is EventForm.emf)


def told(file: str, counts: Counts) -> None:
    """Say how much was read. Raises Exit with 1 where nothing was ours, which says nothing about violations."""
    warn(f"{'standard input' if file == '-' else file}: {counts.verdict()}")
    if counts.nothing_ours:
        raise typer.Exit(1)


def signed(found: Iterator[reader.Line], key: bytes) -> Iterator[reader.Line]:
    """The lines that verify, and a word about the others."""
    verifier = Verifier(key)
    first, count = "", 0
    for line in found:
        if problem := verifier.step(line):
            first = first or f"line {line.number}: {problem}"
            count += 1
        else:
            yield line
    if count:
        warn(f"left out {many(count, 'line')} that {'do' if count > 1 else 'does'} not verify, the first in {first}")


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file, or standard input for `-`. Raises UsageError when it cannot be read."""
    if path == "-":
        if sys.stdin is None:  # it was closed before the start
            raise UsageError("is closed", where="standard input", todo="give a file, or pipe the log into this")
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115  # a with statement would take errors of the caller for ours
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot be read: {reason}", where=path, todo="check the name") from error
    with file:
        yield file


def key_of(path: str) -> bytes:
    """The key in a file, without its line end. Raises UsageError when there is none."""
    with opened(path) as file:
        key = file.read(1 << 16).rstrip(b"\r\n")
    if not key:
        raise UsageError("is empty", where=path, todo="write the value of SANDBOX_EVENT_KEY into it")
    return key


def moment_of(text: str) -> float | None:
    if not text:
        return None
    ago = _AGO.fullmatch(text)
    if ago:
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is not a time", where="--since",
            todo="write 10m, 2h, 1d, 2025-01-31T12:00:00 or seconds since 1970",
        ) from error  # fmt: skip


def _list(found: Iterator[reader.Line], wanted: reader.Filter, json_output: bool, follow: bool) -> None:
    chosen = ((line, one) for line in found if (one := line.call) and wanted.admits(one))
    if json_output:
        for line, _ in chosen:
            json_line(line.fields)
    elif follow or not on_terminal() or columns() < WIDE:
        for _, record in chosen:
            say(f"{reader.moment(record.time)} {reader.describe(record)}", STYLES.get(record.risk, ""))
    else:
        from sandbox.cli.terminal import show_table

        rows = (
            (
                reader.moment(record.time)[11:23],
                (f"{record.risk} {record.technique}", STYLES.get(record.risk, "")),
                " ".join(filter(None, (record.function, record.phase, record.request))),
                f"{record.syscall}({', '.join(record.args)})",
                reader.explained(record) + (f"; by {record.by}" if record.by else ""),
                reader.allowing(record),
            )
            for _, record in chosen
        )
        show_table(("time", "risk", "where", "call", "outcome", "to allow"), rows)


def _activities(
    found: Iterator[reader.Line], wanted: reader.Filter
) -> Iterator[tuple[reader.Line, Activity | AccessRecord]]:
    for line in found:
        record = activities.read(line)
        if record and wanted.phase in ("", record.phase) and (wanted.since is None or record.time >= wanted.since):
            yield line, record


def _activity(found: Iterator[reader.Line], wanted: reader.Filter, json_output: bool) -> None:
    for line, record in _activities(found, wanted):
        if json_output:
            json_line(line.fields)
        else:
            say(f"{reader.moment(record.time)} {activities.describe(record)}")


def _totals(totals: activities.Totals, json_output: bool) -> None:
    if json_output:
        for one in totals.things:
            json_line({
                "sort": one.sort, "thing": one.thing, "lines": one.lines, "count": one.count, "by": sorted(one.by),
            })  # fmt: skip
        return
    for one in totals.things:
        by = f", by {', '.join(sorted(one.by))}" if one.by else ""
        say(f"{one.count:>8} {one.sort} {one.thing}, in {many(one.lines, 'line')}{by}")
    lasted = f", {statistics.median(totals.durations):.1f} ms in the median" if totals.durations else ""
    say(f"{many(len(totals.durations), 'invocation')}{lasted}")


def _summary(kinds: list[reader.Tally], json_output: bool) -> None:
    if json_output:
        for kind in kinds:
            json_line({
                "count": kind.count, "syscall": kind.syscall, "class": kind.arg_class, "target": kind.target,
                "risk": kind.risk, "technique": kind.technique, "phases": sorted(kind.phases),
                "verdicts": sorted(kind.verdicts), "allow": kind.allow,
            })  # fmt: skip
        return
    count = sum(kind.count for kind in kinds)
    total = f"{many(count, 'violation')} of {many(len(kinds), 'kind')}"
    if not on_terminal():
        for kind in kinds:
            what = f"{Call(kind.syscall, kind.arg_class)}" + (f" ({kind.target})" if kind.target else "")
            rest = f"{kind.risk or 'unrated'} {kind.technique}".strip()
            allow = f"; to allow: {kind.allow}" if kind.allow else ""
            say(f"{kind.count:>8} {what}, {rest}, {', '.join(sorted(kind.verdicts))}{allow}")
        say(total)
        return
    from sandbox.cli.terminal import show_table

    rows = (
        (
            str(kind.count), kind.syscall, kind.arg_class, kind.target,
            (f"{kind.risk} {kind.technique}", STYLES.get(kind.risk, "")), ", ".join(sorted(kind.verdicts)), kind.allow,
        )
        for kind in kinds
    )  # fmt: skip
    show_table(("count", "syscall", "class", "target", "risk", "verdict", "to allow"), rows, numbers=("count",))
    say(total)


def _verify(
    found: Iterator[reader.Line], counts: Counts, key: bytes, expect: int, unfinished: bool, json_output: bool
) -> None:
    """Exit 1 where the lines are not what was written; `expect` is how many runs there must be, -1 any but none."""
    verifier = Verifier(key)
    first: tuple[int, str] | None = None
    broken = 0
    for line in found:
        problem = verifier.step(line)
        if problem:
            broken += 1
            first = first or (line.number, problem)
    runs = verifier.runs()
    open_ends = [run for run in runs if run.violations is None]
    missed = len(runs) != expect if expect >= 0 else not runs
    holds = not (first or missed or (open_ends and not unfinished))
    if json_output:
        json_line({
            "holds": holds, "lines": verifier.checked, "broken": broken, "first": first[0] if first else None,
            "problem": first[1] if first else "", "unfinished": verifier.unfinished(),
            "runs": [_run(run) for run in runs],
        })  # fmt: skip
    else:
        for run in runs:
            _remarks(run)
        if first:
            say(f"line {first[0]}: {first[1]}; {broken} of {verifier.checked} lines do not verify")
        elif runs:
            count = sum(run.violations or 0 for run in runs)
            say(f"{many(verifier.checked, 'line')} of {many(len(runs), 'run')}, all signed and in order; "
                  f"{many(count, 'violation')} in finished runs")  # fmt: skip
        else:
            say("there is nothing to verify")
            warn(counts.verdict())
        if expect >= 0 and missed:
            say(f"there should be {many(expect, 'run')}, and the log holds {len(runs)}")
    if not holds:
        raise typer.Exit(1)


def _run(run: SignedRun) -> dict[str, object]:
    return {
        "supervisor": run.supervisor, "function": run.function, "policy": run.policy, "began": run.began,
        "last": run.last, "lines": run.lines, "lost": run.lost, "violations": run.violations,
    }  # fmt: skip


def _remarks(run: SignedRun) -> None:
    name = printable(f"supervisor {run.supervisor} of {run.function}")
    if run.violations is None:
        why = "killed, still running, or the log is cut"
        warn(f"{name}: no end after {reader.moment(run.last)}: {why}")
    if run.lost:
        warn(f"{name}: its sink did not take {many(run.lost, 'line')}; the counts hold them")
