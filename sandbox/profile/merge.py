"""Merging two profiles of one function: commutative, associative and idempotent.

Sets are united; counts are weights for the order of the filter, so that the larger one stands (a sum would not be
idempotent).
"""

from __future__ import annotations

from dataclasses import replace

from sandbox.errors import ProfileError
from sandbox.profile.model import Profile, ProfiledFunction, Training, Use
from sandbox.profile.promises import promises_of

STRICTNESS = ("report", "deny", "terminate")


def merge(one: Profile, other: Profile) -> Profile:
    """The profile that allows what either allows. Raises ProfileError when they are for different functions."""
    if (one.function.name, one.function.runtime_api) != (other.function.name, other.function.runtime_api):
        names = sorted(f"{p.function.name} (runtime-api: {p.function.runtime_api})" for p in (one, other))
        raise ProfileError(
            f"profiles of different functions: {' and '.join(names)}",
            todo="merge profiles of one function; rename one under `function.name` if they really are the same",
        )
    uses: dict[tuple[str, str, str], Use] = {}
    for use in (*one.uses, *other.uses):
        known = uses.get(use.key)
        if known:
            use = replace(use, count=max(use.count, known.count), because=use.because | known.because)
        uses[use.key] = use
    trainings: dict[str, Training] = {}
    for training in (*one.trainings, *other.trainings):
        # One training under one id: a copy that went through a file has fewer digits, and any fixed choice will do.
        trainings[training.id] = max(training, trainings.get(training.id, training))
    merged = frozenset(uses.values())
    return Profile(
        function=ProfiledFunction(
            one.function.name, max(one.function.handler, other.function.handler), one.function.runtime_api
        ),
        uses=merged,
        processes=one.processes | other.processes,
        network=one.network | other.network,
        reads=one.reads | other.reads,
        writes=one.writes | other.writes,
        grants=one.grants | other.grants,
        # The earlier end of an audit is the stricter one, and none at all the strictest.
        audit_until=min(one.audit_until, other.audit_until),
        responses=_stricter(one.responses | other.responses),
        trainings=frozenset(trainings.values()),
        promises=promises_of(merged),
    )


def _stricter(responses: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Of two answers to one call the stricter."""
    found: dict[str, str] = {}
    for call, response in responses:
        found[call] = max(found.get(call, "report"), response, key=STRICTNESS.index)
    return frozenset(found.items())
