"""The profile as data: frozen, hashable values with no behaviour beyond their own consistency.

Profile(function=ProfiledFunction("thumbnail", "app.handler", runtime_api=True),
        uses=frozenset({Use("init", "openat", "read", 120, frozenset({"learned at cold start"}))}), ...)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from sandbox.behaviour.call import Call

SCHEMA = 2
"""What is written; 1 is read, too."""
Phase = Literal["init", "invoke", "run"]
PHASES: tuple[Phase, ...] = ("init", "invoke", "run")
Aim = Literal["self", "child", "other"]
AIMS: tuple[Aim, ...] = ("self", "child", "other")
"""Whom a call reaches: its own process, another process of the function's tree, or anything else."""
STRICTNESS = ("report", "deny", "terminate")
"""What can be done about a refused call, the laxest first."""
RUNTIME_API = "runtime-api"
"""The destination that every function of the Runtime API has."""


SECONDS = {"s": 1, "m": 60, "h": 3600}
NAMES_KEEP = "1h"
"""The usual: pools and virtual machines connect to an address long after they have looked it up."""


def seconds(duration: str) -> int:
    """The seconds of `90s`, `15m` or `2h`; 0 for `forever`."""
    return 0 if duration == "forever" else int(duration[:-1]) * SECONDS[duration[-1]]


@dataclass(frozen=True, order=True)
class ProfiledFunction:
    """What the profile is for. `handler` is MODULE.FUNCTION or a command, as information for people.

    `environment` are the names, sorted, of the variables that training was given; values are nowhere in a profile.
    """

    name: str
    handler: str = ""
    runtime_api: bool = True
    environment: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Use:
    """One call in one phase; `arg_class` is '' for a syscall without classes.

    `count` is how often training saw it; `because` are the reasons, of which those that begin with `learned` come from
    the recorder and the others from people. `by` are the distributions that make it, where it is dangerous.
    """

    phase: Phase
    syscall: str
    arg_class: str
    count: int = 0
    because: frozenset[str] = frozenset()
    by: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, str, str]:
        """What two uses must share to be the same item."""
        return (self.phase, self.syscall, self.arg_class)

    @property
    def call(self) -> Call:
        """What is called, in whatever phase."""
        return Call(self.syscall, self.arg_class)


Section = Literal["network", "listen", "processes", "write"]
SECTIONS: tuple[Section, ...] = ("network", "listen", "processes", "write")
"""The lists of which each entry may say who uses it."""


class UsedBy(NamedTuple):
    """That a distribution uses an entry of a section: its name as PEP 503 normalises it.

    `python` is the standard library, `function` the function's own code. Nobody is allowed or refused by it.
    """

    section: Section
    entry: str
    distribution: str


Seen = Literal["", "loaded", "executed"]
SEEN: tuple[Seen, ...] = ("", "loaded", "executed")
"""How training met a library in a phase: not, its code was opened, or it stood on a stack that was read."""


@dataclass(frozen=True, order=True)
class Library:
    """A distribution whose code training loaded, and how it was met in each phase. `version` is '' where unknown."""

    name: str
    version: str
    init: Seen = ""
    invoke: Seen = ""
    run: Seen = ""

    def united(self, other: Library) -> Library:
        """The same library, met as either says."""
        init, invoke, run = (
            max(pair, key=SEEN.index)
            for pair in ((self.init, other.init), (self.invoke, other.invoke), (self.run, other.run))
        )
        return replace(self, init=init, invoke=invoke, run=run)


@dataclass(frozen=True, order=True)
class Grant:
    """A person's word that a hard-denied call (with these classes; none means all) is needed, and why."""

    syscall: str
    classes: frozenset[str]
    because: str


@dataclass(frozen=True, order=True)
class Tolerated:
    """A hard-denied call that training made, was refused with `errno`, and survived: it meets the same errno again.

    `at` is whom it was aimed at; at anything else the call is answered as if it were not listed.
    """

    phase: Phase
    syscall: str
    arg_class: str
    at: Aim
    errno: str
    because: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What two of them must share to be the same entry."""
        return (self.phase, self.syscall, self.arg_class, self.at)

    @property
    def call(self) -> Call:
        """What is called, in whatever phase."""
        return Call(self.syscall, self.arg_class)


class Ignore(NamedTuple):
    """A person's word that a finding of lint does not matter here, and why. `at` is its subject, '' for any."""

    rule: str
    at: str
    because: str


