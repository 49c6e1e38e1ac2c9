"""The estimate: would the profile that the other events give have allowed this event?

Only an event that reached something no other did can be one that they do not allow. For these, what the others give is
generalised again, without what was reached in this event alone, and asked (learn/allowed.py). All repeats of an event
are left out together. The samples of the init phase and of plain programs are their starts; what a restart needs
belongs to the profile in any case, since it is no start like the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TypeVar

from sandbox.behaviour import destination
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import Cover, check, covers
from sandbox.errors import ProfileError
from sandbox.learn import rights
from sandbox.learn.allowed import Allowed
from sandbox.learn.cold_starts import ColdStart, Item, Sample
from sandbox.learn.records import Fact, Program
from sandbox.learn.rights import Thing
from sandbox.policy.rules import refused_quietly, relatives
from sandbox.policy.supervision import outlasts_init
from sandbox.profile import base
from sandbox.profile.circumstances import RESTARTED
from sandbox.profile.completeness import estimate
from sandbox.profile.folding import Folding, shortened
from sandbox.profile.model import PHASES, Estimate, Phase, Profile, Use

PHASE_OF: dict[str, Phase] = {"init": "init", "invocation": "invoke", "run": "run"}

Need = Thing | tuple[Phase, Call]
"""What an event needs: a thing, or a call in a phase."""
_Listed = dict[Fact, list[Thing]]
"""The facts of one cold start, with what a profile lists of each."""
_T = TypeVar("_T")

ONE_BY_ONE = 32
"""Up to so many events are left out by themselves; of more the half, and of what it does not allow the half again."""
LISTED = frozenset({"/dev/null"})
"""What every profile that lists files may read."""
MOST_WORK = 400_000
"""Paths and lines that are looked at anew in all; what is not settled by then counts as not allowed."""


@dataclass(eq=False, slots=True)
class Event:
    """All repeats of one event, or one start. `gives` is what it makes a profile allow, `needs` what it asks for.

    Each is there once. They are tuples, because there may be a million events, and a set takes ten times the memory.
    """

    phase: Phase
    label: str
    needs: tuple[Need, ...] = ()
    gives: tuple[Need, ...] = ()


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """In the order of time; equal times must not leave the order to chance."""
    return _in_order(samples, lambda sample: sample)


def _in_order(things: Iterable[_T], sample_of: Callable[[_T], Sample]) -> list[_T]:
    def moment(one: _T) -> tuple[float, str, str, str]:
        sample = sample_of(one)
        return sample.time, sample.kind, sample.label, sample.outcome

    found: list[_T] = []
    for _, equal in groupby(sorted(things, key=moment), moment):
        several = list(equal)
        if len(several) > 1:  # only then is a key of all items worth its memory
            several.sort(key=lambda one: sorted(sample_of(one).items.items()))
        found += several
    return found


class LeaveOneOut:
    """The events of some cold starts, and the `profile` that they give.

    `accepted` holds lines that a person wants in any case. `work` is what was looked at anew so far (see MOST_WORK).
    """

    def __init__(
        self, cold_starts: Sequence[ColdStart], profile: Profile, accepted: Sequence[Thing] = (), *,
        one_by_one: int = ONE_BY_ONE,
    ) -> None:  # fmt: skip
        self.work = 0
        self.rounds = 0
        self.cold_starts = cold_starts
        self._profile = profile
        self._accepted: dict[str, frozenset[str]] = {
            reach: frozenset(thing.text for thing in accepted if thing.reach == reach)
            for reach in ("read", "write", "network", "listen")
        }
        self._one_by_one = one_by_one
        self._always: set[Need] = set()
        self._items: dict[Item, tuple[tuple[Need, ...], tuple[Need, ...]]] = {}
        self._things: dict[Thing, Thing] = {}
        self._tuples: dict[frozenset[Need], tuple[Need, ...]] = {}
        self.events = self._collected()
        self._holders = Counter(need for event in self.events for need in event.gives)
        # What no profile can hold (a path through `..`) is allowed by none.
        known = {need for need in (*self._always, *self._holders) if isinstance(need, Thing) and _is_listable(need)}
        self._programs = frozenset(thing.text for thing in known if thing.reach == "exec")
        self._by_content = {
            line: {program for program in self._programs if covers(line, program)}
            for line in profile.processes if "*" in line
        }  # fmt: skip
        """The lines for random paths, whose programs are told by their content: what such a program is listed by."""
        self._reads = Folding(thing.text for thing in known if thing.reach == "read")
        self._writes = Folding(thing.text for thing in known if thing.reach == "write")
        self._units: dict[Need, Need] = {}
        self._alone: dict[Event, set[Need]] = {}
        for event in self.events:
            if alone := {need for need in event.needs if self._holders[need] == 1 and need not in self._always}:
                self._alone[event] = alone
        """What no other event makes the profile allow."""
        self._whole = Allowed(self._without(frozenset()))

    def _collected(self) -> list[Event]:
        """The events in the order of time. What no event holds, and what came after the last one, is always there."""
        taken: list[tuple[Sample, _Listed, bool]] = []
        for cold_start in self.cold_starts:
            listed = {
                fact: [self._things.setdefault(thing, thing) for thing in things]
                for fact, things in _listed(cold_start, self._profile).items()
            }
            restarted = RESTARTED in cold_start.circumstances
            taken += [(sample, listed, restarted) for sample in cold_start.samples]
            reached = frozenset[Fact]().union(*(sample.facts for sample in cold_start.samples))
            self._always.update(thing for fact, things in listed.items() if fact not in reached for thing in things)
            called = {item for sample in cold_start.samples for item in sample.items}
            for where, syscall, arg_class in cold_start.items - called:
                self._always.update(self._given(where, Call(syscall, arg_class)))
        events: dict[tuple[Phase, str], Event] = {}
        for number, (sample, listed, restarted) in enumerate(_in_order(taken, lambda one: one[0])):
            phase = PHASE_OF.get(sample.kind)
            if phase is None or (phase == "init" and restarted):  # no start like the others: it finds what they left
                self._take(sample, listed, apart := Event(phase or "invoke", ""))
                self._always.update(apart.gives)
                continue
            label = sample.label if phase == "invoke" and sample.label else str(number)
            self._take(sample, listed, events.setdefault((phase, label), Event(phase, sample.label)))
        return list(events.values())

    def _take(self, sample: Sample, listed: _Listed, event: Event) -> None:
        """Add a sample to its event."""
        gives, needs = set(event.gives), set(event.needs)
        for item in sample.items:
            given, needed = self._of_item(item)
            gives.update(given)
            needs.update(needed)
        for fact in sample.facts:
            things = [thing for thing in listed.get(fact, ()) if thing.text != destination.RUNTIME_API]
            gives.update(things)
            needs.update(things)
        event.gives, event.needs = self._once(gives), self._once(needs)

    def _once(self, needs: set[Need]) -> tuple[Need, ...]:
        """Them, in the one tuple of all events that have the same."""
        return self._tuples.setdefault(frozenset(needs), tuple(needs))

    def _of_item(self, item: Item) -> tuple[tuple[Need, ...], tuple[Need, ...]]:
        """What a call of a phase makes a profile allow, and what it asks for: each object once."""
        found = self._items.get(item)
        if found is None:
            phase, call = item[0], Call(*item[1:])
            needed: tuple[Need, ...] = () if self._is_free(call) else ((phase, call.as_compared()),)
            found = self._items[item] = tuple(self._given(phase, call)), needed
        return found

    def _is_free(self, call: Call) -> bool:
        """Whether every profile of this function allows a call, or refuses it as training did."""
        if base.kept_out(call) or base.find(self._refused_quietly, call):
            return True
        call = call.as_compared()
        return call in self._floor or Call(call.syscall) in self._floor

    @cached_property
    def _refused_quietly(self) -> tuple[base.BaseEntry, ...]:
        return refused_quietly(self._profile)

    @cached_property
    def _floor(self) -> frozenset[Call]:
        entries = (*base.floor(), *(base.runtime_client() if self._profile.function.runtime_api else ()))
        return frozenset(
            call for entry in entries for arg_class in entry.classes or ("",)
            for call in _closed(Call(entry.syscall, arg_class))
        )  # fmt: skip

    @staticmethod
    def _given(phase: Phase, call: Call) -> Iterable[Need]:
        """What a call of a phase makes the profile allow: the same elsewhere, and in the init phase too."""
        phases: tuple[Phase, ...] = ("init", "invoke") if phase == "invoke" else (phase,)
        if phase == "init" and outlasts_init(Use(phase, *call)):
            phases = ("init", "invoke")
        return [(where, known) for known in _closed(call.as_compared()) for where in phases]

    def estimates(self) -> tuple[Estimate, ...]:
        """Completeness of each phase that has samples."""
        novel = self.novel()
        found = []
        for phase in PHASES:
            events = [event for event in self.events if event.phase == phase]
            if events:
                units = ({*map(self._unit, event.needs)} for event in events)
                found.append(estimate(phase, units, sum(event in novel for event in events), self._quiet(events)))
        return tuple(found)

    def novel(self) -> dict[Event, frozenset[Need]]:
        """The events that the others do not allow, each with what is refused of it, as far as that was asked."""
        return self._novel

    @cached_property
    def _novel(self) -> dict[Event, frozenset[Need]]:
        found: dict[Event, frozenset[Need]] = {}
        pending = []
        for event, alone in self._alone.items():
            if certain := frozenset(need for need in alone if self._is_certain(need)):
                found[event] = certain
            else:
                pending.append(event)
        if len(pending) <= self._one_by_one:
            chunks = [[event] for event in pending]
        else:
            for event in pending:
                if single := frozenset(need for need in self._alone[event] if self._is_single(need)):
                    found[event] = single
            chunks = [[event for event in pending if event not in found]]
        while chunks:
            chunk = chunks.pop()
            alone = set[Need]().union(*(self._alone[event] for event in chunk))
            refused = self._refused(alone, alone)
            bad = [event for event in chunk if self._alone[event] & refused]
            if len(chunk) == 1 or self.work > MOST_WORK:
                found.update((event, frozenset(self._alone[event] & refused)) for event in bad)
            else:
                chunks += _halves(bad)
        return found

    def _is_certain(self, need: Need) -> bool:
        """Whether it does not fold with anything, so that it is refused where nothing else gives it."""
        if not isinstance(need, Thing):
            return True
        folds = need.reach in ("read", "write") or need.text.startswith("unix:/")
        return not folds and self._is_single(need)

    def _is_single(self, need: Need) -> bool:
        return not isinstance(need, Thing) or not _is_listable(need) or self._whole.only_by_name(need)

    def _quiet(self, events: Sequence[Event]) -> int:
        """How many of the last events the profile of those before them, and of other phases, would have allowed."""
        own = set(map(id, events))
        elsewhere = self._always.union(*(event.gives for event in self.events if id(event) not in own))
        first: dict[Need, int] = {}
        for number, event in enumerate(events):
            for need in event.gives:
                if need not in elsewhere:
                    first.setdefault(need, number)
        fresh: dict[int, set[Need]] = {}
        for number, event in enumerate(events):
            if number and (needs := {need for need in event.needs if first.get(need) == number}):
                fresh[number] = needs
        pending = list(fresh)
        many = len(pending) > self._one_by_one
        settles = self._is_single if many else self._is_certain
        loud = max((number for number in pending if any(map(settles, fresh[number]))), default=0)
        pending = [number for number in pending if number > loud]
        chunks = [pending] if many else [[number] for number in pending]
        while chunks:
            chunk = chunks.pop()
            if not chunk:
                continue
            asked = set[Need]().union(*(fresh[number] for number in chunk))
            refused = self._refused({need for need, number in first.items() if number >= chunk[0]}, asked)
            bad = [number for number in chunk if fresh[number] & refused]
            if len(chunk) == 1 and bad:
                loud = chunk[0]
                break
            chunks += _halves(bad)
        return len(events) - 1 - loud

    def _refused(self, removed: Collection[Need], asked: Iterable[Need]) -> set[Need]:
        """What of `asked` is not allowed by what is left without `removed`."""
        things = [need for need in asked if isinstance(need, Thing)]
        if self.work > MOST_WORK:
            return set(things)
        self.rounds += 1
        allowed = Allowed(self._without(frozenset(need for need in removed if isinstance(need, Thing))))
        return {thing for thing in things if not _is_listable(thing) or not allowed.allows(thing)}

    def _without(self, removed: frozenset[Thing]) -> Profile:
        """The profile without some things, as far as it is asked here."""
        lists = {}
        for reach, folding in (("read", self._reads), ("write", self._writes)):
            paths = {thing.text for thing in removed if thing.reach == reach}
            lines = folding.without(paths)
            self.work += len(lines) + folding.work(paths)
            lists[reach] = frozenset(shortened(lines)) | self._accepted[reach]
        if not lists["read"] and not lists["write"] and (self._profile.reads or self._profile.writes):
            lists["read"] = LISTED  # a profile of no files at all would limit none
        gone = {reach: {thing.text for thing in removed if thing.reach == reach} for reach in ("network", "listen")}
        network, listen = self._profile.network, self._profile.listen
        if gone["network"] or gone["listen"]:
            left = [
                replace(c, network=c.network - gone["network"], listen=c.listen - gone["listen"])
                for c in self.cold_starts
            ]
            network, listen = rights.network(left, listen) - gone["network"], rights.listeners(left)
            self.work += sum(len(c.network) + len(c.listen) for c in left)
        programs = self._programs - {thing.text for thing in removed if thing.reach == "exec"}
        lines_of_programs = {line for line, covered in self._by_content.items() if covered & programs}
        programs -= set[str]().union(*self._by_content.values())
        return replace(
            self._profile, reads=lists["read"], writes=lists["write"], network=network | self._accepted["network"],
            listen=listen | self._accepted["listen"], processes=programs | lines_of_programs,
        )  # fmt: skip

    def _unit(self, need: Need) -> Need:
        """What counts as one item: a call, or the line of the profile that allows a thing."""
        if not isinstance(need, Thing) or need.reach not in ("read", "write"):
            return need
        if need not in self._units:
            self._units[need] = Thing(need.reach, next(self._lines.of(need.text), need.text))
        return self._units[need]

    @cached_property
    def _lines(self) -> Cover:
        return Cover(self._profile.reads | self._profile.writes)


def _halves(found: list[_T]) -> list[list[_T]]:
    middle = (len(found) + 1) // 2
    return [half for half in (found[:middle], found[middle:]) if half]


def _listed(cold_start: ColdStart, profile: Profile) -> _Listed:
    """Of a program that is told by its content, the content is a thing of its own."""
    contents = {digest for _, digest in profile.digests}
    found: _Listed = {}
    for fact, thing in rights.things(cold_start, profile.listen):
        found.setdefault(fact, []).append(thing)
        if isinstance(fact, Program) and fact.sha256 in contents:
            found[fact].append(Thing("exec", f"content {fact.sha256}"))
    return found


def _is_listable(thing: Thing) -> bool:
    try:
        if thing.reach in ("read", "write", "exec"):
            check(thing.text, "", program=thing.reach == "exec")
    except ProfileError:
        return False
    return True


def _closed(call: Call) -> tuple[Call, ...]:
    return (call, *relatives(call))
