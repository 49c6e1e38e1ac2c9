"""Functions of a test that run in a child process, as the tests' user or as an unprivileged one.

The child may put itself under any filter: it reports by a pipe that was open before. A child that a signal ends is a
failure of the test, never a denial.

    assert in_child(lambda: os.getuid(), 65534) == 65534
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from refusing_filters import refuse

T = TypeVar("T")

LIMIT = 60.0
"""Seconds after which a child that does not end is a failure."""
PR_SET_DUMPABLE = 4  # linux/prctl.h


@dataclass(frozen=True)
class Ended:
    """How a child ended, and what it wrote."""

    status: int
    output: bytes

    @property
    def signal(self) -> int:
        """The signal that ended it, or 0."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def code(self) -> int:
        """Its exit code. Fails the test when a signal ended it."""
        if self.signal:
            pytest.fail(f"the child was ended by {signal.Signals(self.signal).name}; it wrote {self.output!r}")
        return os.waitstatus_to_exitcode(self.status)


def become(uid: int | None) -> None:
    """Take on the uid with its group, and stay as open to /proc as a program that the user started."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def ended(
    function: Callable[[int], object], uid: int | None, before: Callable[[], object] | None = None, limit: float = LIMIT
) -> Ended:
    """Run `function(write end of a pipe)` in a child; `before` runs there first, still as the tests' user."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _run(function, write, uid, before)
    os.close(write)
    try:
        output = _read_all(read, time.monotonic() + limit)
    finally:
        os.close(read)
        if output_missing := not _wait_until(pid, time.monotonic() + 5):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    assert not output_missing, "the child did not end in time"
    return Ended(status, output)


def ended_on_host(
    refused: Mapping[str, int], uid: int | None, folder: Path, command: Sequence[str], environment: Mapping[str, str]
) -> Ended:
    """A command in a folder on a host that refuses these syscalls with these errnos; its output and errors together."""

    def start(write: int) -> None:
        refuse(refused)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.chdir(folder)
        os.execve(command[0], [*command], environment)

    return ended(start, uid)


def _run(
    function: Callable[[int], object], write: int, uid: int | None, before: Callable[[], object] | None
) -> NoReturn:
    code = 99
    try:
        os.setpgid(0, 0)  # a signal that a test sends to its group stays there
        if before:
            before()
        become(uid)
        function(write)
        code = 0
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _read_all(fd: int, deadline: float) -> bytes:
    found = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([fd], [], [], max(deadline - time.monotonic(), 0))
        data = os.read(fd, 1 << 16) if ready else b""
        if not data:
            break
        found += data
    return found


def _wait_until(pid: int, deadline: float) -> bool:
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)
    return False


def in_child(
    function: Callable[[], T], uid: int | None, before: Callable[[], object] | None = None, limit: float = LIMIT
) -> T:
    """The value of a function that ran in a child, within so many seconds. Fails with its traceback when it raised."""

    def report(write: int) -> None:
        try:
            message: tuple[str, Any] = ("value", function())
        except BaseException:
            message = ("raised", traceback.format_exc())
        with open(write, "wb", closefd=False) as file:
            file.write(pickle.dumps(message))

    found = ended(report, uid, before, limit)
    if found.code or not found.output:
        pytest.fail(f"the child reported nothing and exited with {found.code}")
    kind, value = pickle.loads(found.output)
    if kind == "raised":
        pytest.fail(f"in the child: {value}")
    result: T = value
    return result


@contextlib.contextmanager
def bystander(uid: int | None) -> Iterator[int]:
    """The pid of a process of the user that does nothing until the end of the block."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        become(uid)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        yield pid
    finally:
        with contextlib.suppress(OSError):
            os.write(write, b"x")
        os.close(write)
        os.waitpid(pid, 0)


def alive(pid: int) -> bool:
    """Whether a child still runs."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
