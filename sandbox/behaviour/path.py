"""Path patterns of a profile: `/etc/hosts`, `/tmp/*`, `{root}/models/**`: which there are, and which covers which.

`folder/*` and `folder/**` mean the same, the folder with all below it: a Landlock rule on a folder ends at no depth
(man 7 landlock), so that a pattern for one level would promise more than the kernel keeps.

    >>> covers("/tmp/*", "/tmp/a/b"), covers("/tmp/*", "/tmp/**"), covers("/etc/hosts", "/etc")
    (True, True, False)

Elsewhere a `*` stands for the random part of one name. The paths of unix sockets have it, too, which the supervisor
compares as they are written (sandbox/behaviour/destination.py):

    >>> covers("/tmp/pymp-*/listener-*", "/tmp/pymp-x1/listener-7"), covers("/tmp/pymp-*", "/tmp/pymp-x1/y")
    (True, False)
"""

from __future__ import annotations

import os

from sandbox.bundle import BASES
from sandbox.errors import ProfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sandbox.bundle import PathRule

NAMES = BASES[1:]
"""Folders that only a host knows (sandbox/confine/landlock_rules.py)."""
OWN_INTERPRETER = "{python}"
"""As a program: the interpreter that the function runs under, wherever it is."""
PROGRAM_BASES = ("{root}", "{venv}")
"""Those of NAMES under which programs lie."""


def below(folder: str) -> str:
    """The pattern of a folder with all below it."""
    return f"{folder.rstrip('/')}/**"


def rule_of(pattern: str) -> PathRule:
    """The rule that a pattern becomes: its base (one of NAMES or ''), the path there, and whether all below is meant.

    Landlock knows no random names: the rule is on the folder above the first of them (see `above`).

    >>> rule_of("{root}/models/**"), rule_of("/etc/hosts"), rule_of("/tmp/pymp-*/x")
    (('{root}', '/models', True), ('', '/etc/hosts', False), ('', '/tmp', True))
    """
    base, path, whole = _parts(pattern)
    stem = above(path)
    return base, stem if stem or base else "/", whole or stem != path


def above(path: str) -> str:
    """The folder above the first name of a path that has a random part; the path itself where none has."""
    return path.partition("*")[0].rpartition("/")[0] if "*" in path else path


