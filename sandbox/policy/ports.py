"""What a policy says of TCP ports, which Landlock holds without a supervisor, and of what nobody holds then.

Landlock's rules know the port and not the address (man 7 landlock, LANDLOCK_RULE_NET_PORT), and TCP alone.
"""

from __future__ import annotations

from sandbox.behaviour import destination, listener
from sandbox.behaviour.destination import ANY_PORT, OWN, RUNTIME_API
from sandbox.names import DNS_PORT
from sandbox.policy.rules import refused_quietly
from sandbox.profile import base
from sandbox.profile.model import Profile

NAMED = ("name", "suffix")
STREAM = "type1"
"""What a person may write for TCP: sockets of SOCK_STREAM by their number."""

SHOWN = 6
"""Ports in a status line, as of paths (confine/landlock_rules.py)."""

INET = ("AF_INET", "AF_INET6")
TRANSPORTS = {"SOCK_DGRAM": "UDP", "SOCK_RAW": "raw packets"}


def description(profile: Profile) -> dict[str, object]:
    """What a policy says of ports and sockets, by the names of bundle.FIELDS."""
    network, ports = _connects(profile)
    bind, listens = _binds(profile)
    return {
        "network": network, "network_ports": ports, "network_shown": _shown(ports, "to", behind=network == RUNTIME_API),
        "bind": bind, "bind_ports": listens, "bind_shown": _shown(listens, "on"),
        "abstract": "own" if _keeps_abstract(profile) else "any",
    }  # fmt: skip


def _connects(profile: Profile) -> tuple[str, list[int]]:
    """How connects of TCP are limited, and the ports that the destinations need besides the Runtime API's."""
    function = profile.function.runtime_api
    if not function and not _uses(profile, "connect"):
        return "ports", []
    if not _knows_destinations(profile):
        return "family", []
    entries = list(destination.entries(profile.network))
    tcp = [entry for entry in entries if entry.protocol in ("tcp", STREAM) and entry.kind != RUNTIME_API]
    ports = {entry.port for entry in tcp}
    if OWN in profile.network:
        ports |= _listened(profile)
    if ports & {ANY_PORT, listener.CHOSEN}:
        return "family", []
    if any(entry.kind in NAMED for entry in entries):
        ports.add(DNS_PORT)  # an answer that does not fit into a datagram is asked for again by TCP (RFC 7766)
    return RUNTIME_API if function else "ports", sorted(ports)


def _knows_destinations(profile: Profile) -> bool:
    """Whether the profile says where its function connects to; an imported one does not."""
    return profile.function.runtime_api or bool(profile.network or profile.reads or profile.writes)


def _keeps_abstract(profile: Profile) -> bool:
    """Whether the function connects to no abstract unix socket but those that it listens on itself."""
    listens = list(listener.entries(profile.listen))
    used = [entry for entry in destination.entries(profile.network) if str(entry.value).startswith("@")]
    own = all(any(listener.covers(one, entry) for one in listens if one.kind != listener.ANY) for entry in used)
    return _knows_destinations(profile) and own


def _binds(profile: Profile) -> tuple[str, list[int]]:
    """How binds of TCP are limited, and the ports that listeners need."""
    if not _uses(profile, "bind", "listen"):
        return "none", []
    ports = _listened(profile)
    # A port that the kernel chooses is bound by clients, too; whether the socket listens then Landlock does not see.
    return ("any", []) if ANY_PORT in ports else ("ports", sorted(ports | {listener.CHOSEN}))


def _listened(profile: Profile) -> set[int]:
    """The ports of TCP that the profile's listeners have."""
    if not listener.decided(profile.listen):
        return {ANY_PORT}
    return {entry.port for entry in listener.entries(profile.listen) if entry.protocol in ("tcp", STREAM)}


def _shown(ports: list[int], how: str, *, behind: bool = False) -> str:
    """The ports in a status line; `behind` that of the Runtime API, which only a start knows."""
    listed = [str(port) for port in ports[:SHOWN]] + ([f"{len(ports) - SHOWN} more"] if len(ports) > SHOWN else [])
    if behind:
        return "".join(f", {port}" for port in listed)
    return f"TCP {how} port {', '.join(listed)} only" if ports else "no TCP"


def open_kinds(profile: Profile) -> list[str]:
    """What of sockets the kernel alone cannot close, as the status line of a start without a supervisor says it."""
    (network, _), (bind, _) = _connects(profile), _binds(profile)
    found = set[str]()
    if network == "family":
        found.add("network: TCP to any address")
    quiet, datagrams = refused_quietly(profile), False
    for use in profile.uses:
        words = use.arg_class.split()
        if use.syscall != "socket" or base.find(quiet, use.call) or not words:
            continue
        transport = (words[1:] or [""])[0]
        if words[0] in INET and transport != "SOCK_STREAM":
            datagrams = True
            found.add(f"network: {TRANSPORTS.get(transport, transport or 'anything')} to any address")
        elif words[0] in INET and words[2:] and words[2] != "IPPROTO_TCP":
            found.add(f"network: {words[2].removeprefix('IPPROTO_')} to any address")
        elif words[0] == "AF_UNIX":
            abstract = ", abstract ones before Landlock ABI 6" if _keeps_abstract(profile) else " and abstract name"
            found.add(f"network: unix sockets at any path{abstract}")
    if _uses(profile, "listen") or (_uses(profile, "bind") and datagrams):
        found.add("listening: on any address" + (" and port" if bind == "any" else ""))
    return sorted(found)


def _uses(profile: Profile, *syscalls: str) -> bool:
    return any(use.syscall in syscalls for use in profile.uses)
