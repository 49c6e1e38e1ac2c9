"""What observations say, as plain data: cold starts with their samples, and equal values of them once in memory."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from sandbox.learn.records import Fact, Program, SpanKind, Start
from sandbox.profile.model import Phase

Item = tuple[Phase, str, str]
"""(phase, syscall, class)"""


@dataclass(frozen=True)
class Attributed:
    """Who reached a fact, or made a call: the MadeBy of a line, with the thing itself in the place of its id."""

    what: Fact | Item
    by: tuple[str, ...]
    library: str


Reached = Fact | Attributed
_T = TypeVar("_T")
_Apart = tuple[frozenset[Fact], frozenset[Attributed]]


class _Counts(Mapping[Item, int]):
    """Items with their counts, in a quarter of a dict's memory: the items are those of other samples too."""

    __slots__ = ("_counts", "_items")

    def __init__(self, items: tuple[Item, ...], counts: Iterable[int]) -> None:
        self._items = items
        self._counts = tuple(counts)

    def __getitem__(self, item: Item) -> int:
        try:
            return self._counts[self._items.index(item)]
        except ValueError:
            raise KeyError(item) from None

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> ItemsView[Item, int]:
        """As of a dict, and as fast."""
        return dict(zip(self._items, self._counts, strict=True)).items()


class SharedValues:
    """Each value once: environments of one function do the same again and again, and so do their invocations."""

    __slots__ = ("_apart", "_items", "_known")

    def __init__(self) -> None:
        self._known: dict[object, object] = {}
        self._items: dict[frozenset[Item], tuple[Item, ...]] = {}
        self._apart: dict[frozenset[Reached], _Apart] = {}

    def of(self, value: _T) -> _T:
        """The first that was equal to this one."""
        return cast(_T, self._known.setdefault((type(value), value), value))

    def counts(self, items: dict[Item, int]) -> Mapping[Item, int]:
        """Items with their counts."""
        known = self._items.setdefault(frozenset(items), tuple(items))
        return _Counts(known, [items[item] for item in known])

    def apart(self, reached: frozenset[Reached]) -> _Apart:
        """The facts, and who reached some of them."""
        found = self._apart.get(reached)
        if found is None:
            whose = self.of(frozenset(one for one in reached if isinstance(one, Attributed)))
            facts = self.of(frozenset(one for one in reached if not isinstance(one, Attributed)))
            found = self._apart[reached] = facts, whose
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One invocation, or one cold start (`kind` init or run): the items with counts, and how it ended.

    `label` is the event's name where the trainer told it, else the request id: samples with one label are one event.
    `facts` are what was reached in it, and `whose` by which libraries; from a file of format 1 only what came first.
    `left` counts what it left behind (Span), empty where nobody looked.
    """

    kind: SpanKind
    label: str
    outcome: str
    items: Mapping[Item, int]
    time: float
    facts: frozenset[Fact] = frozenset()
    whose: frozenset[Attributed] = frozenset()
    left: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FailedSample:
    """An invocation or initialisation that failed, with the last calls before it."""

    label: str
    last: tuple[str, ...]


@dataclass(frozen=True)
class RefusedCall:
    """A hard-denied call that was refused in a phase, and whom it was aimed at; `label` is as a Sample's, or ''.

    `survived`: the event succeeded all the same, or the start went on.
    """

    phase: str
    call: str
    at: str
    label: str
    survived: bool


@dataclass(frozen=True)
class ColdStart:
    """Everything that was observed of one environment, from its cold start to its end.

    The facts by kind are those of all samples, and what was reached after the last of them. `full`: there were more.
    `circumstances` (names of profile/circumstances.py) are known to whoever served the events. `text` are its lines,
    labels last, where the Reader was asked for them.
    """

    id: str
    source: str
    start: Start
    samples: tuple[Sample, ...] = ()
    failures: tuple[FailedSample, ...] = ()
    items: frozenset[Item] = frozenset()
    network: frozenset[str] = frozenset()
    listen: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    entries: frozenset[str] = frozenset()
    processes: frozenset[Program] = frozenset()
    receives: frozenset[str] = frozenset()
    whose: frozenset[Attributed] = frozenset()
    refusals: frozenset[RefusedCall] = frozenset()
    status: int | None = None
    last: tuple[str, ...] = ()
    full: bool = False
    circumstances: frozenset[str] = frozenset()
    text: bytes = field(default=b"", compare=False, repr=False)

    @property
    def names_facts_of_events(self) -> bool:
        """Whether each sample has all its facts; in format 1 a fact stands in the first of them alone."""
        return self.start.format != 1

    @property
    def denied(self) -> frozenset[str]:
        """The hard-denied calls that were refused."""
        return frozenset(refusal.call for refusal in self.refusals)
