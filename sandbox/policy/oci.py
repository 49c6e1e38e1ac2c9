"""Export to the `linux.seccomp` object of the OCI runtime specification; the way back is oci_import.py.

One exported file serves all architectures: names that one of them lacks are skipped by container runtimes. execve is
always in it, because the runtime itself starts the container with it; the single-use exec is not expressible there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NotRequired, TypedDict

from sandbox.behaviour.arguments import FULL
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy.rules import rules_for
from sandbox.profile.model import Profile

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


class Argument(TypedDict):
    """A comparison of one argument, as SCMP_CMP_EQ or SCMP_CMP_MASKED_EQ."""

    index: int
    value: int
    op: str
    valueTwo: NotRequired[int]


class Syscalls(TypedDict):
    """Syscalls with one action; `args` must all hold."""

    names: list[str]
    action: str
    args: NotRequired[list[Argument]]
    errnoRet: NotRequired[int]


class Seccomp(TypedDict):
    """The `linux.seccomp` object of an OCI runtime's config.json, as far as it is written here."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    syscalls: list[Syscalls]


def export_oci(profile: Profile, arches: Sequence[str] = tables.ARCHES) -> Seccomp:
    """The `linux.seccomp` object that allows what the profile's own filters allow.

    Raises ProfileError when a syscall's conditions differ between the architectures: the format cannot say that.
    """
    allow: dict[str, frozenset[Conjunction]] = {}
    refuse: dict[str, int] = {}
    for arch in arches:
        rules, names = rules_for(profile, arch), tables.names(arch)
        for nr, found in rules.allow.items():
            conditions = frozenset(rule.conditions for rule in found)
            if allow.setdefault(names[nr], conditions) != conditions:
                raise ProfileError(
                    f"{names[nr]} compares other arguments on {arch} than on the other architectures",
                    where=profile.function.name,
                    todo="export one architecture at a time (--arch)",
                )
        refuse |= {names[nr]: number for nr, number in rules.refuse.items()}
    entries: list[Syscalls] = []
    for conditions, syscalls in _grouped((name, c) for name, several in allow.items() for c in several):
        entries.append({"names": syscalls, "action": "SCMP_ACT_ALLOW"})
        if conditions:
            entries[-1]["args"] = [_arg(condition) for condition in conditions]
    entries += [
        {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number}
        for number, names in _grouped((name, number) for name, number in refuse.items())
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": [ARCHITECTURES[arch] for arch in arches],
        "syscalls": entries,
    }


def _grouped(pairs: Iterable[tuple[str, Any]]) -> list[tuple[Any, list[str]]]:
    """(value, names) for each value, in the order of values."""
    found: dict[Any, list[str]] = {}
    for name, value in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        found.setdefault(value, []).append(name)
    return list(found.items())


def _arg(condition: Condition) -> Argument:
    if condition.mask == FULL:
        return {"index": condition.argument, "value": condition.value, "op": "SCMP_CMP_EQ"}
    return {
        "index": condition.argument, "value": condition.mask, "valueTwo": condition.value, "op": "SCMP_CMP_MASKED_EQ",
    }  # fmt: skip
