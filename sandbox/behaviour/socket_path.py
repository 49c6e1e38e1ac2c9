"""Where the path of a unix socket leads that a waiting call names, as the kernel will resolve it."""

from __future__ import annotations

import os

from sandbox.behaviour.walker import Walker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.kernel.path_walk import Walked
    from sandbox.kernel.task import Task


def connected(task: Task, path: bytes, *, keep: bool = False) -> Walked:
    """Where the path of a unix socket that a task connects or sends to leads, up to its NUL (net/unix/af_unix.c).

    With `keep` its descriptor stays open: Walked.fd.
    """
    return Walker(task.tid).walk(None, path.split(b"\0")[0], keep=keep).as_named()


def bound(task: Task, path: bytes) -> Walked:
    """Where a task's bind(2) would make the file of a unix socket: ENOENT with a parent if it can.

    The descriptor of the folder stays open: Walked.above.
    """
    return Walker(task.tid).walk(None, path, follow=False, entry=True, keep=True)


def shown(walked: Walked) -> str:
    """The path of a unix socket as a destination: what is not UTF-8 could be any other byte."""
    return os.fsencode(walked.path).decode(errors="replace")
