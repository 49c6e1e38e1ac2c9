"""The names of calls in a profile: each exists, and its class is written as the recorder writes it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from sandbox.behaviour import arguments, comparison
from sandbox.behaviour.call import Call
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.profile import base
from sandbox.profile.nearest import nearest


def name_exists(syscall: str, where: str) -> None:
    """Refuse a name that no kernel has. Raises ProfileError at `where`."""
    if syscall not in tables.every_name():
        raise ProfileError(
            f"{syscall!r} is not a system call of Linux {tables.LINUX} on {' or '.join(tables.ARCHES)}"
            + nearest(syscall, tables.every_name()),
            where=where,
            todo="correct the name (spelled as in the kernel's tables: newfstatat, not fstatat)",
        )


def class_exists(syscall: str, arg_class: str, where: str) -> None:
    """Refuse a class that the syscall does not have, and one that is not written as the recorder writes it.

    Hard deny, refusals and promises go by names: a number in the place of a name would pass them by. Raises
    ProfileError at `where`.
    """
    try:
        base.arguments_exist(Call(syscall, arg_class), where)
    except ProfileError as error:
        near = nearest(arg_class, _likely(syscall, arg_class))
        raise ProfileError(f"{error.what}{near}", where=where, todo=error.todo) from error
    expected = spellings(syscall, arg_class)
    if arg_class not in expected:
        raise ProfileError(
            f"{syscall}: the class {arg_class!r} is written {' or '.join(sorted(expected))!r}", where=where,
            todo="write it like this",
        )  # fmt: skip


def _likely(syscall: str, arg_class: str) -> Iterator[str]:
    """Classes that may have been meant: all of a closed list, else the given one with each word made a known one."""
    if known := arguments.partition_classes(syscall):
        yield from known
        return
    names = {
        name for part in arguments.classification(syscall).split(",") for group in tables.groups()
        if group.partition(".")[0] == part.partition(":")[0] for name in tables.constants(group)
    }  # fmt: skip
    words = (difflib.get_close_matches(word, names, n=1) or [word] for word in arg_class.split()[:4])
    yield " ".join(found[0] for found in words)


def spellings(syscall: str, arg_class: str) -> set[str]:
    """How the recorder writes the class, on each architecture."""
    if arguments.partition_classes(syscall):
        return {arg_class}
    call = Call(syscall, arg_class)
    to_others = call.signals_others and arguments.target_argument(syscall) is not None
    found = set()
    for arch in tables.ARCHES:
        try:
            alternatives = comparison.conditions(*call, arch)
        except ValueError:
            continue  # a name that the other architecture has
        for conjunction in alternatives:
            args = [0] * 6
            for condition in conjunction:
                args[condition.argument] |= condition.value
            seen = Call(syscall, arguments.classify(syscall, args, arch))
            found.add((seen.to_others() if to_others else seen).arg_class)
    return found
