"""Start a handler with a supervisor beside it: the child confines itself and execs, the parent becomes the supervisor.

Both share one descriptor table until the child's exec (clone with CLONE_FILES), so that the listener which the child
gets is the parent's too; a shared page says its number. The child does not wait: what it may do, the kernel lets it do
while the parent still loads.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

from sandbox.kernel import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.bundle import Policy

CLONE_FILES = 0x400  # linux/sched.h
SIGCHLD = 17
WAIT = 0.0005

_UNSET, _LISTENER, _ALONE = 0, 1, 2


class Handover:
    """The page on which the child says what it got."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def tell(self, listener: int | None) -> None:
        """In the child: the listener's number, or that there is none."""
        struct.pack_into("<ii", self._page, 0, _ALONE if listener is None else _LISTENER, listener or 0)

    def wait(self, pid: int) -> int | None:
        """In the parent: the listener's number, None when there is none or the child has ended."""
        while True:
            state, listener = struct.unpack_from("<ii", self._page, 0)
            if state != _UNSET:
                return int(listener) if state == _LISTENER else None
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return None
            time.sleep(WAIT)


def start(child: Callable[[Handover], None], policy: Policy, environment: Mapping[str, str], *, audit: bool) -> int:
    """Run `child` (which never returns) in a new process and supervise it. Returns the exit status to end with."""
    handover = Handover()
    pid = abi.syscall(abi.number("clone"), CLONE_FILES | SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        try:
            child(handover)
        finally:
            os._exit(70)
    from sandbox.supervise import attend

    return attend.attend(pid, handover, policy, environment, audit=audit)
