"""Taking in: from sources of any sort to rows of the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from sandbox import bundle
from sandbox.errors import PolicyInvalid, ProfileError, SandboxError
from sandbox.fleet.lines import Found, Ingested, Lines, day_of
from sandbox.fleet.schema import VERSION, identity
from sandbox.fleet.sources import Source, pieces
from sandbox.fleet.store import Store, Writer
from sandbox.kernel import tables
from sandbox.profile import document
from sandbox.profile.model import PROVENANCE, Profile

PROFILES = (".yaml", ".yml")
LARGEST = 64 << 20
"""Bytes of a profile or policy that are read."""


def ingest(store: Store, found: Iterable[Source], tell: Callable[[str], None]) -> tuple[Ingested, Writer]:
    """Take in all sources. `tell` hears what was left out, and why.

    Raises UsageError for a name that means no source, before anything is taken, and DiskFull.
    Whatever ends this, each row is in the store once or not at all, and the same sources again complete it.
    """
    store.tidy()
    writer, counts = Writer(store), Ingested()
    for source in tuple(found):
        try:
            counts.add(_taken(source, writer, tell))
        except SandboxError as error:
            counts.add(Ingested(sources=1, damaged=1))
            tell(str(error))
    writer.flush()
    return counts, writer


def _taken(source: Source, writer: Writer, tell: Callable[[str], None]) -> Ingested:
    name = os.path.basename(source.name)
    if name.endswith(PROFILES) or name == bundle.FILE:
        with source.opened() as file:
            data = file.read(LARGEST)
        rows = _policy(data, source) if name == bundle.FILE else _profile(data, source)
        for table, row in list(rows):
            writer.add(table, (row,))
        return Ingested(sources=1, ours=1)
    taken = Lines(source.name)
    with source.opened() as file:
        for piece in pieces(file, source.name):
            for table, row in taken.feed(piece):
                writer.add(table, (row,))
    for table, row in taken.end():
        writer.add(table, (row,))
    if taken.problem:
        tell(f"{taken.problem}\n  observations that had not ended there were left out, the rest was taken")
    return taken.counts


def _profile(data: bytes, source: Source) -> Iterator[Found]:
    try:
        profile = document.parse(data, source.name).profile
    except ProfileError as error:
        raise ProfileError(f"{error.what}; left out", where=error.where, todo=error.todo) from error
    text = data.decode("utf-8", "replace")
    key = identity("profile", text)
    name = f"{key:016x}"
    changed = source.changed or 0.0
    newest = max((training.date for training in profile.trainings), default="")
    stamp = newest or day_of(changed), profile.function.name, round(changed * 1000) if changed else None
    yield "profiles", (VERSION, identity("profile", text, str(stamp[2])), *stamp, name, source.name, text)
    for section, entries in sections(profile).items():
        for entry in sorted(entries):
            yield "rights", (VERSION, identity("right", name, section, entry), *stamp, name, section, entry)
    for training in sorted(profile.trainings):
        facts = {key: getattr(training, attribute) for key, attribute in PROVENANCE.items()}
        order = (
            "date", "tool", "host", "kernel", "libc", "python", "architecture", "handler", "lock", "platform",
            "circumstances",
        )  # fmt: skip
        row = identity("training", name, training.id)
        yield "trainings", (VERSION, row, *stamp, name, training.id, *(facts[key] for key in order))
        for one in training.estimates:
            row = identity("estimate", name, training.id, one.phase)
            yield "estimates", (
                VERSION, row, *stamp, name, training.id, one.phase, one.samples, one.items, one.novelty, one.quiet,
                one.bound, one.users,
            )  # fmt: skip


def sections(profile: Profile) -> dict[str, frozenset[str]]:
    """The lists of a profile whose entries are rights to reach something, by the names of things."""
    return {
        "destination": profile.network, "listener": profile.listen, "program": profile.processes,
        "written": profile.writes, "read": profile.reads,
    }  # fmt: skip


def _policy(data: bytes, source: Source) -> Iterator[Found]:
    for policy in _policies(data, source.name):
        facts = [(fact, value) for fact, values in policy.provenance.items() for value in values]
        changed = source.changed or 0.0
        stamp = day_of(changed), policy.function, round(changed * 1000) if changed else None
        for fact, value in facts or [("", "")]:
            key = identity("bundle", policy.digest, policy.arch, fact, value, str(stamp[2]))
            yield "bundles", (VERSION, key, *stamp, policy.digest, policy.arch, source.name, fact, value)


def _policies(data: bytes, name: str) -> list[bundle.Policy]:
    found, refused = [], None
    for architecture in tables.ARCHES:
        try:
            found.append(bundle.decode(data, architecture, name))
        except PolicyInvalid as error:  # it may have a filter for the others
            refused = error
    if refused and not found:
        raise PolicyInvalid(f"{refused.what}; left out", where=refused.where, todo=refused.todo) from refused
    return found
