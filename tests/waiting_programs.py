"""Programs that wait in read(0), and whose call that is to a sensor."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.sensor.origins import Sensor
from sandbox.violations.origin import Origin


@contextmanager
def waiting(command: Sequence[str | Path]) -> Iterator[tuple[int, int]]:
    """(thread, process) of a program of which one thread waits in read(0)."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        tasks = Path(f"/proc/{process.pid}/task")
        deadline = time.monotonic() + 20
        found: list[int] = []
        while not found:
            assert time.monotonic() < deadline
            for task in tasks.iterdir():
                words = (task / "syscall").read_text().split()
                if words[:2] in (["0", "0x0"], ["63", "0x0"]):
                    found.append(int(task.name))
        yield found[0], process.pid
        process.communicate(b"x")


def asked(command: Sequence[str | Path]) -> Origin | None:
    """The origin of such a program's call: the same twice, and no descriptor is left of it."""
    before = len(os.listdir("/proc/self/fd"))
    sensor = Sensor()
    with waiting(command) as (tid, pid):
        first, second = sensor.origin(tid, pid), sensor.origin(tid, pid)
        assert sensor.reading(tid, pid, deadline=time.monotonic() - 1) is None
    sensor.close()
    assert (first and first.fields()) == (second and second.fields())
    assert len(os.listdir("/proc/self/fd")) - before <= 1  # the mounts of one namespace
    return first


def until_it_reads(tid: int) -> None:
    """Wait until a thread sleeps in read(0, ...): what it printed of itself is true from then on."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        words = Path(f"/proc/{tid}/syscall").read_text().split()
        if words[:2] == ["0", "0x0"] or words[:2] == ["63", "0x0"]:
            return
        time.sleep(0.001)
    pytest.fail("it does not read")
