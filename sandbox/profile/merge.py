"""Merging two profiles of one function: commutative, associative and idempotent.

Sets are united, files and sockets folded as learning folds them; counts are weights for the order of the filter, so
that the larger one stands (a sum would not be idempotent).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce

from sandbox.behaviour import anomaly
from sandbox.errors import ProfileError
from sandbox.profile.folding import listed, united
from sandbox.profile.libraries import placed, united_libraries
from sandbox.profile.model import STRICTNESS, Profile, ProfiledFunction, Tolerated, Training, Use, Verified, seconds
from sandbox.profile.promises import promises_of
from sandbox.profile.random_names import sockets


def merge_all(profiles: Iterable[Profile]) -> Profile:
    """The profile that allows what any of them allows, with no more lines of files than learning writes.

    Raises ProfileError when they are for different functions, TypeError for none.
    """
    known = tuple(profiles)
    found = reduce(merge, known)
    if found in known:
        return found
    reads, writes = listed(found.reads, found.writes)
    found = replace(found, reads=reads, writes=writes)
    return replace(found, by=placed(found.by, found))


def merge(one: Profile, other: Profile) -> Profile:
    """The profile that allows what either allows; who uses what is said of what each of them lists.

    Raises ProfileError when they are for different functions.
    """
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
            use = replace(
                use, count=max(use.count, known.count), because=use.because | known.because, by=use.by | known.by
            )
        uses[use.key] = use
    trainings: dict[str, Training] = {}
    for training in (*one.trainings, *other.trainings):
        # One training under one id: a copy that went through a file has fewer digits, and any fixed choice will do.
        trainings[training.id] = max(training, trainings.get(training.id, training))
    merged = frozenset(uses.values())
    return Profile(
        function=ProfiledFunction(
            one.function.name, max(one.function.handler, other.function.handler), one.function.runtime_api,
            tuple(sorted({*one.function.environment, *other.function.environment})),
        ),
        uses=merged,
        processes=one.processes | other.processes,
        network=_folded(one.network, other.network, ()),
        reads=united(one.reads, other.reads),
        writes=united(one.writes, other.writes),
        grants=one.grants | other.grants,
        # The earlier end of an audit is the stricter one, and none at all the strictest.
        audit_until=min(one.audit_until, other.audit_until),
        responses=_stricter(one.responses | other.responses),
        trainings=frozenset(trainings.values()),
        promises=promises_of(merged),
        listen=_folded(one.listen, other.listen, (entry for entry, _ in one.listen_because | other.listen_because)),
        listen_because=one.listen_because | other.listen_because,
        by=one.by | other.by,
        libraries=united_libraries((*one.libraries, *other.libraries)),
        names_keep=max(one.names_keep, other.names_keep, key=_longer),
        names_receives=one.names_receives | other.names_receives,
        tolerates=_tolerated(one.tolerates | other.tolerates),
        verified=_latest(one.verified, other.verified),
        digests=one.digests | other.digests,
        interpreters=one.interpreters | other.interpreters,
        on_anomaly=_on_anomaly(dict(one.on_anomaly), dict(other.on_anomaly)),
        ignores=one.ignores | other.ignores,
        most=frozenset(_most(sorted(one.most | other.most))),
    )


def _most(counts: Iterable[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    """Of each thing the largest; a profile that says nothing of it gives way. `counts` are in order."""
    return dict(counts).items()


def _longer(duration: str) -> tuple[bool, int, str]:
    return duration == "forever", seconds(duration) if duration else 0, duration  # one that says nothing gives way


def _tolerated(entries: frozenset[Tolerated]) -> frozenset[Tolerated]:
    """One entry for each call, phase and aim, with the reasons of all."""
    found: dict[tuple[str, str, str, str], Tolerated] = {}
    for entry in entries:
        known = found.get(entry.key)
        found[entry.key] = replace(entry, because=entry.because | known.because) if known else entry
    return frozenset(found.values())


def _latest(one: Verified | None, other: Verified | None) -> Verified | None:
    """The later of two, which stays true: the merged profile allows all that was allowed when it was verified."""
    return max((found for found in (one, other) if found), default=None)


def _folded(one: frozenset[str], other: frozenset[str], kept: Iterable[str]) -> frozenset[str]:
    """The destinations, or listeners, of both, folded as learning does; what a person said something of is `kept`."""
    if one == other:
        return one
    everything, named = one | other, frozenset(kept)
    return sockets(everything - named) | everything & named


def _on_anomaly(one: Mapping[str, str], other: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """For each detector the stricter of both answers; a profile without any says nothing."""
    both = [said for said in (one, other) if said]
    return frozenset(
        (name, anomaly.stricter(anomaly.response(said, name) for said in both)) for name in {*one, *other}
    )


def _stricter(responses: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Of two answers to one call the stricter."""
    found: dict[str, str] = {}
    for call, response in responses:
        found[call] = max(found.get(call, "report"), response, key=STRICTNESS.index)
    return frozenset(found.items())
