"""Export to the `linux.seccomp` object of the OCI runtime specification; the way back is oci_import.py.

One exported file serves all architectures: names that one of them lacks are skipped by container engines. execve is
always in it, because the engine itself starts the container with it; the single-use exec is not expressible there.
An engine takes its own last steps under the filter: with_engine adds them, marked, from engine.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NotRequired, TypedDict

from sandbox.behaviour.arguments import FULL
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy.rules import rules_for
from sandbox.profile.model import Profile

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

ENGINE = "of the container engine, which starts the program under this filter; the profile does not allow it"
"""The comment of an entry that with_engine added; an import leaves such an entry out."""

SPO_VERSION = "security-profiles-operator.x-k8s.io/v1"
SPO_KIND = "SeccompProfile"


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
    comment: NotRequired[str]


class Seccomp(TypedDict):
    """The `linux.seccomp` object of an OCI runtime's config.json, as far as it is written here."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    syscalls: list[Syscalls]


class OperatorSpec(TypedDict):
    """The spec of a SeccompProfile, as far as it is written here."""

    defaultAction: str
    architectures: list[str]
    syscalls: list[Syscalls]


class OperatorObject(TypedDict):
    """A SeccompProfile of Kubernetes' Security Profiles Operator."""

    apiVersion: str
    kind: str
    metadata: dict[str, str]
    spec: OperatorSpec


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


def with_engine(exported: Seccomp, no_new_privileges: bool) -> Seccomp:
    """The object with what the container engine calls after it installed the filter, each entry marked by ENGINE.

    `no_new_privileges` says that the container has NoNewPrivs set: then the engine installs the filter last, and needs
    none of the calls that lower its rights.
    """
    free = {name for entry in exported["syscalls"] if _unconditional(entry) for name in entry["names"]}
    known = {name for names in map(tables.numbers, tables.ARCHES) for name in names}
    added: list[Syscalls] = []
    for needed in _engine():
        names = [name for name in needed["names"] if name not in free and name in known]
        if names and not (no_new_privileges and needed.get("early")):
            entry: Syscalls = {"names": names, "action": "SCMP_ACT_ALLOW", "comment": ENGINE}
            if "args" in needed:
                entry["args"] = needed["args"]
            if not any({**other, "comment": ENGINE} == entry for other in exported["syscalls"]):
                added.append(entry)
    return {**exported, "syscalls": [*exported["syscalls"], *added]}


def _unconditional(entry: Syscalls) -> bool:
    return entry["action"] == "SCMP_ACT_ALLOW" and not entry.get("args")


@cache
def _engine() -> list[Any]:
    found: list[Any] = tomllib.loads((resources.files(__package__) / "engine.toml").read_text())["calls"]
    return found


def as_operator_object(exported: Seccomp, name: str) -> OperatorObject:
    """A SeccompProfile of Kubernetes' Security Profiles Operator.

    Its fields are those of api/seccompprofile/v1: no default errno (the engine's is EPERM) and no comments. The name
    is the function's as RFC 1123 wants it: small letters, digits, `-` and `.`.
    """
    syscalls = [entry.copy() for entry in exported["syscalls"]]
    for entry in syscalls:
        entry.pop("comment", None)
    return {
        "apiVersion": SPO_VERSION,
        "kind": SPO_KIND,
        "metadata": {"name": re.sub(r"[^a-z0-9.-]", "-", name.lower()).strip("-.")},
        "spec": {
            "defaultAction": exported["defaultAction"],
            "architectures": exported["architectures"],
            "syscalls": syscalls,
        },
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
