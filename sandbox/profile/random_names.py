"""Random parts of names: what a tool made up at one run and will make up anew at the next becomes a `*`.

One path is enough for a name whose shape only a tool makes: tempfile's and mktemp's names, uuids, digests, container
ids. Anything else needs evidence: two paths of one shape whose names differ where a number, a date or a random token
stands. Two paths with equal text there keep it.

    >>> sorted(generalised({"/tmp/pymp-k2j4_x1z/listener-0abcdef1"}))
    ['/tmp/pymp-*/listener-*']
    >>> sorted(generalised({"/srv/in/2026-11-28/a", "/srv/in/2026-11-29/a", "/srv/in/today/a"}))
    ['/srv/in/*/a', '/srv/in/today/a']
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from sandbox.behaviour.destination import Entry
from sandbox.behaviour.destination import parse as parse_destination
from sandbox.behaviour.path import above, covers
from sandbox.errors import ProfileError

TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")

SECRET = ("/etc", "/proc", "/dev", "/run/secrets", "/var/run/secrets")
"""Nothing below is generalised: what lies beside what was asked for is nobody's guess."""

TERMINALS = "/dev/pts/*"
"""Pseudo-terminals: the kernel numbers them as they are made."""

CREDENTIALS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", "gcloud"})
"""Folders of a home that hold keys and tokens."""

# The alphabets and lengths of tempfile.mkdtemp and multiprocessing (Python), mkstemp(3) and mktemp(1).
_KNOWN = re.compile(
    r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}([-_])[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])(?=[0-9]*[a-fA-F])(?=[a-fA-F]*[0-9])(?:[0-9a-f]{128}|[0-9a-f]{96}|[0-9a-f]{64}|[0-9a-f]{56}"
    r"|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9A-Za-z])"
    r"|(?<=^tmp)[a-z0-9_]{8}(?=$|\.)|(?<=^pymp-)[a-z0-9_]{8}$|(?<=^listener-)[a-z0-9_]{8}$|(?<=^tmp\.)[A-Za-z0-9]{10}$"
)
_DATE = r"(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d(?:[T_-]?[0-2]\d[-:._]?[0-5]\d(?:[-:._]?[0-5]\d)?Z?)?(?!\d)"
_TOKEN = r"(?<!\w)(?=\w*\d\w*[A-Za-z])(?:\w{10,}|\w{8}|\w{6})(?!\w)"
_LONG = re.compile(rf"\*|(?<!\d){_DATE}|{_TOKEN}|\d{{3,}}", re.ASCII)
"""What may differ from run to run: a date with its time, a token with a letter behind a digit, a number."""
EVERY_NUMBER = re.compile(rf"\*|(?<!\d){_DATE}|{_TOKEN}|\d+", re.ASCII)
"""The same for sockets and temporary folders, where small numbers are those of processes."""
_YEAR = re.compile(r"(?:19|20)\d\d")


def sockets(entries: Iterable[str]) -> frozenset[str]:
    """The entries of a profile's `network` or `listen`, those of unix sockets generalised.

    The supervisor compares these patterns itself, so they may stand anywhere but where secrets lie.
    """
    found: set[str] = set()
    paths: set[str] = set()
    names: set[str] = set()
    for text in entries:
        try:
            entry = parse_destination(text)
        except ProfileError:
            entry = None
        if entry and str(entry.value).startswith("@"):
            names.add(str(entry.value))
        elif entry and entry.kind in ("path", "pattern"):
            paths.add(str(entry.value))
        else:
            found.add(text)
    named = generalised(paths, numbers=EVERY_NUMBER)
    kept = {path for path in named if not any(other != path and covers(other, path) for other in named)}
    found.update(f"unix:{name}" for name in _abstract(names))
    return frozenset(found | {Entry("unix", "pattern" if "*" in path else "path", path).text for path in kept})


