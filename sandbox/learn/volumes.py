"""Files that are replaced while the function runs: one by one, or those of a volume whose links are turned over.

A rule of Landlock belongs to the file that was there at the start. Only one on the folder holds what comes after it.
"""

from __future__ import annotations

import os

from sandbox.behaviour.path import is_one_owners

KERNEL = ("/proc/", "/dev/")
"""Links of the kernel's own in there mean another file to each process."""
DATA = "..data"
DIGITS = 4
"""So many digits in the name of a folder make it one of many: a date, a number, a digest."""


def volume(name: str, real: str) -> str:
    """The folder in which links of its own lead from a name to its file; '' where no such links do.

    So Kubernetes mounts settings and tokens (app.yaml -> ..data/app.yaml, ..data -> ..2026_11_30), and so releases are
    turned over (current -> releases/20261130): the name leads to a new file while the function runs, and a rule on the
    file belongs to the old one. Only a rule on the folder holds both. No folder of secrets or homes beside the volume,
    and none at the top that is not a mount.
    """
    if real == name or name.startswith(KERNEL):
        return ""
    folder, last = os.path.split(name)
    ways = [(folder, last)]
    while folder not in ("", "/"):
        folder, last = os.path.split(folder)
        ways.append((folder, last))
    for folder, last in ways:
        if _is_turned_over(folder, last, is_name=folder == os.path.dirname(name)) and is_one_owners(folder):
            inside = real.startswith(f"{os.path.realpath(folder)}/") and os.path.dirname(real) != folder
            return folder if inside else ""
    return ""


def _is_turned_over(folder: str, entry: str, *, is_name: bool) -> bool:
    try:
        target = os.readlink(os.path.join(folder, entry))
    except OSError:
        return False
    first, _, rest = target.partition("/")
    if is_name:  # through a link to a folder beside it
        return bool(rest) and os.path.islink(os.path.join(folder, first))
    dated = sum(map(str.isdigit, os.path.basename(target))) >= DIGITS
    return first not in ("", "..") and (dated or entry == DATA)


MOST = 10_000
"""Files that are remembered."""


class Replaced:
    """Which files others replace during one training run: a path that leads to another file than when it was opened.

    What the function itself puts into a folder gives it the folder anyway.
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}
        self._own: set[str] = set()

    def made(self, path: str) -> None:
        """The function made, removed or renamed an entry."""
        self._own.add(os.path.dirname(path))

    def opened(self, path: str, identity: tuple[int, int]) -> str:
        """The folder to open because of a file that was opened, '' for none; `identity` is its (st_dev, st_ino)."""
        if not path.startswith("/") or path.startswith(KERNEL) or identity == (0, 0):
            return ""
        if self._files.get(path, identity) == identity:
            if len(self._files) < MOST:
                self._files[path] = identity
            return ""
        self._files[path] = identity
        folder = os.path.dirname(path)
        return folder if folder not in self._own and is_one_owners(folder) else ""
