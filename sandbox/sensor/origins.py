"""Whose call it is that waits: one sensor a supervisor, asked when a line is written.

    reading = Sensor().reading(call.pid, process)    # of this call only if it still waits afterwards
    reading.origin, reading.frames

A thread's own stack of Python tells, or without one what is mapped on its native stack. A child that has not begun to
run for itself (vfork, posix_spawn, a fork below an exec) has the memory of its parent, or a copy, and in it the stack
of the thread that started it. What runs behind an exec that was read is of those who started it.
"""

from __future__ import annotations

import os
import time

from sandbox.kernel import abi, tables
from sandbox.sensor import starters
from sandbox.sensor.distributions import Distributions
from sandbox.sensor.offsets import NoThread, Unreadable
from sandbox.sensor.processes import Processes
from sandbox.sensor.reading import Reading
from sandbox.sensor.starters import Starters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.sensor.early import Early
    from sandbox.sensor.native_origin import NativeOrigins
    from sandbox.sensor.processes import PythonProcess
    from sandbox.sensor.stack import Stack
    from sandbox.violations.origin import Origin

PATIENCE = 0.1
"""Seconds that a call waits at most for its origin to be read: the first takes 5 ms, others 0.15, on a busy host more.
"""
NO_PYTHON = (0, 0, 0)
MOST_THREADS = 64
"""Threads of a parent among which the one that made a child is looked for."""
MAKES = ("clone", "clone3", "fork", "vfork")


class Sensor:
    """Reads origins. Not for several threads."""

    def __init__(self, early: Early | None = None) -> None:
        """`early` is what was opened of one process at its first call; it is closed with the sensor."""
        self._early = early
        self._processes = Processes(early)
        self._passing: PythonProcess | None = None
        """One whose memory is read once: open until the next reading."""
        self._distributions = Distributions()
        self._natives: NativeOrigins | None = None
        self._starters = Starters()
        numbers = tables.numbers(abi.MACHINE)
        self._makes = frozenset(numbers[name] for name in MAKES if name in numbers)
        self.unknown = ""
        """Why the last one who runs Python stayed unknown, where it is the version; '' otherwise."""

    def origin(self, tid: int, pid: int) -> Origin | None:
        """Who made the call in which the thread `tid` of the process `pid` waits; None where nobody can tell.

        It is that thread's if the call still waits afterwards (SECCOMP_IOCTL_NOTIF_ID_VALID). Never raises for what the
        process is or holds, and takes PATIENCE at most.
        """
        found = self.reading(tid, pid)
        return found.origin if found else None

    def reading(self, tid: int, pid: int, deadline: float | None = None) -> Reading | None:
        """What the stack of that thread says; None where it cannot be read.

        As `origin`; it ends at `deadline`, a time.monotonic(), and what is read of it later does, too. It can be asked
        for more until the next one is made.
        """
        self.unknown = ""
        if self._passing:
            self._passing.memory.close()
            self._passing = None
        deadline = time.monotonic() + PATIENCE if deadline is None else deadline
        version = NO_PYTHON
        try:
            try:
                return self._of_thread(tid, pid, deadline)
            except NoThread as error:  # what has no Python at all is asked no second time
                version = error.version
                found = self._of_child(pid, deadline)
                if found:
                    self.starts(pid, found)  # that is what it was made for
                    return found
        except Unreadable:
            pass
        origin = None if version > NO_PYTHON else self._starters.of(pid)
        origin = origin or self._of_native(tid, pid, version, deadline)
        return Reading.native(origin) if origin else None

    def starts(self, pid: int, reading: Reading) -> None:
        """Remember that what a process runs next was started by those of a reading of it: it waits in an exec."""
        if reading.origin:
            self._starters.note(pid, reading.origin.starting())

    def close(self) -> None:
        """Give the descriptors back."""
        self._processes.close()
        if self._natives:
            self._natives.close()
        if self._early:
            self._early.close()
        if self._passing:
            self._passing.memory.close()
        self._passing = None

    def _of_thread(self, tid: int, pid: int, deadline: float, *, kept: bool = True) -> Reading:
        try:
            known = self._processes.known(pid)
            if known:
                try:
                    return self._read(known.stack, tid, pid, deadline)
                except NoThread:
                    raise
                except Unreadable:  # another program by now, or another process
                    self._processes.forget(pid)
            process = self._processes.opened(pid, deadline)
        except NoThread:
            raise
        except Unreadable as error:
            self.unknown = str(error)
            raise
        try:
            found = self._read(process.stack, tid, pid, deadline)
        except BaseException:
            process.memory.close()
            raise
        # Memory of a child that another's thread is looked for in is its parent's, and after an exec not its own.
        if kept:
            self._processes.keep(pid, process)
        else:
            self._passing = process
        return found

    def _of_child(self, pid: int, deadline: float) -> Reading | None:
        """By the thread of the parent that made this process, as it stands in the child's own memory."""
        parent = starters.parent(pid)
        if not parent or parent == os.getpid():
            return None
        threads = _threads(parent)
        made = [tid for tid in threads if pid in _children(parent, tid)]
        if not made:  # a kernel without CONFIG_PROC_CHILDREN
            made = [tid for tid in threads if _waits_in(parent, tid) in self._makes]
        return self._of_thread(made[0], pid, deadline, kept=False) if len(made) == 1 else None

    def _of_native(self, tid: int, pid: int, version: tuple[int, int, int], deadline: float) -> Origin | None:
        if self._natives is None:
            from sandbox.sensor.native_origin import NativeOrigins  # a function in Python does without

            self._natives = NativeOrigins(self._distributions)
        return self._natives.of(tid, pid, version, deadline)

    def _read(self, stack: Stack, tid: int, pid: int, deadline: float) -> Reading:
        version, owner, early = stack.layout.version, self._distributions.owner, self._early
        viewer = os.getpid() if early and early.pid == pid and early.shares and early.hidden else tid
        return Reading(stack.activations(tid, deadline), lambda file: owner(viewer, file, version, deadline))


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")[:MOST_THREADS]]
    except OSError:
        return []


def _children(pid: int, tid: int) -> list[int]:
    """The processes that a thread has made (man 5 proc_tid_children)."""
    try:
        with open(f"/proc/{pid}/task/{tid}/children", "rb") as file:
            return [int(word) for word in file.read(1 << 16).split()]
    except OSError:
        return []


def _waits_in(pid: int, tid: int) -> int:
    """The number of the call in which a thread sleeps (man 5 proc_pid_syscall); -1 for none."""
    try:
        with open(f"/proc/{pid}/task/{tid}/syscall", "rb") as file:
            word = file.read(64).split(b" ")[0]
    except OSError:
        return -1
    return int(word) if word.isdigit() else -1
