"""The end of `sandbox learn`: the events served again under their profile, what to say of it, and where to write."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace

from sandbox.cli.output import json_line, say
from sandbox.errors import VerificationFailed, printable
from sandbox.learn.training import TrainingPlan
from sandbox.learn.verification import Served, Verification, verify
from sandbox.profile.model import Profile


def prove(
    plan: TrainingPlan, failed: Collection[str], profile: Profile, denied: frozenset[str], json_output: bool
) -> Verification | None:
    """Serve what training could serve; `failed` names the events that failed there, '' the cold start.

    `denied` are the calls that training was refused.

    None where nothing is left to serve.
    """
    served = tuple(event for event in plan.events if event.name not in failed)
    if "" in failed or (plan.events and not served):
        return None
    if not json_output:
        what = f"{len(served)} events" if served else "the program"
        say(f"serving {what} again under the profile, audited and enforced")
    proof = verify(replace(plan, events=served), profile, denied)
    if json_output:
        modes = {mode.mode: {"outcome": mode.outcome, "accesses": mode.accesses} for mode in proof.modes}
        json_line({"event": "verified", "events": proof.events, **modes})
    else:
        for mode in proof.modes:
            say(f"  {mode.mode}: {mode.outcome}")
    return proof


def failure_of(proof: Verification, path: str) -> VerificationFailed:
    """The error for a profile that does not serve its own events."""
    wrong = [mode for mode in proof.modes if not mode.agrees]
    told = [f"{mode.mode}: {mode.outcome}{_failed(mode)}" for mode in wrong]
    log = "".join(f"\n  | {printable(line)}" for mode in wrong[-1:] for line in mode.log)
    return VerificationFailed(
        f"does not serve the events that it was learned from; {'; '.join(told)}{log}", where=path,
        todo="train on events that do this each time, or amend the profile (`sandbox profile amend`)",
    )  # fmt: skip


def _failed(mode: Served) -> str:
    """The event that failed beside its accesses, or nothing."""
    return f" ({mode.failed})" if mode.accesses and mode.failed else ""


def beside(path: str) -> str:
    """Where a profile goes that disagreed: to its path where nothing is, else beside the one that is there."""
    if not os.path.exists(path):
        return path
    stem, extension = os.path.splitext(path)
    return f"{stem}.unverified{extension}"
