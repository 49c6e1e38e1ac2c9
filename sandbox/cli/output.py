"""How commands print: rich on a terminal, plain lines when piped, JSON lines for machines."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Mapping

from rich.console import Console

from sandbox.errors import UsageError, shortage

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def json_line(value: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


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
