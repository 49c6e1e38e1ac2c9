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
import pwd
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sandbox.errors import InstallRefused
from sandbox.learn.cold_starts import ColdStart, Sample
from sandbox.learn.enter_place import PASSWD, Layout
from sandbox.learn.platforms import HOST, SHARED_MEMORY, DeploymentPlatform
from sandbox.learn.records import FileAccess, Mode
from sandbox.profile.model import Profile

TMP = "/tmp"
FRESH = (TMP, SHARED_MEMORY)
"""What a platform empties at each start. /var/tmp is kept: it outlives a boot (hier(7)), and volumes are there."""
MADE: tuple[Mode, ...] = ("write", "entry")
LIMIT = 30.0
"""Seconds for the attempt."""
MOST_SOURCES, LARGEST_SOURCE = 1000, 1 << 18
"""Files of the function, and bytes of one, that are searched for folders in /tmp."""
LIBRARIES = frozenset({"node_modules", "site-packages", "__pycache__", "python", "vendor"})
"""Folders of other people's code."""
OPTIONAL = {
    "devices": f"no {SHARED_MEMORY}", "read_only": "only /tmp can be written to", "user": "its user",
    "passwd": "its user's name", "limits": "its limits",
}  # fmt: skip
"""What can be left out of a layout, by its field: what the platform has and the start then lacks."""
MOUNTING = ("unshare(", "mount(", "mkdir(")
"""How the steps begin without which nothing is mounted at all."""
LIMITS = {resource.RLIMIT_NOFILE: "descriptors", resource.RLIMIT_NPROC: "processes and threads"}
OF_A_USER = {resource.RLIMIT_NPROC}
_READS = """
import os, sys
if sys.argv[1:]:
    tree = [os.path.join(folder, name) for folder, _, names in os.walk(sys.argv[-1]) for name in names][:5000]
    for path in (*sys.argv[1:], *(name for name in tree if not os.path.islink(name))):
        if not os.access(path, os.R_OK) and os.path.lexists(path):
            sys.exit(f"user: {path} cannot be read by others")
"""
"""Whether another user can read a start's programs and the function's folder, which comes last."""
_HERE = os.path.dirname(os.path.abspath(__file__))
_TOOL = os.path.dirname(os.path.dirname(_HERE))
_NAMED = re.compile(r"(?<![\w.~-])/+tmp/[^\s\"'\\:;,=]+")
"""A path below /tmp in a text; the one in /var/tmp/x is none."""


