"""A clean place for each start: a fresh /tmp and /dev/shm, and a function's folder that it cannot write to.

What an earlier start left in /tmp is not there, as on a platform that starts anew; two trainings at once do not see
each other; nothing stays on the host. Where nothing can be mounted, as in most containers, each start gets a TMPDIR of
its own instead, which counts as /tmp.

    place = prepare(root=..., closed=True, named=(...), scratch=...)
    subprocess.run([*place.command, *bootstrap(), ...], env={**environment, **place.variables(1)})
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sandbox.learn.enter_place import Layout
from sandbox.learn.observations import ColdStart, Sample
from sandbox.learn.records import FileAccess, Mode
from sandbox.profile.model import Profile

TMP = "/tmp"
FRESH = (TMP, "/dev/shm")
"""What a platform empties at each start. /var/tmp is kept: it outlives a boot (hier(7)), and volumes are there."""
MADE: tuple[Mode, ...] = ("write", "entry")
LIMIT = 30.0
"""Seconds for the attempt."""
MOST_SOURCES, LARGEST_SOURCE = 1000, 1 << 18
"""Files of the function, and bytes of one, that are searched for folders in /tmp."""
LIBRARIES = frozenset({"node_modules", "site-packages", "__pycache__", "python", "vendor"})
"""Folders of other people's code."""
_HERE = os.path.dirname(os.path.abspath(__file__))
_TOOL = os.path.dirname(os.path.dirname(_HERE))
_NAMED = re.compile(r"(?<![\w.~-])/+tmp/[^\s\"'\\:;,=]+")
"""A path below /tmp in a text; the one in /var/tmp/x is none."""


