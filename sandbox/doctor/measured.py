"""What the doctor found, as data: facts that were read, and what became of each probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Value = bool | int | str | None

Outcome = Literal["works", "refused", "fails", "killed", "no answer", "not tried"]
"""`refused` by an errno, `killed` by a signal; `fails` says in words what is wrong, `no answer` came in time."""


@dataclass(frozen=True)
class Probed:
    """One probe. `errno` is a name (EPERM ...) where the outcome is `refused`; `detail` is for people."""

    outcome: Outcome
    errno: str = ""
    detail: str = ""

    @property
    def works(self) -> bool:
        """Whether it did what it should."""
        return self.outcome == "works"


@dataclass(frozen=True)
class Measured:
    """Facts by name, and probes by name in the order in which they ran."""

    facts: Mapping[str, Value]
    probes: Mapping[str, Probed]

    def works(self, name: str) -> bool:
        """Whether a probe worked; one that was not made did not."""
        return self.outcome(name) == "works"

    def outcome(self, name: str) -> Outcome:
        """What became of a probe; `not tried` for one that was not made."""
        return self.probes[name].outcome if name in self.probes else "not tried"
