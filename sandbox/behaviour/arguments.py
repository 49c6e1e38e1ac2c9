"""Argument classes: what is worth telling apart in the register arguments of a system call.

A class is a short text (`read`, `AF_INET SOCK_STREAM`, `F_SETFL`). `classify` turns observed arguments into it;
comparison.py turns it back into what a filter can compare. The table is arguments.json.

    >>> classify("openat", (0xFFFFFF9C, 0x7F00, 0x80000, 0, 0, 0), "x86_64")
    'read'
"""

from __future__ import annotations

import os

from sandbox.kernel import tables
from sandbox.memo import memo
from sandbox.plain_json import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LOW = 0xFFFFFFFF
FULL = 0xFFFFFFFFFFFFFFFF


@memo
def table() -> dict[str, Any]:
    """arguments.json."""
    with open(os.path.join(os.path.dirname(__file__), "arguments.json"), encoding="utf-8") as file:
        found: dict[str, Any] = parse(file.read())
    return found


def has_classes(syscall: str) -> bool:
    """Whether the syscall's arguments are told apart at all."""
    spec = table()["syscalls"].get(syscall, {})
    return "partition" in spec or "fields" in spec


def opaque(syscall: str) -> str:
    """Why a filter cannot read the syscall's classes, or the empty string where it can."""
    return str(table()["syscalls"].get(syscall, {}).get("opaque", ""))


def partition_classes(syscall: str) -> tuple[str, ...]:
    """The closed list of a syscall's classes, widest last; empty where classes are enumerated (ioctl, socket ...)."""
    spec = table()["syscalls"].get(syscall, {})
    if "partition" not in spec:
        return ()
    if "always" in spec:
        return (spec["always"],)
    return tuple(table()["partitions"][spec["partition"]]["classes"])


def classification(syscall: str) -> str:
    """What two syscalls with the same classes share: the partition's name, or the fields as text; '' without any."""
    spec = table()["syscalls"].get(syscall, {})
    if "partition" in spec:
        return str(spec["partition"])
    if "fields" in spec:
        return ",".join(":".join(str(part) for part in field[1:]) for field in spec["fields"])
    return ""


def masks(syscall: str) -> tuple[tuple[int, int], ...]:
    """(argument, mask) pairs that together decide `classify`: equal masked values mean an equal class."""
    spec = table()["syscalls"].get(syscall, {})
    if spec.get("opaque") or spec.get("always"):
        return ()
    found: dict[int, int] = {}
    if "partition" in spec:
        for conjunctions in table()["partitions"][spec["partition"]]["classes"].values():
            for conjunction in conjunctions:
                for name, (mask, _) in conjunction.items():
                    found[spec[name]] = found.get(spec[name], 0) | int(mask, 16)
    for field in spec.get("fields", ()):
        found[field[0]] = int(field[2], 16) if len(field) > 2 else LOW
    return tuple(sorted(found.items()))


def classify(syscall: str, args: Sequence[int], arch: str) -> str:
    """The class of six register values; '' for a syscall without classes or one whose classes are opaque."""
    spec = table()["syscalls"].get(syscall, {})
    if spec.get("opaque"):
        return ""
    if "always" in spec:
        return str(spec["always"])
    if "partition" in spec:
        return classify_partition(spec["partition"], {k: args[v] for k, v in spec.items() if isinstance(v, int)})
    if "fields" in spec:
        return _join_fields(spec["fields"], args, arch)
    return ""


def classify_partition(partition: str, values: dict[str, int]) -> str:
    """The class of named values in a partition: `classify_partition("access", {"flags": 0})` is `read`.

    For what a filter cannot read but a recorder can (clone3, openat2).
    """
    for name, conjunctions in table()["partitions"][partition]["classes"].items():
        for conjunction in conjunctions:
            if all(values[key] & int(mask, 16) == int(value, 16) for key, (mask, value) in conjunction.items()):
                return str(name)
    raise ValueError(f"no class of {partition} holds {values}")


# An address family decides how its protocol numbers are called (linux/in.h, linux/netlink.h).
_PROTOCOL_GROUPS = {"AF_INET": "socket_protocol", "AF_INET6": "socket_protocol", "AF_NETLINK": "netlink_protocol"}
_OPTION_GROUPS = {
    "SOL_SOCKET": "socket_option.SOL_SOCKET",
    "SOL_TCP": "socket_option.IPPROTO_TCP",
    "SOL_IP": "socket_option.IPPROTO_IP",
    "SOL_IPV6": "socket_option.IPPROTO_IPV6",
}
# Protocol 0 and the one protocol that such a socket has anyway are the same request (net/ipv4/af_inet.c).
DEFAULT_PROTOCOLS = {"SOCK_STREAM": "IPPROTO_TCP", "SOCK_DGRAM": "IPPROTO_UDP"}


def group_of(group: str, before: Sequence[str]) -> str:
    """The group of constants that names a field's values, given the words before it; '' for plain numbers."""
    if group == "socket_protocol":
        return _PROTOCOL_GROUPS.get(before[0], "")
    if group == "socket_option":
        return _OPTION_GROUPS.get(before[0], "")
    return group if group in tables.groups() else ""


def _join_fields(fields: Sequence[Sequence[Any]], args: Sequence[int], arch: str) -> str:
    words: list[str] = []
    for field in fields:
        value = args[field[0]] & (int(field[2], 16) if len(field) > 2 else LOW)
        group = group_of(field[1], words)
        name = (tables.name_of(group, value, arch) if group else None) or _number(field[1], value)
        if field[1] == "socket_protocol" and (
            name == DEFAULT_PROTOCOLS.get(words[1]) or (value == 0 and words[0] != "AF_NETLINK")
        ):
            continue
        words.append(name)
    return " ".join(words)


def _number(group: str, value: int) -> str:
    return hex(value) if group in ("ioctl_request", "arch_prctl_code") else str(value)


def target_argument(syscall: str) -> int | None:
    """Which argument names the process that a signal goes to, or None."""
    found = table()["syscalls"].get(syscall, {}).get("target")
    return int(found) if found is not None else None