@dataclass(frozen=True)
class StartPlace:
    """Where the starts of one training run. `command` comes before the bootstrap's own; () where nothing is mounted.

    `refused` is the step that could not be done and why, '' where the place is clean; `layout` is what was asked for.
    """

    command: tuple[str, ...]
    layout: Layout
    refused: str = ""
    before: frozenset[str] = frozenset()

    def inside(self, path: str) -> str:
        """What a path below the scratch folder is called by the starts."""
        scratch = self.layout.scratch
        return self.layout.desk + path.removeprefix(scratch) if self.command and path.startswith(scratch) else path

    def variables(self, name: str) -> Mapping[str, str]:
        """What the start of this name needs to know: its TMPDIR, where /tmp is not fresh."""
        if self.command:
            return {}
        os.makedirs(folder := self._temporary(name), mode=0o700, exist_ok=True)
        return {"TMPDIR": folder}

    def lasting(self, name: str) -> StartPlace:
        """The same for one start whose /tmp outlasts its process, as a platform's does when it starts it again."""
        if not self.command:
            return self  # its TMPDIR does
        layout = self.layout._replace(lasting=f"lasting-{name}")
        return replace(self, layout=layout, command=_entering(layout))

    def _temporary(self, name: str) -> str:
        return os.path.join(self.layout.scratch, f"tmp-{name}")

    def translate(self, file: str, name: str) -> None:
        """Write TMPDIR as /tmp in the observations of the start of this name, where /tmp is not fresh."""
        if self.command:
            return
        with open(file, "r+b") as observations:
            old = re.escape(self._temporary(name).encode())
            text = re.sub(old + rb"(?![\w.-])", TMP.encode(), observations.read())
            observations.seek(0)
            observations.truncate()
            observations.write(text)

    def as_learned(self, cold_start: ColdStart) -> ColdStart:
        """What a start did, as it would be in a fresh /tmp.

        What it read in /tmp and what was there before the training counts as made by it too: the first start on a
        fresh machine has to make it.
        """
        left = {path for path in cold_start.reads if not self.command and self._was(path)}
        if not left:
            return cold_start

        def made(sample: Sample) -> Sample:
            paths = {fact.path for fact in sample.facts if isinstance(fact, FileAccess)} & left
            return replace(sample, facts=sample.facts | {FileAccess(path, mode) for path in paths for mode in MADE})

        return replace(
            cold_start, writes=cold_start.writes | left, entries=cold_start.entries | left,
            samples=tuple(map(made, cold_start.samples)),
        )  # fmt: skip

    def _was(self, path: str) -> bool:
        """Whether a path lies in /tmp, was there before, and is nothing that the user named."""
        parts = path.split("/")
        ours = (*self.layout.kept, self.layout.scratch)
        return (
            parts[:2] == ["", "tmp"] and len(parts) > 2 and parts[2] in self.before
            and not any(f"{path}/".startswith(f"{kept}/") for kept in ours)
        )  # fmt: skip

    def as_enforced(self, profile: Profile, name: str) -> Profile:
        """The profile for the start of this name: where /tmp is not fresh, what holds there holds in its TMPDIR."""
        if self.command:
            return profile
        new = self._temporary(name)

        def both(patterns: Iterable[str], prefix: str = "") -> frozenset[str]:
            begin = f"{prefix}{TMP}/"
            found = frozenset(patterns)
            return found | {f"{prefix}{new}/{p.removeprefix(begin)}" for p in found if p.startswith(begin)}

        def noted(pairs: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
            return frozenset((program, text) for one, text in pairs for program in both((one,)))

        return replace(
            profile, reads=both(profile.reads), writes=both(profile.writes), processes=both(profile.processes),
            network=both(profile.network, "unix:"), listen=both(profile.listen, "unix:"),
            digests=noted(profile.digests), interpreters=noted(profile.interpreters),
        )  # fmt: skip

    def __str__(self) -> str:
        if self.refused:
            return f"/tmp is the host's ({self.refused}): a TMPDIR for each start, and what was there counts as made"
        fresh = " and ".join(self.layout.fresh) or "nothing"
        closed = ", the function's folder is read-only" if self.layout.closed else ""
        kept = f"; of this host's they show {', '.join(self.layout.kept)}" if self.layout.kept else ""
        made = ", ".join(self.layout.empty)
        empty = f"; made for each, since its files name them: {made}" if made else ""
        return f"{fresh} fresh for each start{closed}{kept}{empty}"


def prepare(*, root: str, closed: bool, named: Iterable[str], scratch: str) -> StartPlace:
    """Try what the host lets us mount. `closed`: the root is read-only; `scratch` is a folder that the starts share.

    `named` are texts, any of which may name a path below /tmp that the starts need: arguments, variables, events.
    """
    ours = (root, _TOOL, sys.prefix, sys.base_prefix, sys.executable)
    fresh = [folder for folder in FRESH if os.path.isdir(folder) and not f"{folder}/".startswith(f"{root}/")]
    kept = {path for text in (*ours, *named) for path in _named(text)} if TMP in fresh else set()
    outer = sorted(path for path in kept if not any(path.startswith(f"{other}/") for other in kept))
    empty = sorted(_empty_folders(root) - set(outer)) if TMP in fresh else []
    desk = os.path.join(_HERE, "scratch")
    layout = Layout(fresh, outer, empty, root if closed and root != "/" else "", scratch, desk)
    enter = _entering(layout)
    refused = _tried([*enter, sys.executable, "-I", "-S", "-c", ""], root)
    before = frozenset(os.listdir(TMP)) if refused else frozenset()
    return StartPlace(() if refused else enter, layout, refused, before)


def _entering(layout: Layout) -> tuple[str, ...]:
    """The command that makes the place and then execs what follows."""
    return (sys.executable, "-I", "-S", os.path.join(_HERE, "enter_place.py"), json.dumps(layout))


def _empty_folders(root: str) -> set[str]:
    """Empty folders below /tmp that a file of the function names: no leftovers, but something that it is given."""
    found = set()
    for text in _sources(root):
        for match in _NAMED.finditer(text):
            path = os.path.normpath(re.sub("^/+", "/", match[0]))
            with contextlib.suppress(OSError):
                if path.startswith(f"{TMP}/") and os.path.realpath(path) == path and not os.listdir(path):
                    found.add(path)
    return found


def _sources(root: str) -> Iterator[str]:
    """The function's own text files, as far as they are small and not too many."""
    left = MOST_SOURCES
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in LIBRARIES)
        for name in sorted(names):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if os.path.isfile(path) and os.path.getsize(path) <= LARGEST_SOURCE:
                    with open(path, "rb") as file:
                        text = file.read(LARGEST_SOURCE)
                    if b"\0" not in text:
                        yield text.decode(errors="replace")
            left -= 1
            if not left:
                return


def _tried(command: list[str], root: str) -> str:
    """The step that was refused, '' for none."""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=LIMIT)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]


def _named(text: str) -> Iterable[str]:
    """What exists of the paths below /tmp in a text: the text itself, or each in it, or the folder nearest to it."""
    if text.startswith(f"{TMP}/") and os.path.exists(text):  # it may hold a space
        yield os.path.normpath(text)
        return
    for match in _NAMED.finditer(text):
        path = os.path.normpath(re.sub("^/+", "/", match[0]))
        while path.startswith(f"{TMP}/") and not os.path.exists(path):
            path = os.path.dirname(path)
        if path.startswith(f"{TMP}/"):
            yield path
