"""The order in which a start serves the events: each first of all, in the last start once more, and after a restart.

A platform sends an event to a process that has served it before, samples some requests for tracing and others not, and
after a crash or a timeout starts the process again beside what it left in /tmp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sandbox.profile.circumstances import AGAIN, RESTARTED, SAMPLED, STREAMED
from sandbox.runtime_api import Environment, Invocation, Outcome


@dataclass(frozen=True)
class Visit:
    """An event on its way into a process. `again`: that served it before, or `restarted`: whose predecessor did."""

    invocation: Invocation
    again: bool = False
    restarted: bool = False

    @property
    def name(self) -> str:
        """The event's."""
        return self.invocation.name

    @property
    def is_first(self) -> bool:
        """Whether the environment had not served it before; an event that makes something may fail the next time."""
        return not (self.again or self.restarted)

    @property
    def order(self) -> str:
        """What a reader needs to know of it, '' for a first one."""
        return "after a restart" if self.restarted else "again" if self.again else ""

    def circumstances(self, outcome: Outcome) -> frozenset[str]:
        """What it adds to those of its start (profile/circumstances.py)."""
        found = {AGAIN: self.again, RESTARTED: self.restarted}
        found |= {SAMPLED: self.invocation.sampled, STREAMED: outcome.streamed}
        return frozenset(name for name, is_so in found.items() if is_so)

    def carried_out(self, environment: Environment) -> Outcome:
        """The outcome, after the restart that this visit asks for."""
        if self.restarted:
            environment.reset()
        return environment.invoke(self.invocation)


def visits(events: Sequence[Invocation], start: int = 1, starts: int = 1) -> Iterator[Visit]:
    """What start `start` of `starts` (from 1) serves. Each start begins with another event, the last repeats them.

    Requests are sampled in turns, so that an event that is served twice is served in both ways.
    """
    shift = (start - 1) * len(events) // starts
    ordered = (*events[shift:], *events[:shift])
    turns = [(position if starts == 1 else start - 1) % 2 == 1 for position in range(len(ordered))]
    for invocation, sampled in zip(ordered, turns, strict=True):
        yield Visit(replace(invocation, sampled=sampled))
    if start == starts and ordered:
        for invocation, sampled in zip(ordered, turns, strict=True):
            yield Visit(replace(invocation, sampled=not sampled), again=True)
        yield Visit(ordered[0], restarted=True)
