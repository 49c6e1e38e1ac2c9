"""The `sandbox` command: a table of commands (sandbox/cli/table.py), errors as text with their own exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence

from sandbox import __version__
from sandbox.cli.output import say, warn
from sandbox.errors import (
    KernelUnsupported,
    SandboxError,
    UsageError,
    debugging,
    printable,
    printable_lines,
    shortage,
    trace,
)


def main() -> None:
    """Entry point. Exits with the error's own code, never with a traceback for bad input."""
    closed = _reopen()
    if sys.argv[1:] == ["--version"]:  # asked by scripts, often: it loads nothing
        return say(f"seccomp-bootstrap {__version__}")
    from sandbox.cli import loading

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # its encoding may lack what a path holds
    try:
        status = loading.app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status)
    except loading.MISUSED as error:
        help_page = not sys.argv[1:] or error.message.startswith("Usage: ")
        error.message = (printable_lines if help_page else printable)(error.message)  # it quotes arguments
        error.show()
        sys.exit(error.exit_code)
    except loading.ABORTED:
        warn("Aborted.")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _write_no_more()
        sys.exit(1)
    except Exception as error:
        found = _shown(error, closed)
        text = f"{found}\n" + (trace(error) if debugging(os.environ) else "")
        warn(f"sandbox: {text}".removesuffix("\n"))
        if isinstance(error, OSError):
            _write_no_more()
        sys.exit(found.exit_code)


def _shown(error: Exception, closed: Sequence[str]) -> SandboxError:
    """The error as people are to see it: what no command expected is a defect of ours, and where it is."""
    if found := shortage(error) or (error if isinstance(error, SandboxError) else None):
        return found
    if isinstance(error, UnicodeEncodeError):
        todo = "set LC_ALL=C.UTF-8, or leave out names that are not ASCII"
        return UsageError(f"cannot be written in this locale: {error.reason}", where=error.object, todo=todo)
    if isinstance(error, OSError):
        if error.errno == errno.EBADF and closed:
            return UsageError("is closed", where=" and ".join(closed), todo="redirect it, to /dev/null for none")
        if isinstance(error, FileNotFoundError) and not error.filename and _is_nowhere():
            return UsageError("does not exist any more", where="the current folder", todo="cd to another")
        return UsageError(f"{error.strerror or error}", where=str(error.filename or ""), todo="look at what it names")
    if sys.platform != "linux":
        todo = "review profiles here; train, compile, run and package on Linux, such as in a container"
        return KernelUnsupported(f"needs Linux: {error}", where=f"sandbox {' '.join(sys.argv[1:2])}", todo=todo)
    *_, last = trace(error).splitlines() or [""]
    todo = f"report this with the command line and what SANDBOX_DEBUG=1 prints; it was raised{last.replace('  ', '')}"
    return SandboxError(f"{type(error).__name__}: {error}", where="a defect of this program", todo=todo)


def _is_nowhere() -> bool:
    """Whether the current folder was removed: `.` is still there for stat(2), and has no path."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _reopen() -> list[str]:
    """Put something in the place of closed streams, or files would take their numbers; their names.

    Reading from the one and writing to the other fail as on a closed one, with EBADF; standard error goes nowhere.
    """
    closed = []
    for number, (name, flags) in enumerate(STREAMS.items()):
        if getattr(sys, name) is None:
            closed += [f"standard {name.removeprefix('std')}put"] if number < 2 else []
            os.open(os.devnull, flags)  # takes the lowest number that is free
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115  # to the end
    return closed


STREAMS = {"stdin": os.O_WRONLY, "stdout": os.O_RDONLY, "stderr": os.O_RDWR}
"""The wrong way round, so that their use is an error."""


def _write_no_more() -> None:
    """Standard output may be full or unread: nothing more can be written to it, not even at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