@dataclass(frozen=True)
class StartPlace:
    """Where the starts of one training run. `command` comes before the bootstrap's own, () for nothing.

    `refused` is the step that could not be done and why, '' where the place is clean; `layout` is what was done.
    `missing` says of the platform what this host could not imitate, and why.
    """

    command: tuple[str, ...]
    layout: Layout
    refused: str = ""
    before: frozenset[str] = frozenset()
    platform: DeploymentPlatform = HOST
    missing: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether /tmp is fresh for each start."""
        return not self.refused

    def inside(self, path: str) -> str:
        """What a path below the scratch folder is called by the starts."""
        scratch = self.layout.scratch
        return self.layout.desk + path.removeprefix(scratch) if self.clean and path.startswith(scratch) else path

    def variables(self, name: str) -> Mapping[str, str]:
        """What the start of this name needs to know: its TMPDIR, where /tmp is not fresh; what the platform refuses."""
        found = {"SANDBOX_REFUSES": self.platform.variable} if self.platform.refuses else {}
        if not self.clean:
            os.makedirs(folder := self._temporary(name), mode=0o700, exist_ok=True)
            self._give(folder)
            found["TMPDIR"] = folder
        return found

    def file(self, path: str) -> str:
        """A file of the scratch folder that a start can write to: what it calls the path."""
        if self.layout.user:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._give(path)
        return self.inside(path)

    def _give(self, path: str) -> None:
        if self.layout.user:
            os.chown(path, *self.layout.user)

    def lasting(self, name: str) -> StartPlace:
        """The same for one start whose /tmp outlasts its process, as a platform's does when it starts it again."""
        if not self.clean:
            return self  # its TMPDIR does
        layout = self.layout._replace(lasting=f"lasting-{name}")
        return replace(self, layout=layout, command=_entering(layout))

    def _temporary(self, name: str) -> str:
        return os.path.join(self.layout.scratch, f"tmp-{name}")

    def translate(self, file: str, name: str) -> None:
        """Write TMPDIR as /tmp in the observations of the start of this name, where /tmp is not fresh."""
        if self.clean:
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
        left = {path for path in cold_start.reads if not self.clean and self._was(path)}
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
        if self.clean:
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
        return "; ".join((self._clean_or_not(), *self._as_there()))

    def _clean_or_not(self) -> str:
        if self.refused:
            return f"/tmp is the host's ({self.refused}): a TMPDIR for each start, and what was there counts as made"
        fresh = " and ".join(self.layout.fresh) or "nothing"
        closed = ", the function's folder is read-only" if self.layout.closed else ""
        kept = f"; of this host's they show {', '.join(self.layout.kept)}" if self.layout.kept else ""
        made = ", ".join(self.layout.empty)
        empty = f"; made for each, since its files name them: {made}" if made else ""
        return f"{fresh} fresh for each start{closed}{kept}{empty}"

    def _as_there(self) -> Iterator[str]:
        """What is as on the platform, and what is not."""
        layout, platform = self.layout, self.platform
        limits = dict(layout.limits)
        found = [
            *(OPTIONAL[name] for name in ("devices", "read_only") if getattr(layout, name)),
            f"uid {layout.user[0]}" if layout.user else "",
            *(f"{limits[number]} {what}" for number, what in LIMITS.items() if number in limits),
            f"no {', '.join(platform.unset)}" if platform.unset else "",
            f"it refuses {platform.refusals}" if platform.refuses else "",
        ]
        if told := ", ".join(filter(None, found)):
            yield f"as on {platform.name}: {told}"
        if self.missing:
            yield f"not as on {platform.name}: {', '.join(self.missing)}"


def nowhere(scratch: str) -> StartPlace:
    """This host as it is, where the starts have a folder at least."""
    return StartPlace((), Layout((), (), (), "", scratch, scratch))


def prepare(
    *, root: str, closed: bool, named: Iterable[str], scratch: str, platform: DeploymentPlatform = HOST,
    programs: Iterable[str] = (),
) -> StartPlace:  # fmt: skip
    """Try what the host lets us mount. `closed`: the root is read-only; `scratch` is a folder that the starts share.

    `named` are texts, any of which may name a path below /tmp that the starts need: arguments, variables, events.
    `programs` are what a start runs, which its user must be able to read. What this host does not let us imitate of the
    platform is left out, one thing after the other. Raises InstallRefused where a step fails and nothing is left to
    leave out, OSError where no process can be made to try.
    """
    ours = (root, _TOOL, sys.prefix, sys.base_prefix, sys.executable)
    fresh = [
        folder for folder in FRESH
        if os.path.isdir(folder) and not f"{folder}/".startswith(f"{root}/")
        and (folder != SHARED_MEMORY or platform.shared_memory)
    ]  # fmt: skip
    kept = {path for text in (*ours, *named) for path in _named(text)} if TMP in fresh else set()
    outer = sorted(path for path in kept if not any(path.startswith(f"{other}/") for other in kept))
    empty = sorted(_empty_folders(root) - set(outer)) if TMP in fresh else []
    desk = os.path.join(_HERE, "scratch")
    layout = Layout(fresh, outer, empty, root if closed and root != "/" else "", scratch, desk)
    layout, missing = _like(layout, platform)
    readable = [os.path.join(_TOOL, "bootstrap"), *programs, root]
    refused = ""
    while step := _tried(
        [*_entering(layout), sys.executable, "-I", "-S", "-c", _READS, *(readable if layout.user else ())], root
    ):
        name, _, reason = step.partition(": ")
        if name in OPTIONAL and getattr(layout, name):
            layout = _without(layout, name, reason, missing)
        elif layout.user and not step.startswith(MOUNTING):
            layout = _without(layout, "user", step, missing)
        elif layout.desk:
            missing += [OPTIONAL[name] for name in ("devices", "read_only") if getattr(layout, name)]
            layout, refused = Layout([], outer, [], "", scratch, "", user=layout.user, limits=layout.limits), step
        else:
            raise InstallRefused("no start can be prepared", where=step, todo="train with --platform host")
    if layout.user:
        os.chmod(scratch, 0o711)
    before = frozenset(os.listdir(TMP)) if refused else frozenset()
    asked = layout.desk or layout.user or layout.limits
    return StartPlace(_entering(layout) if asked else (), layout, refused, before, platform, tuple(missing))


