"""Whom a signal of the function would reach: itself, others, or the supervisor, which must not be reached by any.

Decided on registers alone, so that the call may go on; but for a pidfd, which says nothing to a filter and can be
exchanged after a look. Where Landlock holds signals in the function's domain (ABI 6) the kernel decides about those.
"""

from __future__ import annotations

import os

from sandbox.behaviour import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.kernel.task import Task

CALLS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
BOSS = "a signal to the supervisor, or to all that it is among"
UNSEEN = "a signal by a pidfd, whose target only Landlock ABI 6 could hold, which is not in force"


class Signalling:
    """`scoped` is whether Landlock keeps the function's signals in its own domain."""

    def __init__(self, *, scoped: bool) -> None:
        self._scoped = scoped
        self._pid = os.getpid()
        self._group = os.getpgrp()

    def objection(self, syscall: str, args: Sequence[int], task: Task) -> str:
        """Why the call may never go on, whatever the profile holds; '' when only the profile decides."""
        if syscall == "pidfd_send_signal":
            return "" if self._scoped else UNSEEN
        target = args[0] & arguments.LOW
        if target in (self._pid, -1 & arguments.LOW, -self._group & arguments.LOW):
            return BOSS
        # kill(2) takes the number of any thread for its process, and 0 for the caller's process group.
        if os.path.exists(f"/proc/self/task/{target}"):
            return BOSS
        return BOSS if target == 0 and syscall == "kill" and _group(task.tid) in (self._group, -1) else ""

    def is_own(self, syscall: str, args: Sequence[int], task: Task) -> bool:
        """Whether the call reaches its caller's own process only; for a pidfd, where the domain holds it, too."""
        target = args[0] & arguments.LOW
        if syscall == "pidfd_send_signal":
            return True
        process = task.process()
        return target == process or (syscall == "tkill" and os.path.exists(f"/proc/{process}/task/{target}"))


def _group(tid: int) -> int:
    try:
        return os.getpgid(tid)
    except ProcessLookupError:
        return -1
