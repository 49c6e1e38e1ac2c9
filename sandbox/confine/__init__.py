"""What a process does to itself before the handler's exec: filters, Landlock rules, the one exec, its parent.

Here is the command that all of it is for; a start that confines nothing loads no more than this.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the core of signal, loaded anyway; signal itself loads enum
import os

from sandbox.errors import HandlerNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Command:
    """What to exec: an absolute path, its arguments, and the function's variables in `environ`.

    `root` is the function's folder, '' for the working folder; `search` is the PATH by which it finds programs.
    """

    __slots__ = ("argv", "environ", "path", "root", "search")

    def __init__(
        self, path: str, argv: Sequence[str], environ: Mapping[str, str], *, root: str = "", search: str = os.defpath
    ) -> None:
        self.path = path
        self.argv = argv
        self.environ = environ
        self.root = root
        self.search = search


def restore_signals() -> None:
    """Give SIGPIPE and SIGXFSZ back their default: Python ignores them from its start, and exec hands that down."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def not_executed(path: str, error: OSError) -> HandlerNotFound:
    """The error of an execve(2) that failed."""
    return HandlerNotFound(
        f"cannot be executed: {error.strerror}", where=path,
        todo="check its interpreter line, its architecture and its dynamic loader",
    )  # fmt: skip
