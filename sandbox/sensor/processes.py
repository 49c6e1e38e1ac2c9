"""The processes that a sensor knows: the memory and the stacks of those that run Python, and who runs none.

Where no interpreter was met in a process's mappings, none is until it maps something else or runs another program. So
it is looked for again only where the sizes of its memory have changed (man 5 proc_pid_statm), which is one read.
"""

from __future__ import annotations

import os
import time

from sandbox.kernel.memory import Memory
from sandbox.sensor import runtime
from sandbox.sensor.offsets import Unreadable
from sandbox.sensor.stack import Stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.sensor.early import Early

MOST = 4
"""Processes of which memory is open: a function with its children; of more, the one that was asked first is closed."""
MOST_WITHOUT = 8
"""Processes without Python that are remembered, with one descriptor each."""
SIZES = (0, 3, 5)
"""The fields of statm that change with a mapping or an exec: all of it, the program's text, and data with stacks."""


class PythonProcess:
    """One process that runs Python: its memory, and the reader of its stacks."""

    __slots__ = ("memory", "stack")

    def __init__(self, pid: int, deadline: float, early: Early | None = None) -> None:
        """`early` may be of this process or another. Raises Unreadable where it runs no Python that can be read."""
        early = early if early and early.pid == pid else None
        self.memory = early.memory.duplicate() if early and early.hidden else Memory(pid)
        try:
            self.stack = Stack(self.memory, *runtime.locate(pid, self.memory, deadline, early))
        except BaseException:
            self.memory.close()
            raise


class Sizes:
    """How large a process's memory was: as long as it stays so, nothing else is mapped, and nothing else runs there.

    The descriptor stays with the process, and another one with its number has others.
    """

    __slots__ = ("_fd", "_sizes")

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self._sizes = self._read()

    def hold(self) -> bool:
        """Whether they are the same."""
        return bool(self._sizes) and self._read() == self._sizes

    def close(self) -> None:
        """Give the descriptor back; the object can be closed twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> tuple[bytes, ...]:
        try:
            fields = os.pread(self._fd, 256, 0).split() if self._fd >= 0 else []
        except OSError:  # it has ended
            return ()
        return tuple(fields[index] for index in SIZES) if len(fields) > max(SIZES) else ()


class Processes:
    """Remembers some. Not for several threads."""

    __slots__ = ("_early", "_known", "_without")

    def __init__(self, early: Early | None = None) -> None:
        self._early = early
        self._known: dict[int, PythonProcess] = {}
        self._without: dict[int, tuple[Sizes, str]] = {}

    def known(self, pid: int) -> PythonProcess | None:
        """One that was read before, by now perhaps another program. Raises Unreadable for one that runs no Python."""
        without = self._without.get(pid)
        if without:
            sizes, why = without
            if sizes.hold():
                raise Unreadable(why)
            sizes.close()
            del self._without[pid]
        return self._known.get(pid)

    def opened(self, pid: int, deadline: float) -> PythonProcess:
        """One to read, for the caller to close or to hand to `keep`. Raises Unreadable where it runs no Python."""
        sizes = Sizes(pid)  # before its mappings are read: what is mapped meanwhile is a change
        try:
            process = PythonProcess(pid, deadline, self._early)
        except Unreadable as error:
            if time.monotonic() > deadline:
                sizes.close()
                raise
            if pid in self._without or len(self._without) >= MOST_WITHOUT:
                self._without.pop(pid if pid in self._without else next(iter(self._without)))[0].close()
            self._without[pid] = sizes, str(error)
            raise
        except BaseException:
            sizes.close()
            raise
        sizes.close()
        return process

    def keep(self, pid: int, process: PythonProcess) -> None:
        """Remember one that could be read."""
        if len(self._known) >= MOST:
            self.forget(next(iter(self._known)))
        self._known[pid] = process

    def forget(self, pid: int) -> None:
        """It is another program by now, or another process."""
        process = self._known.pop(pid, None)
        if process:
            process.memory.close()

    def close(self) -> None:
        """Give the descriptors back."""
        for pid in list(self._known):
            self.forget(pid)
        for sizes, _ in self._without.values():
            sizes.close()
        self._without.clear()
