"""What can be opened of a process only as long as it lets itself be looked at: its memory, its mappings, and its names.

A process that makes itself undumpable (man 2 prctl, PR_SET_DUMPABLE) shows nothing of this any more to a supervisor
without CAP_SYS_PTRACE. What was opened before goes on reading, until an exec.
"""

from __future__ import annotations

import os

from sandbox.kernel.memory import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader
    from typing import Final


class Early:
    """One process, two descriptors: opened at its first notified call, before anybody asks whose a call is."""

    __slots__ = ("_maps", "memory", "pid", "program", "shares")

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self.memory: Final = Memory(pid)
        self._maps = -1
        self.program = ""
        """The path of what it runs; '' where it is not shown."""
        self.shares = False
        """Whether it has our root, so that its paths are ours."""
        try:
            self._maps = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
            self.program = os.readlink(f"/proc/{pid}/exe")
            self.shares = os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
        except OSError:
            return

    def maps(self) -> BufferedReader:
        """A file of its mappings as they are now, with none behind an exec. Raises OSError."""
        os.lseek(self._maps, 0, os.SEEK_SET)
        return os.fdopen(os.dup(self._maps), "rb")

    @property
    def hidden(self) -> bool:
        """Whether it shows itself no more."""
        try:
            os.readlink(f"/proc/{self.pid}/root")
        except PermissionError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Give the descriptors back; the object can be closed twice."""
        self.memory.close()
        if self._maps >= 0:
            os.close(self._maps)
            self._maps = -1
