"""Start a handler with a supervisor beside it: the child confines itself and execs, the parent becomes the supervisor.

Both share one descriptor table until the child's exec, so that the listener which the child gets is the parent's too
(sandbox/confine/child.py). The child does not wait: what it may do, the kernel lets it do while the parent still loads.
"""

from __future__ import annotations

import _signal  # the core of signal, loaded anyway; signal itself loads enum
import ctypes
import os

from sandbox.confine import parent
from sandbox.confine.child import ListenerPage, spawn
from sandbox.errors import InstallRefused
from sandbox.kernel import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.behaviour.stand_ins import StandIns
    from sandbox.bundle import Policy
    from sandbox.confine import Command
    from sandbox.violations.journal import Journal

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 3, 4, 36  # linux/prctl.h


class Duties:
    """What a start asks of its supervisor; `audit` lets through and reports what enforcement would refuse.

    `activity` is SANDBOX_ACTIVITY; `events` and `event_key` are where the lines go and what signs them (Sink), `api`
    (host, port) of the Runtime API, `relays` whether its requests are followed, `looks` whether path calls are
    notified, `rules` the descriptor that tells the rules on files where the launcher installed them, else -1,
    `one_phase` whether the init phase has no end,
    `command` what is started (its path and root), `local_domains` what LOCALDOMAIN says (man 5 resolv.conf),
    `stand_ins` what stands for destinations, `goes_on` whether the function does when its supervisor has died.
    """

    __slots__ = (
        "activity", "api", "audit", "command", "event_key", "events", "goes_on", "local_domains", "looks", "one_phase",
        "relays", "rules", "stand_ins",
    )  # fmt: skip

    def __init__(
        self, *, audit: bool, events: str, event_key: bytes | None, api: tuple[str, int] | None, relays: bool,
        one_phase: bool, command: Command, local_domains: Sequence[str], looks: bool = False, rules: int = -1,
        stand_ins: StandIns | None = None, goes_on: bool = False, activity: str = "off",
    ) -> None:  # fmt: skip
        self.activity = activity
        self.audit = audit
        self.goes_on = goes_on
        self.events = events
        self.event_key = event_key
        self.api = api
        self.relays = relays
        self.one_phase = one_phase
        self.command = command
        self.local_domains = local_domains
        self.looks = looks
        self.rules = rules
        self.stand_ins = stand_ins


def early_journal(policy: Policy, duties: Duties) -> Journal | None:
    """The journal of a run whose lines were asked for, opened while an error can still stop the start, and begun.

    None for unsigned lines of enforcement on standard error, which cannot fail: there it loads with the first report.
    Raises UsageError as Sink does.
    """
    if not duties.events and duties.event_key is None and not duties.audit:
        return None
    from sandbox.violations.journal import Journal
    from sandbox.violations.sink import Sink

    journal = Journal(Sink(duties.events, duties.event_key), policy.function)
    journal.begin("audit" if duties.audit else "enforce", policy.digest)
    return journal


def start(child: Callable[[ListenerPage], None], policy: Policy, duties: Duties) -> int:
    """Run `child` (which never returns) in a new process and supervise it. Returns the exit status to end with.

    Raises InstallRefused when there can be no new process, and what `attend` raises, after the child was ended.
    """
    journal = early_journal(policy, duties)
    page = ListenerPage()
    # Before there is a child: a fast one would look into this process while it still loads.
    dumpable = protect()
    may_prctl = dumpable >= 0
    if may_prctl:
        _property(PR_SET_CHILD_SUBREAPER, 1)  # nor is an orphan of the function's to escape it
    # Ignored, nobody would hear how the child ends.
    children = _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, parent.HELD)

    above = None
    if may_prctl:
        from sandbox.supervise.guardian import guard

        try:
            above = guard(goes_on=duties.goes_on)
        except OSError as error:
            raise _no_process(error, journal) from error
        _property(PR_SET_PDEATHSIG, _signal.SIGCHLD)  # which wakes, as a child's end does
        _property(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = os.getpid()

    def begin() -> None:
        if may_prctl:
            _property(PR_SET_DUMPABLE, dumpable)
            if not duties.goes_on:
                _property(PR_SET_PDEATHSIG, _signal.SIGKILL)
                if os.getppid() != supervisor:
                    return  # it died before that
        if children == _signal.SIG_IGN:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        child(page)

    try:
        pid = spawn(begin)
    except OSError as error:
        raise _no_process(error, journal) from error
    try:
        # Asleep until the child has its filter, and only then the imports of `attend`: a kernel may queue the child
        # behind its parent on one processor although another is idle, and a parent that goes on holds it up.
        listener = page.listener(pid)
        from sandbox.supervise import attend

        return attend.attend(pid, listener, policy, duties, journal, above)
    except BaseException:
        # Nobody would answer for it or report on it, and it would outlive the bootstrap.
        parent.kill([pid])
        parent.end_rest()
        raise


def _no_process(error: OSError, journal: Journal | None) -> InstallRefused:
    if journal:
        journal.finish()
    return InstallRefused(
        f"no process can be made for the function: {error.strerror}", where="clone(2)",
        todo="raise the limit of processes (RLIMIT_NPROC, pids.max), or set SANDBOX_SUPERVISE=0",
    )  # fmt: skip


def protect() -> int:
    """Close this process's memory and variables to its user; returns the dumpable property that it had.

    -1 where prctl is refused (Lambda-like guests): one call tells, and no other is made.
    """
    dumpable = _property(PR_GET_DUMPABLE, 0)
    if dumpable >= 0:
        _property(PR_SET_DUMPABLE, 0)
    forget_environ()
    return dumpable


def _property(option: int, value: int) -> int:
    """prctl(2) with one argument; -1 where prctl is refused (Lambda-like guests)."""
    try:
        return abi.syscall(abi.number("prctl"), option, value, 0, 0, 0)
    except OSError:
        return -1


def forget_environ() -> None:
    """Overwrite what /proc/PID/environ shows of this process: the event key must not reach the handler."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[47]), int(fields[48])  # env_start, env_end (man 5 proc: fields 50 and 51)
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
