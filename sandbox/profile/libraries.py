"""Which lines of a profile a library's uses belong to, once things are folded into lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sandbox.behaviour import destination, listener, spelling
from sandbox.behaviour.anomaly import NEW_LIBRARY
from sandbox.behaviour.destination import Entry
from sandbox.behaviour.path import covers
from sandbox.profile.model import SECTIONS, Library, Profile, Section, UsedBy
from sandbox.violations.library import FUNCTION, PYTHON, named
from sandbox.violations.record import Violation

VERBS = {
    "network": "connects to", "listen": "listens on", "processes": "starts", "write": "writes", "syscalls": "makes",
}  # fmt: skip

Covering = Callable[[str], Iterable[str]]
"""The lines that allow a thing."""


def placed(uses: Iterable[UsedBy], profile: Profile) -> frozenset[UsedBy]:
    """The uses, each of the lines of the profile that allow what was used: its own, else those that cover it."""
    lines = coverings(profile)
    return frozenset(
        UsedBy(section, line, distribution)
        for section, entry, distribution in uses for line in lines[section](entry)
    )  # fmt: skip


def united_libraries(libraries: Iterable[Library]) -> frozenset[Library]:
    """Each library of a version once, met as any of them says."""
    found: dict[tuple[str, str], Library] = {}
    for one in libraries:
        key = (one.name, one.version)
        found[key] = one.united(found[key]) if key in found else one
    return frozenset(found.values())


def learned_users(uses: frozenset[UsedBy]) -> frozenset[UsedBy]:
    """Without the entries that the function's own code alone uses: they need no word."""
    others = {(use.section, use.entry) for use in uses if use.distribution != FUNCTION}
    return frozenset(use for use in uses if (use.section, use.entry) in others)


def uses_named(violation: Violation, section: str, entry: str) -> Iterator[UsedBy]:
    """The use of an entry by the library that a violation names; `section` is one of `network`, `files.write` ..."""
    where = next((name for name in SECTIONS if name == section.removeprefix("files.")), None)
    origin = violation.by
    if where and origin and (name := named(origin.distribution) if origin.library else FUNCTION):
        yield UsedBy(where, entry, name)


def with_library(profile: Profile, violation: Violation, section: str, entry: str) -> str:
    """The entry that a new library used, with it among those that training knows; '' for no such violation."""
    uses = uses_named(violation, section, entry) if violation.anomaly == NEW_LIBRARY else ()
    for use in placed(uses, profile):
        known = profile.users(use.section).get(use.entry, ())
        if use.distribution != FUNCTION:
            return spelling.of_entry(section, use.entry, sorted({*known, use.distribution}))
    return ""


def coverings(profile: Profile) -> Mapping[Section, Covering]:
    """By section, what gives the lines of a profile that allow a thing: its own, else those that cover it."""
    return {
        "network": _sockets(profile.network, _allows, destination.entries),
        "listen": _sockets(profile.listen, listener.covers, listener.entries),
        "processes": _paths(profile.processes),
        "write": _paths(profile.writes),
    }


@dataclass(frozen=True)
class UserChange:
    """A distribution that uses an entry, or makes a call, now (`+`) or no longer.

    `section` is that of the entry or `syscalls`; `distribution` is '' where anybody may now, and it is not an anomaly.
    """

    sign: Literal["+", "-"]
    section: str
    entry: str
    distribution: str

    def __str__(self) -> str:
        """`requests now also connects to api.example.com:443`."""
        who = {FUNCTION: "the function's own code", PYTHON: "Python's own library", "": "any library"}.get(
            self.distribution, self.distribution
        )
        how = "now also" if self.sign == "+" else "no longer"
        return f"{who} {how} {VERBS[self.section]} {self.entry}"


def changes(old: Profile, new: Profile) -> Iterator[UserChange]:
    """What uses that training knew have come, and gone, of entries that both have; what was unknown is not a change."""
    before, after = _Users(old), _Users(new)
    for section, entry, distribution in sorted(after.by):
        if before.lacks(section, entry, distribution):
            yield UserChange("+", section, entry, distribution)
    for section, entry in after.unknown():
        if before.are_known(section, entry):
            yield UserChange("+", section, entry, "")
    for section, entry, distribution in sorted(before.by):
        if after.lacks(section, entry, distribution):
            yield UserChange("-", section, entry, distribution)
    uses = {use.key: use.by for use in old.uses}
    for use in sorted(new.uses):
        known = uses.get(use.key, frozenset())
        call = f"{use.call} in {use.phase}"
        if known and not use.by:
            yield UserChange("+", "syscalls", call, "")
        elif known:
            yield from (UserChange("+", "syscalls", call, name) for name in sorted(use.by - known))
            yield from (UserChange("-", "syscalls", call, name) for name in sorted(known - use.by))


class _Users:
    """Who uses the lines of one profile."""

    def __init__(self, profile: Profile) -> None:
        self.by = placed(profile.by, profile)
        self._lines = coverings(profile)
        self._known: dict[tuple[Section, str], set[str]] = {}
        self._entries: Mapping[Section, frozenset[str]] = {
            "network": profile.network, "listen": profile.listen, "processes": profile.processes,
            "write": profile.writes,
        }  # fmt: skip
        for section, entry, distribution in self.by:
            self._known.setdefault((section, entry), set()).add(distribution)

    def are_known(self, section: Section, entry: str) -> bool:
        """Whether the profile allows an entry, and says of each line that allows it who uses it."""
        lines = tuple(self._lines[section](entry))
        return bool(lines) and all((section, line) in self._known for line in lines)

    def lacks(self, section: Section, entry: str, distribution: str) -> bool:
        """Whether it knows who uses an entry, and this one does not."""
        lines = self._lines[section](entry)
        users = set[str]().union(*(self._known.get((section, line), ()) for line in lines))
        return self.are_known(section, entry) and distribution not in users

    def unknown(self) -> Iterator[tuple[Section, str]]:
        """The entries of which nobody's use is known."""
        for section, entries in self._entries.items():
            yield from ((section, entry) for entry in sorted(entries) if (section, entry) not in self._known)


def _allows(entry: Entry, other: Entry) -> bool:
    """Whether a destination allows another: by a wildcard of hosts or ports, too."""
    if destination.covers(entry, other):
        return True
    if entry.protocol != other.protocol or entry.port not in (other.port, destination.ANY_PORT):
        return False
    if entry.kind == "suffix":
        return other.kind in ("name", "suffix") and str(other.value).endswith(str(entry.value))
    return (entry.kind, entry.value) == (other.kind, other.value)


def _paths(known: frozenset[str]) -> Covering:
    return lambda text: (text,) if text in known else [line for line in known if covers(line, text)]


def _sockets(
    known: frozenset[str], compare: Callable[[Entry, Entry], bool], parsed: Callable[[Iterable[str]], Iterator[Entry]]
) -> Covering:
    entries = [(text, entry) for text in known for entry in parsed([text])]

    def covering(text: str) -> Iterable[str]:
        if text in known:
            return (text,)
        one = next(parsed([text]), None)
        return [line for line, entry in entries if one and compare(entry, one)]

    return covering
