"""What the tripwire costs: a start of a program and of an interpreter, and calls that pass."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sandbox import tripwire
from sandbox.confine import Command
from sandbox.policy import build
from sandbox.profile.model import Profile, ProfiledFunction, Use
from sandbox.start import wire
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, interleave, output
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 41
CALLS = 100_000
KINDS = ("mprotect", "mmap", "read", "send and recv", "open to read", "open to write", "open others to write")
START, CALL = 1.0, 50.0
USES = (
    "mmap exec-file", "openat read", "openat create", "openat write", "access", "readlink", "getdents64", "getcwd",
    "sysinfo", "uname", "fcntl F_DUPFD_CLOEXEC", "socketpair AF_UNIX SOCK_STREAM", "connect", "sendto connected",
)  # fmt: skip


def run(rounds: int, python: str) -> Report:
    """Start and call with the tripwire set and without, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "calls"
        source = Path(__file__).with_name("tripwire_calls.c")
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
        tripwire.path(platform.machine())
        bundle = _bundle(folder)
        commands = {"/bin/true": [subjects.TRUE], "an interpreter": [python, "-I", "-S", "-c", ""]}
        starts = {}
        for what, command in commands.items():
            starts[f"{what}, bare"] = functools.partial(_spent, command, subjects.environment())
            starts[what] = functools.partial(_spent, command, _wired(command[0], bundle, folder))
        calls = {}
        for kind in KINDS:
            words = [str(program), kind, str(folder), str(CALLS)]
            calls[f"{kind}, bare"] = functools.partial(_call, words, subjects.environment())
            calls[kind] = functools.partial(_call, words, _wired(str(program), bundle, folder))
        taken = interleave(rounds, {**starts, **calls})
    more = {what: taken[what].combine(lambda a, b: a - b, taken[f"{what}, bare"]) for what in (*commands, *KINDS)}
    bars = [_bar(f"milliseconds that {what} starts later", more[what], 1e3, START) for what in commands]
    bars += [_bar(f"nanoseconds of {kind}", more[kind], 1e9, CALL * (2 if " and " in kind else 1)) for kind in KINDS]
    begun, called = (tuple(Row(name, taken[name]) for name in cases) for cases in (starts, calls))
    tables = (
        Table("from exec to exit, of the processor", "ms", 1e3, (), begun, 2),
        Table("one call, of the processor", "ns", 1e9, (), called, 0),
    )
    note = (
        "To write is decided by where a path leads without its links. Of a file that was not written to before the "
        "kernel is asked once whether it is a link, of a folder where it lies. Here the others are 64 files in turns."
    )
    return Report("tripwire", rounds, tables, tuple(bars), (note,), {"interpreter": subjects.version(python)})


def _bar(text: str, more: Series, scale: float, limit: float) -> Bar:
    low, high = more.quartiles
    return Bar(text, more.median * scale, limit, (low * scale, high * scale))


def _bundle(folder: Path) -> Path:
    """A bundle that allows what is measured."""
    uses = frozenset(
        Use("run", syscall, kind, 0, frozenset({"measured"}))
        for syscall, _, kind in (text.partition(" ") for text in USES)
    )
    found = Profile(ProfiledFunction("measured", runtime_api=False), uses)
    found = replace(found, reads=frozenset({"/**"}), writes=frozenset({f"{folder}/**"}))
    build.write(build.build(found, (platform.machine(),)), str(folder / "bundle"))
    return folder / "bundle"


def _wired(program: str, bundle: Path, folder: Path) -> Mapping[str, str]:
    command = Command(program, [program], subjects.environment(), root=str(folder))
    return {**command.environ, **wire.variables(command, str(bundle), "", audit=False)}


def _spent(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds of the processor that a program takes from its exec to its end: others on these cores do not count."""
    quiet = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise BenchmarkFailed(f"{command[0]}: wait status {status}")
    return usage.ru_utime + usage.ru_stime


def _call(words: list[str], environment: Mapping[str, str]) -> float:
    return float(output(words, environment))
