"""The `sandbox` command: a table of commands (sandbox/cli/table.py), errors as text with their own exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from sandbox import __version__
from sandbox.cli.output import say, warn
from sandbox.errors import SandboxError, debugging, printable, printable_lines, shortage, trace


def main() -> None:
    """Entry point. Exits with the error's own code, never with a traceback for bad input."""
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
    except (SandboxError, OSError, RuntimeError, MemoryError) as error:
        found = shortage(error) or error
        if isinstance(found, SandboxError):
            shown = f"{found}\n" + (trace(error) if debugging(os.environ) else "")
            warn(f"sandbox: {shown}".removesuffix("\n"))
        elif isinstance(found, OSError):
            warn(f"sandbox: {found}")
        else:
            raise
        if isinstance(error, OSError):
            _write_no_more()
        sys.exit(found.exit_code if isinstance(found, SandboxError) else 1)


def _write_no_more() -> None:
    """Standard output may be full or unread: nothing more can be written to it, not even at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
