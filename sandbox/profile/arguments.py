"""Argument classes: what is worth telling apart in the register arguments of a system call.

A class is a short text (`read`, `AF_INET SOCK_STREAM`, `F_SETFL`). `classify` turns observed arguments into it,
`conditions` turns it back into what a filter can compare, and the two are inverse: for every class c of a syscall,
`classify(args) == c` implies that args satisfy `conditions(c)`. The table is arguments.json.

    >>> classify("openat", (0xFFFFFF9C, 0x7F00, 0x80000, 0, 0, 0), "x86_64")
    'read'
    >>> conditions("openat", "read", "x86_64")
    ((Condition(argument=2, mask=4194883, value=0),),)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from sandbox.kernel import tables

LOW = 0xFFFFFFFF
FULL = 0xFFFFFFFFFFFFFFFF
OTHER = "to others"
"""Suffix of a signal's class when the target was not the caller's own process."""


class Condition(NamedTuple):
    """`args[argument] & mask == value`, over all 64 bits of the register."""

    argument: int
    mask: int
    value: int

    def holds(self, args: Sequence[int]) -> bool:
        """Whether six register values satisfy the condition."""
        return args[self.argument] & self.mask == self.value


Conjunction = tuple[Condition, ...]


@cache
def _table() -> dict[str, Any]:
    with open(os.path.join(os.path.dirname(__file__), "arguments.json"), encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)
    return table


def has_classes(syscall: str) -> bool:
    """Whether the syscall's arguments are told apart at all."""
    spec = _table()["syscalls"].get(syscall, {})
    return "partition" in spec or "fields" in spec


def opaque(syscall: str) -> str:
    """Why a filter cannot read the syscall's classes, or the empty string where it can."""
    return str(_table()["syscalls"].get(syscall, {}).get("opaque", ""))


def partition_classes(syscall: str) -> tuple[str, ...]:
    """The closed list of a syscall's classes, widest last; empty where classes are enumerated (ioctl, socket ...)."""
    spec = _table()["syscalls"].get(syscall, {})
    if "partition" not in spec:
        return ()
    if "always" in spec:
        return (spec["always"],)
    return tuple(_table()["partitions"][spec["partition"]]["classes"])


def kind(syscall: str) -> str:
    """Two syscalls of one kind have the same classes: the partition's name, or the fields as text; '' without any."""
    spec = _table()["syscalls"].get(syscall, {})
    if "partition" in spec:
        return str(spec["partition"])
    if "fields" in spec:
        return ",".join(":".join(str(part) for part in field[1:]) for field in spec["fields"])
    return ""


def masks(syscall: str) -> tuple[tuple[int, int], ...]:
    """(argument, mask) pairs that together decide `classify`: equal masked values mean an equal class."""
    spec = _table()["syscalls"].get(syscall, {})
    if spec.get("opaque") or spec.get("always"):
        return ()
    found: dict[int, int] = {}
    if "partition" in spec:
        for conjunctions in _table()["partitions"][spec["partition"]]["classes"].values():
            for conjunction in conjunctions:
                for name, (mask, _) in conjunction.items():
                    found[spec[name]] = found.get(spec[name], 0) | int(mask, 16)
    for field in spec.get("fields", ()):
        found[field[0]] = int(field[2], 16) if len(field) > 2 else LOW
    return tuple(sorted(found.items()))


def _alternatives(spec: dict[str, Any], name: str) -> Iterator[Conjunction]:
    for conjunction in _table()["partitions"][spec["partition"]]["classes"][name]:
        yield tuple(
            Condition(spec[key], int(mask, 16), int(value, 16)) for key, (mask, value) in sorted(conjunction.items())
        )


def classify(syscall: str, args: Sequence[int], arch: str) -> str:
    """The class of six register values; '' for a syscall without classes or one whose classes are opaque."""
    spec = _table()["syscalls"].get(syscall, {})
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
    for name, conjunctions in _table()["partitions"][partition]["classes"].items():
        for conjunction in conjunctions:
            if all(values[key] & int(mask, 16) == int(value, 16) for key, (mask, value) in conjunction.items()):
                return str(name)
    raise ValueError(f"no class of {partition} holds {values}")


