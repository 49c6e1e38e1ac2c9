"""Whom a hard-denied call is aimed at: its own process, another of the function's tree, or anything else.

    aim("process_vm_readv", (child, ...), task, os.getpid())  ->  "child"

Read from registers and, for a pidfd, from /proc/TID/fdinfo/FD (man 2 pidfd_open). The call is refused whatever this
says, so that nothing is won by a number that changes its meaning after the look.
"""

from __future__ import annotations

from sandbox.behaviour import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.kernel.task import Task

SELF, CHILD, OTHER = "self", "child", "other"

PROCESSES = {
    "process_vm_readv": (0,), "process_vm_writev": (0,), "ptrace": (1,), "kcmp": (0, 1), "migrate_pages": (0,),
    "move_pages": (0,), "perf_event_open": (1,), "prctl": (1,),
}  # fmt: skip
"""Which arguments are numbers of processes or threads."""
PIDFDS = {"pidfd_getfd": 0, "pidfd_send_signal": 0, "process_madvise": 0, "process_mrelease": 0, "setns": 0}
"""Which argument is a descriptor that stands for a process, where it is a pidfd at all."""
ZERO_IS_SELF = ("migrate_pages", "move_pages", "perf_event_open")
MACHINE = (
    "bpf", "open_by_handle_at", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
)  # fmt: skip
"""Calls that name no process and reach beyond the function."""
TRACEME = 0  # PTRACE_TRACEME of linux/ptrace.h: the request that ignores the pid
SET_PTRACER = 0x59616D61  # PR_SET_PTRACER of linux/prctl.h
DEEPEST = 64
"""Generations below the supervisor that are looked through."""


def aim(syscall: str, args: Sequence[int], task: Task, root: int) -> str:
    """SELF, CHILD or OTHER; `root` is the process below which the function's tree stands, itself no part of it.

    A call that names no process counts as one at its own process, unless it reaches the machine.
    """
    if syscall in MACHINE:
        return OTHER
    if syscall in PIDFDS:
        pid = _pidfd(task.tid, args[PIDFDS[syscall]] & arguments.LOW)
        return whom(pid, task, root)
    if syscall not in PROCESSES or (syscall == "ptrace" and args[0] == TRACEME):
        return SELF
    if syscall == "prctl" and args[0] & arguments.LOW != SET_PTRACER:
        return SELF
    zero = syscall in ZERO_IS_SELF
    pids = [args[at] & arguments.LOW for at in PROCESSES[syscall]]
    found = {SELF if zero and not pid else whom(pid, task, root) for pid in pids}
    return OTHER if OTHER in found else CHILD if CHILD in found else SELF


def is_child(pid: int, task: Task) -> bool:
    """Whether a process is the child of the task's own; its number is its own until the task's process reaps it."""
    process, parent = _status(pid)
    return process == pid and parent == task.process()


def whom(pid: int, task: Task, root: int, *, attendant: int = 0) -> str:
    """SELF, CHILD or OTHER for the number of a process or thread; orphans may stand below an `attendant`, too."""
    process, parent = _status(pid)
    if not process:
        return OTHER
    if process == task.process():
        return SELF
    above = {root, attendant or root}
    for _ in range(DEEPEST):
        if process in above:
            return OTHER
        if parent in above:
            return CHILD
        process, parent = _status(parent)
        if not process:
            return OTHER
    return OTHER


def _status(tid: int) -> tuple[int, int]:
    """The process of a thread and that process's parent, (0, 0) where there is none (man 5 proc_pid_status)."""
    process = parent = 0
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Tgid:"):
                    process = int(line.split()[1])
                elif line.startswith(b"PPid:"):
                    parent = int(line.split()[1])
                    break
    except OSError:
        return 0, 0
    return process, parent


def _pidfd(tid: int, fd: int) -> int:
    """The process of a pidfd in a task's table; 0 for any other descriptor."""
    try:
        with open(f"/proc/{tid}/fdinfo/{fd}", "rb") as file:
            for line in file:
                if line.startswith(b"Pid:"):
                    return max(0, int(line.split()[1]))
    except OSError:
        pass
    return 0
