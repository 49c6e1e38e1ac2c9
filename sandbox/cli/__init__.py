"""The `sandbox` command: one module a command group, errors as text with their own exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Annotated, Any

import typer

from sandbox import __version__
from sandbox.cli import compile as compile_command
from sandbox.cli import doctor, events, invoke, learn, package, probe, profile
from sandbox.cli.output import say, warn
from sandbox.errors import SandboxError, debugging, printable, shortage, trace

MISUSED: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
"""What typer raises for arguments that it does not take: of click, or of the copy of it that newer versions hold."""

app = typer.Typer(
    name="sandbox",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("learn")(learn.learn)
app.command("compile")(compile_command.compile_)
app.command("invoke")(invoke.invoke)
app.command("run")(invoke.run)
app.command("probe")(probe.probe)
app.command("doctor")(doctor.doctor)
app.command("events")(events.events)
app.command("verify")(package.verify)
app.add_typer(profile.app, name="profile")
app.add_typer(package.app, name="package")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"seccomp-bootstrap {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit")
    ] = False,
) -> None:
    """Learn what a serverless function does, and let the kernel refuse the rest."""


def main() -> None:
    """Entry point. Exits with the error's own code, never with a traceback for bad input."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # its encoding may lack what a path holds
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status)
    except MISUSED as error:
        error.message = printable(error.message)  # it quotes arguments
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
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
