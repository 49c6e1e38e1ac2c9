"""What a terminal shows: whether there is one, how wide it is, and whether it has colours."""

from __future__ import annotations

import os
import shutil
import sys


def on_terminal() -> bool:
    """Whether standard output is a terminal, or is to be treated as one, by the rule and the variables of rich."""
    if (compatible := os.environ.get("TTY_COMPATIBLE", "")) in ("0", "1"):
        return compatible == "1"
    forced = os.environ.get("FORCE_COLOR")
    return sys.stdout.isatty() if forced is None else forced != ""


def coloured() -> bool:
    """Whether a terminal is to be sent colours, and bold: NO_COLOR says no, and so does a terminal without any."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """The width of the terminal: of COLUMNS, else what it says itself, else 80."""
    return shutil.get_terminal_size().columns


def wrapped(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` characters, broken between words; a longer word stays whole, to be copied."""
    if len(line) <= width:
        return [line]
    import textwrap

    begin = line[: len(line) - len(line.lstrip(" "))]
    return textwrap.wrap(
        line, width, subsequent_indent=f"{begin}  ", break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
