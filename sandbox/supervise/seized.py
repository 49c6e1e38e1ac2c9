"""An exec that stops before its first instruction, so that what really started can be compared.

A look shows which file a path names; by the time of the exec another thread may have changed the path, or another
process the file at it. So the task is made to stop before its call is answered, on the best rung that the host offers:

SEIZED: ptrace (man 2 ptrace) seizes it, which does not cancel the notification. It stands in its exec, where the memory
that named the path is gone (PTRACE_O_TRACEEXEC), and its end is the supervisor's (PTRACE_O_EXITKILL). PTRACE_INTERRUPT
makes it stop as well where the exec fails, so that it never stays traced. The stop comes as a wait status.

STOPPED: SIGSTOP, sent while the call waits. It stays pending where a notification that was received is interrupted only
by what kills (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), and is delivered before the task returns from its exec. Whoever
may send SIGCONT could take it back, and a task that is traced would show it to its tracer. Where the kernel sends that
for the task (a timer, the exit signal of a child), `life` tells that its exec is over.
"""

from __future__ import annotations

import _signal as signal  # the core of signal, loaded anyway; signal itself loads enum
import ctypes
import os
import struct

from sandbox.confine import parent
from sandbox.kernel import abi, seccomp
from sandbox.kernel.memory import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/ptrace.h
_INTERRUPT, _DETACH, _GET_EVENT_MESSAGE = 0x4207, 17, 0x4201
_TRACE_EXEC, _EXIT_KILL = 1 << 4, 1 << 20
_EVENT_EXEC = 4
_AT_RANDOM = 25  # linux/auxvec.h

_DEAD, _UNKNOWN, _LOOKS = "ZXx", "?", 8
RESUMES = "SIGCONT"
_ANY_SIGNAL = "pidfd_send_signal"


def seize(tid: int) -> None:
    """Raises OSError: EPERM where ptrace(2) is refused or the task is traced by another, ESRCH where it is gone."""
    _ptrace(parent.PTRACE_SEIZE, tid, _TRACE_EXEC | _EXIT_KILL)


def interrupt(tid: int) -> None:
    """Make a seized task stop, at the latest when its call fails."""
    _ptrace_if_there(_INTERRUPT, tid)


def is_exec(status: int) -> bool:
    """Whether a wait status says that a seized task stands in its exec."""
    return status >> 16 == _EVENT_EXEC


def former_thread(pid: int) -> int:
    """The thread whose exec a process stands in: another one than its first has taken that one's number by now."""
    message = ctypes.c_ulong(pid)
    _ptrace_if_there(_GET_EVENT_MESSAGE, pid, ctypes.addressof(message))
    return message.value


def release(pid: int, status: int) -> None:
    """Let a task go on that stopped with this wait status; a signal that it stopped for is delivered."""
    _ptrace_if_there(_DETACH, pid, 0 if status >> 16 else os.WSTOPSIG(status))


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    abi.syscall(abi.number("ptrace"), request, pid, 0, data)


def _ptrace_if_there(request: int, pid: int, data: int = 0) -> None:
    try:
        _ptrace(request, pid, data)
    except OSError:
        return


def stops_by_signal(learned: Iterable[str]) -> bool:
    """Whether STOPPED can be relied on: the kernel has the flag, and of these calls none takes a SIGSTOP back."""
    if any(RESUMES in called.split() or called.startswith(_ANY_SIGNAL) for called in learned):
        return False
    return seccomp.knows(seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV)


def stop(process: int, tid: int) -> None:
    """SIGSTOP for one thread, whose stop is that of its process. Raises OSError."""
    abi.syscall(abi.number("tgkill"), process, tid, signal.SIGSTOP)


def resume(process: int) -> None:
    """SIGCONT, also where the stop has not come yet."""
    try:
        os.kill(process, signal.SIGCONT)
    except OSError:
        return


def state(process: int) -> str:
    """The letter of a process (man 5 proc_pid_stat): T where it is stopped; '' where it is gone.

    While another thread execs, the first one of its process is a zombie, and then the other takes its number: so it is
    the letter of one that lives, and what vanishes between two looks is looked for again.
    """
    for _ in range(_LOOKS):
        try:
            threads = os.listdir(f"/proc/{process}/task")
        except OSError:
            return ""
        vanished = False
        for thread in threads:
            try:
                with open(f"/proc/{process}/task/{thread}/stat", "rb") as file:
                    letter = file.read().rpartition(b")")[2].split()[0].decode()
            except (OSError, IndexError):
                vanished = True
                continue
            if letter not in _DEAD:
                return letter
        if not vanished:
            return ""
    return _UNKNOWN


def tracer(tid: int) -> int:
    """Who traces a task; 0 for nobody."""
    try:
        return int(seccomp.read_status(tid).get("TracerPid", "0"))
    except OSError:
        return 0


def auxiliary(pid: int, kind: int) -> int:
    """A value of the auxiliary vector that the kernel gave a program (man 3 getauxval). Raises OSError."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        words = file.read()
    for at in range(0, len(words) - 15, 16):
        found, value = struct.unpack_from("<QQ", words, at)
        if found == kind:
            return int(value)
    raise FileNotFoundError


def life(pid: int) -> bytes:
    """What tells one exec of a process from the next: 16 random bytes of the kernel; b'' where they cannot be read."""
    try:
        memory = Memory(pid)
        try:
            return memory.read(auxiliary(pid, _AT_RANDOM), 16)
        finally:
            memory.close()
    except OSError:
        return b""
