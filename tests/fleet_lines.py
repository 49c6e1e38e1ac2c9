"""Lines of made-up functions, as supervisors and starters write them: what the fleet's tests take in."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from output_schemas import check

from sandbox.fleet.ingest import ingest
from sandbox.fleet.sources import sources
from sandbox.fleet.store import Store, Writer
from sandbox.plain_json import encode
from sandbox.violations.activity import Activity, Reached
from sandbox.violations.origin import Frame, Origin
from sandbox.violations.record import Record, Summary, Violation, render

HOME = Path(__file__).resolve().parent.parent
NOON = 1_796_040_000.0
"""2026-11-30T12:00:00Z."""


def line(record: Record, supervisor: str, seq: int) -> bytes:
    """The line of a record, as a sink writes it."""
    stamp = {"event": record.event, "time": record.time, "seq": seq, "supervisor": supervisor}
    return (render({**stamp, **record.fields()}) + "\n").encode()


def violation(
    function: str, target: str = "tcp://192.0.2.7:443", *, syscall: str = "connect", arg_class: str = "",
    library: str = "", verdict: str = "denied", time: float = NOON,
) -> Violation:  # fmt: skip
    """A refused call."""
    by = Origin(library, "1.0", Frame("client.py", "send", 7), None) if library else None
    return Violation(
        function=function, phase="invoke", request="r-1", pid=10, tid=11, comm="python3", syscall=syscall,
        arg_class=arg_class, args=["6", target], target=target, allow=f"network: {target}", verdict=verdict,
        errno="EPERM", reason="no entry names it", by=by, time=time,
    )  # fmt: skip


def summary(function: str, counts: Mapping[str, int], *, final: bool = True, time: float = NOON) -> Summary:
    """The counts of what had no line."""
    return Summary(function, counts, final=final, total=sum(counts.values()) if final else None, time=time)


def activity(
    function: str, destinations: Iterable[tuple[str, Sequence[str]]] = (), programs: Iterable[str] = (),
    time: float = NOON,
) -> Activity:  # fmt: skip
    """What one invocation reached."""
    return Activity(
        function=function, phase="invoke", request="r-1", duration=3.0, answered=True, shared=False, accesses={},
        destinations=[Reached(thing, 1, by) for thing, by in destinations], listeners=(),
        programs=[Reached(thing, 1, ()) for thing in programs], written=("/tmp/out",), refused={}, anomalies={},
        new=(), time=time,
    )  # fmt: skip


def status(function: str, release: str = "a", mode: str = "enforce", **more: Any) -> bytes:
    """A status line; `release` is repeated to the length of a digest."""
    fields = {
        "event": "sandbox", "mode": mode, "function": function, "policy": f"sha256:{release * 64}"[:71],
        "requested": ["syscalls"], "enforced": ["syscalls"], "degraded": [], **more,
    }  # fmt: skip
    return (encode(fields) + "\n").encode()


def command(*arguments: str | Path) -> list[str]:
    """The command line of `sandbox fleet`."""
    return [sys.executable, "-m", "sandbox", "fleet", *map(str, arguments)]


def sandbox(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `sandbox fleet`."""
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    given = {"env": environment, "capture_output": True, "text": True, "timeout": 60, "check": False, **options}
    done: subprocess.CompletedProcess[str] = subprocess.run(command(*arguments), **given)  # type: ignore[call-overload]
    check(["fleet", *map(str, arguments)], done.stdout)
    return done


def taken(store: Path, *logs: Path | str) -> Writer:
    """Take in logs."""
    return ingest(Store(str(store), create=True), sources(map(str, logs)), pytest.fail)[1]


def log(path: Path, function: str, count: int, supervisor: str = "00000001") -> Path:
    """A log of one function with so many violations, gzip for a name that ends in .gz."""
    lines = [b"START RequestId: r-1\n", status(function)]
    lines += [line(violation(function, f"tcp://192.0.2.7:{n}", time=NOON + n), supervisor, n + 1) for n in range(count)]
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
