"""The libraries of each line of a profile: pure, and independent of the order of cold starts and their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sandbox.learn import rights
from sandbox.learn.cold_starts import ColdStart, Item
from sandbox.learn.leave_one_out import PHASE_OF
from sandbox.learn.records import Fact, Loaded, Program
from sandbox.profile.libraries import coverings, learned_users, united_libraries
from sandbox.profile.model import Library, Phase, Profile, Section, UsedBy
from sandbox.violations.library import FUNCTION, PYTHON

SECTIONS: dict[str, Section] = {"network": "network", "listen": "listen", "exec": "processes", "write": "write"}
"""Where a profile lists what was reached and says by whom."""


def learned(cold_starts: Sequence[ColdStart], profile: Profile) -> frozenset[UsedBy]:
    """Who used which line of the profile. One that the function's own code alone uses needs no word."""
    return learned_users(
        frozenset(
            UsedBy(section, line, name)
            for cold_start, lines in zip(cold_starts, lines_used(cold_starts, profile), strict=True)
            for one in cold_start.whose if isinstance(one.what, Fact)
            for section, line in lines.get(one.what, ()) for name in one.by
        )
    )  # fmt: skip


def lines_used(cold_starts: Sequence[ColdStart], profile: Profile) -> Iterator[dict[Fact, set[tuple[Section, str]]]]:
    """For each cold start the facts of which it is known who reached them, with the lines of the profile for them."""
    covering = coverings(profile)
    for cold_start in cold_starts:
        known = {one.what for one in cold_start.whose if isinstance(one.what, Fact)}
        found: dict[Fact, set[tuple[Section, str]]] = {}
        for fact, thing in rights.things(cold_start, profile.listen) if known else ():
            section = SECTIONS.get(thing.reach)
            if section is None or fact not in known:
                continue
            texts = {thing.text}
            if isinstance(fact, Program) and fact.real.startswith("/"):  # what lies where the function writes
                texts.add(rights.program_named(fact.real, cold_start))
            found.setdefault(fact, set()).update((section, line) for text in texts for line in covering[section](text))
        yield found


def of_calls(cold_starts: Sequence[ColdStart]) -> dict[Item, tuple[frozenset[str], str]]:
    """{item: (the distributions that make the call, the function that makes it)} as far as known.

    The function is that of the innermost library, one of several with how many others there are; '' where it is
    Python's or the function's own.
    """
    found: dict[Item, tuple[set[str], set[str]]] = {}
    for one in (one for cold_start in cold_starts for one in cold_start.whose):
        if not isinstance(one.what, Fact):
            names, functions = found.setdefault(one.what, (set(), set()))
            names.update(one.by)
            if one.by not in ((PYTHON,), (FUNCTION,)) and one.library:
                functions.add(one.library)
    return {
        item: (frozenset(names) if names != {FUNCTION} else frozenset(), _shown(functions))
        for item, (names, functions) in found.items()
    }  # fmt: skip


def libraries(cold_starts: Sequence[ColdStart]) -> frozenset[Library]:
    """The libraries that training loaded, and how it met them in each phase."""
    return united_libraries(
        Library(fact.name, fact.version, **{phase: fact.how})
        for cold_start in cold_starts for phase, facts in _by_phase(cold_start)
        for fact in facts if isinstance(fact, Loaded)
    )  # fmt: skip


def _by_phase(cold_start: ColdStart) -> Iterator[tuple[Phase, frozenset[Fact]]]:
    for sample in cold_start.samples:
        yield PHASE_OF.get(sample.kind, "invoke"), sample.facts


def _shown(functions: set[str]) -> str:
    others = len(functions) - 1
    return min(functions, default="") + (f" and {others} other{'s' * (others > 1)}" if others > 0 else "")
