"""How commands print: rich on a terminal, plain lines when piped, JSON lines for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from rich.console import Console

from sandbox.errors import UsageError

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def json_line(value: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def write_text(path: str, text: str) -> None:
    """Write a file that a person will read. Raises UsageError when that is impossible."""
    try:
        directory = os.path.dirname(path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=path, todo="choose another --output") from error
