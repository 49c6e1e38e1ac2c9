"""How many lines a flood of violations gets: the first of each kind, whatever is new, and one summary a second.

The first lines of a kind (call and verdict) pass, repeats among them. Behind those a target that had no line yet gets
one from a bucket that all kinds share and that refills with time; repeats are counted and take nothing from it. So a
harmless library that knocks at one place for ever does not hide the one connection elsewhere, and who invents targets
without end gets no more lines than the bucket holds. The counts are exact at any time.

Pure: the clock is an argument, in seconds of any steady clock.
"""

from __future__ import annotations

from sandbox.behaviour.call import Call
from sandbox.plain_json import encode
from sandbox.violations.record import counted_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Key = tuple[str, str, str]

FIRST = 20
EVERY = 1.0
KINDS = 256
"""Kinds that are told apart. Who floods with classes of their own making (ioctl requests) shares one kind a syscall."""

OTHERS = "*"
"""The class of all further kinds."""

ROOM = 3000
"""Bytes of counts in one summary, so that the line fits with everything around them."""

NEW = 20
"""Lines at once for new targets of kinds that have had their first ones."""
REFILL = 1.0
"""Such lines that are added a second."""
TARGETS = 1024
"""Accesses that are remembered as told; the one that was told first is forgotten first, and is new again."""


def key_text(key: Key) -> str:
    """`openat create: denied`, as a summary writes the kind."""
    syscall, arg_class, verdict = key
    return counted_as(Call(syscall, arg_class), verdict)


class RateLimit:
    """Counts violations by (syscall, class, verdict). Not for several threads.

    Lines that pass, plus the counts of all summaries, are the exact number of violations at any time.
    """

    __slots__ = (
        "_due", "_every", "_filled", "_first", "_kinds", "_new", "_pending", "_tokens", "_told", "_totals",
    )  # fmt: skip

    def __init__(self, first: int = FIRST, every: float = EVERY, kinds: int = KINDS, new: int = NEW) -> None:
        self._first = first
        self._every = every
        self._kinds = kinds
        self._new = new
        self._tokens = float(new)
        self._filled: float | None = None
        self._told: dict[int, None] = {}
        self._totals: dict[Key, int] = {}
        self._pending: dict[Key, int] = {}
        self._due: float | None = None

    def take(self, syscall: str, arg_class: str, verdict: str, now: float, target: str = "") -> bool:
        """Count one violation; True when it gets a line of its own. `target` is what it reaches, '' for nothing."""
        key, before = self._counted(syscall, arg_class, verdict)
        access = hash((key, target))  # the texts are the function's, and as long as it likes
        if before < self._first or (access not in self._told and self._has_token(now)):
            self._tell(access)
            return True
        self._leave(key, now)
        return False

    def count(self, syscall: str, arg_class: str, verdict: str, now: float, *, line: bool) -> None:
        """Count one violation of which somebody else decided whether it gets a line."""
        key, _ = self._counted(syscall, arg_class, verdict)
        if not line:
            self._leave(key, now)

    def _counted(self, syscall: str, arg_class: str, verdict: str) -> tuple[Key, int]:
        """The kind of a violation that is counted now, and how many of it there were."""
        key = (syscall, arg_class, verdict)
        total = self._totals.get(key)
        if total is None:
            if len(self._totals) >= self._kinds:
                key = (syscall, OTHERS, verdict)
            total = self._totals.get(key, 0)
        self._totals[key] = total + 1
        return key, total

    def _leave(self, key: Key, now: float) -> None:
        """To the next summary."""
        self._pending[key] = self._pending.get(key, 0) + 1
        if self._due is None:
            self._due = now + self._every

    def _tell(self, access: int) -> None:
        self._told[access] = None
        if len(self._told) > TARGETS:
            del self._told[next(iter(self._told))]

    def _has_token(self, now: float) -> bool:
        """Take a token of the shared bucket, if there is one."""
        if self._filled is not None:
            self._tokens = min(float(self._new), self._tokens + REFILL * max(0.0, now - self._filled))
        self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    @property
    def due(self) -> float | None:
        """When the next summary is to be written; None when there is nothing to say."""
        return self._due

    def summary(self, now: float) -> Mapping[Key, int]:
        """What was counted without a line since the last summary, as much as fits one line; empty when none is due."""
        if self._due is None or now < self._due:
            return {}
        return self.flush(now)

    def flush(self, now: float) -> Mapping[Key, int]:
        """The same, due or not. What does not fit stays for the next."""
        taken = next(_lines(self._pending), {})
        for key in taken:
            del self._pending[key]
        self._due = now + self._every if self._pending else None
        return taken

    def give_back(self, counts: Mapping[Key, int], now: float) -> None:
        """Count again what a summary said that could not be written."""
        for key, count in counts.items():
            self._pending[key] = self._pending.get(key, 0) + count
        if self._pending:
            self._due = now + self._every

    def miss(self, syscall: str, arg_class: str, verdict: str, now: float) -> None:
        """Count for the next summary a violation that has a line of its own, which was lost."""
        key = (syscall, arg_class, verdict)
        self._leave(key if key in self._totals else (syscall, OTHERS, verdict), now)

    @property
    def total(self) -> int:
        """How many violations there were."""
        return sum(self._totals.values())

    def totals(self) -> Iterator[Mapping[Key, int]]:
        """All that was ever counted, in parts that fit one line each."""
        return _lines(self._totals)


def _lines(counts: Mapping[Key, int]) -> Iterator[dict[Key, int]]:
    part: dict[Key, int] = {}
    size = 0
    for key, count in counts.items():
        more = len(encode({key_text(key): count}))
        if part and size + more > ROOM:
            yield part
            part, size = {}, 0
        part[key] = count
        size += more
    if part:
        yield part
