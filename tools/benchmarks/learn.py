"""What observing costs on a start-up that imports much, beside the bare run and beside strace of the same run."""

from __future__ import annotations

import functools
import operator
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sandbox.runtime_api import Environment, Function
from sandbox.runtime_api.events import load_events
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, interleave, ratio, timed
from tools.benchmarks.report import Report, Row, Table

LIMIT, WALK_LIMIT = 1.5, 9.0
ROUNDS = 21
LOAD = subjects.EXAMPLES / "imports"

BARE, LEARN, STRACE = "bare", "SANDBOX_MODE=learn", "`strace -f -o FILE`"
WALK_BARE, WALK_LEARN = "5,000 files opened and read, bare", "5,000 files opened and read, SANDBOX_MODE=learn"
WALK = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name)) as file:
            file.read()
"""
FOLDERS, FILES = 50, 100
EMPTY_BARE, EMPTY_LEARN = "`pass`, bare", "`pass`, SANDBOX_MODE=learn"
"""Start-up of the launcher: what observing an interpreter that does nothing takes more than the interpreter itself."""


def run(rounds: int, python: str, client: str) -> Report:
    """Measure the same start-up as a plain program (`python`) and under awslambdaric (`client`'s interpreter)."""
    strace = shutil.which("strace")
    notes = [] if strace else ["strace is not installed and was skipped"]
    interpreters = {"program and launcher": subjects.version(python), "handler": subjects.version(client)}
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        scratch = Path(name)
        program = interleave(rounds, _program(python, strace, scratch))
        handler = interleave(rounds, _handler(python, client, strace, scratch))
    own = program[EMPTY_LEARN].combine(operator.sub, program[EMPTY_BARE])
    tables = (_table('`python3 -c "import app"`', program, own), _table("handler under awslambdaric", handler, own))
    bars = [*_bars("program", program), *_bars("handler", handler)]
    bars.append(ratio("a walk: learning / bare", program[WALK_LEARN], program[WALK_BARE], WALK_LIMIT))
    notes.insert(0, "the launcher's start is what observing `pass` takes more than `pass`; the bars apply to the whole")
    return Report("learn", rounds, tables, tuple(bars), tuple(notes), interpreters)


def _observing(scratch: Path) -> dict[str, str]:
    return {"SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(scratch / "observations.jsonl")}


def _tracing(strace: str, scratch: Path) -> list[str]:
    return [strace, "-f", "-o", str(scratch / "strace.txt")]


def _program(python: str, strace: str | None, scratch: Path) -> dict[str, Callable[[], float]]:
    plain, learn = subjects.environment(), subjects.environment(_observing(scratch))
    load, nothing = [python, "-c", "import app"], [python, "-I", "-S", "-c", "pass"]
    launch = subjects.launcher(python)

    def fresh(command: Sequence[str], environment: Mapping[str, str]) -> float:
        (scratch / "observations.jsonl").unlink(missing_ok=True)
        return timed(command, environment, LOAD)

    cases: dict[str, Callable[[], float]] = {
        BARE: functools.partial(timed, load, plain, LOAD),
        LEARN: functools.partial(fresh, [*launch, *load], learn),
    }
    if strace:
        cases[STRACE] = functools.partial(timed, [*_tracing(strace, scratch), *load], plain, LOAD)
    tree = scratch / "tree"
    for folder in (tree / str(number) for number in range(FOLDERS)):
        folder.mkdir(parents=True)
        for number in range(FILES):
            (folder / str(number)).write_text("x")
    walk = [python, "-I", "-S", "-c", WALK, str(tree)]
    cases[WALK_BARE] = functools.partial(timed, walk, plain, LOAD)
    cases[WALK_LEARN] = functools.partial(fresh, [*launch, *walk], learn)
    cases[EMPTY_BARE] = functools.partial(timed, nothing, plain, LOAD)
    cases[EMPTY_LEARN] = functools.partial(fresh, [*launch, *nothing], learn)
    return cases


def _handler(python: str, client: str, strace: str | None, scratch: Path) -> dict[str, Callable[[], float]]:
    bare = [client, "-m", "awslambdaric", "app.handler"]
    learn = {**_observing(scratch), "SANDBOX_PYTHON": client}
    cases: dict[str, Callable[[], float]] = {
        BARE: functools.partial(_serve, bare, {}, scratch),
        LEARN: functools.partial(_serve, subjects.launcher(python), learn, scratch),
    }
    if strace:
        cases[STRACE] = functools.partial(_serve, [*_tracing(strace, scratch), *bare], {}, scratch)
    return cases


def _serve(command: Sequence[str], environment: Mapping[str, str], scratch: Path) -> float:
    """Seconds from the spawn of a runtime to its end, which is told to it as soon as all events are answered."""
    (scratch / "observations.jsonl").unlink(missing_ok=True)
    function = Function(
        command=tuple(command), root=str(LOAD), environment={"PYTHONDONTWRITEBYTECODE": "1", **environment},
        name="imports", handler="app.handler", init_timeout=60.0,
    )  # fmt: skip
    with (scratch / "log").open("wb") as log, Environment(function, stdout=log, stderr=log) as served:
        started = time.perf_counter()
        served.start()
        outcome = served.wait_ready()
        for event in load_events(str(LOAD / "events")):
            if outcome is None or outcome.status == "ok":
                outcome = served.invoke(event)
        served.stop()
        took = time.perf_counter() - started
    if outcome is None or outcome.status != "ok":
        raise BenchmarkFailed(f"{command[0]}: the handler failed: {outcome}")
    return took


def _table(title: str, series: Mapping[str, Series], own: Series) -> Table:
    bare = series[BARE].median
    rows = [
        Row(name, found, (f"{found.median / bare:.2f}" if name in (BARE, LEARN, STRACE) else "",))
        for name, found in series.items()
    ]
    less = Series(tuple(value - own.median for value in series[LEARN].values))
    name = f"{LEARN}, less {own.median * 1000:.1f} ms of the launcher's start"
    rows.append(Row(name, less, (f"{less.median / bare:.2f}",)))
    return Table(f"{title}, spawn to exit", "ms", 1000, ("x bare",), tuple(rows))


def _bars(what: str, series: Mapping[str, Series]) -> list[Bar]:
    bars = [ratio(f"{what}: learning / bare", series[LEARN], series[BARE], LIMIT)]
    if STRACE in series:
        bars.append(ratio(f"{what}: learning / strace", series[LEARN], series[STRACE], 1.0))
    return bars
