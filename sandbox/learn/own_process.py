"""What `sandbox` makes of its own processes while it starts functions (man 2 prctl), by python-prctl.

The extra `learn` brings that library. It is published as source, so that installing it takes a compiler; no other
command needs it, and a start in production makes its few calls itself.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from sandbox.errors import missing_extra

BUILD = "that compiles it: have gcc and the headers of Python and libcap (Debian: gcc python3-dev libcap-dev)"
WHAT = "python-prctl, without which no function is trained, invoked or probed"


def attributes() -> Any:
    """The library. Raises ExtraMissing where it cannot be loaded."""
    try:
        import prctl
    except ImportError as error:
        raise missing_extra(WHAT, "learn", error, more=BUILD) from error
    return prctl


def adopt_orphans() -> None:
    """What a function leaves behind comes to this process, not to init, and is not lost."""
    attributes().set_child_subreaper(True)


def end_with_parent() -> None:
    """A SIGTERM comes when the parent ends. Who ended before this call is not noticed: compare getppid(2)."""
    with contextlib.suppress(OSError):
        attributes().set_pdeathsig(signal.SIGTERM)


def name(text: str) -> None:
    """What ps(1), top(1) and the kernel's log call this process: 15 bytes of the text (TASK_COMM_LEN)."""
    with contextlib.suppress(OSError):
        attributes().set_name(text)


def close_memory() -> None:
    """Memory and environment are closed to other processes of the user, a core dump included (man 5 proc).

    Not for a process that makes a user namespace: the files of an undumpable one below /proc belong to root.
    """
    with contextlib.suppress(OSError):
        attributes().set_dumpable(False)
