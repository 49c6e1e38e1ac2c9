"""Import from the `linux.seccomp` object of the OCI runtime specification.

An import never widens: what a profile cannot say exactly is left out with a note, or refused where it stands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema

from sandbox.behaviour import arguments, comparison, spelling
from sandbox.behaviour.arguments import FULL, LOW
from sandbox.behaviour.call import Call
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy.rules import rules_for
from sandbox.profile import base
from sandbox.profile.model import RUNTIME_API, Phase, Profile, ProfiledFunction, Use
from sandbox.profile.promises import promises_of

ANYWHERE = frozenset(("udp://0.0.0.0/0:*", "udp://[::/0]:*"))
"""Where a file that names no destinations lets messages go."""

DEEPEST = 12
"""Levels of nesting; a container's config.json has at most eight."""

STARTS_PROCESSES = frozenset({"clone", "fork", "vfork", "execveat"})


@dataclass(frozen=True)
class Imported:
    """A profile, and what of the file it does not contain and why."""

    profile: Profile
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Allowed:
    """One way in which the file allows a syscall, and where it says so."""

    conditions: Conjunction
    path: str


def load(text: bytes, source: str) -> Any:
    """JSON as plain values. Raises ProfileError with file, line and column."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        raise ProfileError(
            f"is not UTF-8: byte {text[error.start]:#04x}", where=f"{source}:{line}:{column}", todo="save it as UTF-8"
        ) from error
    try:
        return json.loads(decoded, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise ProfileError(
            f"is not JSON: {error.msg}", where=f"{source}:{error.lineno}:{error.colno}", todo="correct the line"
        ) from error
    except RecursionError as error:
        raise ProfileError("nested too deeply", where=f"{source}:1:1", todo="this is not a seccomp profile") from error
    except ValueError as error:
        raise ProfileError(
            f"is not usable: {str(error)[:200]}", where=f"{source}:1:1", todo="correct or remove it"
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def import_oci(data: Any, name: str, *, source: str = "<oci>", runtime_api: bool = True) -> Imported:
    """A profile from a `linux.seccomp` object or a whole config.json around it.

    Every allowed call lands in `init` and `invoke` (`run` where there is no Runtime API). Raises ProfileError, located
    by JSON path, for what does not fit the format and for what a profile could only say by allowing more.
    """
    prefix, seccomp = _seccomp(data, source)
    _check(seccomp, source, prefix)
    notes: list[str] = []
    allowed = _allowed(seccomp, source, prefix, notes)
    phases: tuple[Phase, ...] = ("init", "invoke") if runtime_api else ("run",)
    file = (os.path.basename(source) or source).encode("utf-8", "replace").decode()
    because = frozenset({f"imported from {file}"})
    bare = _bare(ProfiledFunction(name, "", runtime_api))
    items = {
        Call(syscall, found)
        for syscall, ways in sorted(allowed.items())
        for found in _classes(syscall, ways, bare.get(syscall, ()), source, notes)
    }
    if "execve" in allowed:
        # What a function without children has no use for, every container runtime needs.
        if any(syscall in STARTS_PROCESSES and found in ("", "process") for syscall, found in items):
            items.add(Call("execve"))
        else:
            notes.append(
                f"{allowed['execve'][0].path}: execve is left out: a container runtime needs it to start the program; "
                "add it under syscalls with a reason if the function starts programs itself"
            )
    refused_elsewhere = any(base.find(base.refusals(), item) for item in items)
    if refused_elsewhere:
        places = " and ".join(sorted(ANYWHERE))
        notes.append(f"network: the file names no destinations; replace {places} by the hosts that it talks to")
    uses = frozenset(Use(phase, syscall, found, 0, because) for phase in phases for syscall, found in items)
    profile = Profile(
        function=ProfiledFunction(name, "", runtime_api),
        uses=uses,
        network=frozenset({RUNTIME_API} if runtime_api else ()) | (ANYWHERE if refused_elsewhere else frozenset()),
        promises=promises_of(uses),
    )
    return Imported(profile, tuple(notes))


def _seccomp(data: Any, source: str) -> tuple[str, Any]:
    """The seccomp object and its JSON path: the data itself, or `linux.seccomp` of a container's config.json."""
    if _deep(data):
        raise ProfileError("nested too deeply", where=f"{source}:$", todo="this is not a seccomp profile")
    if isinstance(data, dict) and "linux" in data and "defaultAction" not in data:
        linux = data["linux"]
        if not isinstance(linux, dict) or "seccomp" not in linux:
            raise ProfileError(
                "has no seccomp object", where=f"{source}:$.linux", todo="this container runs without a filter"
            )
        return "$.linux.seccomp", linux["seccomp"]
    return "$", data


def _deep(data: Any) -> bool:
    level = [data]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


