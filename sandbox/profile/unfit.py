"""What no amendment adds without a person's decision: (reason, what the person would write), or None for the rest.

An attacker chooses what is refused. What hands out credentials is never proposed, however its address is spelled; nor
is a shell, a pattern, or a datagram twin of what is reached by TCP.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from sandbox.behaviour import destination, listener, spelling
from sandbox.behaviour.path import OWN_INTERPRETER, PROGRAM_BASES, is_of_any_process
from sandbox.errors import ProfileError

SHELLS = frozenset((
    "sh", "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "ksh93", "mksh", "rbash", "tcsh", "toybox", "zsh",
))  # fmt: skip

DNS_PORT = 53

_V4 = (
    "169.254.0.0/16",  # link-local: EC2, ECS, EKS, Azure, Google
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's wire server
    "192.0.0.192/32",  # Oracle
)
_NETWORKS = (
    *map(ipaddress.ip_network, _V4),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::/32"),  # EC2 and EKS
    ipaddress.ip_network("fd20:ce::/32"),  # Google
)
_EMBEDDING = (ipaddress.ip_network("::/96"), ipaddress.ip_network("64:ff9b::/96"))
"""IPv6 networks whose last four bytes are an IPv4 address: RFC 4291 2.5.5.1, RFC 6052 2.1."""
_NAMES = frozenset(("metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"))


def unfit(section: str, target: str, *, asked: bool) -> tuple[str, str] | None:
    """For a target of a section. Of a name that was only `asked` for, the port is not known: any."""
    if not section:
        return None
    if not target.isprintable() or len(target) > 1024:
        return "names something that no profile can hold", ""
    if section == "network":
        return _destination(target, asked=asked)
    if section == "listen":
        return _listener(target)
    names = PROGRAM_BASES if section == "processes" else ("{root}",)
    absolute = target.startswith(("/", *(f"{name}/" for name in names)))
    if not (absolute or (section, target) == ("processes", OWN_INTERPRETER)) or f"{target}/".count("/../"):
        return "is not an absolute path", ""
    if "*" in target and not (section == "files.read" and is_of_any_process(target)):
        return "would be read as a pattern", ""
    if section == "processes" and target.rpartition("/")[2] in SHELLS:
        return "is a shell: a person decides", spelling.of_entry(section, target)
    return None


def also_by_tcp(target: str, others: Collection[destination.Entry]) -> tuple[str, str] | None:
    """For a datagram socket's connect to what others reach by TCP, at the same port or at none."""
    for entry in destination.entries((target,)):
        ports = {other.port for other in others if other.protocol == "tcp" and other.value == entry.value}
        if entry.protocol == "udp" and (entry.port in ports or (ports and not entry.port)):
            reason = "is reached by TCP: libraries connect a datagram socket to sort addresses, and send nothing"
            return reason, spelling.of_entry("network", target)
    return None


def _destination(target: str, *, asked: bool) -> tuple[str, str] | None:
    """What the supervisor writes into a line is one destination and no pattern."""
    try:
        entry = destination.parse(target)
    except ProfileError as error:
        return f"is not a destination: {error.what}", ""
    if entry.kind == destination.RUNTIME_API:
        return "is not a destination but the Runtime API, which no violation names", ""
    if entry.is_pattern and not (asked and entry.kind == "name"):
        return "stands for more than one destination", ""
    if entry.kind == "address" and entry.port == DNS_PORT:
        reason = "is a resolver, through which anything leaves: names belong into a profile, which an audit tells"
        return reason, spelling.of_entry("network", target)
    if entry.is_metadata or _hands_out_credentials(entry):
        return "hands out credentials: no amendment adds it", spelling.of_entry("network", target)
    return None


def _hands_out_credentials(entry: destination.Entry) -> bool:
    """Whether an address, in whatever spelling, or a name is one at which a platform's credentials are asked for."""
    if entry.kind == "name":
        name = str(entry.value).rstrip(".").lower()
        if name in _NAMES:
            return True
        try:
            packed = socket.inet_aton(name)  # 2852039166, 0xa9fea9fe, 0251.0376.0251.0376 (man 3 inet_aton)
        except (OSError, UnicodeError):
            return False
    elif entry.kind == "address" and isinstance(entry.value, bytes):
        packed = entry.value
    else:
        return False
    address = ipaddress.ip_address(packed)
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        found += [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner]
        if any(address in network for network in _EMBEDDING):
            found.append(ipaddress.IPv4Address(packed[12:]))
    return any(one in network for one in found for network in _NETWORKS)


def _listener(target: str) -> tuple[str, str] | None:
    """The port of an address to listen on may be any: the kernel chose it."""
    try:
        entry = listener.parse(target)
    except ProfileError as error:
        return f"is not an address to listen on: {error.what}", ""
    if entry.kind not in ("address", "path", "abstract"):
        return "stands for more than one address", ""
    return None
