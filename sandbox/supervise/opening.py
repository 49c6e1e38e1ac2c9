"""The beginning of a supervised start: what the init phase may do is answered before the supervisor is loaded.

By number and registers alone, from a table that the compiler made, so that the handler waits neither for the modules
that decide about destinations and programs nor for those that write reports. Those load when a call needs them: loading
them beside the handler was measured, and slows it by more (a kernel queues both on one processor).
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.notification import CallTable, Listener, Notification
    from sandbox.supervise.look import Look

SPLIT_PAUSE = 1
"""Milliseconds between looks at whether the child's exec has parted the descriptor tables."""


def answer(
    listener: Listener, init: CallTable, wake: int, parted: Callable[[], bool], look: Look | None = None
) -> Notification | None:
    """Let init calls through, and path calls of which `look` has nothing to tell, until there is something else to do.

    `parted` is asked until it says yes. Returns the first call that is neither, not answered; None when `wake` can be
    read: a signal came.
    """
    poll = select.poll()
    poll.register(listener.fd, select.POLLIN)
    poll.register(wake, select.POLLIN)
    together = not parted()
    while True:
        ready = dict(poll.poll(SPLIT_PAUSE if together else None))
        event = ready.get(listener.fd, 0)
        if event & select.POLLIN:
            call = listener.receive()
            if call:
                early = init.allows(call)
                if not (look.is_quiet(call, early=early) if look else early):
                    return call
                listener.let_through(call.id)
        elif event:
            poll.unregister(listener.fd)  # nobody is left under the filter: the child's end is about to be told
        elif ready:
            return None
        together = together and not parted()


class TableSplit:
    """Called until the child's exec has parted the descriptor tables; then closes what was meant for the handler alone.

    A pipe or socket that the platform handed over must end when the handler ends, not when the supervisor does.
    """

    def __init__(self, pid: int, listener: int, keep: tuple[int, ...]) -> None:
        self._place = f"/proc/{pid}/fd/{listener}"
        self._listener = _leads_to(f"/proc/self/fd/{listener}")
        self._keep = keep
        self._seen = False
        self._apart = False

    def __call__(self) -> bool:
        """Whether the tables are apart: the listener is close-on-exec, and under its number the child has another file.

        Once they are, no number is looked at again.
        """
        self._apart = self._apart or self._look()
        return self._apart

    def _look(self) -> bool:
        try:
            together = _leads_to(self._place) == self._listener != ""
        except PermissionError:
            # A program that its user cannot read hides its descriptors; the launcher before it does not.
            if self._seen:
                self._let_go()
            return True
        if not together:
            self._let_go()
        self._seen = together
        return not together

    def _let_go(self) -> None:
        try:
            names = os.listdir("/proc/self/fd")
        except OSError:
            return  # no /proc: then nobody knows whether there was an exec
        for name in names:
            fd = int(name)
            try:
                if fd > 2 and fd not in self._keep and os.get_inheritable(fd):
                    os.close(fd)
            except OSError:
                continue  # the descriptor of this very listing


def _leads_to(link: str) -> str:
    """What a descriptor in /proc stands for; '' where there is none. Raises PermissionError."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""