@cache
def _validator() -> jsonschema.protocols.Validator:
    with open(os.path.join(os.path.dirname(__file__), "oci.json"), encoding="utf-8") as file:
        return jsonschema.Draft202012Validator(json.load(file))


def _check(seccomp: Any, source: str, prefix: str) -> None:
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(seccomp))
    if problem is None:
        return
    path = _json_path(prefix, problem.absolute_path)
    last = next((part for part in reversed(problem.absolute_path) if isinstance(part, str)), "")
    raise ProfileError(
        problem.message if len(problem.message) < 200 else problem.message[:200] + " ...",
        where=f"{source}:{path}",
        todo=HINTS.get(last, "see the OCI runtime specification, config-linux.md, section Seccomp"),
    )


HINTS = {
    "defaultAction": "a profile lists what is allowed; a file that allows by default says something else",
    "includes": "this is a template of Docker's; take the resolved filter from a container's config.json",
    "excludes": "this is a template of Docker's; take the resolved filter from a container's config.json",
    "op": "a profile compares for equality; write an entry for each value that is needed",
}


def _json_path(prefix: str, parts: Iterable[str | int]) -> str:
    return prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _allowed(seccomp: Mapping[str, Any], source: str, prefix: str, notes: list[str]) -> dict[str, list[_Allowed]]:
    found: dict[str, list[_Allowed]] = {}
    refused: dict[str, str] = {}
    for i, entry in enumerate(seccomp.get("syscalls") or ()):
        for j, syscall in enumerate(entry["names"]):
            path = f"{prefix}.syscalls[{i}].names[{j}]"
            if syscall not in tables.every_name():
                if entry["action"] == "SCMP_ACT_ALLOW":
                    notes.append(f"{path}: {syscall!r} is ignored: Linux {tables.LINUX} has no such 64-bit system call")
                    continue
                raise ProfileError(
                    f"{syscall!r}, which is to be refused, is not a system call of Linux {tables.LINUX}",
                    where=f"{source}:{path}",
                    todo="correct the name, or remove it: what is not allowed is refused anyway",
                )
            if entry["action"] == "SCMP_ACT_ALLOW":
                conditions = _conditions(syscall, entry.get("args") or (), source, f"{prefix}.syscalls[{i}]")
                found.setdefault(syscall, []).append(_Allowed(conditions, path))
            else:
                refused.setdefault(syscall, path)
    for syscall in sorted(found.keys() & refused.keys()):
        raise ProfileError(
            f"{syscall} is allowed in one entry ({found[syscall][0].path}) and not in another",
            where=f"{source}:{refused[syscall]}",
            todo="keep the entries that allow, with args that say what",
        )
    return found


def _conditions(syscall: str, args: Sequence[Mapping[str, Any]], source: str, entry: str) -> Conjunction:
    """An entry's args in our terms. Where the kernel reads 32 bits of a register, the others are left out of masks."""
    found: dict[int, Condition] = {}
    for k, arg in enumerate(args):
        path = f"{source}:{entry}.args[{k}]"
        index, value = int(arg["index"]), int(arg["value"])
        if index in found:
            raise ProfileError(
                f"argument {index} is compared twice",
                where=path,
                todo="runtimes take this for two entries; write two, one for each",
            )
        mask = FULL
        if arg["op"] == "SCMP_CMP_MASKED_EQ":
            mask, value = value, int(arg.get("valueTwo", 0))
        if value & ~mask:
            raise ProfileError(
                f"{value:#x} has bits outside the mask {mask:#x}", where=path, todo="no call can match; correct it"
            )
        if index < tables.argument_count(syscall) and tables.width(syscall, index) == 32 and value <= LOW:
            mask &= LOW
        if mask:
            found[index] = Condition(index, mask, value)
    return tuple(sorted(found.values()))


def _implied(conditions: Conjunction, others: Iterable[Conjunction]) -> bool:
    """Whether every call that satisfies the conditions satisfies one of the others."""
    return any(all(any(_narrower(mine, theirs) for mine in conditions) for theirs in other) for other in others)


def _narrower(one: Condition, other: Condition) -> bool:
    return one.argument == other.argument and one.mask & other.mask == other.mask and (
        one.value & other.mask == other.value
    )


def _bare(function: ProfiledFunction) -> dict[str, tuple[Conjunction, ...]]:
    """What a profile without uses allows: the floor, the client's needs, the launcher's exec."""
    found: dict[str, tuple[Conjunction, ...]] = {}
    for arch in tables.ARCHES:
        rules = rules_for(Profile(function), arch)
        for nr, several in rules.allow.items():
            found[tables.names(arch)[nr]] = tuple(rule.conditions for rule in several)
    return found


