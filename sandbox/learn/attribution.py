"""The libraries of each line of a profile: pure, and independent of the order of cold starts and their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sandbox.learn import rights
from sandbox.learn.observations import ColdStart
from sandbox.learn.records import Fact, Program
from sandbox.learn.whose import FUNCTION
from sandbox.profile.libraries import placed
from sandbox.profile.model import Profile, Section, UsedBy

SECTIONS: dict[str, Section] = {"network": "network", "listen": "listen", "exec": "processes", "write": "write"}
"""Where a profile lists what was reached and says by whom."""


def learned(cold_starts: Sequence[ColdStart], profile: Profile) -> frozenset[UsedBy]:
    """Who used which line of the profile. One that the function's own code alone uses needs no word."""
    uses = placed((use for cold_start in cold_starts for use in _uses(cold_start, profile.listen)), profile)
    others = {(use.section, use.entry) for use in uses if use.distribution != FUNCTION}
    return frozenset(use for use in uses if (use.section, use.entry) in others)


def _uses(cold_start: ColdStart, listen: frozenset[str]) -> Iterator[UsedBy]:
    """What was reached, before anything is folded, with each distribution that reached it."""
    whose: dict[Fact, set[str]] = {}
    for one in cold_start.whose:
        if isinstance(one.what, Fact):
            whose.setdefault(one.what, set()).update(one.by)
    for fact, thing in rights.things(cold_start, listen) if whose else ():
        section = SECTIONS.get(thing.reach)
        if section is None or fact not in whose:
            continue
        texts = {thing.text}
        if isinstance(fact, Program) and fact.real.startswith("/"):  # what lies where the function writes
            texts.add(rights.program_named(fact.real, cold_start))
        yield from (UsedBy(section, text, name) for text in texts for name in whose[fact])
