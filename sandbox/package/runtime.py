"""Repacking a `provided.*` function: its `bootstrap` becomes `bootstrap.handler`, and ours starts it confined.

Node goes by the end of a name and knows no `.handler`: a script for it becomes `bootstrap-handler`.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sandbox.errors import UsageError
from sandbox.package import entry
from sandbox.package.contents import EXECUTABLE, File, by_path

FOLDER = ".sandbox"
"""Of the guard, beside the function's own files, whose names are theirs."""
ENTRY = "bootstrap"
MACHINES = {62: "x86_64", 183: "aarch64"}
"""e_machine of an ELF program (linux/elf-em.h)."""
START = "start"
"""In the guard, and again as ENTRY: so the manifest speaks of it, too."""


def moved(original: Sequence[File]) -> str:
    """What a function's own `bootstrap` is called behind ours."""
    own = by_path(original).get(ENTRY)
    first = own.data.partition(b"\n")[0] if own else b""
    return "bootstrap-handler" if first.startswith(b"#!") and b"node" in first else "bootstrap.handler"


def start(original: Sequence[File]) -> File:
    """What starts the function's own `bootstrap` confined."""
    return File(START, entry.runtime(FOLDER, moved(original)), EXECUTABLE)


def repacked(original: Sequence[File], guard: Sequence[File], where: str) -> list[File]:
    """The function's files and ours.

    Raises UsageError for a package without a `bootstrap`, and for one that has been repacked already.
    """
    names = by_path(original)
    if ENTRY not in names:
        raise UsageError(
            "has no `bootstrap`: it is not a package for a provided.* runtime", where=where,
            todo="use `sandbox package layer` for managed runtimes",
        )  # fmt: skip
    if names[ENTRY].kind == stat.S_IFDIR:
        raise UsageError("has a folder as its `bootstrap`", where=where, todo="package a program under that name")
    taken = [name for name in names if name.partition("/")[0] in (moved(original), FOLDER)]
    if taken:
        raise UsageError(f"already holds {taken[0]}", where=where, todo="repack the package that your build made")
    ours = [replace(start(original), path=ENTRY), *(file.under(FOLDER) for file in guard)]
    return [*_kept(original), *ours]


def lacks(original: Sequence[File], launchers: Sequence[str]) -> str:
    """The architecture for which the function's program needs a launcher that is not there, `any machine` where it is
    a script and there is none at all; '' where nothing is missing.
    """
    own = by_path(original).get(ENTRY)
    program = own.data if own else b""
    if program[:4] != b"\x7fELF":
        return "" if launchers else "any machine"
    machine = MACHINES.get(int.from_bytes(program[18:20], "little"), "")
    return machine if machine and machine not in launchers else ""


def started(files: Mapping[str, File]) -> File | None:
    """What the ENTRY of a repacked function must be, by the guard in it."""
    found = files.get(f"{FOLDER}/{START}")
    return replace(found, path=ENTRY) if found else None


def compare(original: Sequence[File], written: Sequence[File], where: str) -> int:
    """How many of the function's files, links and folders are in what was written, with bytes and modes.

    Raises UsageError when one is not.
    """
    found = by_path(written)
    for wanted in _kept(original):
        if found.get(wanted.path) != wanted:
            todo = "report this with the package's listing"
            raise UsageError(f"{wanted.path} was lost or changed by repacking", where=where, todo=todo)
    return len(original)


def _kept(original: Sequence[File]) -> list[File]:
    name = moved(original)
    return [
        replace(file, path=name, mode=file.mode | 0o111) if file.path == ENTRY else file for file in original
    ]
