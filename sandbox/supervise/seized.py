"""An exec that is compared before its first instruction: its task is seized (man 2 ptrace) while the call still waits.

A look shows which file a path names; by the time of the exec another thread may have changed the path, or another
process the file at it. Where the kernel's rules hold the list that is the same; where they must let more start than the
profile lists (an interpreter, a folder that the function writes) what really started is looked at, while it stands in
the exec (PTRACE_O_TRACEEXEC). To seize a task does not cancel its notification, and the function may not trace any.
"""

from __future__ import annotations

import os
import time

from sandbox.confine import parent
from sandbox.kernel import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.notification import Listener, Notification

# linux/ptrace.h, linux/wait.h
_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_TRACE_EXEC, _EXIT_KILL = 1 << 4, 1 << 20
_EVENT_EXEC = 4
_WALL = 0x40000000

LIMIT = 8.0
"""Seconds within which an exec starts its program or fails; fewer than the attendant waits for its decider."""
PAUSE = 0.0002

STARTED, FAILED, OTHER = "started", "failed", "other"
"""What was asked for runs; the exec failed, as it would have by itself; something else stood in it, and was ended."""


class Followed:
    """How an exec went: one of the three, and (pid, wait status) of a process that ended meanwhile."""

    __slots__ = ("ended", "outcome")

    def __init__(self, outcome: str, ended: tuple[int, int] | None = None) -> None:
        self.outcome = outcome
        self.ended = ended


def follow(
    listener: Listener, call: Notification, process: int, is_same: Callable[[int], bool], *, ends: bool
) -> Followed:  # fmt: skip
    """Let an exec go on; `is_same` is asked, with the process, whether that is what should run.

    With `ends` a process that runs something else is killed, otherwise it goes on. Raises OSError where the task cannot
    be seized: then the call is not answered yet.
    """
    _ptrace(_SEIZE, call.pid, _TRACE_EXEC | _EXIT_KILL)
    listener.let_through(call.id)
    # So that it stops, too, where the exec fails. Past its exec it stands in it, by the number of its process.
    _ptrace_if_there(_INTERRUPT, call.pid)
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        for pid in {process, call.pid}:
            try:
                found, status = os.waitpid(pid, os.WNOHANG | _WALL)
            except ChildProcessError:
                continue
            if found:
                return _stopped(pid, status, is_same, ends=ends)
        time.sleep(PAUSE)
    parent.kill([process])
    return Followed(OTHER)


def _stopped(pid: int, status: int, is_same: Callable[[int], bool], *, ends: bool) -> Followed:
    if not os.WIFSTOPPED(status):
        return Followed(FAILED, (pid, status))
    event = status >> 16
    same = event != _EVENT_EXEC or is_same(pid)
    if not same and ends:
        parent.kill([pid])
        return Followed(OTHER)
    # A signal that it stopped for is delivered; in an exec there is none.
    _ptrace_if_there(_DETACH, pid, 0 if event else os.WSTOPSIG(status))
    return Followed(FAILED if event != _EVENT_EXEC else STARTED if same else OTHER)


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    abi.syscall(abi.number("ptrace"), request, pid, 0, data)


def _ptrace_if_there(request: int, pid: int, data: int = 0) -> None:
    try:
        _ptrace(request, pid, data)
    except OSError:
        return
