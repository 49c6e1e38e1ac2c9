"""What a policy says of programs: the rules, and what they leave open where nobody tells programs by their content."""

from __future__ import annotations

from typing import NamedTuple

from sandbox.behaviour.path import OWN_INTERPRETER, below, check, rule_of
from sandbox.errors import ProfileError
from sandbox.profile.executables import by_program, written
from sandbox.profile.model import Profile

SHOWN = 4
"""Interpreters that a status line names, as of paths (confine/landlock_rules.py)."""


class Description(NamedTuple):
    """`rules` are patterns: programs, the interpreters that only those by content need, and the places of these.

    `interpreters` are those of all programs that are not listed themselves, and not to be started by themselves;
    `unsupervised` are lines for the status line of a start without a supervisor.
    """

    rules: list[str]
    interpreters: list[str]
    unsupervised: list[str]


def description(profile: Profile) -> Description:
    """Raises ProfileError for a program that no rule can express."""
    where = profile.function.name
    contents, interpreters = by_program(profile.digests), by_program(profile.interpreters)
    places = {program: place for program, place in written(profile).items() if program in contents}
    listed = set()
    for program in profile.processes - places.keys():
        if "*" in program and program in contents:
            what = f"the program {program!r} has a random part, and lies nowhere that the function writes"
            raise ProfileError(what, where=where, todo="write its path, or train again")
        listed.add(check(program, where, program=True))
    needed = {check(path, where, program=True) for program in places for path in interpreters.get(program, ())}
    own = {OWN_INTERPRETER}  # which the function's own start opens, by whatever path it is here
    rules = {below("".join(rule_of(check(place, where))[:2])) for place in places.values()}
    return Description(
        rules=sorted((listed | needed | rules) - own),
        interpreters=sorted({path for _, path in profile.interpreters} - listed),
        unsupervised=[
            *(f"programs: whatever is put into {place.removesuffix('/**')} can be started" for place in sorted(rules)),
            "programs: interpreters of scripts and dynamic loaders start what they can read"
            + _shown({path for paths in interpreters.values() for path in paths}),
        ],
    )  # fmt: skip


def _shown(paths: set[str]) -> str:
    named = sorted(paths)[:SHOWN]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f" ({', '.join(named)}{more})" if named else ""
