"""The decider: answers what the launcher's attendant, its parent, leaves to it, until the function has ended.

It is the function's parent, wakes on its end, and ends what is left of it. Signals of the platform, and an end like the
function's, are the attendant's (sandbox/launcher/attend.c), and so is the function's end where this process fails.
"""

from __future__ import annotations

import _signal as signal  # the core of signal, loaded anyway; signal itself loads enum
import gc
import os

from sandbox.confine import parent
from sandbox.supervise import attend
from sandbox.supervise.link import LINK_CONNECTED, LINK_READY, LinkedListener, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.bundle import Policy
    from sandbox.supervise.start import Duties
    from sandbox.violations.journal import Journal


def decide(
    pid: int, fd: int, link: int, policy: Policy, duties: Duties, journal: Journal | None, ended: int | None
) -> int:  # fmt: skip
    """Answer what comes over `link`, until the function `pid` has ended, and what it left. Returns its wait status.

    `fd` is the listener, -1 for none; `ended` the function's wait status where it was reaped already. Raises
    BrokenPipeError where the attendant is gone, and what stops a supervisor.
    """
    wake = parent.wake_descriptor()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    if fd < 0:
        return attend.unheard(pid, wake, policy, journal, os.getppid(), ended)
    supervisor = attend.make_supervisor(policy, duties, *attend.init_tables(policy), journal, os.getppid())
    supervisor.set_look(attend.make_look(policy, duties))
    listener = LinkedListener(
        fd, link, supervisor.told, supervisor.learn_name, supervisor.report_packet, supervisor.owned
    )
    supervisor.after_init = lambda: say(link, LINK_CONNECTED)
    say(link, LINK_READY)
    gc.enable()
    status = supervisor.run(pid, listener, wake, lambda: True, None, ended)
    return attend.say_terminated(policy, supervisor) << 8 if supervisor.terminated else status
