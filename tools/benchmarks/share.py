"""The share of the machine that a start gets: all processors, one of them, or a quota of their time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

WHOLE, ONE, QUOTA = "all processors", "one processor", "0.3 processors"
PERIOD, PART = 100_000, 30_000
"""Microseconds; functions with little memory get so little (man 7 cgroups, the kernel's sched-bwc.rst)."""
GROUPS = Path("/sys/fs/cgroup")


def available() -> tuple[str, ...]:
    """The shares that this process can give; no quota where it may make no control group."""
    try:
        with shared(QUOTA):
            return WHOLE, ONE, QUOTA
    except OSError:
        return WHOLE, ONE


@contextlib.contextmanager
def shared(share: str) -> Iterator[Callable[[], None]]:
    """Start processes under a share within the block; what the block gets puts this process back under the whole.

    So who waits for them costs them nothing. Raises OSError where there is no such share.
    """
    if share == WHOLE:
        yield lambda: None
    elif share == ONE:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(before)})
        try:
            yield lambda: os.sched_setaffinity(0, before)
        finally:
            os.sched_setaffinity(0, before)
    else:
        with _quota() as leave:
            yield leave


@contextlib.contextmanager
def _quota() -> Iterator[Callable[[], None]]:
    """A control group with a quota, which this process and what it starts are in until it leaves."""
    second = (GROUPS / "cgroup.controllers").exists()
    above = GROUPS if second else GROUPS / "cpu"
    group = above / f"sandbox-bench-{os.getpid()}"
    group.mkdir()

    def leave() -> None:
        (above / "cgroup.procs").write_text(str(os.getpid()))

    try:
        if second:
            (group / "cpu.max").write_text(f"{PART} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(PART))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield leave
    finally:
        leave()
        _empty(group, above)
        group.rmdir()


def _empty(group: Path, above: Path) -> None:
    for number in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            (above / "cgroup.procs").write_text(number)
