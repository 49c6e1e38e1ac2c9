"""Import from the `linux.seccomp` object of the OCI runtime specification.

An import never widens: what a profile cannot say exactly is left out with a note, or refused where it stands.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.behaviour import arguments, comparison, listener, spelling
from sandbox.behaviour.arguments import FULL, LOW
from sandbox.behaviour.call import Call
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy import oci, oci_file
from sandbox.policy.rules import rules_for
from sandbox.profile import base
from sandbox.profile.model import RUNTIME_API, Phase, Profile, ProfiledFunction, Use
from sandbox.profile.promises import promises_of

ANYWHERE = frozenset(("udp://0.0.0.0/0:*", "udp://[::/0]:*"))
"""Where a file that names no destinations lets messages go."""

UNSAYABLE = frozenset({"SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_NE"})
"""Comparisons that no argument class is made of: a profile compares for equality."""

ALLOWING = {"SCMP_ACT_ALLOW": "", "SCMP_ACT_LOG": "allowed and logged by the file; it is allowed without a log line"}
"""Actions with which a call goes ahead, and what a profile does not keep of them."""

DELEGATING = {"SCMP_ACT_NOTIFY": "an agent that listens", "SCMP_ACT_TRACE": "a tracer"}
"""Actions that leave a call to somebody else, who is not there when a profile is enforced."""

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


def import_oci(data: Any, name: str, *, source: str = "<oci>", runtime_api: bool = True) -> Imported:
    """A profile from a `linux.seccomp` object or a whole config.json around it.

    Every allowed call lands in `init` and `invoke` (`run` where there is no Runtime API). Raises ProfileError, located
    by JSON path, for what does not fit the format and for what a profile could only say by allowing more.
    """
    prefix, seccomp = oci_file.find(data, source)
    notes = list(_beside(seccomp, source, prefix))
    allowed = _allowed(seccomp, source, prefix, notes)
    phases: tuple[Phase, ...] = ("init", "invoke") if runtime_api else ("run",)
    file = (os.path.basename(source) or source).encode("utf-8", "replace").decode()
    because = frozenset({f"imported from {file}"})
    bare = _bare(ProfiledFunction(name, "", runtime_api))
    items = {
        Call(syscall, found)
        for syscall, ways in sorted(allowed.items())
        for found in _classes(syscall, ways, bare.get(syscall, ()), notes)
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
        listen=frozenset({listener.ANY} if any(use.syscall in tables.LISTENS for use in uses) else ()),
    )
    return Imported(profile, tuple(notes))


def _beside(seccomp: Mapping[str, Any], source: str, prefix: str) -> Iterator[str]:
    """A note for each thing of the object that a profile has no word for."""
    if base_profile := seccomp.get("baseProfileName"):
        yield f"{prefix}.baseProfileName: {base_profile!r} is not read: import that object, too, and merge the profiles"
    if seccomp.get("listenerPath") or seccomp.get("listenerMetadata"):
        yield f"{prefix}.listenerPath: is left out: the supervisor decides where the file asks an agent"
    if flags := seccomp.get("flags"):
        yield f"{prefix}.flags: {', '.join(flags)} left out: the filter is installed with flags of its own"
    if others := sorted({*(seccomp.get("architectures") or ())} - {*oci.ARCHITECTURES.values(), "SCMP_ARCH_NATIVE"}):
        yield f"{prefix}.architectures: {', '.join(others)} left out: calls of these are refused"
    if seccomp["defaultAction"] != "SCMP_ACT_ERRNO":
        yield f"{prefix}.defaultAction: what is not allowed gets EPERM, or the response that the profile names"
    elif (number := oci_file.error_number(seccomp, "defaultErrno", f"{source}:{prefix}")) not in (None, errno.EPERM):
        yield f"{prefix}.defaultErrnoRet: what is not allowed gets EPERM, not {_errno_name(number)}"


def _errno_name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))


def _allowed(seccomp: Mapping[str, Any], source: str, prefix: str, notes: list[str]) -> dict[str, list[_Allowed]]:
    found: dict[str, list[_Allowed]] = {}
    refused: dict[str, str] = {}
    for i, entry in enumerate(seccomp.get("syscalls") or ()):
        path = f"{prefix}.syscalls[{i}]"
        if entry.get("comment") == oci.ENGINE:
            notes.append(f"{path}: left out: it is {oci.ENGINE}")
            continue
        names = {}
        for j, syscall in enumerate(entry["names"]):
            if syscall in tables.every_name():
                names[syscall] = f"{path}.names[{j}]"
            else:
                told = f"{syscall!r} is ignored: Linux {tables.LINUX} has no such 64-bit system call"
                notes.append(f"{path}.names[{j}]: {told}")
        if entry["action"] not in ALLOWING:
            notes += _refusing(entry, path, names, source)
            for syscall, at in names.items():
                refused.setdefault(syscall, at)
            continue
        if ALLOWING[entry["action"]] and names:
            notes.append(f"{path}: {', '.join(names)}: {ALLOWING[entry['action']]}")
        args = entry.get("args") or ()
        if unsayable := sorted({arg["op"] for arg in args} & UNSAYABLE):
            notes.append(f"{path}.args: {', '.join(names)} left out: {unsayable[0]} is not a comparison for equality")
            continue
        for syscall, at in names.items():
            found.setdefault(syscall, []).append(_Allowed(_conditions(syscall, args, source, path), at))
    for syscall in sorted(found.keys() & refused.keys()):
        raise ProfileError(
            f"{syscall} is allowed in one entry ({found[syscall][0].path}) and not in another",
            where=f"{source}:{refused[syscall]}",
            todo="keep the entries that allow, with args that say what",
        )
    return found


def _refusing(entry: Mapping[str, Any], path: str, names: Iterable[str], source: str) -> Iterator[str]:
    """Notes on an entry that allows nothing: what it says of its calls that their refusal here does not."""
    number = oci_file.error_number(entry, "errno", f"{source}:{path}")
    if entry["action"] in DELEGATING:
        yield f"{path}: {', '.join(names)} left out: {entry['action']} leaves them to {DELEGATING[entry['action']]}"
    elif entry["action"] != "SCMP_ACT_ERRNO":
        yield f"{path}: {', '.join(names)}: refused with an errno, not by {entry['action']}"
    elif number not in (None, errno.EPERM) and (others := [name for name in names if _refused_with(name) != number]):
        yield f"{path}: {', '.join(others)}: refused with EPERM, not {_errno_name(number)}"


def _refused_with(syscall: str) -> int:
    """The errno with which every profile refuses a syscall that it does not allow."""
    entry = base.find(base.hard_deny(), Call(syscall)) or base.find(base.refusals(), Call(syscall))
    return int(getattr(errno, entry.errno)) if entry else errno.EPERM


def _conditions(syscall: str, args: Sequence[Mapping[str, Any]], source: str, entry: str) -> Conjunction:
    """An entry's args in our terms. Where the kernel reads 32 bits of a register, the others are left out of masks."""
    found: dict[int, Condition] = {}
    for k, arg in enumerate(args):
        path = f"{source}:{entry}.args[{k}]"
        index, value = int(arg["index"]), int(arg.get("value", 0))
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
    syscall: str, allowed: Sequence[_Allowed], bare: Sequence[Conjunction], notes: list[str]
) -> frozenset[str]:
    """The classes that the file allows whole, beyond what every profile allows (`bare`).

    Notes what is left out, conditions that contain no class among it.
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
            notes.append(
                f"{way.path.rpartition('.names')[0]}.args: {syscall} is left out: {_shown(way.conditions)} is not an "
                f"argument class, and nothing wider is taken; {_instead(syscall)}"
            )
        elif not mine:
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