def _parts(pattern: str) -> PathRule:
    """(base, path, whole) with the random parts."""
    path, whole = pattern, pattern.endswith(("/*", "/**"))
    if whole:
        path = _stem(pattern)
    if not path.startswith("{"):
        return "", path or "/", whole
    base, slash, rest = path.partition("/")
    return base, slash + rest, whole


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern means all that another pattern, or a path, stands for.

    A path through `..` is covered by itself alone: where it leads is not in its text.
    """
    if pattern == other:
        return True
    base, path, whole = _parts(pattern)
    other_base, other_path, other_whole = _parts(other)
    if base != other_base or ".." in other_path.split("/") or (other_whole and not whole):
        return False
    depth = path.rstrip("/").count("/")
    if not whole:
        return is_like(path, other_path)
    return other_path.rstrip("/").count("/") >= depth and is_like(
        path.rstrip("/"), "/".join(other_path.rstrip("/").split("/")[: depth + 1])
    )


def is_like(path: str, other: str) -> bool:
    """Whether two paths have the same names, where a `*` in one of the first stands for any text, and for another `*`.

    >>> is_like("/tmp/pymp-*/l-*", "/tmp/pymp-x/l-*"), is_like("/tmp/*", "/tmp/a/b"), is_like("/a*", "/b")
    (True, False, False)
    """
    if "*" not in path:
        return path == other
    names, others = path.split("/"), other.split("/")
    return len(names) == len(others) and all(map(_is_name_like, names, others))


def _is_name_like(name: str, other: str) -> bool:
    first, *rest = name.split("*")
    if not rest:
        return name == other
    last = rest.pop()
    at, end = len(first), len(other) - len(last)
    if at > end or not (other.startswith(first) and other.endswith(last)):
        return False
    for text in rest:
        found = other.find(text, at, end)
        if found < 0:
            return False
        at = found + len(text)
    return True


def wildcard_problem(path: str) -> str:
    """What is wrong with the random parts of a path, '' for nothing."""
    if "**" in path:
        return "has ** elsewhere than at its end"
    return "has a wildcard in its first name, which is every folder of the root" if "*" in path.split("/")[1] else ""


def outermost(patterns: Iterable[str]) -> frozenset[str]:
    """The patterns without those that another one covers; of `folder/*` and `folder/**` the longer stays."""
    found = frozenset(patterns)
    cover = Cover(found)
    return frozenset(
        pattern for pattern in found
        if all(covers(pattern, other) and other < pattern for other in cover.of(pattern))
    )  # fmt: skip


class Cover:
    """Patterns, ready to be asked which of them cover another one: many are asked about many."""

    __slots__ = ("_found", "_random")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._found = frozenset(patterns)
        self._random = [pattern for pattern in self._found if "*" in _stem(pattern)]

    def of(self, pattern: str) -> Iterator[str]:
        """Those of the patterns that cover this one, without itself; without a wildcard none does."""
        folder = _stem(pattern)
        while True:
            for other in (f"{folder}/**", f"{folder}/*"):
                if other != pattern and other in self._found and covers(other, pattern):
                    yield other
            if not folder:
                break
            folder = folder.rpartition("/")[0]
        for other in self._random:
            if other != pattern and covers(other, pattern):
                yield other


def is_of_any_process(path: str) -> bool:
    """Whether a path stands for one file of any process (sandbox/behaviour/proc.py): no file of /proc is called so."""
    return path.startswith("/proc/*/") and path.count("*") == 1


def literal(path: str) -> str:
    """The pattern for a path or pattern that was observed; for one whose own names hold a `*`, the folder above them.

    Two slashes at its front are one (a path that began with `//` leads to the same file on Linux).
    """
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    if is_of_any_process(path):
        return path
    stem = _stem(path)
    return below(stem.partition("*")[0].rpartition("/")[0]) if "*" in stem else path


MANY_OWNERS = (
    "/etc", "/root", "/run/secrets", "/var/run/secrets", "/var/lib", "/var/log", "/var/tmp", "/var/cache", "/dev/shm",
)  # fmt: skip
"""Folders in which files of many owners lie, or secrets: none is opened because of one file in it."""


def is_one_owners(folder: str) -> bool:
    """Whether a folder may be opened as a whole because of one file in it: no home, and none at the top but a mount."""
    if folder in MANY_OWNERS or os.path.dirname(folder) == "/home" or folder.startswith(("/proc/", "/sys/")):
        return False
    return folder.count("/") > 1 or (folder != "/" and os.path.ismount(folder))


def check(pattern: str, where: str, *, program: bool = False) -> str:
    """The pattern, if it is a path, `folder/*` or `folder/**`, absolute or under one of NAMES; a program is a path.

    Names below the first may have random parts. Raises ProfileError, at `where`.
    """
    stem = pattern if program else _stem(pattern)
    name, _, rest = stem.partition("/")
    problem = ""
    bases = PROGRAM_BASES if program and pattern != OWN_INTERPRETER else NAMES
    if name not in ("", *bases) or not pattern.startswith(("/", "{")):
        problem = f"is neither absolute nor under {', '.join(bases)}"
    elif "*" in stem and program:
        problem = "is not a file"
    elif "*" in stem:
        problem = wildcard_problem(f"/{stem}" if name else stem)
    if not problem and rest and any(part in (".", "..", "") for part in rest.split("/")):
        problem = "has an empty part, . or .."
    elif not problem and "\0" in stem:
        problem = "holds a NUL"
    if problem:
        todo = "write an absolute path, folder/* or folder/**, and * for the random part of a name"
        raise ProfileError(f"the path {pattern!r} {problem}", where=where, todo=todo)
    return pattern


def _stem(pattern: str) -> str:
    """The pattern without the wildcard at its end."""
    return pattern.removesuffix("/**") if pattern.endswith("/**") else pattern.removesuffix("/*")
