"""`sandbox profile diff`, `merge` and `lint`: what people do with profiles before they compile one."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox.cli.arguments import Json, Output
from sandbox.cli.output import emit, emit_to, json_line, json_text, say
from sandbox.cli.sources import profile_of
from sandbox.errors import ProfileError
from sandbox.profile import diff as comparison
from sandbox.profile import document, lint, merge


def diff(
    old: Annotated[str, typer.Argument(help="The old profile", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="The new profile", metavar="NEW")],
    json_output: Json = False,
) -> None:
    """Show what NEW allows that OLD does not (+) and what it no longer allows (-); exit 1 if anything widened."""
    found = comparison.diff(document.read(profile_of(old)).profile, document.read(profile_of(new)).profile)
    if json_output:
        emit(json_text(comparison.described(found), indent=2) + "\n")
    elif not found.changes and not found.client:
        say("no difference in what is allowed")
    else:
        for line in comparison.lines(found):
            say(line, "green" if line.startswith("+") else "red")
    if found.widened:
        raise typer.Exit(1)


def merge_(
    files: Annotated[list[str], typer.Argument(help="Profiles of one function", metavar="FILE...")],
    output: Output = "",
) -> None:
    """Merge profiles of one function: the result allows what any of them allows."""
    profiles = [document.read(profile_of(file)).profile for file in files]
    emit_to(output, document.write(merge.merge_all(profiles)))


def lint_(
    files: Annotated[list[str], typer.Argument(help="Profiles (YAML)", metavar="FILE...")],
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object for each finding")] = False,
) -> None:
    """Check profiles as a reviewer would: `file:line:column: severity: message`; exit 1 if there is an error."""
    found = [finding for file in files for finding in _findings(file)]
    for finding in found:
        if json_output:
            json_line(vars(finding))
        else:
            say(str(finding), {"error": "red", "warning": "yellow"}.get(finding.severity, "dim"))
            say(f"  what to do: {finding.todo}")
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(1)


def _findings(file: str) -> tuple[lint.Finding, ...]:
    """The findings in a file; one that cannot be read as a profile is an error at its place."""
    try:
        return lint.lint(document.read(file))
    except ProfileError as error:
        place = error.where.removeprefix(file).split(":")
        line, column = (int(part) if part.isdigit() else 1 for part in (place[1:3] if len(place) == 3 else ("1", "1")))
        return (lint.Finding("error", file, line, column, error.what, error.todo),)
