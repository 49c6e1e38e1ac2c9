"""How commands print: rich on a terminal, plain lines when piped, JSON lines for machines.

All that a command shows goes through here, because names, paths and answers of strangers are in it: what a terminal
would obey or hide is written out (sandbox/errors.py, printable). `tests/unit/test_terminal.py` holds that nothing goes
another way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping

from sandbox.cli.screen import coloured, columns, wrapped
from sandbox.cli.screen import on_terminal as on_terminal
from sandbox.errors import UsageError, printable, printable_lines, shortage


def say(text: str, style: str = "") -> None:
    """One line on standard output, at once; on a terminal it wraps between words and has its `style`."""
    shown = printable(text)
    if not on_terminal():
        sys.stdout.write(f"{shown}\n")
    elif style and coloured():
        from rich.text import Text

        from sandbox.cli.terminal import console

        for line in wrapped(shown, columns()):
            console.print(Text(line, style))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in wrapped(shown, columns())))
    sys.stdout.flush()


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Show on a terminal's standard error that something long goes on, until it is done; call it for each step.

    `total` is the number of steps, None where nobody knows. It leaves nothing on the screen, and nothing in a log.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda: None
        return
    from sandbox.cli.terminal import bar

    with bar(printable(what), total) as step:
        yield step


def warn(text: str) -> None:
    """Lines on standard error."""
    sys.stderr.write(f"{printable_lines(text)}\n")


def agrees(question: str) -> bool:
    """Whether the person at the terminal says yes."""
    import typer

    return typer.confirm(printable(question), default=False)


def emit(document: str) -> None:
    """A text for another program on standard output: exactly, but for a terminal."""
    sys.stdout.write(printable_lines(document) if sys.stdout.isatty() else document)


def emit_to(output: str, document: str) -> None:
    """The same to a file, where --output names one. Raises as write_file does."""
    if output:
        write_text(output, document)
    else:
        emit(document)


def json_line(value: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, at once."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def json_text(value: object, indent: int | None = None) -> str:
    """JSON in printable ASCII."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def write_text(path: str, text: str) -> None:
    """Write a file that a person will read. Raises as write_file does."""
    write_file(path, text.encode())


def write_file(path: str, data: bytes) -> None:
    """Write a file, the old one or the new one, whole, for whoever reads.

    Raises UsageError when that is impossible, DiskFull where there is no room.
    """
    target = os.path.realpath(path)
    made = _folders(os.path.dirname(target))
    try:
        if os.path.exists(target) and not (os.path.isfile(target) and os.access(os.path.dirname(target), os.W_OK)):
            # A pipe, a terminal, or a file in a folder in which nothing can be made.
            with open(target, "wb") as file:
                file.write(data)
        else:
            _replace(target, data)
    except OSError as error:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        error.filename = path
        if full := shortage(error):
            raise full from error
        raise UsageError(f"cannot be written: {error.strerror}", where=path, todo="choose another --output") from error


def _folders(folder: str) -> list[str]:
    """The folders that are still to be made for a path, the outermost first."""
    missing: list[str] = []
    while folder and not os.path.exists(folder):
        missing.insert(0, folder)
        folder = os.path.dirname(folder)
    return missing


def _replace(target: str, data: bytes) -> None:
    """Put a file in place of another, which keeps its mode; what could not be written whole leaves nothing."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    old = os.stat(target) if os.path.exists(target) else None
    if old and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    new = f"{target}.{os.getpid()}.new"
    try:
        with open(new, "xb") as file:
            file.write(data)
            if old:
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
                with contextlib.suppress(OSError):  # it is another user's, and only root gives files away
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
        os.replace(new, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
