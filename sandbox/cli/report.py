"""`sandbox report`: one page about a profile, for whoever approves it."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox.cli.arguments import Output, ProfileFile
from sandbox.cli.events import opened
from sandbox.cli.output import emit_to
from sandbox.cli.sources import profile_of
from sandbox.profile import document
from sandbox.report import contents, page
from sandbox.violations import reader


def report(
    profile: ProfileFile,
    events: Annotated[str, typer.Option(help="A log with violations; - for standard input", metavar="LOG|-")] = "",
    against: Annotated[str, typer.Option(help="An older profile to compare with", metavar="OLD")] = "",
    output: Output = "",
) -> None:
    """Write one page that says what a profile allows: in words, as pictures, and what was refused."""
    new = document.read(profile_of(profile))
    old = document.read(profile_of(against)) if against else None
    if events:
        with opened(events) as source:
            gathered = contents.gather(new, reader.lines(source), old)
    else:
        gathered = contents.gather(new, None, old)
    emit_to(output, page.html(gathered))
