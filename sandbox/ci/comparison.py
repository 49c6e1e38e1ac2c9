"""The profiles of a change compared with those of a commit before it, as files that any CI system can keep.

report.md         a text for the pull request, all profiles together
NAME.sarif        what widens, for code scanning, one file a function: several profiles may be of one
comparison.json   the same for programs: comparison.schema.json
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob

from sandbox.errors import ProfileError, UsageError
from sandbox.profile import document
from sandbox.profile.document import Document
from sandbox.profile.model import Profile, ProfiledFunction
from sandbox.profile.risk import RISKS, Risk
from sandbox.review import changes, markdown, rules, sarif
from sandbox.review.changes import ProfileChange

REPORT, RESULT = "report.md", "comparison.json"
FAIL_ON = (*RISKS, "never")


@dataclass(frozen=True)
class Compared:
    """One profile: its file, its function, what changed, and the highest risk of what widens (None: nothing does)."""

    file: str
    function: str
    found: tuple[ProfileChange, ...]

    @property
    def widest(self) -> Risk | None:
        """The highest risk of what widens; None where nothing does."""
        return changes.widest(self.found)


def files(patterns: Sequence[str]) -> list[str]:
    """The profiles that the patterns name, sorted. Raises UsageError for a pattern that names none."""
    found: set[str] = set()
    for pattern in patterns:
        named = [path for path in glob(pattern, recursive=True) if os.path.isfile(path)]
        if not named:
            raise UsageError("names no file", where=pattern, todo="name the profiles, such as profiles/*.yaml")
        found.update(named)
    return sorted(found)


def with_commit(paths: Sequence[str], commit: str) -> Iterator[Compared]:
    """Each profile as it is in the working tree, compared with that of a commit ('': with none).

    Raises ProfileError for one that is invalid, UsageError where git does not know the commit.
    """
    if commit:
        fetch(commit)
    for path in paths:
        new = document.read(path)
        old = _of_commit(commit, path) if commit else None
        yield compared(path, old or _empty(new), new)


def compared(path: str, old: Document, new: Document) -> Compared:
    """Two versions of the profile `path`."""
    return Compared(path, new.profile.function.name, changes.changes(old, new))


def write(found: Sequence[Compared], folder: str) -> None:
    """Write the files into the folder, which is made."""
    os.makedirs(folder, exist_ok=True)
    texts = [markdown.of_changes(one.found, one.function) for one in found]
    _write(folder, REPORT, "\n".join(texts))
    listed = [
        {"file": one.file, "function": one.function, "widens": one.widest, "changes": len(one.found)} for one in found
    ]
    worst = max((one.widest for one in found if one.widest), key=RISKS.index, default=None)
    _write(folder, RESULT, json.dumps({"widens": worst, "profiles": listed}, indent=2) + "\n")
    results: dict[str, list[sarif.Alert]] = {}
    for one in found:
        results.setdefault(one.function, []).extend(rules.widenings(one.found, one.function))
    for function, widenings in results.items():
        text = sarif.log(rules.of_changes(), widenings, f"sandbox-profile-diff/{function}")
        _write(folder, f"{function}.sarif", text)


def fails(worst: str | None, least: str) -> bool:
    """Whether a widening of this risk fails where `least` is the least risk that does. Raises UsageError."""
    if least not in FAIL_ON:
        raise UsageError(f"is {least!r}, not one of {', '.join(FAIL_ON)}", where="fail-on", todo="correct it")
    return worst is not None and least != "never" and FAIL_ON.index(worst) >= FAIL_ON.index(least)


def fetch(commit: str) -> None:
    """See that a commit is here: a checkout of CI is shallow. Raises UsageError where it cannot be had."""
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0:
        return
    done = _git("fetch", "--quiet", "--no-tags", "--depth=1", "--", "origin", commit)
    if done.returncode:
        problem = done.stderr.decode(errors="replace").strip().splitlines()
        todo = "name a commit of this repository, or check out with fetch-depth: 0"
        raise UsageError(f"cannot be fetched: {problem[-1] if problem else 'git failed'}", where=commit, todo=todo)


def _of_commit(commit: str, path: str) -> Document | None:
    """The profile of a commit, None where that has none. One that was invalid there says nothing of what it allowed."""
    done = _git("show", f"{commit}:./{os.path.relpath(path)}")
    try:
        return None if done.returncode else document.parse(done.stdout, path)
    except ProfileError:
        return None


def _empty(new: Document) -> Document:
    """A profile of the same function that allows nothing: what a new one is compared with."""
    return document.parse(document.write(Profile(ProfiledFunction(new.profile.function.name))))


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Git in the working folder, whoever owns the checkout: in a container of CI that is another user."""
    command = ["git", "-c", "safe.directory=*", *words]
    try:
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise UsageError(f"cannot be run: {error.strerror}", where="git", todo="install git") from error


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
