"""What one system call costs without a filter, under a function's policy, and while it is observed."""

from __future__ import annotations

import errno
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sandbox import launcher
from sandbox.confine import single_exec
from sandbox.kernel import bpf, tables
from sandbox.policy.simulator import simulate
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, output
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 21
COUNT = 50_000
OBSERVED = 2_000
"""Calls of each kind in a round while observed, where one takes microseconds."""
EXAMPLE = "hello"

AT_FDCWD = 0xFFFFFF9C
CALLS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "getppid": ("getppid", "getppid()", ()),
    "read": ("read", "read(/dev/zero, 1 byte)", (3, 0x7F0000001000, 1)),
    "fcntl": ("fcntl", "fcntl(F_GETFL)", (3, 3, 0)),
    "openat": ("openat", "openat(O_RDONLY) and close", (AT_FDCWD, 0x7F0000001000, 0, 0)),
    "unshare": ("unshare", "unshare(0), refused by policy and observer", (0,)),
}
"""Name in calls.c: syscall, text, and arguments like those of the program."""

FREE, POLICY, LEARN = "no filter", "under the policy", "observed"
LOOKED = "supervised by the launcher"
"""What a supervisor has to see, in calls.c the open and what is refused: looked at, and reported."""
SEEN = ("openat", "unshare")
ADDED = 7.0
"""Microseconds that a look may add to an open."""


def run(rounds: int, python: str, client: str) -> Report:
    """Time the calls of calls.c in every way, in turn. Raises BenchmarkFailed."""
    interpreters = {"launcher": subjects.version(python), "compiler": _compiler_version()}
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        scratch = Path(name)
        profile, bundle = subjects.learn_handler(EXAMPLE, client, scratch)
        program = _compile(scratch)
        launch, native = subjects.launcher(python), str(launcher.path(platform.machine()))
        observing = {"SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(scratch / "observations.jsonl")}
        ways = {
            FREE: ([program, str(COUNT)], subjects.environment()),
            POLICY: ([*launch, program, str(COUNT)], subjects.environment(subjects.unsupervised(bundle))),
            LEARN: ([*launch, program, str(OBSERVED)], subjects.environment(observing)),
            LOOKED: ([native, program, str(OBSERVED)], subjects.environment({"SANDBOX_POLICY": str(bundle)})),
        }
        taken: dict[tuple[str, str], list[float]] = {}
        for number in range(-1, rounds):
            for way, (command, environment) in ways.items():
                for call, seconds in _parse(output(command, environment)).items():
                    if number >= 0:
                        taken.setdefault((call, way), []).append(seconds)
        instructions = _instructions(profile)
    series = {key: Series(tuple(values)) for key, values in taken.items()}
    notes = (
        f"the policy is the one learned from examples/{EXAMPLE}; instructions are those of the program that the "
        "launcher installs, counted by the simulator; the kernel executes none of them where the number alone decides "
        "(from Linux 5.11 on)",
        f"each round times {COUNT} calls of each kind ({OBSERVED} where somebody hears of them) in a loop of a C "
        "program",
    )
    added = series["openat", LOOKED].combine(lambda looked, held: (looked - held) * 1e6, series["openat", POLICY])
    bar = Bar("microseconds that the launcher's look adds to an open", added.median, ADDED, added.quartiles)
    return Report("calls", rounds, (_table(series, instructions),), (bar,), notes, interpreters)


def _compiler() -> str:
    found = shutil.which("cc")
    if not found:
        raise BenchmarkFailed("there is no C compiler (cc); install gcc")
    return found


def _compiler_version() -> str:
    return output([_compiler(), "--version"], subjects.environment()).splitlines()[0]


def _compile(scratch: Path) -> str:
    target = scratch / "calls"
    source = Path(__file__).with_name("calls.c")
    done = subprocess.run(
        [_compiler(), "-O2", "-o", str(target), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkFailed(f"{source.name} does not compile: {done.stderr.strip()[-600:]}")
    return str(target)


def _parse(text: str) -> dict[str, float]:
    return {call: float(nanoseconds) / 1e9 for call, nanoseconds in (line.split() for line in text.splitlines())}


def _instructions(profile: Path) -> Mapping[str, int]:
    """How many instructions the filter executes for each call."""
    arch = tables.machine()
    policy = subjects.compiled(profile).policy(arch)
    block = single_exec.block((0x7F0000001000, 0x7F0000002000, 0x7F0000003000), 1, bpf.ERRNO | errno.EPERM)
    installed = bpf.unpack(single_exec.put(block, policy.program, policy.head))
    counts = {}
    for call, (syscall, _, arguments) in CALLS.items():
        padded = (*arguments, *[0] * (6 - len(arguments)))
        number = tables.numbers(arch)[syscall]
        audit = tables.AUDIT_ARCH[arch]
        counts[call] = simulate(installed, audit, number, padded).instructions
    return counts


def _table(series: Mapping[tuple[str, str], Series], instructions: Mapping[str, int]) -> Table:
    rows = []
    for call, (_, text, _) in CALLS.items():
        free = series[call, FREE].median
        for way in (FREE, POLICY, LEARN, *((LOOKED,) if call in SEEN else ())):
            found = series[call, way]
            added = "" if way == FREE else f"{(found.median - free) * 1e9:.0f}"
            rows.append(Row(f"{text}: {way}", found, (added, str(instructions[call]) if way == POLICY else "")))
    return Table("one call", "ns", 1e9, ("added", "instructions"), tuple(rows), digits=0)
