"""`sandbox report`: one page about a profile, for whoever approves it."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from sandbox.cli.arguments import Output, ProfileFile
from sandbox.cli.events import LogFormat, opened, told
from sandbox.cli.output import emit_to
from sandbox.cli.sources import profile_of
from sandbox.logs.reading import LogReader
from sandbox.profile import document
from sandbox.report import comment, contents, page, timeline


class Form(enum.StrEnum):
    """What --format takes."""

    html = "html"
    markdown = "markdown"


def report(
    profile: ProfileFile,
    events: Annotated[str, typer.Option(help="A log with violations; - for standard input", metavar="LOG|-")] = "",
    against: Annotated[str, typer.Option(help="An older profile to compare with", metavar="OLD")] = "",
    form: Annotated[Form, typer.Option("--format", help="A page, or the comment of a pull request")] = Form.html,
    log_format: Annotated[LogFormat, typer.Option(help="What carries the log's lines")] = LogFormat.auto,
    output: Output = "",
) -> None:
    """Write one page that says what a profile allows: in words, as pictures, and what was refused.

    Example: sandbox report thumbnail --events thumbnail.log --against old.yaml -o report.html
    """
    new = document.read(profile_of(profile))
    old = document.read(profile_of(against)) if against else None
    reading = LogReader(log_format.value)
    log = None
    if events:
        with opened(events) as source:
            log = timeline.read(reading.lines(source), reading.counts)
    gathered = contents.gather(new, log, old)
    emit_to(output, page.html(gathered) if form is Form.html else comment.written(gathered))
    if events:
        told(events, reading.counts)
