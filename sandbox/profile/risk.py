"""How much a line of a profile opens to an attack: one scale for what is proposed, compared and explained."""

from __future__ import annotations

from typing import Literal

from sandbox.behaviour.call import Call
from sandbox.profile import base
from sandbox.violations.record import technique_of

Risk = Literal["high", "medium", "low"]
RISKS: tuple[Risk, ...] = ("low", "medium", "high")
"""Ascending; profiles/base/promises.yaml says what each word means."""


def of_call(call: Call) -> Risk:
    """As a violation says it, and high in any case for what a reviewer must not overlook."""
    risk, _, _ = technique_of(call)
    if risk == "high" or base.find(base.dangerous(), call):
        return "high"
    return "medium" if risk == "medium" else "low"


def of_entry(section: str) -> Risk:
    """Of an entry of `processes`, `network`, `listen`, `files.read` or `files.write`, whatever it is."""
    return "low" if section == "files.read" else "medium" if section == "files.write" else "high"


def of_promise(name: str) -> Risk:
    """Of the calls that a promise stands for; `low` where promises.yaml leaves the word out."""
    found = next((promise.risk for promise in base.promises() if promise.name == name), "")
    return "high" if found == "high" else "medium" if found == "medium" else "low"
