"""What of a profile's destinations is decided without the Python supervisor: addresses, networks, and names.

By these the native attendant says a sure yes (sandbox/launcher/destinations.c). Everything else, and each no, is the
Python supervisor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.behaviour import destination
from sandbox.behaviour.destination import ANY_PORT, LOOKED_UP, OWN, RUNTIME_API, Entry, needs_own_entry
from sandbox.bundle import PROTOCOLS
from sandbox.profile.model import Profile

if TYPE_CHECKING:
    from sandbox.bundle import Literal

NAMED = ("name", "suffix")
NSCD = ("/run/nscd/socket", "/var/run/nscd/socket")
"""Which the C library asks first, and which few hosts have."""


def description(profile: Profile) -> dict[str, object]:
    """What a policy says of them, by the names of bundle.FIELDS."""
    entries = list(destination.entries(profile.network))
    paths = {path for entry in entries if entry.kind == "path" for path in _paths(str(entry.value))}
    literals = {_literal(entry) for entry in entries if entry.protocol in PROTOCOLS and _has_address(entry)}
    # A network opens no address that needs its own entry; the only one of a network reads as such an entry.
    own = {literal for literal in literals if needs_own_entry(literal[1]) and literal[2] == 8 * len(literal[1])}
    literals -= own - {_literal(entry) for entry in entries if entry.kind == "address"}
    return {
        "judged": bool(profile.on_anomaly),
        "own": OWN in profile.network,
        "literals": sorted(literals, key=repr),
        "socket_paths": sorted(paths),
        "hosts": sorted({_host(entry) for entry in entries if entry.kind in NAMED}),
    }


def is_attended(entry: Entry) -> bool:
    """Whether who reaches it, and asks for its name, needs no Python supervisor."""
    if entry.value in NSCD:
        return True
    if entry.kind in NAMED:
        return entry.protocol in (*PROTOCOLS, LOOKED_UP)
    return entry.kind == RUNTIME_API or (entry.protocol in PROTOCOLS and _has_address(entry))


def _paths(path: str) -> tuple[str, ...]:
    """A path, and how it reads by the link that most hosts have to /run."""
    return (path, f"/var{path}") if path.startswith("/run/") else (path,)


def _has_address(entry: Entry) -> bool:
    return entry.kind in ("address", "network")


def _literal(entry: Entry) -> Literal:
    assert isinstance(entry.value, bytes)
    bits = entry.bits if entry.kind == "network" else 8 * len(entry.value)
    return entry.protocol, entry.value, bits, None if entry.port == ANY_PORT else entry.port


def _host(entry: Entry) -> str:
    protocol = PROTOCOLS.index(entry.protocol) if entry.protocol in PROTOCOLS else len(PROTOCOLS)
    return f"{protocol}{'****' if entry.port == ANY_PORT else f'{entry.port:04x}'}{entry.value!s}"
