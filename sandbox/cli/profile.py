"""`sandbox profile diff`, `merge` and `lint`: what people do with profiles before they compile one."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from sandbox.cli.arguments import Output
from sandbox.cli.output import emit, emit_to, json_line, json_text, say
from sandbox.cli.sources import profile_of
from sandbox.errors import ProfileError
from sandbox.profile import diff as comparison
from sandbox.profile import document, lint, merge
from sandbox.profile.risk import RISKS
from sandbox.review import changes, markdown, rules, sarif


class DiffFormat(enum.StrEnum):
    """What --format of diff takes."""

    text = "text"
    markdown = "markdown"
    sarif = "sarif"
    json = "json"


class FailOn(enum.StrEnum):
    """What --fail-on of diff takes: the least risk of a widening that fails."""

    low = "low"
    medium = "medium"
    high = "high"
    never = "never"


def diff(
    old: Annotated[str, typer.Argument(help="The old profile", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="The new profile", metavar="NEW")],
    format_: Annotated[DiffFormat, typer.Option("--format", help="SARIF lists what widens")] = DiffFormat.text,
    fail_on: Annotated[FailOn, typer.Option(help="The least risk of a widening that exits with 1")] = FailOn.low,
    json_output: Annotated[bool, typer.Option("--json", help="The same as --format json")] = False,
) -> None:
    """Show what NEW allows that OLD does not (+) and what it no longer allows (-); exit 1 if anything widened.

    Example: sandbox profile diff old.yaml new.yaml --format markdown --fail-on high
    """
    before, after = document.read(profile_of(old)), document.read(profile_of(new))
    found = changes.changes(before, after)
    name = after.profile.function.name
    if json_output or format_ is DiffFormat.json:
        compared = comparison.described(comparison.diff(before.profile, after.profile))
        listed = [{**vars(change), "effect": change.effect} for change in found]
        emit(json_text({**compared, "changes": listed}, indent=2) + "\n")
    elif format_ is DiffFormat.sarif:
        results = rules.widenings(found, name)
        emit(sarif.log(rules.of_changes(), results, f"sandbox-profile-diff/{name}"))
    elif format_ is DiffFormat.markdown:
        emit(markdown.of_changes(found, name))
    elif not found:
        say("no difference in what is allowed")
    else:
        for change in found:
            say(f"{change.sign} {change.text}", "green" if change.sign == "+" else "red")
    worst = changes.widest(found)
    if worst and fail_on is not FailOn.never and RISKS.index(worst) >= RISKS.index(fail_on.value):
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