def _abstract(names: Iterable[str]) -> set[str]:
    """Abstract names with a `*` for each random part; one that would begin with it keeps its text."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        known = "@" + "/".join(_KNOWN.sub("*", part) for part in name[1:].split("/"))
        name = name if known.startswith("@*") else known
        groups.setdefault(tuple("*".join(texts[::2]) for texts in _names(name, EVERY_NUMBER)), []).append(name)
    merged = ((_pattern(members, EVERY_NUMBER), members) for members in groups.values())
    return {name for pattern, members in merged for name in (members if pattern.startswith("@*") else (pattern,))}


def generalised(paths: Iterable[str], *, numbers: re.Pattern[str] = _LONG) -> set[str]:
    """Paths and patterns with a `*` for each random part; each of them is covered by one of the result.

    A path keeps its names where a pattern would open a folder of secrets, a home, or one at the top.
    """
    found: set[str] = set()
    groups: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        path, shape = shaped(path, numbers)
        if shape:
            groups.setdefault(shape, []).append(path)
        else:
            found.add(path)
    for members in groups.values():
        found.update(_merged(members, numbers))
    return found


CACHED = 1 << 16
"""Paths whose names are remembered: leaving out one event after another asks for the same ones again."""


@lru_cache(CACHED)
def shaped(path: str, numbers: re.Pattern[str] = _LONG) -> tuple[str, tuple[str, ...]]:
    """A path with a `*` for the names that only tools make, and its shape: only paths of one shape become one pattern.

    The shape has a name for each of the path's, and is empty for a path under {root} and the like.
    """
    if path.startswith("/dev/pts/") and path[len("/dev/pts/") :].isdigit():
        return TERMINALS, ()
    known = "/".join(_KNOWN.sub("*", name) for name in path.split("/"))
    path = known if may_open(known) else path
    shape = tuple("*".join(texts[::2]) for texts in _names(path, numbers)) if path.startswith("/") else ()
    return path, shape


def may_open(pattern: str) -> bool:
    """Whether the folder above the first random part may be opened whole, as Landlock does."""
    folder = above(pattern)
    if folder == pattern:
        return True
    if any(f"{folder}/".startswith(f"{secret}/") for secret in SECRET if not folder.startswith("/dev/shm")):
        return False
    if not CREDENTIALS.isdisjoint(folder.split("/")):
        return False
    deep = folder.count("/") > (2 if folder.startswith("/home/") else 1)
    return deep or folder in TEMPORARY


@lru_cache(CACHED)
def _names(path: str, numbers: re.Pattern[str]) -> tuple[tuple[str, ...], ...]:
    """The names of a path, each as its texts, and between these what may differ (at odd places)."""
    found: list[tuple[str, ...]] = []
    dated = False
    wide = EVERY_NUMBER if any(path.startswith(f"{folder}/") for folder in TEMPORARY) else numbers
    for name in path.split("/"):
        if name == "**":  # all below, which is not a name
            found.append((name,))
            continue
        pattern = EVERY_NUMBER if dated and len(name) == 2 and name.isdecimal() else wide
        dated = dated or _YEAR.fullmatch(name) is not None
        texts, at = [], 0
        for match in pattern.finditer(name):
            texts += [name[at : match.start()], match[0]]
            at = match.end()
        found.append((*texts, name[at:]))
    return tuple(found)


def _merged(members: list[str], numbers: re.Pattern[str]) -> set[str]:
    """The pattern for paths of one shape, or the paths where it would open too much."""
    pattern = _pattern(members, numbers)
    return {pattern} if pattern in members or may_open(pattern) else set(members)


def _pattern(members: list[str], numbers: re.Pattern[str]) -> str:
    """The texts of one shape, with a `*` where they differ."""
    first = [list(texts) for texts in _names(members[0], numbers)]
    for other in (_names(path, numbers) for path in members[1:]):
        for texts, more in zip(first, other, strict=True):
            for at in range(1, len(texts), 2):
                if texts[at] != more[at]:
                    texts[at] = "*"
    names = ("".join(texts) for texts in first)
    return "/".join(name if name == "**" else name.replace("**", "*") for name in names)
