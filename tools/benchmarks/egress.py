"""What the broker adds to a connection and to a datagram on loopback, beside the same program without the bootstrap."""

from __future__ import annotations

import contextlib
import operator
import platform
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sandbox import launcher
from sandbox.kernel import abi
from sandbox.policy import build
from sandbox.profile.model import Profile, ProfiledFunction, Use
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, Series, output
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 15
COUNT = 1000
"""Calls of each kind in a round; a listener's queue holds as many connections."""
QUEUE = 4096
SYNC_WAKE_UP = (6, 6)
"""The kernel from which on caller and supervisor hand over to each other (linux/seccomp.h)."""

CALLS = {
    "blocking": "connect(2), TCP, blocking",
    "nonblocking": "connect(2), TCP, non-blocking, until it returns",
    "first": "the first connect(2) of all",
    "threads": "connect(2), TCP, by 64 threads together, each one's share of the time",
    "open-in-folder": "open(2) and close(2) of a file in a folder that the profile reads whole",
    "open": "open(2) and close(2) of a single file that the profile reads",
    "refused": "connect(2) that is refused, with its line",
    "sendto": "sendto(2), UDP, one byte",
}
BARE, BROKERED, BOOTSTRAP = "bare", "under the launcher (the default)", "under the bootstrap"
LEAST = "under a small C program that does no more than to answer"
WAYS = (BARE, BROKERED, LEAST, BOOTSTRAP)
BARS = {
    "blocking": 12.0, "first": 1000.0, "open-in-folder": 7.0, "refused": 25.0,
}  # fmt: skip
"""Microseconds that the launcher may add."""
OVER_LEAST = 1.5
"""Times what the small program adds."""
IN_FOLDER = "/usr/lib/os-release"
NEEDS = (
    "mmap exec-file", "openat read", "access", "readlink", "socket AF_INET SOCK_STREAM", "socket AF_INET SOCK_DGRAM",
    "connect", "setsockopt SOL_SOCKET SO_LINGER", "sendto addressed", "arch_prctl ARCH_SET_FS", "clone thread",
)  # fmt: skip


def run(rounds: int, python: str) -> Report:
    """Time the calls of connects.c bare and supervised, in turn. Raises BenchmarkFailed."""
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name, _listeners() as (tcp, udp):
        scratch = Path(name)
        ports = tuple(str(listener.getsockname()[1]) for listener in (tcp, udp))
        program = subjects.c_program("connects.c", scratch, "-pthread")
        command = [program, *ports, str(COUNT), program, IN_FOLDER]
        bundle = _bundle(scratch, program, int(ports[0]), int(ports[1]))
        supervised = {"SANDBOX_POLICY": str(bundle)}
        ways = {
            BARE: (command, subjects.environment()),
            BROKERED: ([str(launcher.path(platform.machine())), *command], subjects.environment(supervised)),
            LEAST: ([subjects.c_program("answers.c", scratch), *command], subjects.environment()),
            BOOTSTRAP: ([*subjects.launcher(python), *command], subjects.environment(supervised)),
        }
        for number in range(-1, rounds):
            for way, (started, environment) in ways.items():
                for line in output(started, environment).splitlines():
                    call, nanoseconds = line.split()
                    if number >= 0:
                        taken.setdefault((call, way), []).append(int(nanoseconds) / 1e9)
                _drain(tcp, udp)
    series = {key: Series(tuple(values)) for key, values in taken.items()}
    notes = [f"a round times {COUNT} calls of each kind and counts their median; nobody else uses the listeners"]
    if tuple(int(part) for part in platform.release().split(".")[:2]) < SYNC_WAKE_UP:
        notes.append("this kernel has no SYNC_WAKE_UP, for which the bars are meant")
    interpreters = {"bootstrap and decider": subjects.version(python)}
    bars = [_bar(series, call, limit) for call, limit in BARS.items()]
    bars += [_over_least(series, call) for call in ("blocking", "open-in-folder")]
    return Report("egress", rounds, (_table(series),), tuple(bars), tuple(notes), interpreters)


@contextlib.contextmanager
def _listeners() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=QUEUE) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        tcp.setblocking(False)
        udp.setblocking(False)
        yield tcp, udp


def _drain(tcp: socket.socket, udp: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            tcp.accept()[0].close()
    with contextlib.suppress(BlockingIOError):
        while True:
            udp.recv(16)


def _bundle(scratch: Path, program: str, tcp: int, udp: int) -> Path:
    because = frozenset({"what connects.c does"})
    uses = {Use("run", syscall, kind, 1, because) for syscall, _, kind in (item.partition(" ") for item in NEEDS)}
    if abi.MACHINE != "x86_64":
        uses = {use for use in uses if use.syscall not in ("access", "readlink", "arch_prctl")}
    places = frozenset({f"tcp://127.0.0.1:{tcp}", f"udp://127.0.0.1:{udp}"})
    reads = frozenset({program, "/etc/ld.so.cache", "/lib/**", "/usr/lib/**"})
    profile = Profile(
        ProfiledFunction("connects", runtime_api=False), frozenset(uses), network=places, reads=reads,
    )  # fmt: skip
    directory = scratch / "bundle"
    build.write(build.build(profile, (abi.MACHINE,)), str(directory))
    return directory


def _table(series: dict[tuple[str, str], Series]) -> Table:
    rows = []
    for call, text in CALLS.items():
        for way in WAYS:
            if way == LEAST and call in ("first", "refused"):
                continue  # it refuses nothing
            added = series[call, way].median - series[call, BARE].median
            cells = ("" if way == BARE else f"{added * 1e6:.1f}",)
            rows.append(Row(f"{text}: {way}", series[call, way], cells))
    return Table("one call", "us", 1e6, ("added",), tuple(rows))


def _bar(series: dict[tuple[str, str], Series], call: str, limit: float) -> Bar:
    added = series[call, BROKERED].combine(operator.sub, series[call, BARE])
    low, high = added.quartiles
    return Bar(f"microseconds added by the launcher: {CALLS[call]}", added.median * 1e6, limit, (low * 1e6, high * 1e6))


def _over_least(series: dict[tuple[str, str], Series], call: str) -> Bar:
    own, least = (series[call, way].combine(operator.sub, series[call, BARE]) for way in (BROKERED, LEAST))
    rounds = own.combine(operator.truediv, least)
    text = f"added by the launcher / by the small program: {CALLS[call]}"
    return Bar(text, own.median / least.median, OVER_LEAST, rounds.quartiles)
