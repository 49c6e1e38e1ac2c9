"""Writing a profile, with the schema beside it that its first line names, so that editors complete and check it."""

from __future__ import annotations

import contextlib
import os

from sandbox.cli.output import write_text
from sandbox.errors import UsageError
from sandbox.profile import shape
from sandbox.profile.writing import SCHEMA_FILE


def write_profile(path: str, text: str) -> None:
    """Write a profile, and the schema where its folder has none or one of another version. Raises as write_text does.

    A folder in which only the profile can be written goes without: it helps editors, and nothing depends on it.
    """
    write_text(path, text)
    beside = os.path.join(os.path.dirname(path), SCHEMA_FILE)
    if not os.path.isfile(path) or os.path.islink(beside):
        return
    schema = shape.text()
    with contextlib.suppress(OSError, UnicodeDecodeError, UsageError):
        if not os.path.exists(beside) or (shape.is_ours(old := _content(beside)) and old != schema):
            write_text(beside, schema)


def _content(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read(shape.LARGEST)
