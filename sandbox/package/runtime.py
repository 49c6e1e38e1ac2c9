"""Repacking a `provided.*` function: its `bootstrap` becomes `bootstrap.handler`, and ours starts it confined."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from sandbox.errors import UsageError
from sandbox.package import entry
from sandbox.package.contents import EXECUTABLE, File, by_path

FOLDER = ".sandbox"
"""Of the guard, beside the function's own files, whose names are theirs."""
ENTRY, MOVED = "bootstrap", "bootstrap.handler"


def repacked(original: Sequence[File], guard: Sequence[File], where: str) -> list[File]:
    """The function's files and ours.

    Raises UsageError for a package without a `bootstrap`, and for one that has been repacked already.
    """
    names = by_path(original)
    if ENTRY not in names:
        raise UsageError(
            "has no `bootstrap`: it is no package of a provided.* runtime", where=where,
            todo="use `sandbox package layer` for managed runtimes",
        )  # fmt: skip
    taken = [name for name in names if name == MOVED or name.startswith(f"{FOLDER}/")]
    if taken:
        raise UsageError(f"holds {taken[0]} already", where=where, todo="repack the package that your build made")
    kept = [replace(file, path=MOVED, mode=file.mode | 0o111) if file.path == ENTRY else file for file in original]
    ours = [File(ENTRY, entry.runtime(FOLDER, MOVED), EXECUTABLE), *(file.under(FOLDER) for file in guard)]
    return [*kept, *ours]


def compare(original: Sequence[File], written: Sequence[File], where: str) -> int:
    """How many of the function's files are in what was written, byte for byte. Raises UsageError when one is not."""
    found = by_path(written)
    for file in original:
        other = found.get(MOVED if file.path == ENTRY else file.path)
        if other is None or _digest(other) != _digest(file) or other.link != file.link:
            raise UsageError(f"{file.path} did not survive", where=where, todo="report this with the package's listing")
    return len(original)


def _digest(file: File) -> str:
    return hashlib.sha256(file.data).hexdigest()
