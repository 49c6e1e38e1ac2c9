"""From observations to a profile: pure, and independent of the order of cold starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sandbox.behaviour import destination, listener
from sandbox.behaviour.call import Call
from sandbox.behaviour.destination import ANY_PORT, Entry
from sandbox.behaviour.path import below, literal
from sandbox.kernel import tables
from sandbox.learn.host import TOOL
from sandbox.learn.observations import ColdStart, Item, Sample
from sandbox.learn.records import FORMAT, Start
from sandbox.profile import base
from sandbox.profile.completeness import estimate
from sandbox.profile.folding import changed, listed, named
from sandbox.profile.model import AIMS, PHASES, Estimate, Phase, Profile, ProfiledFunction, Tolerated, Training, Use
from sandbox.profile.promises import promises_of
from sandbox.profile.random_names import sockets

PHASE_OF: Mapping[str, Phase] = {"init": "init", "invocation": "invoke", "run": "run"}


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


def generalise(cold_starts: Sequence[ColdStart], name: str, *, trusted: bool = True) -> Learned:
    """The profile of what these cold starts did.

    Unless they are `trusted`, as training is and observations from production are not, no refusal is tolerated.
    """
    cold_starts = sorted(cold_starts, key=lambda cold_start: cold_start.id)
    first = cold_starts[0]
    runtime_api = any(cold_start.start.api for cold_start in cold_starts)
    samples = _in_order(sample for cold_start in cold_starts for sample in cold_start.samples)
    uses = frozenset(_uses(cold_starts, samples))
    listen = _listeners(cold_starts)
    network = sockets(entry for cold_start in cold_starts for entry in _connects(cold_start, listen))
    tool = {below(TOOL)}
    writes = {p for c in cold_starts for p in named(_written(c), c.start.places)} - tool
    reads = {p for c in cold_starts for p in named(map(literal, _read(c)), c.start.places)} - tool
    read, written = listed(reads, writes)
    profile = Profile(
        function=ProfiledFunction(name, first.start.handler, runtime_api),
        uses=uses,
        processes=frozenset(_program(path, c) for c in cold_starts for path in c.processes if path.startswith("/")),
        network=network | {"runtime-api"} if runtime_api else network,
        reads=read,
        writes=written,
        trainings=frozenset({_training(cold_starts, samples)}),
        promises=promises_of(uses),
        listen=listen,
    )
    survived, fatal = _survived(cold_starts, samples)
    if trusted:
        profile = replace(profile, tolerates=survived)
    calls = {Call(syscall, arg_class) for c in cold_starts for _, syscall, arg_class in c.items}
    refused = frozenset(str(call) for call in calls if base.kept_out(call))
    denied = refused.union(*(cold_start.denied for cold_start in cold_starts))
    return Learned(profile, denied, survived, fatal)


def _survived(
    cold_starts: Sequence[ColdStart], samples: Sequence[Sample]
) -> tuple[frozenset[Tolerated], frozenset[tuple[str, str]]]:
    """What can be tolerated of the refusals that training survived, and (phase, call) of what ends the function.

    What attacks another's process or the machine is never tolerated (profiles/base/hard-deny.yaml, `terminate`).
    """
    labels: dict[tuple[str, str, str], set[str]] = {}
    for cold_start in cold_starts:
        for refusal in cold_start.refusals:
            if refusal.survived and refusal.phase in PHASES and refusal.at in AIMS:
                labels.setdefault((refusal.phase, refusal.call, refusal.at), set()).add(refusal.label)
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
        because = frozenset({_reason(phase, seen & total, total)})
        found.add(Tolerated(phase, *call, at, entry.errno, because))  # type: ignore[arg-type]  # checked above
    return frozenset(found), frozenset(fatal)


def _listeners(cold_starts: Sequence[ColdStart]) -> frozenset[str]:
    """The listeners; any port of an address where each of two starts has some port that the other has not."""
    ports: dict[tuple[str, str | bytes], list[set[int]]] = {}
    for cold_start in cold_starts:
        found: dict[tuple[str, str | bytes], set[int]] = {}
        for entry in listener.entries(cold_start.listen):
            if entry.kind == "address":
                found.setdefault((entry.protocol, entry.value), set()).add(entry.port)
        for place, numbers in found.items():
            ports.setdefault(place, []).append(numbers)
    differing = {
        Entry(protocol, "address", value, ANY_PORT)
        for (protocol, value), several in ports.items()
        if ANY_PORT in set().union(*several) or any(one - other and other - one for one in several for other in several)
    }
    texts = {text for cold_start in cold_starts for text in cold_start.listen}
    if any(cold_start.start.format != FORMAT and _listens(cold_start) for cold_start in cold_starts):
        differing.add(listener.parse(listener.ANY))  # an older observer noted no addresses
    wide = list(differing)
    kept = {
        text for text in texts
        if not any(listener.covers(entry, one) for one in listener.entries([text]) for entry in wide)
    }  # fmt: skip
    return sockets(kept) | {entry.text for entry in wide}


def _listens(cold_start: ColdStart) -> bool:
    return any(syscall in tables.LISTENS for _, syscall, _ in cold_start.items)


def _connects(cold_start: ColdStart, listen: frozenset[str]) -> Iterator[str]:
    """The destinations; `own` for a port of the function's own that is another at each start."""
    own = {
        (entry.protocol, entry.port) for entry in listener.entries(cold_start.listen)
        if entry.kind == "address" and entry.text not in listen and entry.port > 0
    }  # fmt: skip
    for text in cold_start.network:
        found = next(destination.entries([text]), None)
        loopback = found and isinstance(found.value, bytes) and destination.is_loopback(found.value)
        yield destination.OWN if found and loopback and (found.protocol, found.port) in own else text


