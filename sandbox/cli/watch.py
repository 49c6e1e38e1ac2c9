"""`sandbox watch`: a live view of a log, or of a command that it starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from sandbox.cli.events import LogFormat
from sandbox.cli.output import warn
from sandbox.errors import UsageError, missing_extra
from sandbox.logs.following import STDIN, LogFollower
from sandbox.logs.reading import LogReader
from sandbox.violations.reader import Line

PATIENCE = 5.0
"""Seconds from SIGTERM to SIGKILL for a command whose view is closed."""


def watch(
    words: Annotated[
        list[str], typer.Argument(help="A log to follow; after --, a command to start", metavar="LOG | -- COMMAND...")
    ],
    log_format: Annotated[LogFormat, typer.Option(help="What carries the lines; auto looks at each")] = LogFormat.auto,
) -> None:
    """Watch a function live: phase, request, accesses as they come, refusals, whose they are, what would allow them.

    A command is started with SANDBOX_ACTIVITY=full, unless that is set, and its standard error is read.

    Example: sandbox watch -- sandbox invoke thumbnail --handler app.handler --events events
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        todo = "run it in one, or use `sandbox events --follow`"
        raise UsageError("needs a terminal", where="sandbox watch", todo=todo)
    starts = "--" in sys.argv[1:]
    if not starts and len(words) != 1:
        raise UsageError("takes one log", where="sandbox watch", todo="name one, or write -- before a command")
    try:
        from sandbox.watch.view import Watch
    except ModuleNotFoundError as error:
        raise missing_extra("textual", "watch", error) from error
    reader = LogReader(log_format.value)
    with _command(words) if starts else _log(words[0]) as (follower, command):
        name = " ".join(words) if starts else words[0]
        Watch(name, reader.counts, lambda: pieces(follower, reader), follower.stop).run()
        status = command.poll() if command else None
    warn(reader.counts.verdict())
    if status:
        raise typer.Exit(status if status > 0 else 128 - status)


def pieces(follower: LogFollower, reader: LogReader) -> Iterator[list[Line]]:
    """What is ours in each piece of a log, status lines, too."""
    for piece in follower.pieces():
        yield list(reader.end(starts=True) if piece is None else reader.feed(piece, starts=True))
    yield list(reader.end(starts=True))


@contextlib.contextmanager
def _log(path: str) -> Iterator[tuple[LogFollower, None]]:
    if path == STDIN:
        raise UsageError("is the terminal's", where="standard input", todo="name a log file, or a named pipe")
    if not os.path.exists(path) or os.path.isdir(path):
        reason = "Is a directory" if os.path.isdir(path) else "No such file or directory"
        raise UsageError(f"cannot be read: {reason}", where=path, todo="name a log file")
    with contextlib.closing(LogFollower(path)) as follower:
        yield follower, None


@contextlib.contextmanager
def _command(words: list[str]) -> Iterator[tuple[LogFollower, subprocess.Popen[bytes]]]:
    """A command whose standard output and error are read; it ends with the view. Raises UsageError."""
    environment = {name: value for name, value in os.environ.items() if name != "SANDBOX_EVENTS"}
    environment.setdefault("SANDBOX_ACTIVITY", "full")
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot be started: {reason}", where=words[0], todo="check the command") from error
    assert process.stdout
    follower = LogFollower(STDIN, source=process.stdout.fileno())
    try:
        yield follower, process
    finally:
        _end(process)
        follower.close()
        process.stdout.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
