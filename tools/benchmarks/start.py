"""What the bootstrap adds to the start of a program, beside a bare interpreter and beside other sandboxes."""

from __future__ import annotations

import functools
import importlib.util
import operator
import os
import platform
import shutil
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import launcher
from sandbox.bundle import read
from sandbox.confine import Command, landlock_rules
from sandbox.kernel import abi, bpf, landlock
from tools.benchmarks import hosts, subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, interleave, timed
from tools.benchmarks.report import Report, Row, Table
from tools.benchmarks.subjects import TRUE

LIMIT = 2.0
ROUNDS = 41

BARE = "the program itself"
SUPERVISED = "native launcher, compiled bundle, supervised (the default)"
OWNED = f"the same on a {hosts.LAMBDA_LIKE}, where the supervisor makes the sockets"
OWNED_ALONE = f"native launcher, compiled bundle, SANDBOX_SUPERVISE=0, on a {hosts.LAMBDA_LIKE}"
LAUNCHER = "native launcher, compiled bundle, SANDBOX_SUPERVISE=0"
SMALLEST = "a small C program with the same filter and Landlock rules"
YARDSTICK = "`python3 -I -S -c pass`"
PYTHON = "`python3 -I -S -c pass` under the bootstrap, the same way"
BUNDLE = "bootstrap, compiled bundle, SANDBOX_SUPERVISE=0"
MOST = 0.5
"""Milliseconds that the native launcher may add."""
MOST_SUPERVISED = 1.5
"""The same with the supervisor beside the program."""
SHARE, SUPERVISED_SHARE = 0.25, 0.5
"""Of what bwrap adds."""
OVER_SMALLEST = 1.3
"""Times what the small C program adds."""

PEERS = {
    "bwrap": ["--dev-bind", "/", "/"],
    "firejail": ["--quiet", "--noprofile"],
    "strace": ["-f", "-o", "/dev/null"],
}
SANDLOCK = "sandlock's wheel, from a Python that has loaded it: `Sandbox(fs_readable=['/']).run(['true'])`"


def run(rounds: int, python: str) -> Report:
    """Measure the start of /usr/bin/true in every way, the default first. Raises BenchmarkFailed."""
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
            SUPERVISED: functools.partial(timed, native, supervised),
            LAUNCHER: functools.partial(timed, native, with_bundle),
            OWNED: functools.partial(hosts.lambda_like, functools.partial(timed, native, supervised)),
            OWNED_ALONE: functools.partial(hosts.lambda_like, functools.partial(timed, native, with_bundle)),
            BARE: functools.partial(timed, [TRUE], plain),
            "native launcher, SANDBOX_MODE=off": functools.partial(timed, native, off),
            YARDSTICK: functools.partial(timed, nothing, plain),
            BUNDLE: functools.partial(timed, launch, with_bundle),
            PYTHON: functools.partial(timed, [*subjects.launcher(python), *nothing], with_python),
            "`true` without bytecode files": functools.partial(timed, uncached, with_bundle),
            "`true` from a YAML profile, compiled on the spot": functools.partial(timed, launch, with_profile),
            "bootstrap, SANDBOX_MODE=off": functools.partial(timed, launch, off),
        }
        if shutil.which("cc"):
            smallest = [subjects.c_program("smallest.c", scratch, "-static"), *_smallest(bundle, scratch), TRUE]
            cases[SMALLEST] = functools.partial(timed, smallest, plain)
        else:
            notes.append("there is no C compiler, and so no small program to compare with")
        for peer, options in PEERS.items():
            found = shutil.which(peer)
            if found:
                cases[_shown(peer)] = functools.partial(timed, [found, *options, TRUE], plain)
            else:
                notes.append(f"{peer} is not installed and was skipped")
        if importlib.util.find_spec("sandlock"):
            cases[SANDLOCK] = _sandlock
        else:
            notes.append("sandlock is not installed and was skipped")
        series = interleave(rounds, cases)
    bars = [*_launcher_bars(series), _bar(BUNDLE, BARE, "`true`", series)]
    bars.append(_bar(PYTHON, YARDSTICK, "an interpreter", series))
    return Report("start", rounds, (_table(series),), tuple(bars), tuple(notes), interpreters)


def _smallest(bundle: Path, scratch: Path) -> tuple[str, str]:
    """The files of filter and rules for smallest.c: those of the bundle, but that every exec passes."""
    policy = read(str(bundle), platform.machine())
    exec_passes = bpf.pack(((bpf.JEQ_K, 0, 1, abi.number("execve")), (bpf.RET_K, 0, 0, bpf.ALLOW)))
    at = policy.head
    (scratch / "filter").write_bytes(policy.program[:at] + exec_passes + policy.program[at:])
    plan = landlock_rules.plan(policy, landlock.abi_version(), Command(TRUE, (TRUE,), {}))
    rules = struct.pack("<QQQ", plan.handled, 0, landlock.SCOPE_SIGNAL)
    for fd, rights in plan.beneath:
        rules += struct.pack("<Q", rights) + os.fsencode(os.readlink(f"/proc/self/fd/{fd}")) + b"\0"
    plan.close()
    (scratch / "rules").write_bytes(rules)
    return str(scratch / "filter"), str(scratch / "rules")


def _sandlock() -> float:
    """Seconds that a run takes in this process, which has loaded the library: its own start does not count."""
    sandlock = importlib.import_module("sandlock")
    started = time.perf_counter()
    done = sandlock.Sandbox(fs_readable=["/"]).run([TRUE])
    took = time.perf_counter() - started
    if not done.success:
        raise BenchmarkFailed(f"sandlock: {done.error}")
    return took


def _launcher_bars(series: dict[str, Series]) -> list[Bar]:
    """The native launcher in milliseconds, and beside bwrap where that is installed."""
    added, beside, owned = (series[name].combine(operator.sub, series[BARE]) for name in (LAUNCHER, SUPERVISED, OWNED))
    found = [
        _milliseconds("added to `true` by the native launcher, supervised, in ms", beside, MOST_SUPERVISED),
        _milliseconds(f"the same on a {hosts.LAMBDA_LIKE}, in ms", owned, MOST_SUPERVISED),
        _milliseconds("added to `true` by the native launcher, in ms", added, MOST),
    ]
    bwrap = _shown("bwrap")
    for what, own, peer, limit in (
        ("the native launcher, supervised,", beside, bwrap, SUPERVISED_SHARE),
        ("the native launcher", added, bwrap, SHARE), ("the native launcher", added, SMALLEST, OVER_SMALLEST),
    ):  # fmt: skip
        if peer in series:
            theirs = series[peer].combine(operator.sub, series[BARE])
            text = f"added to `true` by {what} / by {peer}"
            found.append(Bar(text, own.median / theirs.median, limit, own.combine(operator.truediv, theirs).quartiles))
    return found


def _milliseconds(text: str, added: Series, limit: float) -> Bar:
    low, high = added.quartiles
    return Bar(text, 1000 * added.median, limit, (1000 * low, 1000 * high))


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
