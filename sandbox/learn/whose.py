"""Whose code reaches something in training, as a profile lists it under `by`: read from the waiting thread's stack.

Names are those of distributions as PEP 503 normalises them, `python` for Python's own library where no other is on the
way, and `function` for the function's own code. Nobody's name stands for what cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandbox.violations.library import FUNCTION, named

if TYPE_CHECKING:
    from sandbox.sensor.origins import Sensor
    from sandbox.sensor.reading import Reading
    from sandbox.violations.origin import Origin

TRIES_OF_THREAD, TRIES_OF_PROCESS = 2, 16
"""So often a thread, and a process, may give no stack until it is asked no more: most programs run no Python."""
MOST_KNOWN = 4096
"""Threads and processes of which that is remembered."""
LONGEST = 120
"""Characters of a name in a line, which PIPE_BUF bounds (learn/observation_log.py)."""


class Whose(NamedTuple):
    """The libraries, in order, and the function of the innermost of them; '' where the function's own code calls.

    `libraries` are all on the stack, with their versions.
    """

    by: tuple[str, ...]
    library: str = ""
    libraries: tuple[tuple[str, str], ...] = ()


class Readings:
    """Reads whose calls wait, for one observer. Not for several threads."""

    def __init__(self) -> None:
        self._sensor: Sensor | None = None
        self._failed: dict[int, int] = {}
        self._last: tuple[int, Reading] | None = None

    def read(self, tid: int, pid: int) -> Whose | None:
        """Whose call the thread `tid` of the process `pid` waits in; None where nobody can tell.

        It is that call's only if it still waits afterwards.
        """
        if self._failed.get(tid, 0) >= TRIES_OF_THREAD or self._failed.get(-pid, 0) >= TRIES_OF_PROCESS:
            return None
        if self._sensor is None:
            from sandbox.sensor.origins import Sensor

            self._sensor = Sensor()
        reading = self._sensor.reading(tid, pid)
        self._last = (pid, reading) if reading else None
        if reading and reading.origin and reading.origin.started:
            return of_starter(reading.origin)
        if reading is None or not reading.frames:  # what other runtimes tell is less sure
            if len(self._failed) > MOST_KNOWN:
                self._failed.clear()
            for key in (tid, -pid):
                self._failed[key] = self._failed.get(key, 0) + 1
            return None
        self._failed.pop(-pid, None)
        return whose(reading)

    def becomes(self, pid: int) -> None:
        """The process, whose exec was read last, is about to run another program: whose call that was, started it."""
        self._failed.pop(pid, None)
        self._failed.pop(-pid, None)
        if self._sensor and self._last and self._last[0] == pid:
            self._sensor.starts(*self._last)


def of_starter(origin: Origin) -> Whose | None:
    """Who started the program that makes a call, or the one that started that."""
    name = named(origin.distribution) if origin.library else FUNCTION
    words = [name, *origin.function()[1:]] if origin.library else []
    return Whose((name,), " ".join(word[:LONGEST] for word in words if word)) if name else None


def whose(reading: Reading) -> Whose | None:
    """What a stack says of it; None where only code from a string, or of nobody, is on it."""
    from sandbox.sensor.detectors import marks
    from sandbox.sensor.users import NO_DISTRIBUTION, users

    origin = reading.origin
    by = users(reading)
    if origin is None or not by:
        return None
    by = tuple(sorted({*by, *marks(reading.frames)}))
    words = [named(origin.distribution), *origin.function()[1:]]
    on_stack = {(frame.owner, frame.version) for frame in reading.frames if frame.owner not in NO_DISTRIBUTION}
    libraries = sorted({(named(owner), version[:LONGEST]) for owner, version in on_stack if named(owner)})
    return Whose(by, " ".join(word[:LONGEST] for word in words if word), tuple(libraries))