def _read(cold_start: ColdStart) -> set[str]:
    """What was read, without the folder of a volume that holds the function or its interpreter itself."""
    places = cold_start.start.places.values()
    return {
        path for path in cold_start.reads
        if not (path.endswith("/**") and any(f"{place}/".startswith(path[:-2]) for place in places))
    }  # fmt: skip


def _written(cold_start: ColdStart) -> set[str]:
    return {literal(path) for path in cold_start.writes} | {literal(path) for path in changed(cold_start.entries)}


def _program(path: str, cold_start: ColdStart) -> str:
    """The path of a program, under {root} where it lies with the function."""
    root = cold_start.start.places.get("{root}", "/")
    inside = root != "/" and path.startswith(root + "/")
    return "{root}" + path.removeprefix(root) if inside else "/" + path.lstrip("/")


def _in_order(samples: Iterable[Sample]) -> list[Sample]:
    """In the order of time; equal times must not leave the order to chance."""
    return sorted(samples, key=lambda s: (s.time, s.kind, s.label, s.outcome, sorted(s.items.items())))


def _uses(cold_starts: Sequence[ColdStart], samples: Sequence[Sample]) -> Iterable[Use]:
    counts: dict[Item, int] = dict.fromkeys((i for cold_start in cold_starts for i in cold_start.items), 0)
    labels: dict[Item, set[str]] = {}
    everywhere: dict[str, set[str]] = {}
    for sample in samples:
        if sample.kind == "invocation":
            everywhere.setdefault("invoke", set()).add(sample.label)
        for item, count in sample.items.items():
            counts[item] = counts.get(item, 0) + count
            if sample.kind == "invocation":
                labels.setdefault(item, set()).add(sample.label)
    for (phase, syscall, arg_class), count in counts.items():
        if base.kept_out(Call(syscall, arg_class)):
            continue  # whoever wrote the observations
        seen, total = labels.get((phase, syscall, arg_class), set()), everywhere.get("invoke", set())
        # mypy: phases were checked when the file was read.
        yield Use(phase, syscall, arg_class, count, frozenset({_reason(phase, seen, total)}))  # type: ignore[arg-type]


def _reason(phase: str, seen: set[str], total: set[str]) -> str:
    """Where an item comes from, in a form that does not depend on the order of events."""
    if phase == "init":
        return "learned at cold start"
    if phase == "run" or not seen:
        return "learned" if phase == "run" else "learned between invocations"
    if seen == total:
        return "learned from every event"
    others = len(seen) - 1
    return f"learned from {min(seen)}" + (f" and {others} other{'s' * (others > 1)}" if others else " only")


def events(samples: Sequence[Sample], kind: str) -> list[frozenset[Item]]:
    """The samples of a kind as sets of items, in the order of time; an event that was served again is one sample.

    Serving the same event twice tells nothing new about the next event: counted as two, the estimates would be better
    than the training.
    """
    found: dict[str, set[Item]] = {}
    for number, sample in enumerate(samples):
        if sample.kind == kind:
            key = sample.label if kind == "invocation" and sample.label else str(number)
            found.setdefault(key, set()).update(sample.items)
    return [frozenset(items) for items in found.values()]


def _training(cold_starts: Sequence[ColdStart], samples: Sequence[Sample]) -> Training:
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
        estimates=estimates(samples),
    )


def estimates(samples: Sequence[Sample]) -> tuple[Estimate, ...]:
    """Completeness of each phase that has samples, in whatever order and from whatever environments they come."""
    ordered = _in_order(samples)
    found = ((phase, events(ordered, kind)) for kind, phase in PHASE_OF.items())
    return tuple(estimate(phase, sets) for phase, sets in found if sets)

