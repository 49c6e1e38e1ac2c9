"""`sandbox learn --generalise`: what is behind a high novelty, and wider lines that would lower it, on consent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from sandbox.cli.output import agrees, on_terminal, say
from sandbox.errors import printable
from sandbox.learn.generalise import Learned, widened
from sandbox.learn.proposal import behind, proposals
from sandbox.profile.completeness import THIN
from sandbox.profile.diff import diff, lines
from sandbox.profile.model import Estimate, Phase, Profile

SHOWN = 5
"""Kinds of new items that are named."""


class Generalise(StrEnum):
    """Whether wider lines are accepted; `ask` on a terminal, and without one `never`."""

    ask = "ask"
    never = "never"
    yes = "yes"


Option = Annotated[Generalise, typer.Option("--generalise", help="Accept wider lines that make fewer events new")]


def offer(
    learned: Learned, answer: Generalise, merged: Callable[[Profile], Profile], *, json_output: bool
) -> tuple[Learned, dict[str, Any]]:
    """What is learned, with the wider lines if they are accepted; and what is said of them, for machines.

    `merged` gives the profile as it will be written.
    """
    before = estimates(learned.profile)
    # One sample alone is always new.
    high = [phase for phase, estimate in before.items() if estimate.novelty > THIN and estimate.samples > 1]
    novel = {event: needs for event, needs in learned.left_out.novel().items() if event.phase in high}
    proposed = proposals(novel)
    items = behind(novel, proposed)[:SHOWN]
    wider = widened(learned, proposed) if proposed else learned
    after = estimates(wider.profile)
    change = [printable(line) for line in lines(diff(merged(learned.profile), merged(wider.profile)))]
    accepted = bool(change) and answer is Generalise.yes
    told: dict[str, Any] = {
        "new": [{**vars(one), "examples": list(one.examples)} for one in items], "proposed": change,
    }  # fmt: skip
    if not json_output:
        for one in items:
            say(f"new: {one}")
        if change:
            lower = ", ".join(
                f"{phase} from {before[phase].novelty:.0%} to {after[phase].novelty:.0%}"
                for phase in high if after[phase].novelty < before[phase].novelty
            )  # fmt: skip
            say(f"wider lines would lower the share of new events{f' in {lower}' if lower else ''}:")
            for line in change:
                say(f"  {line}")
            if answer is Generalise.ask and sys.stdin.isatty() and on_terminal():
                accepted = agrees("Accept them?")
            else:
                say("  accepted" if accepted else "  not accepted; --generalise yes does")
    return wider if accepted else learned, {**told, "generalised": accepted}


def estimates(profile: Profile) -> dict[Phase, Estimate]:
    """The estimates of a profile that was just learned, by phase."""
    return {estimate.phase: estimate for training in profile.trainings for estimate in training.estimates}
