"""The functions of code that a runtime has made, as it lists them for profilers: /tmp/perf-PID.map of Node.

Node writes it with --perf-basic-prof, and each function of its interpreter too with --interpreted-frames-native-stack:
`7fcacefd8000 378 JS:~splitRoot node:fs:2620:33`.
"""

from __future__ import annotations

import os

from sandbox.sensor import files
from sandbox.violations.origin import Frame

LARGEST = 8 << 20
"""Bytes of a list that are read; some 150,000 functions."""
KINDS = (b"JS:", b"LazyCompile:", b"Function:", b"Script:", b"Eval:")
TIERS = "~^*+'"
"""How it was compiled, before its name."""
MOST_PAGES = 16
"""Pages of a function in which it is looked for."""


class PerfMap:
    """One process's list, read on as it grows; by a descriptor, so that it may be removed."""

    __slots__ = ("_at", "_fd", "_pages", "_rest")

    def __init__(self, pid: int) -> None:
        try:
            self._fd = files.opened(pid, f"/tmp/perf-{_own_number(pid)}.map")
        except OSError:
            self._fd = -1
        self._at = 0
        self._rest = b""
        self._pages: dict[int, dict[int, tuple[int, bytes]]] = {}

    @property
    def exists(self) -> bool:
        """Whether there is such a list."""
        return self._fd >= 0

    def frame(self, address: int) -> Frame | None:
        """The function of a script at an address; the file is that of the script, `node:fs` for one of Node's own."""
        self._read_on()
        for start, (size, text) in reversed(self._pages.get(address >> 12, {}).items()):
            if start <= address < start + size:
                return _frame(text.decode("utf-8", "replace"))
        return None

    def close(self) -> None:
        """Give the descriptor back; the object can be closed twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_on(self) -> None:
        if self._fd < 0 or self._at >= LARGEST:
            return
        try:
            data = os.pread(self._fd, LARGEST - self._at, self._at)
        except OSError:
            return
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            words = line.split(b" ", 2)
            if len(words) < 3 or not words[2].startswith(KINDS):
                continue
            try:
                start, size = int(words[0], 16), int(words[1], 16)
            except ValueError:
                continue
            for page in range(start >> 12, min(start + size >> 12, (start >> 12) + MOST_PAGES) + 1):
                known = self._pages.setdefault(page, {})
                known.pop(start, None)
                known[start] = size, words[2]


def _frame(text: str) -> Frame | None:
    """Of `JS:~name /path/script.js:12:3`; a module itself has no name."""
    name, found, place = text.partition(":")[2].lstrip(TIERS).partition(" ")
    file, _, line = place.rpartition(":")[0].rpartition(":")  # of file:line:column
    file = file.removeprefix("file://")
    return Frame(file, name or "<module>", int(line) if line.isdecimal() else 0) if found and file else None


def _own_number(pid: int) -> int:
    """A process's number as it is to itself (man 5 proc_pid_status, NSpid)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        pass
    return pid
