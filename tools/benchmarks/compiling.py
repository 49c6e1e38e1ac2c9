"""What compiling and verifying a profile costs, and how it grows with the argument classes of one syscall."""

from __future__ import annotations

import functools
import sys
import time
from dataclasses import replace

from sandbox.policy.build import build
from sandbox.profile import document
from sandbox.profile.model import Profile, Use
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, interleave
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 9
SECONDS = 3.0
CLASSES = 100
COUNTS = (0, CLASSES // 2, CLASSES, 2 * CLASSES)
PROFILE = subjects.EXAMPLES.parent / "profiles" / "hello.yaml"


def run(rounds: int) -> Report:
    """Build the profile of examples/hello with ever more numeric ioctl commands, all four programs each time."""
    hello = document.read(str(PROFILE)).profile
    profiles = {count: _with_commands(hello, count) for count in COUNTS}
    cases = {str(count): functools.partial(_seconds, profile) for count, profile in profiles.items()}
    taken = interleave(rounds, cases)
    rows = []
    for count, profile in profiles.items():
        calls = sum(evidence.calls for evidence in build(profile).evidence.values())
        rows.append(Row(f"hello and {count} ioctl commands", taken[str(count)], (str(calls),)))
    table = Table("both architectures, plain and supervised", "ms", 1000, ("calls verified, plain",), tuple(rows))
    found = taken[str(CLASSES)]
    bar = Bar(f"seconds for {CLASSES} ioctl commands", found.median, SECONDS, found.quartiles)
    return Report("compile", rounds, (table,), (bar,), (), {"compiler": subjects.version(sys.executable)})


def _with_commands(profile: Profile, count: int) -> Profile:
    commands = {Use("invoke", "ioctl", hex(0x5401 + 3 * i), 1) for i in range(count)}
    return replace(profile, uses=profile.uses | commands)


def _seconds(profile: Profile) -> float:
    started = time.perf_counter()
    build(profile)
    return time.perf_counter() - started
