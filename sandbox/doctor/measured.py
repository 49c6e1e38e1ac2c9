"""What the doctor found, as data: facts that were read, and what became of each probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
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
class Facts:
    """What could be read of this process and its platform; None where a fact cannot be had here.

    `seccomp` is 0 (none), 1 (strict) or 2 (filter) (man 5 proc); capabilities are masks in hexadecimal; `descriptors`
    and `processes` are the soft limits, -1 for none.
    """

    kernel: str = ""
    machine: str = ""
    libc: str | None = None
    python: str = ""
    interpreter: str = ""
    uid: int = 0
    gid: int = 0
    proc: bool = False
    no_new_privs: int | None = None
    seccomp: int | None = None
    filters: int | None = None
    threads: int | None = None
    capabilities: str | None = None
    bounding: str | None = None
    descriptors: int | None = None
    processes: int | None = None

    def named(self) -> Iterator[tuple[str, Value]]:
        """Each fact with its name for people and machines: `no-new-privs`."""
        for field in fields(self):
            yield field.name.replace("_", "-"), getattr(self, field.name)


@dataclass(frozen=True)
class Measured:
    """Facts, and probes by name in the order in which they ran."""

    facts: Facts
    probes: Mapping[str, Probed]

    def works(self, name: str) -> bool:
        """Whether a probe worked; one that was not made did not."""
        return self.outcome(name) == "works"

    def outcome(self, name: str) -> Outcome:
        """What became of a probe; `not tried` for one that was not made."""
        return self.probes[name].outcome if name in self.probes else "not tried"
