"""Programs of a profile: which of them lie where the function writes, and by what they are told from others there.

Whoever may write a folder decides what lies at a path in it: there a program is what its content is (`sha256`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sandbox.behaviour.path import below, covers, rule_of, wildcard_problem
from sandbox.profile.model import Profile


def written_place(program: str, writes: Iterable[str]) -> str:
    """The innermost pattern of `writes` of which the rule holds a program, '' where none does.

    A rule on a folder is for all below it, and one for a random name for the folder above (man 7 landlock). A rule on
    the root says of no program that the function puts it there.
    """
    found, most = "", -1
    for pattern in writes:
        place = "".join(rule_of(pattern)[:2])
        if place != "/" and covers(below(place), program):
            depth = place.count("/")
            if (depth, pattern) > (most, found):
                found, most = pattern, depth
    return found


def written(profile: Profile) -> Mapping[str, str]:
    """The programs that lie where the function writes, each with the pattern of that place."""
    places = {program: written_place(program, profile.writes) for program in sorted(profile.processes)}
    return {program: place for program, place in places.items() if place}


def by_program(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """What is said of each program, in order: `Profile.digests` or `Profile.interpreters`."""
    found: dict[str, list[str]] = {}
    for program, text in sorted(pairs):
        found.setdefault(program, []).append(text)
    return found


def merged_names(paths: Collection[str]) -> frozenset[str]:
    """Paths of one content, with a `*` for each name in which they differ: who unpacks it makes these up.

    >>> sorted(merged_names({"/tmp/_MEIab12/tool", "/tmp/_MEIxy34/tool", "/opt/tool"}))
    ['/opt/tool', '/tmp/*/tool']
    """
    groups: dict[tuple[int, str], list[list[str]]] = {}
    for path in paths:
        names = path.split("/")
        groups.setdefault((len(names), names[1] if len(names) > 2 else path), []).append(names)
    found: set[str] = set()
    for members in groups.values():
        first, *rest = sorted(members)
        pattern = "/".join(
            name if all(other[at] == name for other in rest) else "*" for at, name in enumerate(first)
        )
        last_differs = len(rest) > 0 and pattern.endswith("/*")
        if last_differs or wildcard_problem(pattern if pattern.startswith("/") else f"/{pattern}"):
            found.update("/".join(names) for names in members)
        else:
            found.add(pattern)
    return frozenset(found)
