"""What is behind a high novelty, and what would lower it: a folder, the hosts of a domain, ports of one's own.

Nothing of this is learned by itself: training saw some files of a folder, and a person knows whether the others are the
function's too. No folder of secrets is proposed, and none above the one that was written in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sandbox.behaviour import destination, listener
from sandbox.behaviour.destination import ANY_PORT, Entry
from sandbox.behaviour.path import Cover, below, covers, outermost
from sandbox.learn.leave_one_out import Event, Need
from sandbox.learn.rights import Thing
from sandbox.profile.folding import is_secret, may_be_opened
from sandbox.profile.libraries import placed
from sandbox.profile.model import Phase, Profile

SEVERAL = 2
"""So many events with something alike of their own are worth a proposal."""
LABELS = 3
"""A domain of fewer names may be whoever's (*.github.io), unless the hosts in it differ by a number alone."""
SHOWN = 3
"""Examples."""


@dataclass(frozen=True)
class NewItems:
    """What new events of a phase reached that is alike: a call, or the things of one `place`; so many events did.

    The place is a line that was proposed, or else the folder or the thing itself.
    """

    phase: Phase
    reach: str
    place: str
    events: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        unit = {"init": "cold start", "run": "run"}.get(self.phase, "event")
        more = f", such as {', '.join(self.examples)}" if self.examples != (self.place,) else ""
        return f"{self.reach} {self.place} in {self.events} {unit}{'s' * (self.events > 1)}{more}"


def behind(novel: Mapping[Event, frozenset[Need]], lines: Collection[Thing]) -> tuple[NewItems, ...]:
    """What is new in these events, that of the most events first; `lines` are those that were proposed for them."""
    groups: dict[tuple[Phase, str, str], tuple[set[Event], set[str]]] = {}
    for event, needs in novel.items():
        for need in needs:
            reach, place, text = _described(need, lines)
            events, texts = groups.setdefault((event.phase, reach, place), (set(), set()))
            events.add(event)
            texts.add(text)
    found = [
        NewItems(phase, reach, place, len(events), tuple(sorted(texts)[:SHOWN]))
        for (phase, reach, place), (events, texts) in groups.items()
    ]
    return tuple(sorted(found, key=lambda items: (-items.events, items.phase, items.reach, items.place)))


def _described(need: Need, lines: Collection[Thing]) -> tuple[str, str, str]:
    """(what was done, the place of things that are alike, the thing)."""
    if not isinstance(need, Thing):
        return "call", str(need[1]), str(need[1])
    line = next((candidate.text for candidate in _candidates(need) if candidate in lines), "")
    folder = os.path.dirname(_folder(need) or need.text) + "/" if need.reach in ("read", "write") else ""
    return need.reach, line or folder or need.text, need.text


def proposals(novel: Mapping[Event, frozenset[Need]]) -> tuple[Thing, ...]:
    """The lines that would allow several of these events, so that others like them are not new either."""
    candidates: dict[Thing, set[Event]] = {}
    texts: dict[Thing, set[str]] = {}
    for event, needs in novel.items():
        for need in (need for need in needs if isinstance(need, Thing)):
            for candidate in _candidates(need):
                candidates.setdefault(candidate, set()).add(event)
                texts.setdefault(candidate, set()).add(need.text)
    found: list[Thing] = []
    for candidate in sorted(candidates, key=lambda thing: (-thing.text.count("/"), thing)):
        if candidate.reach in ("read", "write"):
            known = [thing.text for thing in found if thing.reach == candidate.reach]
            alone = {text for text in texts[candidate] if not any(covers(pattern, text) for pattern in known)}
        else:
            alone = texts[candidate]
        if len(candidates[candidate]) >= SEVERAL and len(alone) >= SEVERAL and _is_one_owner(candidate, alone):
            found.append(candidate)
    return tuple(sorted(found))


def accept(profile: Profile, things: Sequence[Thing]) -> Profile:
    """The profile with these lines, and without those that they cover."""
    texts = {reach: {thing.text for thing in things if thing.reach == reach} for reach in ("read", "write")}
    hosts = [destination.parse(thing.text) for thing in things if thing.reach == "network"]
    listeners = [listener.parse(thing.text) for thing in things if thing.reach == "listen"]
    writes = outermost(profile.writes | texts["write"])
    cover = Cover(writes)
    network = {
        entry.text for entry in destination.entries(profile.network)
        if not any((host.protocol, host.port) == (entry.protocol, entry.port) and entry.kind == "name"
                   and str(entry.value).endswith(str(host.value)) for host in hosts)
    }  # fmt: skip
    listen = {
        entry.text for entry in listener.entries(profile.listen)
        if not any(listener.covers(wide, entry) for wide in listeners)
    }  # fmt: skip
    wider = replace(
        profile,
        reads=frozenset(text for text in outermost(profile.reads | texts["read"]) if not any(cover.of(text))),
        writes=writes,
        network=frozenset(network | {host.text for host in hosts}),
        listen=frozenset(listen | {entry.text for entry in listeners}),
    )
    return replace(wider, by=placed(wider.by, wider))


def _candidates(need: Thing) -> Iterator[Thing]:
    """The lines that stand for more than a thing, the narrowest first."""
    if need.reach in ("read", "write"):
        if _folder(need) or need.text.startswith("{") or is_secret(need.text):
            return  # a folder that was written in: one above it would be more than what was done
        folder = os.path.dirname(need.text)
        for place in (folder, os.path.dirname(folder))[: 2 if need.reach == "read" else 1]:
            if may_be_opened(place):
                yield Thing(need.reach, below(place))
    elif need.reach == "network" and (entry := _host(need)):
        domain = _domain(str(entry.value))
        if "." in domain:
            yield Thing("network", Entry(entry.protocol, "suffix", f".{domain}", entry.port).text)
    elif need.reach == "listen":
        found = next(listener.entries([need.text]), None)
        if found and isinstance(found.value, bytes) and destination.is_loopback(found.value):
            yield Thing("listen", Entry(found.protocol, "address", found.value, ANY_PORT).text)


def _is_one_owner(candidate: Thing, texts: set[str]) -> bool:
    """Whether a wildcard of hosts is one owner's, as far as names tell."""
    if candidate.reach != "network":
        return True
    domain = destination.parse(candidate.text).value
    shapes = {re.sub(r"\d+", "0", text) for text in texts}
    return str(domain).count(".") >= LABELS or len(shapes) == 1


def _folder(need: Thing) -> str:
    """The folder that was written in, where the thing is that folder."""
    return need.text.rpartition("/")[0] if need.text.endswith(("/*", "/**")) else ""


def _host(need: Thing) -> Entry | None:
    entry = next(destination.entries([need.text]), None) if need.reach == "network" else None
    if entry is None or entry.kind != "name" or entry.protocol == destination.LOOKED_UP:
        return None
    return entry if "." in str(entry.value) else None


def _domain(host: str) -> str:
    return host.partition(".")[2]
