"""What the broker adds to a connection and to a datagram on loopback, beside the same program without the bootstrap."""

from __future__ import annotations

import contextlib
import operator
import platform
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sandbox.kernel import abi
from sandbox.policy import build
from sandbox.profile.model import Profile, ProfiledFunction, Use
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, Series, output
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 15
COUNT = 1000
"""Calls of each kind in a round; a listener's queue holds as many connections."""
LIMIT = 60.0
"""Microseconds."""
SYNC_WAKE_UP = (6, 6)
"""The kernel from which on caller and supervisor hand over to each other (linux/seccomp.h)."""

CALLS = {
    "blocking": "connect(2), TCP, blocking",
    "nonblocking": "connect(2), TCP, non-blocking, until it returns",
    "sendto": "sendto(2), UDP, one byte",
}
BARE, BROKERED = "bare", "through the broker"
NEEDS = (
    "mmap exec-file", "openat read", "access", "readlink", "socket AF_INET SOCK_STREAM", "socket AF_INET SOCK_DGRAM",
    "connect", "setsockopt SOL_SOCKET SO_LINGER", "sendto addressed", "arch_prctl ARCH_SET_FS",
)  # fmt: skip


def run(rounds: int, python: str) -> Report:
    """Time the calls of connects.c bare and supervised, in turn. Raises BenchmarkFailed."""
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name, _listeners() as (tcp, udp):
        scratch = Path(name)
        ports = (str(listener.getsockname()[1]) for listener in (tcp, udp))
        program = [subjects.c_program("connects.c", scratch), *ports, str(COUNT)]
        bundle = _bundle(scratch, tcp.getsockname()[1], udp.getsockname()[1])
        supervised = {"SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": "1"}
        ways = {
            BARE: (program, subjects.environment()),
            BROKERED: ([*subjects.launcher(python), *program], subjects.environment(supervised)),
        }
        for number in range(-1, rounds):
            for way, (command, environment) in ways.items():
                for line in output(command, environment).splitlines():
                    call, nanoseconds = line.split()
                    if number >= 0:
                        taken.setdefault((call, way), []).append(int(nanoseconds) / 1e9)
                _drain(tcp, udp)
    series = {key: Series(tuple(values)) for key, values in taken.items()}
    notes = [f"a round times {COUNT} calls of each kind and counts their median; nobody else uses the listeners"]
    if tuple(int(part) for part in platform.release().split(".")[:2]) < SYNC_WAKE_UP:
        notes.append("this kernel has no SYNC_WAKE_UP, for which the bar is meant")
    interpreters = {"launcher and supervisor": subjects.version(python)}
    return Report("egress", rounds, (_table(series),), (_bar(series),), tuple(notes), interpreters)


@contextlib.contextmanager
def _listeners() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=4096) as tcp,
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


def _bundle(scratch: Path, tcp: int, udp: int) -> Path:
    because = frozenset({"what connects.c does"})
    uses = {Use("run", syscall, kind, 1, because) for syscall, _, kind in (item.partition(" ") for item in NEEDS)}
    if abi.MACHINE != "x86_64":
        uses = {use for use in uses if use.syscall in ("mmap", "openat", "socket", "connect", "setsockopt", "sendto")}
    places = frozenset({f"tcp://127.0.0.1:{tcp}", f"udp://127.0.0.1:{udp}"})
    profile = Profile(ProfiledFunction("connects", runtime_api=False), frozenset(uses), network=places)
    directory = scratch / "bundle"
    build.write(build.build(profile, (abi.MACHINE,)), str(directory))
    return directory


def _table(series: dict[tuple[str, str], Series]) -> Table:
    rows = []
    for call, text in CALLS.items():
        for way in (BARE, BROKERED):
            added = series[call, way].median - series[call, BARE].median
            cells = ("" if way == BARE else f"{added * 1e6:.1f}",)
            rows.append(Row(f"{text}: {way}", series[call, way], cells))
    return Table("one call", "us", 1e6, ("added",), tuple(rows))


def _bar(series: dict[tuple[str, str], Series]) -> Bar:
    added = series["blocking", BROKERED].combine(operator.sub, series["blocking", BARE])
    low, high = added.quartiles
    value = series["blocking", BROKERED].median - series["blocking", BARE].median
    return Bar("microseconds added to a blocking TCP connect", value * 1e6, LIMIT, (low * 1e6, high * 1e6))
