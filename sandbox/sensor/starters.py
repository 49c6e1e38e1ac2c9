"""Who started a program: whose call its exec was, for the calls of the program and of those that it starts.

A program behind an exec has nothing of its starter in its memory. So what was read while the exec waited is remembered,
with the moment at which the process was made: another process with its number is another's.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.violations.origin import Origin

MOST = 256
"""Processes that are remembered; of more the first is forgotten."""
MOST_LEVELS = 16
"""Processes above one that are looked at."""
PARENT, BORN = 1, 19
"""Fields of /proc/PID/stat behind the name: ppid and starttime (man 5 proc_pid_stat)."""


class Starters:
    """Remembers them. Not for several threads."""

    __slots__ = ("_known", "_own")

    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, Origin]] = {}
        self._own = os.getpid()

    def note(self, pid: int, origin: Origin) -> None:
        """What a process runs from now on, `origin` has started."""
        fields = _stat(pid)
        if not fields:
            return
        self._known.pop(pid, None)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[pid] = fields[BORN], origin

    def of(self, pid: int) -> Origin | None:
        """Who started what a process runs, or what the nearest process above it runs of which that is known."""
        if not self._known:
            return None
        for _ in range(MOST_LEVELS):
            if pid in (0, 1, self._own):
                return None
            fields = _stat(pid)
            if not fields:
                return None
            known = self._known.get(pid)
            if known and known[0] == fields[BORN]:
                return known[1]
            pid = int(fields[PARENT])
        return None


def parent(pid: int) -> int:
    """The process above another; 0 where it has ended."""
    fields = _stat(pid)
    return int(fields[PARENT]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    """The fields behind the name; [] where the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(1 << 12).rpartition(b")")[2].split()
    except OSError:
        return []
    return fields if len(fields) > BORN and fields[PARENT].isdigit() else []
