"""`sandbox doctor`: how far this platform lets a process confine itself, and what to set here."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox.cli.output import json_line, say
from sandbox.doctor import examine, judge, lines, report


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of text")] = False,
) -> None:
    """Try what the sandbox needs from this platform and what it gives; exit 1 if no filter can be installed.

    Each probe runs in a process of its own.

    Example: sandbox doctor --json
    """
    measured = examine()
    verdict = judge(measured)
    if json_output:
        json_line(report(measured, verdict))
    else:
        for line in lines(measured, verdict):
            say(line)
    if not verdict.tier.startswith("kernel"):
        raise typer.Exit(1)
