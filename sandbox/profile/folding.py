"""Folding paths by directory, so that a profile shows places and not thousands of files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

from sandbox.behaviour.path import Cover, below, covers, is_of_any_process, outermost, rule_of
from sandbox.profile.random_names import CREDENTIALS, TEMPORARY, generalised, may_open, shaped

FEW = 3
"""So many files of one directory stand by themselves; more become `directory/*`."""

PRIVATE = ("/", "/proc", "/proc/self", "/proc/*", "/sys", "/dev", "/etc", "/root", "/run/secrets", "/var/run/secrets")
"""Folders that hold what nobody asked for beside what somebody did; users' homes, too."""

SECRET = (
    "/root", "/home", "/run/secrets", "/var/run/secrets", "/etc/shadow", "/etc/shadow-", "/etc/gshadow",
    "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssh", "/etc/ssl/private",
)  # fmt: skip
"""What an amendment leaves to a person, with all below it, and patterns that would cover it."""

_KEYS = tuple(folder for folder in SECRET if folder not in ("/root", "/home"))
"""Folders of secrets and nothing else; below homes there are files of functions, too."""

_OF_A_PROCESS = ("environ", "mem", "maps", "fd", "root", "cwd", "exe")
"""What the folder of a process in /proc shows of its memory, variables and files (man 5 proc)."""

LONGEST = 24
"""Lines; beyond, the deepest directories are folded into `directory/**` until it fits."""


def named(paths: Iterable[str], places: Mapping[str, str]) -> set[str]:
    """The paths with the directories of `places` {name: directory} written by name and folded whole ({root}/**).

    The own process's files under /proc are written as /proc/self.
    """
    # A function that was started from / has no folder of its own: everything would be called by its name.
    ordered = sorted(((n, d) for n, d in places.items() if d != "/"), key=lambda place: -len(place[1]))
    found: set[str] = set()
    for path in paths:
        if not path.startswith("/"):
            continue
        for name, directory in ordered:
            if path == directory or path.startswith(directory.rstrip("/") + "/"):
                found.add(below(name))
                break
        else:
            parts = path.split("/")
            own = len(parts) > 2 and parts[1] == "proc" and parts[2].isdigit()
            found.add("/".join(["/proc/self", *parts[3:]]) if own else path)
    return found


def fold(paths: Iterable[str]) -> tuple[str, ...]:
    """Sorted patterns that cover the paths: `directory/*` for several files of one, `parent/**` where they are many.

    Random parts of names become a `*` first, so that they count as one.
    """
    return tuple(sorted(shortened(Folding(paths).without())))


