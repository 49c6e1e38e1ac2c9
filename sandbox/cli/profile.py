"""`sandbox profile diff`, `merge` and `lint`: what people do with profiles before they compile one."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

import typer

from sandbox.cli.arguments import Output
from sandbox.cli.output import emit, json_line, json_text, say
from sandbox.cli.profile_files import write_profile
from sandbox.cli.sources import profile_of
from sandbox.errors import ProfileError
from sandbox.profile import diff as comparison
from sandbox.profile import document, faults, lint, merge
from sandbox.profile.finding import SEVERITIES, Finding
from sandbox.profile.risk import RISKS
from sandbox.review import changes, github, markdown, rules, sarif


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
    """Merge profiles of one function: the result allows what any of them allows.

    Example: sandbox profile merge from-tests.yaml from-production.yaml --output profiles/hello.yaml
    """
    profiles = [document.read(profile_of(file)).profile for file in files]
    text = document.write(merge.merge_all(profiles))
    if output:
        write_profile(output, text)
    else:
        emit(text)


class LintFormat(enum.StrEnum):
    """What --format of lint takes."""

    text = "text"
    sarif = "sarif"
    github = "github"
    json = "json"


class Severity(enum.StrEnum):
    """What --fail-on of lint takes: the least severity of a finding that fails."""

    info = "info"
    warning = "warning"
    error = "error"
    never = "never"


def lint_(
    files: Annotated[list[str], typer.Argument(help="Profiles (YAML)", metavar="FILE...")],
    format_: Annotated[
        LintFormat, typer.Option("--format", help="JSON is an object for each finding, github commands of a workflow")
    ] = LintFormat.text,
    fail_on: Annotated[Severity, typer.Option(help="The least severity that exits with 1")] = Severity.error,
    json_output: Annotated[bool, typer.Option("--json", help="The same as --format json")] = False,
) -> None:
    """Check profiles as a reviewer would: `file:line:column: severity: message`; exit 1 if there is an error.

    What a profile ignores, with a reason, is shown and never fails; SARIF and GitHub's commands leave it out.

    Example: sandbox profile lint profiles/*.yaml --format github --fail-on warning
    """
    found = [finding for file in files for finding in _findings(file)]
    if format_ is LintFormat.sarif and not json_output:
        emit(sarif.log(rules.of_lint(), rules.findings(found), "sandbox-profile-lint"))
    for finding in found:
        if json_output or format_ is LintFormat.json:
            json_line(vars(finding))
        elif format_ is LintFormat.github and not finding.ignored:
            say(github.command(finding))
        elif format_ is LintFormat.text:
            _show(finding)
    worst = [SEVERITIES.index(finding.severity) for finding in found if not finding.ignored]
    if fail_on is not Severity.never and max(worst, default=-1) >= SEVERITIES.index(fail_on.value):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    if finding.ignored:
        say(f"{finding} (ignored: {finding.ignored})", "dim")
        return
    say(str(finding), {"error": "red", "warning": "yellow"}.get(finding.severity, "dim"))
    for line in finding.excerpt.splitlines():
        say(line, "dim")
    say(f"  what to do: {finding.todo}")


def _findings(argument: str) -> Iterator[Finding]:
    """The findings in a profile; what keeps it from being read as one is an error at its place."""
    try:
        file = profile_of(argument)
    except ProfileError as error:
        yield Finding("error", argument, 1, 1, error.what, error.todo)
        return
    read, found = faults.examined(file)
    for fault in found:
        place = fault.where.removeprefix(file).split(":")
        line, column = (int(part) if part.isdigit() else 1 for part in (place[1:3] if len(place) == 3 else ("1", "1")))
        yield Finding("error", file, line, column, fault.what, fault.todo, excerpt=fault.excerpt)
    if read:
        yield from lint.lint(read)
