"""Rights that a function's newest profile gives, and that nothing it did in the last days has used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sandbox.behaviour.path import Cover
from sandbox.errors import ProfileError
from sandbox.fleet.engines import Value
from sandbox.profile import document
from sandbox.profile.diff import diff, lines
from sandbox.profile.libraries import Covering, coverings
from sandbox.profile.model import RUNTIME_API, Profile

SECTIONS = {"destination": "network", "listener": "listen", "program": "processes", "written": "writes"}
"""The attribute of a profile for what activity lists of each invocation."""
READS = {"read": "reads"}
"""For what observations list alone."""


@dataclass(frozen=True)
class Unused:
    """What one function could do without: entries by the attribute of the profile, and the diff that people review."""

    function: str
    entries: Mapping[str, tuple[str, ...]]
    change: tuple[str, ...]
    narrowed: Profile


def unused(profiles: Iterable[Mapping[str, Value]], used: Iterable[Mapping[str, Value]]) -> Iterator[Unused]:
    """For each of the profiles (rows of newest_profiles) of which something was observed (rows of used)."""
    reached: dict[str, dict[str, set[str]]] = {}
    for row in used:
        reached.setdefault(str(row["function"]), {}).setdefault(str(row["sort"]), set()).add(str(row["thing"]))
    for row in profiles:
        seen = reached.get(str(row["function"]))
        if not seen:
            continue  # nothing is known, and nothing follows from that
        try:
            profile = document.parse(str(row["text"]), str(row["source"])).profile
        except ProfileError:
            continue  # of an older version; the ingestion took it
        if found := _unused(profile, seen):
            yield found


def _unused(profile: Profile, seen: Mapping[str, set[str]]) -> Unused | None:
    reads, of = Cover(profile.reads), coverings(profile)
    covering: dict[str, Covering] = {
        "destination": of["network"], "listener": of["listen"], "program": of["processes"], "written": of["write"],
        "read": lambda text: [text, *reads.of(text)],
    }  # fmt: skip
    entries: dict[str, tuple[str, ...]] = {}
    for sort, attribute in {**SECTIONS, **(READS if "read" in seen else {})}.items():
        lines_used = {line for thing in seen.get(sort, ()) for line in covering[sort](thing)}
        left = sorted(getattr(profile, attribute) - lines_used - {RUNTIME_API})
        if left:
            entries[attribute] = tuple(left)
    if not entries:
        return None
    fewer = {name: getattr(profile, name) - set(left) for name, left in entries.items()}
    by = frozenset(use for use in profile.by if use.entry not in set().union(*map(set, entries.values())))
    narrowed = replace(profile, by=by, **fewer)
    return Unused(profile.function.name, entries, tuple(lines(diff(profile, narrowed))), narrowed)