class Folding:
    """Paths in the groups in which they fold, so that it is cheap to ask what they give without some of them.

    A path folds with those in folders of the same shape, or in the same temporary folder, and with no other before
    there are too many lines.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._groups: dict[object, set[str]] = {}
        for path in paths:
            self._groups.setdefault(_group(path), set()).add(path)
        self._folded = {key: _one_group(members) for key, members in self._groups.items()}

    def without(self, removed: Collection[str] = ()) -> set[str]:
        """The patterns for all paths but these, however many lines they are."""
        touched: dict[object, set[str]] = {}
        for path in removed:
            touched.setdefault(_group(path), set()).add(path)
        found: set[str] = set()
        for key, patterns in self._folded.items():
            found |= _one_group(self._groups[key] - touched[key]) if key in touched else patterns
        return found

    def work(self, removed: Collection[str]) -> int:
        """How many paths `without` has to look at again."""
        return sum(len(self._groups.get(key, ())) for key in {_group(path) for path in removed})


def _group(path: str) -> object:
    folder = next((folder for folder in TEMPORARY if path.startswith(f"{folder}/")), "")
    return folder or shaped(path)[1][:-1] or os.path.dirname(path)


def _one_group(paths: Iterable[str]) -> set[str]:
    return _by_directory(_temporary(generalised(paths)))


def listed(reads: Iterable[str], writes: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """(reads, writes) as a profile lists what was read and written: folded, nothing that another line covers."""
    read, written = outermost(fold(reads)), outermost(fold(writes))
    cover = Cover(written)
    return frozenset(pattern for pattern in read - written if not any(cover.of(pattern))), written


def united(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """The patterns of two profiles, folded as learning does, in however many lines; those of one twice stay.

    Profiles meet one after another: to shorten each time, or to leave out what may be written too, would make the
    result hang on their order.
    """
    return one if one == other else outermost(Folding(one | other).without())


def is_secret(pattern: str) -> bool:
    """Whether a path or pattern reaches what may be secret: it lies there, or stands for a folder above it.

    >>> is_secret("/etc/shadow"), is_secret("/etc/**"), is_secret("/proc/7/environ"), is_secret("/etc/hosts")
    (True, True, True, False)
    """
    name, path, whole = rule_of(pattern)
    if name:
        return False
    parts = path.split("/")
    if is_of_any_process(pattern):
        return any(part in _OF_A_PROCESS for part in pattern.split("/"))
    if parts[1:2] == ["proc"]:
        return whole or any(part in _OF_A_PROCESS for part in parts[3:])
    if not CREDENTIALS.isdisjoint(parts):
        return True
    return any(covers(below(secret), path) or (whole and covers(pattern, secret)) for secret in SECRET)


def may_be_opened(folder: str) -> bool:
    """Whether opening a folder whole may be proposed: none of secrets, homes or the kernel's, and none at the top.

    >>> may_be_opened("/srv/app/data"), may_be_opened("/tmp"), may_be_opened("/srv"), may_be_opened("/etc/app")
    (True, True, False, False)
    """
    closed = folder.startswith("/sys/") or _is_private(folder) or is_secret(below(folder))
    return not closed and may_open(f"{folder}/*.")


def proposed(files: Iterable[str], entries: Iterable[str] = ()) -> dict[str, str]:
    """{path: pattern} for paths that were refused, alike to what training learns of them; files may begin with {root}.

    Of `entries`, which were to be made or removed, the folder. Several files of one folder are folded, never to one
    above it; only temporary folders are folded whole, because names in them are made up.
    """
    made = set(entries)
    folders = outermost(generalised(folder_of(path, made) for path in made))
    found = {path: next(pattern for pattern in sorted(folders) if covers(pattern, path)) for path in made}
    groups: dict[str, set[str]] = {}
    for path in set(files) - made:
        cover = next((pattern for pattern in sorted(found.values()) if covers(pattern, path)), "")
        if cover:
            found[path] = cover
            continue
        group = next((folder for folder in TEMPORARY if path.startswith(folder + "/")), os.path.dirname(path))
        groups.setdefault(group, set()).add(path)
    for members in groups.values():
        patterns = fold(members)
        for path in members:
            found[path] = next((pattern for pattern in patterns if covers(pattern, path)), path)
    return found


def _temporary(paths: set[str]) -> set[str]:
    """Names that are made up at every run say nothing: where a temporary folder has several, it is folded whole.

    Where all in the folder itself is listed, a name in it counts no more: a made-up one that looks like a word would
    otherwise decide now and then whether the folders below are open, too.
    """
    for folder in TEMPORARY:
        inside = {path for path in paths if path.startswith(folder + "/")}
        if f"{folder}/*" in inside:
            inside = {path for path in inside if os.path.dirname(path) != folder}
        if len({path.split("/")[folder.count("/") + 1] for path in inside}) > FEW:
            paths = (paths - inside) | {f"{folder}/**"}
    return paths


def _by_directory(paths: set[str]) -> set[str]:
    members: dict[str, set[str]] = {}
    for path in paths:
        members.setdefault(os.path.dirname(path), set()).add(path)
    found: set[str] = set()
    for directory, inside in members.items():
        if below(directory) in inside:
            found.add(below(directory))
        elif f"{directory}/*" in inside or (len(inside) > FEW and not _is_private(directory)):
            found.add(f"{directory}/*")
        else:
            found |= inside
    return found


def _is_private(directory: str) -> bool:
    """Whether what lies in a directory beside what was used may be a secret; of homes and folders of keys."""
    home = os.path.dirname(directory) == "/home"
    secret = any(f"{directory}/".startswith(f"{folder}/") for folder in _KEYS)
    return home or secret or directory in PRIVATE or not CREDENTIALS.isdisjoint(directory.split("/"))


def shortened(patterns: set[str]) -> set[str]:
    """Fold the deepest directory that holds several lines, until there are few enough; never a top directory.

    Of two that are equally deep first the one that holds more lines.
    What shares no directory with another line stays as it is: making it wider would save nothing.
    """
    if len(patterns) <= LONGEST:
        return patterns
    above_secrets = {up for pattern in patterns for up in _above_private(pattern)}
    patterns = set(patterns)
    for depth in range(max(pattern.count("/") for pattern in patterns) - 1, 1, -1):
        inside: dict[str, list[str]] = {}
        for pattern in patterns:
            parts = pattern.split("/")
            if pattern.startswith("/") and len(parts) > depth + 1:
                inside.setdefault("/".join(parts[: depth + 1]), []).append(pattern)
        shared = [
            (len(lines), directory) for directory, lines in inside.items()
            if len(lines) > 1 and directory not in above_secrets and not _is_private(directory)
        ]  # fmt: skip
        for _, directory in sorted(shared, reverse=True):
            if len(patterns) <= LONGEST:
                return patterns
            patterns.difference_update(inside[directory])
            patterns.add(f"{directory}/**")
    return patterns


def _above_private(pattern: str) -> list[str]:
    """The directories above a private one on the way to a pattern."""
    parts = pattern.split("/")
    ways = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    return next((ways[:at] for at in range(len(ways) - 1, 0, -1) if _is_private(ways[at])), [])


def changed(entries: Iterable[str]) -> set[str]:
    """Patterns of the folders in which entries were made, removed or renamed: a right of the folder, not of the file.

    A folder that was itself made in training has another name next time, or is not there yet: the one above it counts.
    """
    made = set(entries)
    return {folder_of(path, made) for path in made if path.startswith("/")}


def folder_of(path: str, made: Collection[str]) -> str:
    """The pattern of the folder that an entry lies in, or of the one above all that was made."""
    folder, deep = os.path.dirname(path), False
    while folder in made and folder != os.path.dirname(folder):  # a hostile file may say that / was made
        folder, deep = os.path.dirname(folder), True
    # Nobody is given the root folder for a file in it.
    return path if folder == "/" else below(folder) if deep else f"{folder}/*"
