"""What lint finds: a finding with its rule, and the rules with what each means. An id never changes its meaning.

    profiles/thumbnail.yaml:31:5: error: execve in invoke (runs another program) has no reason in a person's words
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
"""Ascending."""


class LintRule(NamedTuple):
    """What a rule is about, why it matters, and whether a profile may ignore it, with a reason."""

    title: str
    why: str
    can_be_ignored: bool = True


RULES: Mapping[str, LintRule] = {
    "invalid": LintRule(
        "The profile is not valid", "No bundle can be compiled of it: correct the line that it names.", False
    ),
    "no-reason": LintRule(
        "A dangerous call has no reason",
        "What attacks are made of needs a person's word for why this function does it: write it under `because`.", False
    ),
    "empty-reason": LintRule(
        "A reason says nothing", "A reviewer can approve only what is explained: say what the function does with it.",
        False,
    ),
    "unknown-promise": LintRule("A promise does not exist", "It misleads whoever reads the profile.", False),
    "unneeded-promise": LintRule("A promise without a call", "It grants nothing, but says that it does: remove it."),
    "programs-without-exec": LintRule(
        "Programs are listed, but none can start", "Either the list is a rest of older code, or exec is missing."
    ),
    "exec-without-programs": LintRule(
        "Exec is allowed, but no program is listed", "The call is open to attacks and of no use to the function."
    ),
    "writable-program": LintRule(
        "A program lies where the function writes",
        "Whoever can write a file there can choose what is started: package it elsewhere, or list its contents.",
    ),
    "interpreter-listed": LintRule(
        "An interpreter starts for any script", "What is listed as a program starts with any argument."
    ),
    "any-destination": LintRule(
        "Every destination is allowed", "Stolen data can go anywhere: name the hosts that the function talks to."
    ),
    "metadata": LintRule(
        "The machine's credentials are in reach",
        "The metadata service gives whoever asks the role of the machine: give the function credentials of its own.",
    ),
    "resolver": LintRule(
        "A resolver is asked directly", "Questions carry data out: names that the supervisor answers do not."
    ),
    "address": LintRule("A destination is an address", "Addresses change owners: write the host's name."),
    "any-listener": LintRule("Any address can be listened on", "Where others reach the function was never decided."),
    "listens-on-all": LintRule(
        "Listens on every address of the host", "Others on the network reach it: say who connects from outside."
    ),
    "writes-elsewhere": LintRule(
        "Writes outside its own folders", "What is written there outlives the function and reaches others."
    ),
    "whole-folder": LintRule(
        "A pattern opens its whole folder", "Landlock holds no random part of a name: keep nothing else there."
    ),
    "library-name": LintRule("A library's name is not normalised", "No stack can be compared with it."),
    "tolerated": LintRule(
        "A hard-denied call is tolerated", "It stays refused, but no longer ends the function, or is of low risk."
    ),
    "not-verified": LintRule(
        "The events of training were not served again", "Enforced, the function would fail as it did there."
    ),
    "detector-off": LintRule("A detector is switched off", "What it would suspect leaves no line."),
    "detector-idle": LintRule("A detector has nothing to go by", "It suspects nobody until training tells it more."),
    "old-schema": LintRule("An older schema", "It holds less than training learns now: train again."),
    "variables": LintRule("Training was given variables", "Without them the function may do what training never saw."),
    "incomplete": LintRule("Nothing is known of a phase", "Nobody can say what enforcement will refuse of it."),
    "thin-training": LintRule("Training saw too little", "Enforcement may refuse what the function needs: train more."),
    "one-host": LintRule("Trained on one kind of host", "Another architecture, libc or platform may need other calls."),
    "circumstances": LintRule("Training saw few circumstances", "Production starts and serves functions in more."),
    "ignore-without-reason": LintRule(
        "An ignored finding has no reason", "It is not ignored until the line says why it does not matter here.", False
    ),
    "unused-ignore": LintRule(
        "An ignore matches no finding", "The next finding like it would be ignored unseen: remove the line.", False
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One objection. `line` and `column` count from 1; `todo` says what to do about it.

    `rule` is one of RULES, `subject` what of the profile it is about, as its text stands there; `ignored` is the reason
    for which the profile ignores it, '' for none; `excerpt` shows the line of what cannot be read at all.
    """

    severity: Severity
    file: str
    line: int
    column: int
    message: str
    todo: str
    rule: str = "invalid"
    subject: str = ""
    ignored: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        severity = f"ignored {self.severity}" if self.ignored else self.severity
        return f"{self.file}:{self.line}:{self.column}: {severity}: {self.message}"
