"""Observations in a container's log: written so that they survive there, and looked for among the lines of others.

Standard error is shared with the program, and a log is cut: at the front by rotation, at the back by a kill. So lines
stay below what a pipe takes in one piece, and what is known is told again in growing intervals. A file that
SANDBOX_OBSERVATIONS names is nobody else's, and gets each line once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import time
from collections.abc import Iterator

from sandbox.errors import UsageError
from sandbox.learn.records import OURS, Again, DeniedCall, End, NewFact, NewItem, Part, Record, SoFar, Span, Start
from sandbox.learn.records import encode as encoded

FIRST, LONGEST = 60.0, 3600.0
"""Seconds until a log is told everything again: after the first, doubled each time, up to the longest."""
ITEMS, FACTS = 100, 250
"""How many of them the line of a span names: 4096 bytes (PIPE_BUF, man 7 pipe) are one piece, whoever else writes."""
PATIENCE = 10.0
"""Seconds for a reader of a full pipe: the program can have made it non-blocking, as libuv does, and it says EAGAIN."""
LEARNING = "LEARNING: NOTHING IS ENFORCED but the hard deny"
_ESCAPED = re.compile(re.escape(OURS.replace(b'"', b'\\"')) + rb'[^"\\]*+(?:\\.[^"\\]*+)*+(?=")')
"""From a line of ours on to the end of the string, in a log that keeps lines as strings of JSON, however deep."""


class ObservationLog:
    """Where the lines go: one write each, so that lines of several writers do not mix."""

    def __init__(self, path: str, function: str) -> None:
        """Raises UsageError for a file that cannot be written; '' is standard error."""
        try:
            # Our own copy of standard error: the handler may close or redirect its own.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o644) if path else os.dup(2)
        except OSError as error:
            raise UsageError(
                f"cannot be written: {error.strerror}", where=f"SANDBOX_OBSERVATIONS={path}", todo="name another file"
            ) from error
        self._shared = not path
        self._name = function or "NAME"
        self._environment = os.urandom(4).hex()
        self._lost = False
        self._start: Start | None = None
        self._known: dict[NewItem | NewFact | DeniedCall, None] = {}
        self._began = time.monotonic()
        self._interval = FIRST
        self._due = self._began + FIRST

    def emit(self, record: Record) -> None:
        """Write a record. A place that is full or gone costs the rest of the observation, never the function."""
        match record:
            case Start() if self._shared:
                self._start = record
                self._say(f"{LEARNING}; what the program does is written here, for `sandbox learn {self._name} --from`")
            case NewItem() | NewFact() | DeniedCall(_, "run", _) if self._shared:
                self._known[record] = None
            case Span() | SoFar():
                parts, record = _split(record)
                for part in parts:
                    self._line(part)
        self._line(record)
        if isinstance(record, End) and self._shared:
            self._say(f"ended; the profile: docker logs CONTAINER 2>&1 | sandbox learn {self._name} --from -")

    def timeout(self) -> float | None:
        """Seconds until `again` has something to do; None for never."""
        return max(0.0, self._due - time.monotonic()) if self._shared else None

    def again(self) -> bool:
        """Write what is known once more, where it is time to; whether what happened so far should follow."""
        now = time.monotonic()
        if not self._shared or now < self._due:
            return False
        self._interval = min(2 * self._interval, LONGEST)
        self._due = now + self._interval
        self._say(f"{LEARNING}, for {(now - self._began) / 60:.0f} min now")
        if self._start:
            self._line(Again(self._start))
        for record in self._known:
            self._line(record)
        return True

    def _say(self, text: str) -> None:
        self._write(f"sandbox: {text}\n".encode())

    def _line(self, record: Record) -> None:
        self._write(encoded(record, self._environment, time.time()))

    def _write(self, line: bytes) -> None:
        end = time.monotonic() + PATIENCE
        try:
            while line and not self._lost:
                try:
                    line = line[os.write(self._fd, line) :]
                except BlockingIOError:
                    self._wait(end)
        except OSError as error:
            self._lost = True
            with contextlib.suppress(OSError):
                os.write(2, f"sandbox: the observations end here: {error.strerror}\n".encode())

    def _wait(self, end: float) -> None:
        """Until there is room. Raises OSError at the end of our patience."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _split(span: Span | SoFar) -> tuple[list[Part], Span | SoFar]:
    """What is told before a span, so that its own line does not get too long, and the rest of it."""
    parts, items, facts = [], sorted(span.items.items()), sorted(span.facts)
    while len(items) > ITEMS:
        parts.append(Part(dict(items[:ITEMS])))
        items = items[ITEMS:]
    while len(facts) > FACTS:
        parts.append(Part({}, frozenset(facts[:FACTS])))
        facts = facts[FACTS:]
    return parts, span._replace(items=dict(items), facts=frozenset(facts))


def ours(line: bytes) -> Iterator[bytes]:
    """What may be lines of ours in a line of a log: behind its prefix, one another, or in strings of its JSON."""
    start = line.find(OURS)
    if start < 0 and line.lstrip().startswith(b"{"):
        yield line
    if start < 0:
        for string in _ESCAPED.findall(line):
            with contextlib.suppress(ValueError):
                text = str(json.loads(b'"' + string + b'"'))
                for one in text.encode("utf-8", "surrogatepass").splitlines():
                    yield from ours(one)
    while start >= 0:
        following = line.find(OURS, start + 1)
        yield line[start : following if following >= 0 else len(line)]
        start = following
