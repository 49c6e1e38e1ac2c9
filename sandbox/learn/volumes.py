"""Volumes whose files are replaced while the function runs, by links of the volume's own that are turned over."""

from __future__ import annotations

import os

KERNEL = ("/proc/", "/dev/")
"""Links of the kernel's own in there mean another file to each process."""
NEVER = ("/etc", "/root", "/run/secrets", "/var/run/secrets")
"""Folders that hold more than one volume's files."""
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
        if _is_turned_over(folder, last, is_name=folder == os.path.dirname(name)) and _is_own(folder):
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


def _is_own(folder: str) -> bool:
    if folder in NEVER or os.path.dirname(folder) == "/home":
        return False
    return folder.count("/") > 1 or os.path.ismount(folder)
