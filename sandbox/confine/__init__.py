"""What a process does to itself before the handler's exec: filters, Landlock rules, the one exec, its parent.

Here is the command that all of it is for; a start that confines nothing loads no more than this.
"""

from __future__ import annotations

import _signal  # the core of signal, loaded anyway; signal itself loads enum
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


COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python may set LC_CTYPE to (PEP 538)."""


def started_with(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables as the kernel handed it over: Python puts LC_CTYPE into its own in the C locale (PEP 538)."""
    found = dict(environ)
    if found.get("LC_CTYPE") in COERCED:
        try:
            with open("/proc/self/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError:
            return found
        original = [entry for entry in entries if entry.startswith(b"LC_CTYPE=")]
        del found["LC_CTYPE"]
        if original:
            found["LC_CTYPE"] = os.fsdecode(original[0].partition(b"=")[2])
    return found


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
