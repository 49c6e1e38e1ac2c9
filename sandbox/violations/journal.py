"""What a supervisor holds: counts every violation, writes the lines that are due, and closes with the exact totals.

    journal = Journal(Sink(), "thumbnail")
    if journal.wants("execve", "", "denied", "/bin/sh"):
        journal.write(Violation(...))
    poll(timeout=journal.timeout()); journal.tick()
    journal.finish()
"""

from __future__ import annotations

import time

from sandbox.violations.limit import RateLimit, key_text
from sandbox.violations.record import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.violations.limit import Key
    from sandbox.violations.record import Record
    from sandbox.violations.sink import Sink


class Journal:
    """One supervisor's violations, on their way to its sink. Not for several threads."""

    __slots__ = ("_clock", "_function", "_limit", "_sink")

    def __init__(
        self, sink: Sink, function: str, limit: RateLimit | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink = sink
        self._function = function
        self._limit = limit or RateLimit()
        self._clock = clock

    def wants(self, syscall: str, arg_class: str, verdict: str, target: str = "") -> bool:
        """Count one violation; whether it gets a line. Only then is it worth decoding its arguments."""
        return self._limit.take(syscall, arg_class, verdict, self._clock(), target)

    def count(self, syscall: str, arg_class: str, verdict: str, *, line: bool) -> None:
        """Count one violation, for which the caller writes a line or not, however many there were."""
        self._limit.count(syscall, arg_class, verdict, self._clock(), line=line)

    def write(self, record: Record) -> bool:
        """Write the line of a violation that was wanted, or any other; False when the sink lost it."""
        return self._sink.write(record)

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do; None when nothing waits."""
        due = self._limit.due
        return None if due is None else max(0.0, due - self._clock())

    def tick(self) -> None:
        """Write the summary that is due, if one is. A summary that the sink loses is said again in the next one."""
        now = self._clock()
        counts = self._limit.summary(now)
        if counts and not self._say(counts, final=False):
            self._limit.give_back(counts, now)

    def finish(self) -> None:
        """Write what was not said yet, then the totals of everything, marked `final`. Call it once, at the end.

        Where nothing was ever written there is nothing to close.
        """
        now = self._clock()
        while counts := self._limit.flush(now):
            if not self._say(counts, final=False):
                break  # the totals hold it as well
        for counts in list(self._limit.totals()) or ([{}] if self._sink.seq else []):
            self._say(counts, final=True)

    def _say(self, counts: Mapping[Key, int], *, final: bool) -> bool:
        texts: dict[str, int] = {}
        for key, count in counts.items():
            text = key_text(key)
            texts[text] = texts.get(text, 0) + count
        return self._sink.write(Summary(self._function, texts, final=final))
