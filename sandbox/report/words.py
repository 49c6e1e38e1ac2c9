"""What a profile allows, in sentences for somebody who has never read a filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandbox.behaviour import destination, listener
from sandbox.policy.build import file_fields
from sandbox.policy.rules import exec_granted
from sandbox.profile import base
from sandbox.profile.model import PHASES, RUNTIME_API, Phase, Profile
from sandbox.profile.promises import uses_by_promise
from sandbox.profile.risk import of_promise
from sandbox.report.surface import RISKS
from sandbox.report.tree import short

WHEN: Mapping[tuple[Phase, ...], str] = {
    ("init",): "at its start", ("invoke",): "serving events", ("init", "invoke"): "always", ("run",): "always",
}  # fmt: skip
LOOKED_UP = f"{destination.LOOKED_UP}://"
FEW = 4
"""So many things a sentence names; of more it says how many there are."""


@dataclass(frozen=True)
class Ability:
    """One promise that the profile needs: what it is, how much it says of an attack, and when."""

    name: str
    about: str
    risk: str
    when: str


@dataclass(frozen=True)
class Shared:
    """What every such program may read or write, without a line in its profile, and why."""

    path: str
    writes: bool
    because: str


def shared(profile: Profile) -> tuple[Shared, ...]:
    """What is open beyond a profile, none where it lists no files. Raises ProfileError where it does not compile."""
    fields = file_fields(profile)
    reasons = {place.path: place.because for place in (*base.readable("connected", "runtime"), *base.writable())}
    found = []
    for name, listed in (("write", profile.writes), ("read", profile.reads)):
        paths = fields[name]
        assert isinstance(paths, list)
        found += [Shared(path, name == "write", reasons.get(path, "")) for path in paths if path not in listed]
    return tuple(found)


def abilities(profile: Profile) -> tuple[Ability, ...]:
    """The promises of a profile, those of high risk first."""
    known = {promise.name: promise for promise in base.promises()}
    found = []
    for name, uses in uses_by_promise(profile.uses).items():
        about = known[name].about if name in known else "makes calls that no promise names"
        phases = tuple(phase for phase in PHASES if any(use.phase == phase for use in uses))
        found.append(Ability(name, about, of_promise(name), WHEN.get(phases, "")))
    return tuple(sorted(found, key=lambda one: RISKS.index(one.risk)))


def starts_any(profile: Profile) -> bool:
    """Whether nothing says which programs may be started, although some may."""
    return exec_granted(profile) and not profile.processes


def sentences(profile: Profile, every: Sequence[Shared]) -> tuple[tuple[str, str], ...]:
    """Where it connects and listens, what it starts, writes and reads, as (verb, rest); also what it does not.

    `every` is what is open to every such program, none where nothing limits files.
    """
    reached = ["the platform's Runtime API"] * (RUNTIME_API in profile.network)
    reached += sorted(entry for entry in profile.network if entry != RUNTIME_API and not entry.startswith(LOOKED_UP))
    looked_up = sorted(entry.removeprefix(LOOKED_UP) for entry in profile.network if entry.startswith(LOOKED_UP))
    found = [("Connects", _rest("to ", reached, "destination", "to nothing"))]
    if looked_up:
        found.append(("Looks up", _rest("", looked_up, "more name", "")))
    anywhere = listener.ANY in profile.listen
    found += [
        ("Listens", "on any address" if anywhere else _rest("on ", sorted(profile.listen), "address", "nowhere")),
        ("Starts", "any program: it may exec, and none is listed" if starts_any(profile)
         else _rest("", sorted(profile.processes), "program", "no other program")),
    ]  # fmt: skip
    if not every:
        return (*found, ("Files", "are not limited: the profile lists none"))
    return (
        *found,
        ("Writes", _rest("", sorted(profile.writes), "place", "no files of its own", "")),
        ("Reads", f"{_count(len(profile.reads), 'place')}, and shares {len(every)} with every such program"),
    )


def _rest(before: str, things: list[str], noun: str, nothing: str, end: str = ", and nothing else") -> str:
    """Few things by their names, of more how many there are."""
    if not things:
        return nothing
    if len(things) > FEW:
        return f"{before}{_count(len(things), noun)}{end}"
    named = [short(f"below {thing.removesuffix('/**')}" if thing.endswith("/**") else thing, 60) for thing in things]
    return f"{before}{joined(named)}{end}"


def joined(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
