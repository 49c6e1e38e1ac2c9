"""The estimate for `by`: in which events a library used what it used in no other, where others used that, too.

Such an event is no refusal, unless the profile asks to deny what new libraries do; the next ones are as likely as in
training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sandbox.behaviour.call import Call
from sandbox.learn.attribution import lines_used
from sandbox.learn.cold_starts import ColdStart, Sample
from sandbox.learn.leave_one_out import PHASE_OF
from sandbox.learn.records import Fact
from sandbox.profile import base
from sandbox.profile.circumstances import RESTARTED
from sandbox.profile.model import Phase, Profile
from sandbox.violations.library import FUNCTION

Line = tuple[str, ...]
"""A section and an entry of the profile, or a call in a phase."""
Event = tuple[Phase, str]
"""All repeats of one event, by its label, or one start, by its number."""


NOBODY: frozenset[tuple[Line, str]] = frozenset()


def novel_users(cold_starts: Sequence[ColdStart], profile: Profile) -> dict[Phase, float]:
    """The share of such events of each phase that has any."""
    events: dict[Event, frozenset[tuple[Line, str]]] = {}
    number = 0
    for cold_start, lines in zip(cold_starts, lines_used(cold_starts, profile), strict=True):
        for sample in cold_start.samples:
            number += 1
            phase = PHASE_OF.get(sample.kind)
            if phase is None or (phase == "init" and RESTARTED in cold_start.circumstances):
                continue
            label = sample.label if phase == "invoke" and sample.label else str(number)
            events[phase, label] = events.get((phase, label), NOBODY).union(_users(sample, lines))
    holders: dict[tuple[Line, str], set[Event]] = {}
    used: dict[Line, set[Event]] = {}
    for event, users in events.items():
        for line, distribution in users:
            holders.setdefault((line, distribution), set()).add(event)
            used.setdefault(line, set()).add(event)
    counts: dict[Phase, list[bool]] = {}
    for event, users in events.items():
        novel = any(
            len(holders[line, distribution]) == 1 < len(used[line])
            for line, distribution in users if distribution != FUNCTION
        )  # fmt: skip
        counts.setdefault(event[0], []).append(novel)
    return {phase: sum(found) / len(found) for phase, found in counts.items()}


def _users(sample: Sample, lines: Mapping[Fact, Iterable[Line]]) -> Iterator[tuple[Line, str]]:
    """The lines that a sample used, and the dangerous calls that it made, each with a distribution that did."""
    for one in sample.whose:
        if isinstance(one.what, Fact):
            used: Iterable[Line] = lines.get(one.what, ())
        else:
            used = [one.what] if base.find(base.dangerous(), Call(*one.what[1:])) else []
        yield from ((line, name) for line in used for name in one.by)
