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

MOST = 4
"""Processes of which memory is open: a function with its children; of more, the one that was asked first is closed."""
MOST_WITHOUT = 8
"""Processes without Python that are remembered, with one descriptor each."""
SIZES = (0, 3, 5)
"""The fields of statm that change with a mapping or an exec: all of it, the program's text, and data with stacks."""


class PythonProcess:
    """One process that runs Python: its memory, and the reader of its stacks."""

    __slots__ = ("memory", "stack")

    def __init__(self, pid: int, deadline: float) -> None:
        """Raises Unreadable where it runs no Python that can be read."""
        self.memory = Memory(pid)
        try:
            self.stack = Stack(self.memory, *runtime.locate(pid, self.memory, deadline))
        except BaseException:
            self.memory.close()
            raise


class _Without:
    """One process in which no Python can be read, and why; as long as its memory has the same sizes."""

    __slots__ = ("_fd", "_sizes", "why")

    def __init__(self, fd: int, sizes: tuple[bytes, ...], why: str) -> None:
        self._fd = fd
        self._sizes = sizes
        self.why = why

    def holds(self) -> bool:
        """Whether it is still so: the descriptor stays with the process, and another one with its number has others."""
        return _sizes(self._fd) == self._sizes

    def close(self) -> None:
        os.close(self._fd)


class Processes:
    """Remembers some. Not for several threads."""

    __slots__ = ("_known", "_without")

    def __init__(self) -> None:
        self._known: dict[int, PythonProcess] = {}
        self._without: dict[int, _Without] = {}

    def known(self, pid: int) -> PythonProcess | None:
        """One that was read before, by now perhaps another program. Raises Unreadable for one that runs no Python."""
        without = self._without.get(pid)
        if without:
            if without.holds():
                raise Unreadable(without.why)
            self._without.pop(pid).close()
        return self._known.get(pid)

    def opened(self, pid: int, deadline: float) -> PythonProcess:
        """One to read, for the caller to close or to hand to `keep`. Raises Unreadable where it runs no Python."""
        try:
            fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            fd = -1
        sizes = _sizes(fd)  # before its mappings are read: what is mapped meanwhile is a change
        try:
            process = PythonProcess(pid, deadline)
        except Unreadable as error:
            if sizes and time.monotonic() <= deadline:
                if len(self._without) >= MOST_WITHOUT:
                    self._without.pop(next(iter(self._without))).close()
                self._without[pid] = _Without(fd, sizes, str(error))
                fd = -1
            raise
        finally:
            if fd >= 0:
                os.close(fd)
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
        for without in self._without.values():
            without.close()
        self._without.clear()


def _sizes(fd: int) -> tuple[bytes, ...]:
    """The SIZES of a process's memory, in pages; () where it has ended."""
    try:
        fields = os.pread(fd, 256, 0).split()
    except OSError:
        return ()
    return tuple(fields[index] for index in SIZES) if len(fields) > max(SIZES) else ()
