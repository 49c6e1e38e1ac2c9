"""What of a profile's destinations is decided without the Python supervisor: addresses, networks, and names.

By these the native attendant says a sure yes (sandbox/launcher/destinations.c). Everything else, and each no, is the
Python supervisor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.behaviour import destination
from sandbox.behaviour.destination import ANY_PORT, LOOKED_UP, OWN, Entry, needs_own_entry
from sandbox.bundle import PROTOCOLS
from sandbox.profile.model import Profile

if TYPE_CHECKING:
    from sandbox.bundle import Literal

NAMED = ("name", "suffix")


def description(profile: Profile) -> dict[str, object]:
    """What a policy says of them, by the names of bundle.FIELDS."""
    entries = list(destination.entries(profile.network))
    literals = {_literal(entry) for entry in entries if entry.protocol in PROTOCOLS and _has_address(entry)}
    # A network opens no address that needs its own entry; the only one of a network reads as such an entry.
    own = {literal for literal in literals if needs_own_entry(literal[1]) and literal[2] == 8 * len(literal[1])}
    literals -= own - {_literal(entry) for entry in entries if entry.kind == "address"}
    return {
        "own": OWN in profile.network,
        "literals": sorted(literals, key=repr),
        "hosts": sorted({_host(entry) for entry in entries if entry.kind in NAMED}),
    }


def is_attended(entry: Entry) -> bool:
    """Whether connects to it, and questions for it, need no Python supervisor."""
    by_name = entry.kind in NAMED and entry.protocol in (*PROTOCOLS, LOOKED_UP)
    return by_name or (entry.protocol in PROTOCOLS and _has_address(entry))


def _has_address(entry: Entry) -> bool:
    return entry.kind in ("address", "network")


def _literal(entry: Entry) -> Literal:
    assert isinstance(entry.value, bytes)
    bits = entry.bits if entry.kind == "network" else 8 * len(entry.value)
    return entry.protocol, entry.value, bits, None if entry.port == ANY_PORT else entry.port


def _host(entry: Entry) -> str:
    protocol = PROTOCOLS.index(entry.protocol) if entry.protocol in PROTOCOLS else len(PROTOCOLS)
    return f"{protocol}{'****' if entry.port == ANY_PORT else f'{entry.port:04x}'}{entry.value!s}"
