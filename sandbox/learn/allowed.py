"""Whether a profile allows what training reached, at the granularity that is enforced: folders, ports, whole programs.

Files are decided as Landlock decides them (behaviour/permissions.py), from the rules that the profile compiles to,
those of every program included; destinations and listeners as the supervisor decides them.
"""

from __future__ import annotations

from sandbox.behaviour import destination, listener
from sandbox.behaviour.access import Access
from sandbox.behaviour.call import Call
from sandbox.behaviour.destination import Entry
from sandbox.behaviour.path import covers, rule_of
from sandbox.behaviour.permissions import Permissions, allows
from sandbox.confine.landlock_rules import DEVICES, READ, WRITE
from sandbox.egress.destinations import Destinations
from sandbox.kernel import landlock
from sandbox.learn.rights import Thing
from sandbox.policy.build import file_fields
from sandbox.profile.model import Profile

NOBODY = bytes((0, 0, 0, 1))
"""An address that no destination has, for a name whose addresses are not known (0.0.0.0/8 is "this network")."""


class Allowed:
    """One profile, ready to be asked."""

    def __init__(self, profile: Profile) -> None:
        fields = file_fields(profile)
        self._files = _Files(fields) if fields["listed"] else None
        known = [entry.text for entry in destination.entries(profile.network)]
        self._destinations = Destinations(known, frozenset())
        wide = [text for text in known if destination.parse(text).is_pattern]
        self._wide = Destinations(wide, frozenset())
        self._profile = profile

    def allows(self, thing: Thing) -> bool:
        """Whether the profile allows it."""
        if thing.reach in ("read", "write"):
            return self._files is None or self._files.allows(thing)
        if thing.reach == "network":
            return _decide(self._destinations, thing.text)
        if thing.reach == "listen":
            return bool(self._listeners(thing.text))
        known = self._profile.processes
        return thing.text in known or any(covers(line, thing.text) for line in known if "*" in line)

    def only_by_name(self, thing: Thing) -> bool:
        """Whether it is allowed by a line that means this one thing, so that without this line it would not be."""
        if thing.reach in ("read", "write"):
            return self._files is not None and self._files.only_by_name(thing)
        if thing.reach == "network":
            return self.allows(thing) and not _decide(self._wide, thing.text)
        if thing.reach == "listen":
            return self._listeners(thing.text) == [thing.text]
        return thing.text in self._profile.processes

    def _listeners(self, text: str) -> list[str]:
        """The entries of `listen` that allow an address."""
        wanted = next(listener.entries([text]), None)
        known = listener.entries(self._profile.listen)
        return [entry.text for entry in known if wanted and listener.covers(entry, wanted)]


class _Files:
    """The rules on files of a profile that lists some."""

    def __init__(self, fields: dict[str, object]) -> None:
        rules: list[tuple[str, int]] = []
        self._single: dict[str, int] = {}
        for name, rights in (("read", READ), ("write", READ | WRITE)):
            patterns = fields[name]
            assert isinstance(patterns, list)
            for pattern in patterns:
                base, path, whole = rule_of(pattern)
                if whole:
                    rules.append((base + path, rights))
                else:  # of a folder it gives no more than the names in it
                    self._single[base + path] = self._single.get(base + path, 0) | rights
        self._permissions = Permissions(READ | WRITE | DEVICES, rules)

    def allows(self, thing: Thing) -> bool:
        asked, whole = _asked(thing)
        single = not whole and self._single.get(asked.thing, 0) & asked.rights == asked.rights
        return single or not allows(self._permissions, [asked]).errno

    def only_by_name(self, thing: Thing) -> bool:
        asked, _ = _asked(thing)
        written = thing.reach == "read" and self._single.get(asked.thing, 0) & WRITE
        return self.allows(thing) and not written and bool(allows(self._permissions, [asked]).errno)


def _asked(thing: Thing) -> tuple[Access, bool]:
    """The access that reached a thing, and whether that is all below a folder."""
    base, path, whole = rule_of(thing.text)
    if thing.reach == "read":
        rights = landlock.ACCESS_FS_READ_FILE | (landlock.ACCESS_FS_READ_DIR if whole else 0)
    else:
        rights = landlock.ACCESS_FS_MAKE_REG if whole else landlock.ACCESS_FS_WRITE_FILE
    return Access(Call("openat", thing.reach), "", thing.reach, base + path, rights=rights), whole


def _decide(destinations: Destinations, text: str) -> bool:
    entry = next(destination.entries([text]), None)
    if entry is None:
        return False  # what no profile can hold
    if entry.kind == destination.OWN:
        return destinations.allows_own
    if entry.kind == destination.ROUTES:
        return destinations.allows_routes
    return entry.kind == destination.RUNTIME_API or _matches(destinations, entry)


def _matches(destinations: Destinations, entry: Entry) -> bool:
    if entry.protocol == destination.LOOKED_UP:
        return destinations.allows_name(str(entry.value))
    if entry.kind == "name":
        return destinations.decide(entry.protocol, NOBODY, entry.port, frozenset({str(entry.value)})).allowed
    if entry.kind == "abstract":
        return destinations.decide("unix", str(entry.value)).allowed
    return destinations.decide(entry.protocol, entry.value, max(entry.port, 0)).allowed
