"""Folding paths by directory, so that a profile shows places and not thousands of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

FEW = 3
"""So many files of one directory stand by themselves; more become `directory/*`."""

LONGEST = 24
"""Lines; beyond, the deepest directories are folded into `parent/**` until it fits."""

def named(paths: Iterable[str], places: Mapping[str, str]) -> set[str]:
    """The paths with the directories of `places` {name: directory} written by name and folded whole ({root}/**).

    The own process's files under /proc are written as /proc/self.
    """
    ordered = sorted(places.items(), key=lambda place: -len(place[1]))
    found: set[str] = set()
    for path in paths:
        if not path.startswith("/"):
            continue
        for name, directory in ordered:
            if path == directory or path.startswith(directory.rstrip("/") + "/"):
                found.add(f"{name}/**")
                break
        else:
            parts = path.split("/")
            own = len(parts) > 2 and parts[1] == "proc" and parts[2].isdigit()
            found.add("/".join(["/proc/self", *parts[3:]]) if own else path)
    return found


def fold(paths: Iterable[str]) -> tuple[str, ...]:
    """Sorted patterns that cover the paths: `directory/*` for several files of one, `parent/**` where they are many."""
    return tuple(sorted(_shorten(_by_directory(set(paths)))))


def _by_directory(paths: set[str]) -> set[str]:
    members: dict[str, set[str]] = {}
    for path in paths:
        members.setdefault(os.path.dirname(path), set()).add(path)
    found: set[str] = set()
    for directory, inside in members.items():
        if len(inside) > FEW and directory not in ("/", "/proc/self", "/dev"):
            found.add(f"{directory}/*")
        else:
            found |= inside
    return {path for path in found if f"{os.path.dirname(path)}/*" not in found or path.endswith("/*")}


def _shorten(patterns: set[str]) -> set[str]:
    """Fold the deepest directories into their parents until there are few enough; never up to a top directory."""
    while len(patterns) > LONGEST:
        deep = [_parent(pattern) for pattern in patterns if _parent(pattern).count("/") >= 2]
        if not deep:
            break
        # The parent that takes in the most lines, among equals the deepest.
        best = max(deep, key=lambda parent: (sum(_within(p, parent) for p in patterns), parent.count("/"), parent))
        inside = {pattern for pattern in patterns if _within(pattern, best)}
        if len(inside) < 2 and all(pattern.endswith("/**") for pattern in inside):
            break
        patterns = (patterns - inside) | {f"{best}/**"}
    return patterns


def _parent(pattern: str) -> str:
    base = pattern.removesuffix("/**").removesuffix("/*")
    return base if pattern.endswith("/*") and not pattern.endswith("/**") else os.path.dirname(base)


def _within(pattern: str, directory: str) -> bool:
    return pattern.startswith(directory + "/")
