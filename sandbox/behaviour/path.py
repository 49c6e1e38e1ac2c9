"""Path patterns of a profile: `/etc/hosts`, `/tmp/*`, `{root}/models/**`: which there are, and which covers which.

`folder/*` and `folder/**` mean the same, the folder with all below it: a Landlock rule on a folder ends at no depth
(man 7 landlock), so that a pattern for one level would promise more than the kernel keeps.

    >>> covers("/tmp/*", "/tmp/a/b"), covers("/tmp/*", "/tmp/**"), covers("/etc/hosts", "/etc")
    (True, True, False)
"""

from __future__ import annotations

from sandbox.bundle import BASES, place
from sandbox.errors import ProfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = BASES[1:]
"""Folders that only a host knows (sandbox/confine/landlock_rules.py)."""


def below(folder: str) -> str:
    """The pattern of a folder with all below it."""
    return f"{folder.rstrip('/')}/**"


def covers(pattern: str, other: str) -> bool:
    """Whether the rule that a pattern becomes allows all that another pattern's rule, or a path, stands for.

    A path through `..` is covered by itself alone: where it leads is not in its text.
    """
    if pattern == other:
        return True
    folder, path, whole = rule = place(pattern)
    other_folder, other_path, _ = other_rule = place(other)
    if ".." in other_path.split("/"):
        return False
    inside = folder == other_folder and f"{other_path}/".startswith(f"{path.rstrip('/')}/")
    return rule == other_rule or (whole and inside)


def outermost(patterns: Iterable[str]) -> frozenset[str]:
    """The patterns without those that another one covers; of `folder/*` and `folder/**` the longer stays."""
    found = frozenset(patterns)
    return frozenset(
        pattern for pattern in found
        if not any(other != pattern and covers(other, pattern) and not (covers(pattern, other) and other < pattern)
                   for other in found)
    )  # fmt: skip


def literal(path: str) -> str:
    """The pattern for a path or pattern that was observed; for one whose own names hold a `*`, the folder above them.

    Two slashes at its front are one (a path that began with `//` leads to the same file on Linux).
    """
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    stem = _stem(path)
    return below(stem.partition("*")[0].rpartition("/")[0]) if "*" in stem else path


def check(pattern: str, where: str, *, program: bool = False) -> str:
    """The pattern, if it is a path, `folder/*` or `folder/**`, absolute or under one of NAMES; a program is a path.

    Raises ProfileError, at `where`.
    """
    stem = pattern if program else _stem(pattern)
    name, _, rest = stem.partition("/")
    problem = ""
    if name not in ("", *NAMES) or not pattern.startswith(("/", "{")):
        problem = f"is neither absolute nor under {', '.join(NAMES)}"
    elif "*" in stem:
        problem = "is not a file" if program else "has a wildcard elsewhere than in a last /* or /**"
    elif any(part in (".", "..", "") for part in rest.split("/")) and rest:
        problem = "has an empty part, . or .."
    elif "\0" in stem:
        problem = "holds a NUL"
    if problem:
        todo = "write an absolute path, folder/* or folder/**"
        raise ProfileError(f"the path {pattern!r} {problem}", where=where, todo=todo)
    return pattern


def _stem(pattern: str) -> str:
    """The pattern without the wildcard at its end."""
    return pattern.removesuffix("/**") if pattern.endswith("/**") else pattern.removesuffix("/*")
