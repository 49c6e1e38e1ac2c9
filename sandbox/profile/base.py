"""What is policy and not fact: floor, hard deny, the runtime client's needs, promises and dangers, from profiles/base.

The files are YAML that people review; every entry carries its reason.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from sandbox.behaviour import arguments, comparison
from sandbox.behaviour.call import Call
from sandbox.errors import ProfileError
from sandbox.kernel import tables


@dataclass(frozen=True)
class BaseEntry:
    """One line of a base file: a syscall, the classes meant (none: all of them), and why.

    `response` and `unreadable` are explained in profiles/base/hard-deny.yaml.
    """

    syscall: str
    classes: tuple[str, ...]
    because: str
    errno: str = "EPERM"
    grantable: bool = True
    response: str = "deny"
    unreadable: bool = False

    def covers(self, call: Call) -> bool:
        """Whether the entry speaks of this call."""
        return self.syscall == call.syscall and (not self.classes or call.arg_class in self.classes)


@dataclass(frozen=True)
class Promise:
    """A word for people, with the calls that it stands for, of which the class may be the first words of one.

    `attack` is what an attacker does with them, `needs` who needs them.
    """

    name: str
    about: str
    risk: str
    items: tuple[Call, ...]
    attack: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Together:
    """Calls of one job: who was refused one of `when` would have gone on with those of `then`."""

    when: frozenset[Call]
    then: tuple[Call, ...]
    because: str


@dataclass(frozen=True)
class Place:
    """One line of files.yaml: a file, or a folder with all below it (`dir/**`), and why."""

    path: str
    because: str


def directory() -> str:
    """Where the base files lie: beside the package in a checkout, inside it in a wheel.

    Raises ProfileError when neither is there.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for found in (os.path.join(os.path.dirname(package), "profiles", "base"), os.path.join(package, "base")):
        if os.path.isfile(os.path.join(found, "floor.yaml")):
            return found
    raise ProfileError(
        "the base profiles are missing", where=package, todo="reinstall seccomp-bootstrap; profiles/base belongs to it"
    )


FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it, as its wheels are: our own files take a tenth of the time."""


@cache
def _read(name: str) -> Mapping[str, Any]:
    with open(os.path.join(directory(), name + ".yaml"), encoding="utf-8") as file:
        data: Mapping[str, Any] = yaml.load(file, FAST)
    return data


def _entries(file: str, key: str) -> tuple[BaseEntry, ...]:
    found = tuple(
        BaseEntry(
            syscall=line["syscall"],
            classes=tuple(line.get("classes", ())),
            because=line["because"],
            errno=line.get("errno", "EPERM"),
            grantable=line.get("grant") != "never",
            response=line.get("response", "deny"),
            unreadable=line.get("unreadable", False),
        )
        for line in _read(file)[key]
    )
    for entry in found:
        if entry.syscall not in tables.every_name():
            raise ProfileError(f"{entry.syscall} is not a system call", where=f"profiles/base/{file}.yaml")
        for arg_class in entry.classes:
            arguments_exist(Call(entry.syscall, arg_class), f"profiles/base/{file}.yaml")
    return found


def arguments_exist(call: Call, where: str) -> None:
    """Raise a located ProfileError unless the class exists for the syscall on some architecture."""
    if arguments.opaque(call.syscall):
        if call.arg_class not in arguments.partition_classes(call.syscall):
            raise ProfileError(f"{call.syscall} has no class {call.arg_class!r}", where=where)
        return
    problem = ""
    for arch in tables.ARCHES:
        try:
            comparison.conditions(*call, arch)
            return
        except ValueError as error:
            problem = str(error)
    raise ProfileError(problem, where=where, todo="correct the class; `strace` spells the names the same way")


@cache
def floor() -> tuple[BaseEntry, ...]:
    """What is always allowed."""
    return _entries("floor", "floor")


@cache
def hard_deny() -> tuple[BaseEntry, ...]:
    """What no training lifts."""
    return _entries("hard-deny", "hard-deny")


@cache
def runtime_client() -> tuple[BaseEntry, ...]:
    """What a Runtime API client needs on paths that training may not see."""
    return _entries("runtime-client", "needs")


@cache
def refusals() -> tuple[BaseEntry, ...]:
    """What is learned but refused without loss."""
    return _entries("runtime-client", "refuse")


@cache
def resolver() -> tuple[BaseEntry, ...]:
    """What the C library's resolver asks for at times, and does without."""
    return _entries("runtime-client", "resolver")


@cache
def dangerous() -> tuple[BaseEntry, ...]:
    """What a reviewer must not overlook."""
    return _entries("dangerous", "dangerous")


@cache
def readable(*more: str) -> tuple[Place, ...]:
    """What every program may read whose profile lists files, and what `more` groups of files.yaml add to it."""
    found = _read("files")
    return tuple(Place(line["path"], line["because"]) for group in ("read", *more) for line in found[group])


@cache
def writable() -> tuple[Place, ...]:
    """What every program may write whose profile lists files."""
    return tuple(Place(line["path"], line["because"]) for line in _read("files")["write"])


@cache
def together() -> tuple[Together, ...]:
    """Which calls belong to one job."""
    lines = _read("together")["together"]
    return tuple(
        Together(frozenset(map(Call.parse, line["when"])), tuple(map(Call.parse, line["then"])), line["because"])
        for line in lines
    )


def find(entries: tuple[BaseEntry, ...], call: Call) -> BaseEntry | None:
    """The first entry that speaks of this call."""
    return next((entry for entry in entries if entry.covers(call)), None)


def denial(call: Call) -> BaseEntry | None:
    """Why a call is hard-denied, with which errno and whether a grant can lift it; None when it is not."""
    return find(hard_deny(), call)


def kept_out(call: Call) -> BaseEntry | None:
    """The hard denial by which no profile can list a call and no training can learn it; None when it can be listed."""
    found = denial(call)
    return None if found is None or found.unreadable else found


@cache
def promises() -> tuple[Promise, ...]:
    """All promises, in the order in which a call looks for its own."""
    found = []
    for name, body in _read("promises")["promises"].items():
        calls = tuple(map(Call.parse, body["syscalls"]))
        found.append(Promise(name, body["about"], body.get("risk", ""), calls, body["attack"], body["needs"]))
    return tuple(found)


@cache
def promise_of(call: Call) -> str:
    """The promise that an item belongs to: the first with the most exact words for it, else `other`."""
    general = ""
    for promise in promises():
        for syscall, prefix in promise.items:
            if syscall != call.syscall:
                continue
            if prefix and f"{call.arg_class} ".startswith(f"{prefix} "):
                return promise.name
            if not prefix and not general:
                general = promise.name
    return general or "other"
