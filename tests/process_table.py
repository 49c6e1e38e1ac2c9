"""Other processes as /proc shows them: which run below one, whether they run still, and what they use."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

READ_OWN_PROC = """
import json, os
read = lambda name: open(f"/proc/self/{name}", "rb").read().decode("latin-1")
status = dict(line.split(":", 1) for line in read("status").splitlines())
fds = [fd for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if os.path.exists(f"/proc/self/fd/{fd}")]
"""
"""Python for a program that shows itself: `read` of a file of its /proc, `status` by field, and its open `fds`."""


def descendants(pid: int) -> list[int]:
    """The processes below a process that live now."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, file.read_text().split()):
                found += [child, *descendants(child)]
    return found


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def memory_of(pid: int) -> dict[str, int]:
    """VmRSS, VmHWM and Threads of a process; kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM", "Threads")}


def marked(mark: str) -> list[int]:
    """The processes whose command line holds a mark."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and mark.encode() in Path(f"/proc/{entry}/cmdline").read_bytes() and runs(int(entry)):
                found.append(int(entry))
    return found


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to hold. Fails the test when it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not hold within {seconds} s"
        time.sleep(0.005)


def all_end(pids: Iterable[int], seconds: float = 10.0) -> bool:
    """Whether every one of the processes ends in time."""
    end = time.monotonic() + seconds
    while (running := any(map(runs, pids))) and time.monotonic() < end:
        time.sleep(0.01)
    return not running