@dataclass(frozen=True, order=True)
class Verified:
    """The last time that the events of training were served again: ok, or what disagreed, in audit and enforced."""

    date: str
    tool: str
    events: int
    audit: str
    enforce: str


@dataclass(frozen=True, order=True)
class Estimate:
    """Completeness of one phase (profile/completeness.py). Shares are between 0 and 1; Chao2 counts items.

    `users` is the share of samples in which a library used what others used, and it in no other.
    """

    phase: Phase
    samples: int
    items: int
    once: int
    novelty: float
    quiet: int
    bound: float
    chao2: float
    users: float = 0.0


@dataclass(frozen=True, order=True)
class Training:
    """One training: where it ran, what it ran, and how complete it was. `id` is a digest of its observations.

    `date` is YYYY-MM-DD, `tool` the version that learned, `circumstances` names of profile/circumstances.py, `platform`
    what was imitated.
    """

    id: str
    host: str = ""
    kernel: str = ""
    libc: str = ""
    python: str = ""
    architecture: str = ""
    handler_digest: str = ""
    lock_digest: str = ""
    estimates: tuple[Estimate, ...] = ()
    date: str = ""
    tool: str = ""
    circumstances: str = ""
    platform: str = ""


PROVENANCE = {
    "host": "host", "kernel": "kernel", "libc": "libc", "python": "python", "architecture": "architecture",
    "handler": "handler_digest", "lock": "lock_digest", "date": "date", "tool": "tool",
    "circumstances": "circumstances", "platform": "platform",
}  # fmt: skip
"""The facts of a training by their names in a profile, in their order there: the attributes of Training."""


@dataclass(frozen=True)
class Profile:
    """A function's profile. `reads` and `writes` are folded paths (`/tmp/*`, `{root}/**`), `network` destinations.

    `digests` are pairs of a program and the SHA-256 of its content, `interpreters` pairs of one and a program that
    interprets it (man 2 execve). `listen` are the addresses to listen on, as destinations are written. `listen_because`
    are pairs of an entry and a person's reason for it, `by` says which libraries use an entry, `libraries` holds those
    that training loaded, each version once. `names_keep` is how long an address stays with its name (`90s`,
    `forever`), '' for the usual; `names_receives` are the calls by which resolvers see who answered.

    `on_anomaly` are pairs of a detector, or `all`, and what is done about what it suspects (behaviour/anomaly.py).

    `most` are pairs of what is counted (anomaly.MOST), and the most of it that one event of training did or left.

    `audit_until` is the date (YYYY-MM-DD) from which on it is enforced, '' for always; `responses` are pairs (text of a
    call, deny|terminate|report) where a person wants another answer than the usual.
    """

    function: ProfiledFunction
    uses: frozenset[Use] = frozenset()
    processes: frozenset[str] = frozenset()
    network: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    grants: frozenset[Grant] = frozenset()
    trainings: frozenset[Training] = frozenset()
    promises: tuple[str, ...] = field(default=())
    audit_until: str = ""
    responses: frozenset[tuple[str, str]] = frozenset()
    listen: frozenset[str] = frozenset()
    listen_because: frozenset[tuple[str, str]] = frozenset()
    by: frozenset[UsedBy] = frozenset()
    libraries: frozenset[Library] = frozenset()
    names_keep: str = ""
    names_receives: frozenset[str] = frozenset()
    tolerates: frozenset[Tolerated] = frozenset()
    verified: Verified | None = None
    digests: frozenset[tuple[str, str]] = frozenset()
    interpreters: frozenset[tuple[str, str]] = frozenset()
    on_anomaly: frozenset[tuple[str, str]] = frozenset()
    most: frozenset[tuple[str, int]] = frozenset()
    ignores: frozenset[Ignore] = frozenset()

    def names_kept(self) -> int:
        """For how many seconds an address stays with its name after its time to live; 0 for good."""
        return seconds(self.names_keep or NAMES_KEEP)

    def users(self, section: Section) -> dict[str, list[str]]:
        """{entry: the distributions that use it, in order} of a section; no more than is known."""
        found: dict[str, list[str]] = {}
        for where, entry, distribution in sorted(self.by):
            if where == section:
                found.setdefault(entry, []).append(distribution)
        return found

    def phase(self, phase: Phase) -> tuple[Use, ...]:
        """The uses of one phase, sorted by syscall and class."""
        return tuple(sorted(use for use in self.uses if use.phase == phase))

    def items(self) -> frozenset[Call]:
        """The calls of every phase."""
        return frozenset(use.call for use in self.uses)
