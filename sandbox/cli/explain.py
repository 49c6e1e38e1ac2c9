"""`sandbox explain`: what a call, a class, a promise or a violation is, and how to allow it."""

from __future__ import annotations

import io
import os
import shlex
from typing import Annotated, BinaryIO

import typer

from sandbox.cli.arguments import Json
from sandbox.cli.events import opened
from sandbox.cli.output import emit, json_text, say
from sandbox.cli.sources import profile_of
from sandbox.errors import UsageError, printable
from sandbox.logs.reading import LogReader
from sandbox.profile import document
from sandbox.review import explaining
from sandbox.review.explaining import Explanation

MOST = 10
"""Different calls of a log that are explained; `sandbox events --summary` counts all."""


def explain(
    subject: Annotated[
        list[str],
        typer.Argument(
            help="A syscall, class or promise, or a violation's line; - reads lines from standard input",
            metavar="SUBJECT...",
        ),
    ],
    profile: Annotated[str, typer.Option(help="Say who needs it in this profile", metavar="PROFILE")] = "",
    json_output: Json = False,
) -> None:
    """Say what a system call, a class, a promise or a violation is, why it is risky, and how to allow it.

    Example: sandbox explain openat create --profile profiles/thumbnail.yaml
    """
    read = document.read(profile_of(profile)) if profile else None
    text = " ".join(subject)
    if text == "-":
        with opened(text) as file:
            found = _of_lines(file, "standard input", read)
    elif "{" in text:
        found = _of_lines(io.BytesIO(text.encode(errors="surrogateescape")), "the text", read)
    elif not (found := explaining.explain(text, read)):
        raise UsageError(
            f"is not a syscall, a class or a promise{explaining.alike(text)}", where=printable(text[:80]),
            todo=f"its violations: `sandbox explain - <{shlex.quote(printable(text))}`" if os.path.isfile(text)
            else "name one as a profile or a violation spells it",
        )  # fmt: skip
    if json_output:
        emit(json_text([vars(one) for one in found], indent=2) + "\n")
        return
    for i, one in enumerate(found):
        if i:
            say("")
        _show(one)


def _of_lines(file: BinaryIO, where: str, read: document.Document | None) -> list[Explanation]:
    """The violations and anomalies among the lines, each call with its target once."""
    found: dict[tuple[object, ...], Explanation] = {}
    for line in LogReader().lines(file):
        record = line.call
        if record and len(found) < MOST:
            key = (record.phase, record.call, record.target)
            found.setdefault(key, explaining.of_violation(record, read))
    if not found:
        raise UsageError(
            "holds no line of a violation", where=where,
            todo="give a line of `sandbox events --json`, whole, or the log itself",
        )  # fmt: skip
    return [*found.values()]


def _show(one: Explanation) -> None:
    say(f"{one.subject} (risk: {one.risk})", {"high": "red", "medium": "yellow"}.get(one.risk, "bold"))
    sections = [("what", one.what), ("risk", one.risky), ("allow", one.allow)]
    if one.needed_here is not None:
        sections.insert(2, ("here", one.needed_here or ("nothing in this profile needs it",)))
    for title, lines in sections:
        for line in lines:
            say(f"  {title:5}  {line}")
            title = ""
