"""The `sandbox` command: one module a command group, errors as text with their own exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from sandbox import __version__
from sandbox.cli import compile as compile_command
from sandbox.cli import doctor, events, invoke, learn, package, probe, profile
from sandbox.errors import SandboxError, debugging, shortage, trace

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
        print(f"seccomp-bootstrap {__version__}")
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
    try:
        app()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _write_no_more()
        sys.exit(1)
    except (SandboxError, OSError, RuntimeError, MemoryError) as error:
        found = shortage(error) or error
        if isinstance(found, SandboxError):
            shown = f"{found}\n" + (trace(error) if debugging(os.environ) else "")
            text = "\n".join(profile.visible(line) for line in shown.split("\n"))
            sys.stderr.write(f"sandbox: {text}")
        elif isinstance(found, OSError):
            sys.stderr.write(f"sandbox: {found}\n")
        else:
            raise
        if isinstance(error, OSError):
            _write_no_more()
        sys.exit(found.exit_code if isinstance(found, SandboxError) else 1)


def _write_no_more() -> None:
    """Standard output may be full or unread: nothing more can be written to it, not even at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
