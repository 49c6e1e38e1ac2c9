"""Which names of a file an observation tells: the one that was used, and where it really leads.

A rule on a folder does not cover the file elsewhere that a symlink in it stands for, so the physical path is told. The
name that was used is told beside it: on another host its link may lead to another file (/etc/localtime).
"""

from __future__ import annotations

import os

from sandbox.behaviour.access import Access

KERNEL = ("/proc/", "/dev/")
"""Links of the kernel's own in there mean another file to each process."""
STANDARD = ("0", "1", "2")
"""Descriptors that whoever starts the function has opened, and has others for in production."""


def told(asked: Access) -> tuple[str, ...]:
    """The paths that stand for an access in an observation, the name first; none for what lies in no folder."""
    name, path = asked.name, asked.thing
    lies = path.startswith("/") and not path.endswith(" (deleted)")
    if name.startswith(KERNEL):
        opened = name.startswith("/proc/") and asked.magic and name.rpartition("/fd/")[2] not in STANDARD
        return (path,) if opened and lies and not path.startswith(KERNEL) else (name,)
    if not lies:
        return ()
    if not name:
        return (path,)
    real = elsewhere(name, path)
    return (name, real) if real else (name,)


def elsewhere(path: str, real: str) -> str:
    """The real path of a name that a symlink leads into another folder; '' where the name's folder is it.

    A link that is the first part of the path (/lib of a merged /usr) counts as the folder itself, and so does one to a
    neighbour (libz.so.1): rules that are learned name that part and folders whole.
    """
    folder = os.path.dirname(path)
    if real == path or os.path.dirname(real) == folder:
        return ""
    top, _, rest = folder[1:].partition("/")
    named = os.path.normpath(os.path.join(os.path.realpath(f"/{top}"), rest))
    return "" if os.path.dirname(real) == named or real.startswith(KERNEL) else real