def _classes(
    syscall: str, allowed: Sequence[_Allowed], bare: Sequence[Conjunction], source: str, notes: list[str]
) -> frozenset[str]:
    """The classes that the file allows whole, beyond what every profile allows (`bare`).

    Notes what is left out. Raises ProfileError for conditions that contain no class.
    """
    ways = [way for way in allowed if not _implied(way.conditions, bare)]
    if not ways:
        return frozenset()
    if arguments.opaque(syscall) or _wholly_denied(syscall):
        notes.append(f"{ways[0].path}: {syscall} is left out: {_how(syscall, '')}")
        return frozenset()
    conditions = [way.conditions for way in ways]
    fitting = {
        arg_class: alternatives
        for arg_class, alternatives in _candidates(syscall, conditions)
        if all(_implied(alternative, [*conditions, *bare]) for alternative in alternatives)
    }
    closed = arguments.partition_classes(syscall)
    for way in ways:
        mine = sorted(
            arg_class
            for arg_class, several in fitting.items()
            if any(_implied(one, [way.conditions]) for one in several)
        )
        exact = any(way.conditions == one for several in fitting.values() for one in several)
        if not mine and way.conditions:
            raise ProfileError(
                f"{syscall} with {_shown(way.conditions)} is not an argument class; nothing wider is taken",
                where=f"{source}:{way.path.rpartition('.names')[0]}.args",
                todo=_instead(syscall),
            )
        if not mine:
            notes.append(
                f"{way.path}: {syscall} is left out: it is allowed with any arguments, and a profile names each; "
                "learn them, or list them under classes"
            )
        elif not exact and (way.conditions or not closed or len(fitting) < len(closed)):
            words = ", ".join(mine) if mine != [""] else "what is harmless of it"
            notes.append(f"{way.path}: of {syscall} only {words} is taken, which allows less than the file")
    denied = [call for call in (Call(syscall, arg_class) for arg_class in sorted(fitting))
              if base.denial(call)]  # fmt: skip
    notes += [f"{ways[0].path}: {call} is left out: {_how(*call)}" for call in denied]
    taken = {arg_class: several for arg_class, several in fitting.items() if Call(syscall, arg_class) not in denied}
    return frozenset(
        arg_class
        for arg_class, several in taken.items()
        if not all(_implied(one, bare) for one in several) and not _within_another(arg_class, taken)
    )


def _within_another(arg_class: str, classes: Mapping[str, Sequence[Conjunction]]) -> bool:
    """Whether another class contains this one, which must not be named then: its family may be a larger one."""
    return any(
        other != arg_class and all(_implied(one, several) for one in classes[arg_class])
        for other, several in classes.items()
    )


def _candidates(syscall: str, ways: Sequence[Conjunction]) -> Iterator[tuple[str, tuple[Conjunction, ...]]]:
    """(class, what a filter compares for it) of the classes that could be meant."""
    arch = next(arch for arch in tables.ARCHES if syscall in tables.numbers(arch))
    if not arguments.has_classes(syscall):
        candidates = {""}
    elif arguments.partition_classes(syscall):
        candidates = {*arguments.partition_classes(syscall)}
    else:
        # Fields: a class for each value, so that only those can be meant that the file compares.
        decided = {argument for argument, _ in arguments.masks(syscall)}
        candidates = {
            arguments.classify(syscall, _registers(way), arch)
            for way in ways
            if decided <= {condition.argument for condition in way}
        }
    for arg_class in sorted(candidates):
        yield arg_class, comparison.conditions(syscall, arg_class, arch)


def _registers(conditions: Conjunction) -> list[int]:
    found = [0] * 6
    for condition in conditions:
        found[condition.argument] = condition.value
    return found


def _wholly_denied(syscall: str) -> bool:
    return any(entry.syscall == syscall and not entry.classes for entry in base.hard_deny())


def _how(syscall: str, arg_class: str) -> str:
    entry = base.denial(Call(syscall, arg_class))
    if entry is None:
        return arguments.opaque(syscall)
    if not entry.grantable:
        return f"{entry.because}; nothing can grant it"
    grant = spelling.of_grant(syscall, (arg_class,) if entry.classes else ())
    return f"{entry.because}; if it is needed, write {grant}"


def _shown(conditions: Conjunction) -> str:
    words = []
    for c in conditions:
        mask = "" if c.mask in (FULL, LOW) else f" & {c.mask:#x}"
        words.append(f"arg{c.argument}{mask} == {c.value:#x}")
    return " and ".join(words)


def _instead(syscall: str) -> str:
    classes = arguments.partition_classes(syscall)
    if not arguments.has_classes(syscall):
        return f"a profile allows {syscall} with any arguments or not at all; remove the args or the entry"
    known = f"its classes are {', '.join(classes) or f'made of {arguments.classification(syscall)}'}"
    return f"{known}; `sandbox profile export` shows how each is compared; or remove the entry and learn the call"
