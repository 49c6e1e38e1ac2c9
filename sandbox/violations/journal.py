"""What a supervisor holds: counts every violation, writes the lines that are due, and closes with the exact totals.

    journal = Journal(Sink(), "thumbnail")
    journal.begin("enforce", policy.digest)
    if journal.wants("execve", "", "denied", "/bin/sh"):
        journal.write(Violation(...))
    poll(timeout=journal.timeout()); journal.tick()
    journal.finish()
"""

from __future__ import annotations

import time

from sandbox.violations.limit import RateLimit, key_text
from sandbox.violations.record import Beginning, Heartbeat, Summary, Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.violations.limit import Key
    from sandbox.violations.record import Record
    from sandbox.violations.sink import Sink


HEARTBEAT = 5.0
"""Seconds from a signed line to the heartbeat behind it. Who takes lines off the end of a log takes a run's newest
ones, and only a later line shows that they are gone.
"""
PATIENCE = 1.0
"""Seconds that a signed beginning waits for a full sink, and the last lines all together: nobody repeats them, and the
function does not run yet or any more.
"""


class Journal:
    """One supervisor's violations, on their way to its sink. Not for several threads."""

    __slots__ = ("_beat", "_clock", "_function", "_limit", "_sink")

    def __init__(
        self, sink: Sink, function: str, limit: RateLimit | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink = sink
        self._function = function
        self._limit = limit or RateLimit()
        self._clock = clock
        self._beat: float | None = None

    @property
    def signs(self) -> bool:
        """Whether its lines are signed."""
        return self._sink.signs

    def begin(self, mode: str, digest: str) -> None:
        """Write the beginning of a run: of one that is signed, which it proves, and of an audit, whose log is asked
        under which policy nothing was to be refused.
        """
        if self.signs or mode == "audit":
            self._sink.wait(PATIENCE)
            self._sink.write(Beginning(self._function, mode, digest))

    def wants(self, syscall: str, arg_class: str, verdict: str, target: str = "") -> bool:
        """Count one violation; whether it gets a line. Only then is it worth decoding its arguments."""
        return self._limit.take(syscall, arg_class, verdict, self._clock(), target)

    def count(self, syscall: str, arg_class: str, verdict: str, *, line: bool) -> None:
        """Count one violation, for which the caller writes a line or not, however many there were."""
        self._limit.count(syscall, arg_class, verdict, self._clock(), line=line)

    def write(self, record: Record) -> bool:
        """Write the line of a violation that was wanted, or any other; False when the sink lost it.

        A violation whose line is lost is in the next summary.
        """
        now = self._clock()
        if self.signs and self._beat is None:
            self._beat = now + HEARTBEAT
        written = self._sink.write(record)
        if not written and isinstance(record, Violation):
            self._limit.miss(record.syscall, record.arg_class, record.verdict, now)
        return written

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do; None when nothing waits."""
        due = min((due for due in (self._limit.due, self._beat) if due is not None), default=None)
        return None if due is None else max(0.0, due - self._clock())

    def tick(self) -> None:
        """Write the summary and the heartbeat that are due. What the sink loses of them is said again in the next.

        There is one heartbeat behind new lines, however long ago they were: a process that was frozen has no more to
        say than one that was not.
        """
        now = self._clock()
        counts = self._limit.summary(now)
        if counts and not self._say(counts):
            self._limit.give_back(counts, now)
        if self._beat is not None and now >= self._beat:
            told = self._sink.write(Heartbeat(self._function, self._limit.total))
            self._beat = None if told else now + HEARTBEAT

    def finish(self) -> None:
        """Write what was not said yet, then the totals of everything, marked `final`. Call it once, at the end.

        Where nothing was ever written there is nothing to close. A sink that is full is waited for, PATIENCE at most.
        """
        now = self._clock()
        while counts := self._limit.flush(now):
            if not self._say(counts):
                break  # the totals hold it as well
        total = self._limit.total
        for counts in list(self._limit.totals()) or ([{}] if self._sink.seq else []):
            self._sink.wait(now + PATIENCE - self._clock())
            self._sink.write(Summary(self._function, _texts(counts), final=True, total=total))

    def _say(self, counts: Mapping[Key, int]) -> bool:
        return self.write(Summary(self._function, _texts(counts), final=False))


def _texts(counts: Mapping[Key, int]) -> dict[str, int]:
    texts: dict[str, int] = {}
    for key, count in counts.items():
        text = key_text(key)
        texts[text] = texts.get(text, 0) + count
    return texts
