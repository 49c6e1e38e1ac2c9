"""Where a path really leads: a rule on a folder does not cover the file elsewhere that a symlink in it stands for."""

from __future__ import annotations

import os

KERNEL = ("/proc/", "/dev/")
"""Links of the kernel's own in there mean another file to each process."""


def elsewhere(path: str) -> str:
    """The real path of an absolute one that a symlink leads into another folder; '' where the name's folder is it.

    A link that is the first part of the path (/lib of a merged /usr) counts as the folder itself, and so does one to a
    neighbour (libz.so.1): rules that are learned name that part and folders whole.
    """
    if path.startswith(KERNEL):
        return ""
    real = os.path.realpath(path)
    folder = os.path.dirname(path)
    if real == path or os.path.dirname(real) == folder:
        return ""
    top, _, rest = folder[1:].partition("/")
    named = os.path.normpath(os.path.join(os.path.realpath(f"/{top}"), rest))
    return "" if os.path.dirname(real) == named or real.startswith(KERNEL) else real
