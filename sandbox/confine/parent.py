"""Being the parent of a handler, like a small init: wake on its end, pass signals on, end as it ended."""

from __future__ import annotations

import _signal as signal  # the core of signal, loaded anyway; signal itself loads enum
import errno
import os
import time

from sandbox.kernel import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGWINCH,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""What people and platforms send to servers; the last three end Apache's and nginx's workers, or change gunicorn's."""
PTRACE_SEIZE = 0x4206  # linux/ptrace.h
NO_PROCESS = 0x7FFFFFFF
"""A number that no process has (linux/threads.h: PID_MAX_LIMIT)."""
YAMA_CAPABLE = 2  # Documentation/admin-guide/LSM/Yama.rst: the scope from which on it takes CAP_SYS_PTRACE
ROUNDS = 1000
"""How often what was left behind is looked for and killed."""
MOST = 256
"""Processes that are reaped at a time."""
MOST_ENDED = 1 << 16
"""The same where nobody waits to be answered: more than a kernel numbers, by default (man 5 proc_sys_kernel)."""
HELD = (*FORWARDED, signal.SIGCHLD)
"""Signals that wait until the supervisor is there to take them: the child may end, or be asked to, before."""


_above = 0


def set_above(pid: int) -> None:
    """The process above this supervisor belongs to it (sandbox/supervise/guardian.py)."""
    global _above
    _above = pid


def above() -> int:
    """The number of that process, 0 where there is none."""
    return _above


def wake_descriptor() -> int:
    """A descriptor that becomes readable at every signal, so that a poll loop wakes when a child ends."""
    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake


def forward_signals(pid: int) -> None:
    """From now on this process passes the usual signals on to the handler and does not follow them itself."""

    def forward(number: int, _frame: object) -> None:
        send(pid, number)

    for number in FORWARDED:
        signal.signal(number, forward)


def send(pid: int, number: int) -> bool:
    """Send a signal to a process; False where it has just ended, which the caller is about to see."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def reaped(pid: int) -> int | None:
    """The wait status of the child, now reaped; None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None


def all_reaped(pid: int, heard: Callable[[int, int], None] | None = None, most: int = MOST) -> int | None:
    """The same, for the first process of a container, whose children are also those that have lost their parent.

    The child is looked for first, and of others `most` are reaped: what a chain of forks leaves there has no end.
    `heard` is told each process that ended, and each task that stopped because this process traces it, with its status.
    """
    status = None
    for number in range(most + 1):
        whom = -1 if number else pid or -1
        try:
            found, ended = os.waitpid(whom, os.WNOHANG)
        except ChildProcessError:
            if whom == -1:
                break
            continue
        if found and heard:
            heard(found, ended)
        if found and found == pid and not os.WIFSTOPPED(ended):
            status = ended
        elif not found and whom == -1:
            break
    return status


def descendants(pid: int) -> Iterator[int]:
    """The processes below `pid`, children first, as far as /proc shows them."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    waiting = list(parents.get(pid, ()))
    while waiting:
        found = waiting.pop(0)
        yield found
        waiting += parents.get(found, ())


def kill(pids: Iterable[int]) -> None:
    """Kill those that are there and ours."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # it is gone already, or another user's by now


def end_rest(pid: int = 0) -> int | None:
    """Kill and reap what is below this process; ROUNDS times, since it may be making more of itself.

    First all that is there, whose orphans nobody hears of where prctl is refused and this is no subreaper.

    Returns the wait status of the child `pid` where it was among them.
    """
    status = None
    for number in range(ROUNDS):
        # What has ended stands before what still forks in the list of children: a long list is read too slowly.
        ended = all_reaped(pid, most=MOST_ENDED)
        status = status if ended is None else ended
        if not has_children():  # asked before all processes are looked at
            break
        # Orphans first: a look at all processes takes longer than a chain of forks for its next one.
        left = own_children() or list(descendants(os.getpid()))
        if not left:
            break
        kill(left if number else {*left, *_below()})
        time.sleep(0.0002)
    return status


def _below() -> list[int]:
    """The processes below this one."""
    try:
        return list(tasks_below(os.getpid()))
    except OSError:  # the kernel does not tell
        return list(descendants(os.getpid()))


def end_without(above: int) -> None:
    """End this process and what is below it where its parent is not `above` any more; 0 for one that nobody guards."""
    if above and os.getppid() != above:
        end_rest()
        os._exit(1)


def has_children() -> bool:
    """Whether there is a child of this process, running or not yet reaped: orphans are children of a subreaper."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def own_children() -> list[int]:
    """The children of this process; none where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        return found
    return found


def tasks_below(pid: int) -> dict[int, int]:
    """{process below `pid`: its threads}, without a look at all others where the kernel tells (CONFIG_PROC_CHILDREN).

    Raises FileNotFoundError where it does not.
    """
    found: dict[int, int] = {}
    waiting = [f"/proc/{pid}/task/{pid}/children"]
    while waiting:
        try:
            with open(waiting.pop(), "rb") as file:
                children = file.read().split()
        except ProcessLookupError:
            continue  # it has ended since
        for child in map(int, children):
            try:
                threads = os.listdir(f"/proc/{child}/task")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[child] = len(threads)
            waiting += [f"/proc/{child}/task/{thread}/children" for thread in threads]
    return found


def end_like(wait_status: int) -> int:
    """Exit status to end with as the child did; when a signal ended it, this process ends by the same one."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        # No core of ours: the child has written its own.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + number  # as pid 1, whom no signal of its own ends
    return os.waitstatus_to_exitcode(wait_status)


def seizes() -> bool:
    """Whether a parent may trace its children here (man 2 ptrace).

    Asked without a child: a filter refuses ptrace(2) by its number, before the kernel looks for a process that cannot
    be, and Yama tells what it refuses.
    """
    try:
        abi.syscall(abi.number("ptrace"), PTRACE_SEIZE, NO_PROCESS, 0, 0)
    except OSError as error:
        if error.errno != errno.ESRCH:
            return False
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", "rb") as file:
            scope = int(file.read())
    except (OSError, ValueError):
        return True
    return scope < YAMA_CAPABLE or (scope == YAMA_CAPABLE and os.geteuid() == 0)


def refuses_duplicates() -> str:
    """Why a supervisor cannot duplicate another process's descriptors here; '' where it can.

    Asked of this very process, which nothing but the kernel's age and the filters above it can refuse (man 2
    pidfd_getfd): containers' default filters refuse pidfd_getfd, Lambda-like guests pidfd_open.
    """
    step = "pidfd_open"
    try:
        pidfd = abi.syscall(abi.number("pidfd_open"), os.getpid(), 0)
        step = "pidfd_getfd"
        try:
            os.close(abi.syscall(abi.number("pidfd_getfd"), pidfd, pidfd, 0))
        finally:
            os.close(pidfd)
    except OSError as error:
        return f"{step}: {error.strerror}"
    return ""
