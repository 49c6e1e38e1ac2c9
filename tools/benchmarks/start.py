"""What the bootstrap adds to the start of a program, beside a bare interpreter and beside other sandboxes."""

from __future__ import annotations

import functools
import operator
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sandbox import launcher
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, Series, interleave, timed
from tools.benchmarks.report import Report, Row, Table
from tools.benchmarks.subjects import TRUE

LIMIT = 2.0
ROUNDS = 41

BARE = "the program itself"
YARDSTICK = "`python3 -I -S -c pass`"
PYTHON = "`python3 -I -S -c pass` under the bootstrap, the same way"
BUNDLE = "bootstrap, compiled bundle, SANDBOX_SUPERVISE=0"
LAUNCHER = "native launcher, compiled bundle, SANDBOX_SUPERVISE=0"
SUPERVISED = "native launcher, compiled bundle, supervised (the default)"
MOST = 0.5
"""Milliseconds that the native launcher may add."""
MOST_SUPERVISED = 1.5
"""The same with the supervisor beside the program."""
SHARE = 0.25
"""Of what bwrap adds."""

PEERS = {
    "bwrap": ["--dev-bind", "/", "/"],
    "firejail": ["--quiet", "--noprofile"],
}


def run(rounds: int, python: str) -> Report:
    """Measure the start of /usr/bin/true in every way. Raises BenchmarkFailed."""
    interpreters = {"interpreter": subjects.version(python)}
    notes = []
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        scratch = Path(name)
        profile, bundle = subjects.learn_program((TRUE,), scratch)
        plain = subjects.environment()
        launch = [*subjects.launcher(python), TRUE]
        native = [str(launcher.path(platform.machine())), TRUE]
        nothing = [python, "-I", "-S", "-c", "pass"]
        _, for_python = subjects.learn_program(tuple(nothing), scratch)
        with_python = subjects.environment(subjects.unsupervised(for_python))
        uncached = [python, "-B", "-X", f"pycache_prefix={scratch / 'empty'}", *launch[1:]]
        with_bundle = subjects.environment(subjects.unsupervised(bundle))
        supervised = subjects.environment({"SANDBOX_POLICY": str(bundle)})
        off = subjects.environment({"SANDBOX_MODE": "off"})
        with_profile = subjects.environment(subjects.unsupervised(profile))
        cases: dict[str, Callable[[], float]] = {
            BARE: functools.partial(timed, [TRUE], plain),
            YARDSTICK: functools.partial(timed, nothing, plain),
            BUNDLE: functools.partial(timed, launch, with_bundle),
            LAUNCHER: functools.partial(timed, native, with_bundle),
            SUPERVISED: functools.partial(timed, native, supervised),
            "native launcher, SANDBOX_MODE=off": functools.partial(timed, native, off),
            PYTHON: functools.partial(timed, [*subjects.launcher(python), *nothing], with_python),
            "`true` without bytecode files": functools.partial(timed, uncached, with_bundle),
            "`true` from a YAML profile, compiled on the spot": functools.partial(timed, launch, with_profile),
            "bootstrap, SANDBOX_MODE=off": functools.partial(timed, launch, off),
        }
        for peer, options in PEERS.items():
            found = shutil.which(peer)
            if found:
                cases[_shown(peer)] = functools.partial(timed, [found, *options, TRUE], plain)
            else:
                notes.append(f"{peer} is not installed and was skipped")
        series = interleave(rounds, cases)
    bars = [_bar(BUNDLE, BARE, "`true`", series), _bar(PYTHON, YARDSTICK, "an interpreter", series)]
    bars += _launcher_bars(series)
    return Report("start", rounds, (_table(series),), tuple(bars), tuple(notes), interpreters)


def _launcher_bars(series: dict[str, Series]) -> list[Bar]:
    """The native launcher in milliseconds, and beside bwrap where that is installed."""
    added = series[LAUNCHER].combine(operator.sub, series[BARE])
    took = (series[LAUNCHER].median - series[BARE].median) * 1000
    lower, upper = added.quartiles
    found = [Bar("added to `true` by the native launcher, in ms", took, MOST, (1000 * lower, 1000 * upper))]
    beside = series[SUPERVISED].combine(operator.sub, series[BARE])
    both = (series[SUPERVISED].median - series[BARE].median) * 1000
    lower, upper = beside.quartiles
    text = "added to `true` by the native launcher, supervised, in ms"
    found.append(Bar(text, both, MOST_SUPERVISED, (1000 * lower, 1000 * upper)))
    bwrap = _shown("bwrap")
    if bwrap in series:
        theirs = series[bwrap].combine(operator.sub, series[BARE])
        share = (series[LAUNCHER].median - series[BARE].median) / (series[bwrap].median - series[BARE].median)
        quartiles = added.combine(operator.truediv, theirs).quartiles
        found.append(Bar("added to `true` by the native launcher / by bwrap", share, SHARE, quartiles))
    return found


def _shown(peer: str) -> str:
    return f"`{' '.join((peer, *PEERS[peer]))}`"


def _table(series: dict[str, Series]) -> Table:
    yardstick = series[YARDSTICK].median
    rows = []
    for name, found in series.items():
        added = found.median - series[YARDSTICK if name == PYTHON else BARE].median
        more = () if name == BARE else (f"{added * 1000:.2f}", f"{added / yardstick:.2f}")
        rows.append(Row(name, found, more or ("", "")))
    return Table(f"start of `{TRUE}` to its exit", "ms", 1000, ("added", "added / yardstick"), tuple(rows))


def _bar(case: str, direct: str, command: str, series: dict[str, Series]) -> Bar:
    added = series[case].combine(operator.sub, series[direct])
    rounds = added.combine(operator.truediv, series[YARDSTICK])
    value = (series[case].median - series[direct].median) / series[YARDSTICK].median
    return Bar(
        f"added to {command} by a compiled bundle / {YARDSTICK}", value, LIMIT, rounds.quartiles
    )