def conditions(syscall: str, name: str, arch: str) -> tuple[Conjunction, ...]:
    """What a filter compares for a class: alternatives of and-ed conditions; `((),)` means any arguments.

    Raises ValueError for a class that the syscall does not have, or whose syscall is opaque.
    """
    spec = _table()["syscalls"].get(syscall, {})
    (require,) = anything(syscall)
    if spec.get("opaque"):
        raise ValueError(f"{syscall}: {spec['opaque']}, so that no filter can tell its classes apart")
    if "always" in spec:
        if name != spec["always"]:
            raise ValueError(f"{syscall} has the class {spec['always']!r} only, not {name!r}")
        return (require,)
    if "partition" in spec:
        if name not in partition_classes(syscall):
            raise ValueError(f"{syscall} has the classes {', '.join(partition_classes(syscall))}; not {name!r}")
        return tuple(tuple(sorted((*found, *require))) for found in _alternatives(spec, name))
    if "fields" in spec:
        return tuple(tuple(sorted((*found, *require))) for found in _split_fields(syscall, spec["fields"], name, arch))
    if name:
        raise ValueError(f"{syscall} has no argument classes; remove {name!r}")
    return (require,)


def anything(syscall: str) -> tuple[Conjunction, ...]:
    """What a filter compares when every class of a syscall is meant: only what is required in any case."""
    spec = _table()["syscalls"].get(syscall, {})
    return (tuple(Condition(i, int(mask, 16), int(value, 16)) for i, mask, value in spec.get("require", ())),)


# An address family decides how its protocol numbers are called (linux/in.h, linux/netlink.h).
_PROTOCOL_GROUPS = {"AF_INET": "socket_protocol", "AF_INET6": "socket_protocol", "AF_NETLINK": "netlink_protocol"}
_OPTION_GROUPS = {
    "SOL_SOCKET": "socket_option.SOL_SOCKET",
    "SOL_TCP": "socket_option.IPPROTO_TCP",
    "SOL_IP": "socket_option.IPPROTO_IP",
    "SOL_IPV6": "socket_option.IPPROTO_IPV6",
}
# Protocol 0 and the one protocol that such a socket has anyway are the same request (net/ipv4/af_inet.c).
_DEFAULT_PROTOCOLS = {"SOCK_STREAM": "IPPROTO_TCP", "SOCK_DGRAM": "IPPROTO_UDP"}


def _group(group: str, before: Sequence[str]) -> str:
    if group == "socket_protocol":
        return _PROTOCOL_GROUPS.get(before[0], "")
    if group == "socket_option":
        return _OPTION_GROUPS.get(before[0], "")
    return group if group in tables.groups() else ""


def _join_fields(fields: Sequence[Sequence[Any]], args: Sequence[int], arch: str) -> str:
    words: list[str] = []
    for field in fields:
        value = args[field[0]] & (int(field[2], 16) if len(field) > 2 else LOW)
        group = _group(field[1], words)
        name = (tables.name_of(group, value, arch) if group else None) or _number(field[1], value)
        if field[1] == "socket_protocol" and (
            name == _DEFAULT_PROTOCOLS.get(words[1]) or (value == 0 and words[0] != "AF_NETLINK")
        ):
            continue
        words.append(name)
    return " ".join(words)


def _number(group: str, value: int) -> str:
    return hex(value) if group in ("ioctl_request", "arch_prctl_code") else str(value)


def _split_fields(syscall: str, fields: Sequence[Sequence[Any]], name: str, arch: str) -> Iterator[Conjunction]:
    words = name.removesuffix(" " + OTHER).split()
    optional = fields[-1][1] == "socket_protocol"
    if len(words) not in ((len(fields) - 1, len(fields)) if optional else (len(fields),)):
        raise ValueError(f"{syscall} takes {' '.join(field[1] for field in fields)}; {name!r} does not fit")
    found = []
    for i, (field, word) in enumerate(zip(fields, words, strict=False)):
        mask = int(field[2], 16) if len(field) > 2 else LOW
        value = _value(syscall, _group(field[1], words[:i]), word, arch)
        if value & mask != value:
            raise ValueError(f"{syscall}: {word} is larger than the {mask:#x} that the kernel reads")
        found.append(Condition(field[0], mask, value))
    if not optional or len(words) == len(fields):
        yield tuple(found)
    else:
        protocol = _DEFAULT_PROTOCOLS.get(words[1]) if words[0] in ("AF_INET", "AF_INET6") else None
        values = [0] + ([tables.constants("socket_protocol", arch)[protocol]] if protocol else [])
        for value in values:
            yield (*found, Condition(fields[-1][0], LOW, value))


def _value(syscall: str, group: str, word: str, arch: str) -> int:
    known = tables.constants(group, arch) if group else {}
    if word in known:
        return known[word]
    try:
        return int(word, 0)
    except ValueError:
        raise ValueError(f"{syscall}: {word!r} is no name in {group or 'this place'} and no number") from None


def signals_others(name: str) -> bool:
    """Whether a signal's class was recorded with another process as its target."""
    return name.endswith(" " + OTHER)


def target_argument(syscall: str) -> int | None:
    """Which argument names the process that a signal goes to, or None."""
    found = _table()["syscalls"].get(syscall, {}).get("target")
    return int(found) if found is not None else None
