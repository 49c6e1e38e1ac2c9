"""The beginning of a supervised start: what the init phase may do is answered before the supervisor is loaded.

By number and registers alone, from a table that the compiler made, so that the handler waits neither for the modules
that decide about destinations and programs nor for those that write reports. Those load when a call needs them: loading
them beside the handler was measured, and slows it by more (a kernel queues both on one processor).
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.notification import CallTable, Listener, Notification

PARTING = 1
"""Milliseconds between looks at whether the child's exec has parted the descriptor tables."""


def answer(listener: Listener, init: CallTable, wake: int, parted: Callable[[], bool]) -> Notification | None:
    """Let init calls through, until there is something else to do. `parted` is asked until it says yes.

    Returns the first call that is no init call, not answered; None when `wake` can be read: a signal came.
    """
    poll = select.poll()
    poll.register(listener.fd, select.POLLIN)
    poll.register(wake, select.POLLIN)
    together = not parted()
    while True:
        ready = dict(poll.poll(PARTING if together else None))
        event = ready.get(listener.fd, 0)
        if event & select.POLLIN:
            call = listener.receive()
            if call and not init.allows(call):
                return call
            if call:
                listener.let_through(call.id)
        elif event:
            poll.unregister(listener.fd)  # nobody is left under the filter: the child's end is about to be told
        elif ready:
            return None
        together = together and not parted()
