"""Everything that a report shows, gathered once; both its forms are made of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sandbox import __version__
from sandbox.profile import document, lint
from sandbox.profile.completeness import best_estimates, still_needed
from sandbox.profile.finding import Finding
from sandbox.profile.model import SECTIONS, Estimate, Library, Profile
from sandbox.profile.promises import uses_by_promise
from sandbox.profile.risk import RISKS, Risk
from sandbox.report import timeline, tree, words
from sandbox.report.surface import Surface, surface_of
from sandbox.review import changes as compared

FEW = 40
"""Changes that are shown at once; the others are folded away."""
MOST = 200
"""Rows of a table; how many more there are is said."""


@dataclass(frozen=True)
class KnownPhase:
    """One estimate, with how many more quiet samples bring it to the target; 0 where it is reached."""

    estimate: Estimate
    more: int


@dataclass(frozen=True)
class LibraryUses:
    """One distribution: how training met it, and which entries of the profile it uses, as (section, entry)."""

    name: str
    library: Library | None
    uses: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Contents:
    """What a page says. `log` is None where no events were given, `changes` None where no older profile was."""

    profile: Profile
    digest: str
    tool: str
    surface: Surface
    sentences: tuple[tuple[str, str], ...]
    shared: tuple[words.Shared, ...]
    abilities: tuple[words.Ability, ...]
    known: tuple[KnownPhase, ...]
    users: tuple[LibraryUses, ...]
    findings: tuple[Finding, ...]
    files: tree.Tree
    destinations: tree.Tree
    log: timeline.ReadLog | None = None
    changes: tuple[compared.ProfileChange, ...] | None = None
    old_name: str = ""

    @property
    def programs(self) -> str:
        """How many programs it may start."""
        return "any" if words.starts_any(self.profile) else str(len(self.profile.processes))

    @property
    def ranked(self) -> tuple[compared.ProfileChange, ...]:
        """The changes in the order of a review; where they are many, those first that open the most."""
        found = self.changes or ()
        if len(found) <= FEW:
            return found
        return tuple(sorted(found, key=lambda change: (change.effect != "widens", -RISKS.index(change.risk))))

    @property
    def widest(self) -> Risk | None:
        """The highest risk of what the older profile did not allow; None where nothing is new."""
        return compared.widest(self.changes or ())

    @property
    def worst(self) -> KnownPhase | None:
        """The phase that training knows the least."""
        return max(self.known, key=lambda known: known.estimate.bound, default=None)


def gather(
    new: document.Document, log: timeline.ReadLog | None = None, old: document.Document | None = None
) -> Contents:
    """What a report of a profile says. Raises ProfileError for one that does not compile."""
    profile = new.profile
    estimates, shared = best_estimates(profile.trainings), words.shared(profile)
    return Contents(
        profile=profile,
        digest=hashlib.sha256(document.write(profile).encode()).hexdigest(),
        tool=__version__,
        surface=surface_of(profile),
        sentences=words.sentences(profile, shared),
        shared=shared,
        abilities=words.abilities(profile),
        known=tuple(KnownPhase(estimate, still_needed(estimate.quiet)) for _, estimate in estimates),
        users=_users(profile),
        findings=tuple(sorted(lint.lint(new), key=lambda one: ("error", "warning", "info").index(one.severity))),
        files=tree.files(profile),
        destinations=tree.destinations(profile),
        log=log,
        changes=compared.changes(old, new) if old else None,
        old_name=old.source if old else "",
    )


def _users(profile: Profile) -> tuple[LibraryUses, ...]:
    """Who uses what, each distribution once: those that use something first."""
    uses: dict[str, list[tuple[str, str]]] = {}
    for section in SECTIONS:
        for entry, names in profile.users(section).items():
            for name in names:
                uses.setdefault(name, []).append((section, entry))
    for promised in uses_by_promise(profile.uses).values():
        for use in promised:
            for name in use.by:
                uses.setdefault(name, []).append(("syscalls", f"{use.call} in {use.phase}"))
    libraries = {library.name: library for library in sorted(profile.libraries)}
    names = sorted({*uses, *libraries}, key=lambda name: (name not in uses, name))
    return tuple(LibraryUses(name, libraries.get(name), tuple(uses.get(name, ()))) for name in names)
