"""Signals for a thread that waits for its answer, which the kernel holds back until then (WAIT_KILLABLE_RECV).

A bare blocking connect is interrupted by a signal: EINTR, or a restart behind the handler. ERESTARTSYS as the answer
gives the same: the kernel then does for the call what it does for its own (kernel/signal.c, arch_do_signal_or_restart).
It would be seen as errno 512 by a thread without a signal; so it is only given where one is certain to be delivered.
"""

from __future__ import annotations

import errno
import os
import time

from sandbox.egress import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.kernel.notification import Listener, Notification

ERESTARTSYS = 512  # linux/errno.h
SHORTEST, LONGEST = 0.001, 0.02
"""Seconds between looks at a caller that waits, at first and after a while."""
_FIELDS = (b"Tgid", b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")


def wait_connected(listener: Listener, call: Notification, fd: int, address: bytes | None, first: int) -> int:
    """Wait for a connect of which `connect_without_sleep` said `first`, as its caller would: 0 or the errno."""
    limit = sockets.send_timeout(fd)
    deadline, pause = time.monotonic() + (limit or 0.0), SHORTEST
    while True:
        left = None if limit is None else deadline - time.monotonic()
        ready = sockets.wait_writable(fd, pause if left is None else max(0.0, min(pause, left)))
        if not listener.is_valid(call.id):
            return errno.EINTR  # nobody waits any more: the connect goes on without us, as after any signal
        if ready:
            number = sockets.connect_without_sleep(fd, address)
            if number not in sockets.SLEEPS:
                return 0 if number == errno.EISCONN else number
        interrupted = interruption(call.pid)
        if interrupted:
            return interrupted if limit is None else errno.EINTR  # net/sock.h, sock_intr_errno
        if left is not None and left <= pause:
            return first
        pause = min(2 * pause, LONGEST)


def interruption(tid: int) -> int:
    """What a signal that waits for a thread makes of its call: ERESTARTSYS, EINTR, or 0 where none does.

    ERESTARTSYS only where the kernel is certain to have chosen this very thread: a signal of its own, or one for the
    process that every other thread blocks (kernel/signal.c, complete_signal and retarget_shared_pending). One for the
    process with a handler, which its first thread would take first, gives EINTR, which needs no such certainty.
    """
    own = _status(f"/proc/{tid}/status")
    if not own:
        return 0
    heard = ~(own[b"SigBlk"] | own[b"SigIgn"])
    if own[b"SigPnd"] & heard:
        return ERESTARTSYS
    shared = own[b"ShdPnd"] & heard
    if not shared:
        return 0
    process = own[b"Tgid"]
    try:
        others = [name for name in os.listdir(f"/proc/{process}/task") if name != str(tid)]
    except OSError:
        return 0
    if all(not shared & ~_status(f"/proc/{process}/task/{name}/status").get(b"SigBlk", 0) for name in others):
        return ERESTARTSYS
    return errno.EINTR if tid == process and shared & own[b"SigCgt"] else 0


def _status(path: str) -> Mapping[bytes, int]:
    """The fields of a task's status as numbers; none for a task that is gone."""
    found: dict[bytes, int] = {}
    try:
        with open(path, "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name in _FIELDS:
                    found[name] = int(value, 10 if name == b"Tgid" else 16)
    except OSError:
        return {}
    return found
