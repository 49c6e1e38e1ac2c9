"""From observations to a profile: pure, and independent of the order of environments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandbox.behaviour.call import Call
from sandbox.behaviour.path import below, covers, literal, outermost
from sandbox.learn.host import TOOL
from sandbox.learn.observations import Environment, Item, Sample
from sandbox.profile import base
from sandbox.profile.completeness import estimate
from sandbox.profile.folding import changed, fold, named
from sandbox.profile.model import Estimate, Function, Phase, Profile, Training, Use
from sandbox.profile.promises import promises_of

PHASE_OF: Mapping[str, Phase] = {"init": "init", "invocation": "invoke", "run": "run"}


@dataclass(frozen=True)
class Learned:
    """A profile, and what the function was refused in training and would have to be granted."""

    profile: Profile
    denied: frozenset[str]


def generalise(environments: Sequence[Environment], name: str) -> Learned:
    """The profile of what these environments did."""
    environments = sorted(environments, key=lambda environment: environment.id)
    first = environments[0]
    runtime_api = any(environment.start.get("api") for environment in environments)
    samples = _in_order(sample for environment in environments for sample in environment.samples)
    uses = frozenset(_uses(environments, samples))
    network = frozenset().union(*(environment.network for environment in environments))
    tool = {below(TOOL)}
    writes = {p for e in environments for p in named(_written(e), e.start.get("places", {}))} - tool
    reads = {p for e in environments for p in named(map(literal, e.reads), e.start.get("places", {}))} - tool
    written = outermost(fold(writes))
    read = {path for path in fold(reads) if not any(covers(pattern, path) for pattern in written)}
    profile = Profile(
        function=Function(name, str(first.start.get("handler", "")), runtime_api),
        uses=uses,
        processes=frozenset(_program(path, e) for e in environments for path in e.processes if path.startswith("/")),
        network=network | {"runtime-api"} if runtime_api else network,
        reads=outermost(read),
        writes=written,
        trainings=frozenset({_training(environments, samples)}),
        promises=promises_of(uses),
    )
    calls = {Call(syscall, arg_class) for e in environments for _, syscall, arg_class in e.items}
    refused = frozenset(str(call) for call in calls if base.kept_out(call))
    return Learned(profile, refused.union(*(environment.denied for environment in environments)))


def _written(environment: Environment) -> set[str]:
    return {literal(path) for path in environment.writes} | {literal(path) for path in changed(environment.entries)}


def _program(path: str, environment: Environment) -> str:
    """The path of a program, under {root} where it lies with the function."""
    root = environment.start.get("places", {}).get("{root}", "/")
    inside = root != "/" and path.startswith(root + "/")
    return "{root}" + path.removeprefix(root) if inside else "/" + path.lstrip("/")


def _in_order(samples: Iterable[Sample]) -> list[Sample]:
    """In the order of time; equal times must not leave the order to chance."""
    return sorted(samples, key=lambda s: (s.time, s.kind, s.label, s.outcome, sorted(s.items.items())))


def _uses(environments: Sequence[Environment], samples: Sequence[Sample]) -> Iterable[Use]:
    counts: dict[Item, int] = dict.fromkeys((i for environment in environments for i in environment.items), 0)
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


def _training(environments: Sequence[Environment], samples: Sequence[Sample]) -> Training:
    def common(key: str) -> str:
        return ", ".join(sorted({str(environment.start.get(key, "")) for environment in environments} - {""}))

    identity = hashlib.sha256("".join(environment.id for environment in environments).encode()).hexdigest()[:12]
    return Training(
        id=identity,
        host=common("host"),
        kernel=common("kernel"),
        libc=common("libc"),
        python=common("python"),
        architecture=common("architecture"),
        handler_digest=common("handler_digest"),
        lock_digest=common("lock_digest"),
        estimates=estimates(samples),
    )


def estimates(samples: Sequence[Sample]) -> tuple[Estimate, ...]:
    """Completeness of each phase that has samples, in whatever order and from whatever environments they come."""
    ordered = _in_order(samples)
    found = ((phase, events(ordered, kind)) for kind, phase in PHASE_OF.items())
    return tuple(estimate(phase, sets) for phase, sets in found if sets)