def _like(layout: Layout, platform: DeploymentPlatform) -> tuple[Layout, list[str]]:
    """The layout with what the platform asks for, and what is left out of it from the beginning."""
    user, missing = platform.user, list[str]()
    found = layout._replace(
        devices=[name for name in platform.devices if os.path.exists(f"/dev/{name}")], read_only=platform.read_only,
        user=[user.uid, user.gid] if user else [], limits=sorted(platform.limits.items()),
    )  # fmt: skip
    if user and os.geteuid() != 0:
        found = _without(found, "user", "only root can be another", missing)
    elif user and not _is_known(user.uid):
        passwd = os.path.join(layout.scratch, "passwd")
        with open(PASSWD, "rb") as known, open(passwd, "wb") as file:
            file.write(known.read() + user.line.encode())
        os.chmod(passwd, 0o644)
        found = found._replace(passwd=passwd)
    return found, missing


def _without(layout: Layout, name: str, why: str, missing: list[str]) -> Layout:
    """The layout without one of OPTIONAL, which `missing` gets; with a user go its name and its limits.

    All processes of a user count, of whom a developer has many (man 2 getrlimit).
    """
    missing.append(f"{OPTIONAL[name]} ({why})")
    layout = layout._replace(**{name: Layout._field_defaults[name]})
    if name == "user":
        missing += [f"{value} {LIMITS[number]}" for number, value in layout.limits if number in OF_A_USER]
        layout = layout._replace(passwd="", limits=[one for one in layout.limits if one[0] not in OF_A_USER])
    return layout


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _entering(layout: Layout) -> tuple[str, ...]:
    """The command that makes the place and then execs what follows."""
    return (sys.executable, "-I", "-S", os.path.join(_HERE, "enter_place.py"), json.dumps(layout))


def _empty_folders(root: str) -> set[str]:
    """Empty folders below /tmp that a file of the function names: no leftovers, but something that it is given."""
    found = set()
    for text in _sources(root):
        for path in _paths(text):
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
    """The step that was refused, '' for none. Raises OSError where no process can be made to try it."""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.SubprocessError as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]


def _named(text: str) -> Iterable[str]:
    """What exists of the paths below /tmp in a text: the text itself, or each in it, or the folder nearest to it."""
    if text.startswith(f"{TMP}/") and os.path.exists(text):  # it may hold a space
        yield os.path.normpath(text)
        return
    for path in _paths(text):
        while path.startswith(f"{TMP}/") and not os.path.exists(path):
            path = os.path.dirname(path)
        if path.startswith(f"{TMP}/"):
            yield path


def _paths(text: str) -> Iterator[str]:
    """The paths below /tmp in a text, which may lead out of it again."""
    return (os.path.normpath(re.sub("^/+", "/", match[0])) for match in _NAMED.finditer(text))
