"""From observations to a profile: pure, and independent of the order of cold starts."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandbox.behaviour import anomaly
from sandbox.behaviour.call import Call
from sandbox.learn import attribution, executables, rights
from sandbox.learn.cold_starts import ColdStart, Item, Sample
from sandbox.learn.leave_one_out import LeaveOneOut, in_order
from sandbox.learn.novel_users import novel_users
from sandbox.learn.proposal import accept
from sandbox.learn.records import Start
from sandbox.learn.rights import Thing
from sandbox.profile import base, circumstances
from sandbox.profile.folding import listed
from sandbox.profile.model import (
    AIMS,
    PHASES,
    Aim,
    Estimate,
    Phase,
    Profile,
    ProfiledFunction,
    Tolerated,
    Training,
    Use,
)
from sandbox.profile.promises import promises_of
from sandbox.violations.reader import LATEST


@dataclass(frozen=True)
class Learned:
    """A profile, and what the function was refused in training and would have to be granted.

    `survived` are refusals that training went on after, whether the profile tolerates them or not; `fatal` those that
    will end the function, (phase, call).
    """

    profile: Profile
    denied: frozenset[str]
    survived: frozenset[Tolerated] = frozenset()
    fatal: frozenset[tuple[str, str]] = frozenset()
    left_out: LeaveOneOut = field(kw_only=True, compare=False, repr=False)


def widened(learned: Learned, things: Sequence[Thing]) -> Learned:
    """The same with lines that a person accepts, and the estimates as they are with them."""
    wider = accept(learned.profile, things)
    left_out = LeaveOneOut(learned.left_out.cold_starts, wider, things)
    (training,) = wider.trainings
    trainings = frozenset({replace(training, estimates=_estimates(left_out, wider))})
    return replace(learned, profile=replace(wider, trainings=trainings), left_out=left_out)


def generalise(cold_starts: Sequence[ColdStart], name: str, *, trusted: bool = True) -> Learned:
    """The profile of what these cold starts did.

    Unless they are `trusted`, as training is and observations from production are not, no refusal is tolerated.
    """
    cold_starts = sorted(cold_starts, key=lambda cold_start: cold_start.id)
    first = cold_starts[0]
    runtime_api = any(cold_start.start.api for cold_start in cold_starts)
    samples = in_order(sample for cold_start in cold_starts for sample in cold_start.samples)
    uses = frozenset(_uses(cold_starts, samples))
    listen = rights.listeners(cold_starts)
    network = rights.network(cold_starts, listen)
    texts: dict[str, set[str]] = {"read": set(), "write": set()}
    for reach, text in (thing for cold_start in cold_starts for _, thing in rights.things(cold_start, listen)):
        texts.setdefault(reach, set()).add(text)
    read, written = listed(texts["read"], texts["write"])
    programs = executables.learned(cold_starts, written)
    profile = Profile(
        function=ProfiledFunction(name, first.start.handler, runtime_api),
        uses=uses,
        processes=programs.paths,
        digests=programs.digests,
        interpreters=programs.interpreters,
        network=network | {"runtime-api"} if runtime_api else network,
        names_receives=frozenset(call for cold_start in cold_starts for call in cold_start.receives),
        reads=read,
        writes=written,
        promises=promises_of(uses),
        listen=listen,
        most=frozenset(_most(samples).items()) if runtime_api else frozenset(),
    )
    profile = replace(
        profile, by=attribution.learned(cold_starts, profile), libraries=attribution.libraries(cold_starts)
    )
    left_out = LeaveOneOut(cold_starts, profile)
    profile = replace(profile, trainings=frozenset({_training(cold_starts, _estimates(left_out, profile))}))
    survived, fatal = _survived(cold_starts, samples)
    if trusted:
        profile = replace(profile, tolerates=survived)
    calls = {Call(syscall, arg_class) for c in cold_starts for _, syscall, arg_class in c.items}
    refused = frozenset(str(call) for call in calls if base.kept_out(call))
    denied = refused.union(*(cold_start.denied for cold_start in cold_starts))
    return Learned(profile, denied, survived, fatal, left_out=left_out)


def _survived(
    cold_starts: Sequence[ColdStart], samples: Sequence[Sample]
) -> tuple[frozenset[Tolerated], frozenset[tuple[str, str]]]:
    """What can be tolerated of the refusals that training survived, and (phase, call) of what ends the function.

    What attacks another's process or the machine is never tolerated (profiles/base/hard-deny.yaml, `terminate`).
    """
    labels: dict[tuple[Phase, str, Aim], set[str]] = {}
    for refusal in (refusal for cold_start in cold_starts for refusal in cold_start.refusals if refusal.survived):
        phase = next((phase for phase in PHASES if phase == refusal.phase), None)
        at = next((at for at in AIMS if at == refusal.at), None)
        if phase and at:
            labels.setdefault((phase, refusal.call, at), set()).add(refusal.label)
    total = {sample.label for sample in samples if sample.kind == "invocation"}
    found, fatal = set(), set()
    for (phase, text, at), seen in labels.items():
        call = Call.parse(text)
        entry = base.kept_out(call)
        if entry is None:
            continue
        if at == "other" and entry.response == "terminate":
            fatal.add((phase, text))
            continue
        events = seen & total
        because = frozenset({_reason(phase, min(events, default=""), len(events), len(total))})
        found.add(Tolerated(phase, *call, at, entry.errno, because))
    return frozenset(found), frozenset(fatal)


def _uses(cold_starts: Sequence[ColdStart], samples: Sequence[Sample]) -> Iterable[Use]:
    counts: dict[Item, int] = dict.fromkeys((i for cold_start in cold_starts for i in cold_start.items), 0)
    labels: dict[str, int] = {}
    events: dict[Item, _Events] = {}
    whose = attribution.of_calls(cold_starts)
    for sample in samples:
        number = labels.setdefault(sample.label, len(labels)) if sample.kind == "invocation" else -1
        for item, count in sample.items.items():
            counts[item] = counts.get(item, 0) + count
            if number >= 0:
                events.setdefault(item, _Events()).add(number, sample.label)
    for (phase, syscall, arg_class), count in counts.items():
        if base.kept_out(Call(syscall, arg_class)):
            continue  # whoever wrote the observations
        seen = events.get((phase, syscall, arg_class), _NO_EVENTS)
        by, function = whose.get((phase, syscall, arg_class), (frozenset(), ""))
        because = _reason(phase, seen.first or "", seen.count(), len(labels)) + (f", by {function}" if function else "")
        is_dangerous = base.find(base.dangerous(), Call(syscall, arg_class))
        yield Use(phase, syscall, arg_class, count, frozenset({because}), by if is_dangerous else frozenset())


def _most(samples: Sequence[Sample]) -> Mapping[str, int]:
    """The most that one invocation connected and started, and left behind."""
    found: dict[str, int] = {}
    for sample in samples:
        if sample.kind != "invocation":
            continue
        made = {anomaly.CONNECTS: 0, anomaly.PROGRAMS: 0, **sample.left}
        for (_, syscall, _), count in sample.items.items():
            sort = anomaly.COUNTED.get(syscall)
            if sort:
                made[sort] += count
        for sort, count in made.items():
            found[sort] = max(count, found.get(sort, 0))
    return found


class _Events:
    """In which events an item was: a bit for each, since there may be a million events and a thousand items."""

    __slots__ = ("_bits", "first")

    def __init__(self) -> None:
        self.first: str | None = None
        self._bits = bytearray()

    def add(self, number: int, label: str) -> None:
        """Take one in."""
        if number >> 3 >= len(self._bits):
            self._bits.extend(bytes((number >> 3) + 1 - len(self._bits)))
        self._bits[number >> 3] |= 1 << (number & 7)
        self.first = label if self.first is None else min(self.first, label)

    def count(self) -> int:
        """How many."""
        return int.from_bytes(self._bits, "little").bit_count()


_NO_EVENTS = _Events()


def _reason(phase: str, first: str, seen: int, total: int) -> str:
    """Where an item comes from, in a form that does not depend on the order of events.

    `seen` is in how many events of `total`, `first` the first of their names.
    """
    if phase == "init":
        return "learned at cold start"
    if phase == "run" or not seen:
        return "learned" if phase == "run" else "learned between invocations"
    if seen == total:
        return "learned from every event"
    others = seen - 1
    return f"learned from {first}" + (f" and {others} other{'s' * (others > 1)}" if others else " only")


def _estimates(left_out: LeaveOneOut, profile: Profile) -> tuple[Estimate, ...]:
    users = novel_users(left_out.cold_starts, profile)
    return tuple(replace(one, users=users.get(one.phase, 0.0)) for one in left_out.estimates())


def _training(cold_starts: Sequence[ColdStart], estimates: tuple[Estimate, ...]) -> Training:
    def common(text: Callable[[Start], str]) -> str:
        return ", ".join(sorted({text(cold_start.start) for cold_start in cold_starts} - {""}))

    identity = hashlib.sha256("".join(cold_start.id for cold_start in cold_starts).encode()).hexdigest()[:12]
    return Training(
        id=identity,
        host=common(lambda start: start.host),
        kernel=common(lambda start: start.kernel),
        libc=common(lambda start: start.libc),
        python=common(lambda start: start.python),
        architecture=common(lambda start: start.architecture),
        handler_digest=common(lambda start: start.handler_digest),
        lock_digest=common(lambda start: start.lock_digest),
        estimates=estimates,
        date=_day(sample for cold_start in cold_starts for sample in cold_start.samples),
        tool=common(lambda start: start.version),
        circumstances=circumstances.written({name for c in cold_starts for name in c.circumstances}),
    )


def _day(samples: Iterable[Sample]) -> str:
    """The day (UTC) of the last sample, '' where none says a time that a date can name."""
    times = [sample.time for sample in samples if 0 < sample.time <= LATEST]
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC).date().isoformat() if times else ""
