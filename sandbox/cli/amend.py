"""`sandbox profile amend`: additions that violations call for, with risk and evidence, written on consent."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sandbox.cli.arguments import ProfileFile
from sandbox.cli.events import key_of, opened, signed
from sandbox.cli.output import agrees, say
from sandbox.cli.profile_files import write_profile
from sandbox.cli.sources import profile_of
from sandbox.errors import UsageError, printable
from sandbox.logs.reading import LogReader
from sandbox.profile import document
from sandbox.profile.amend import Amendment, propose
from sandbox.profile.diff import diff, lines
from sandbox.profile.model import Profile
from sandbox.violations import reader
from sandbox.violations.record import DENIED, TERMINATED, Violation


def amend(
    profile: ProfileFile,
    from_: Annotated[str, typer.Option("--from", help="A log or events file; - for standard input", metavar="EVENTS")],
    syscall: Annotated[list[str] | None, typer.Option(help="Only the violations of these syscalls")] = None,
    key_file: Annotated[str, typer.Option(help="Take only lines that verify with the key in this file")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking")] = False,
) -> None:
    """Propose the smallest widening that would have allowed the violations, and write it if you agree.

    Example: sandbox profile amend profiles/hello.yaml --from function.log
    """
    profile = profile_of(profile)
    read = document.read(profile)
    wanted = reader.Filter(frozenset(syscall or ()))
    violations = [one for one in _taken(from_, key_of(key_file) if key_file else b"") if wanted.admits(one)]
    if not violations:
        raise UsageError(
            "holds no violations" + (f" of {', '.join(syscall)}" if syscall else "")
            + (" that verify" if key_file else ""), where=from_,
            todo="collect the supervisor's lines (stderr, or SANDBOX_EVENTS=file:PATH)",
        )  # fmt: skip
    foreign = {violation.function for violation in violations} - {read.profile.function.name}
    if foreign:
        raise UsageError(
            f"holds violations of {printable(', '.join(sorted(foreign)))}, not only of {read.profile.function.name}",
            where=from_, todo="give the events of one function",
        )  # fmt: skip
    found = propose(read.profile, violations)
    text = document.write(found.profile)
    document.parse(text, profile)  # what we write must be what we accept
    _show(read.profile, found)
    if found.proposals and any(violation.verdict in (DENIED, TERMINATED) for violation in violations):
        say("what was refused ended its event or led it elsewhere, so that the next run may show more; an audit")
        say("(SANDBOX_MODE=audit) shows all at once")
    if not found.proposals:
        return
    if not yes and not _agrees(profile, from_):
        say("nothing was written")
        raise typer.Exit(1)
    write_profile(profile, text)
    say(f"{profile}: {len(found.proposals)} lines added; review them, then compile the profile again")


def _taken(source: str, key: bytes) -> list[Violation]:
    """The violations of a log; with a key those that the supervisor signed."""
    with opened(source) as file:
        found = LogReader().lines(file)
        # The kernel's own records do not say of which function they are, nor what would allow the call.
        return [one for line in (signed(found, key) if key else found) if (one := line.violation) and one.function]


def _show(before: Profile, found: Amendment) -> None:
    for proposal in found.proposals:
        times = f"{proposal.evidence} violation{'s' * (proposal.evidence > 1)}, such as:"
        why = f"not seen, but {proposal.because}; goes with:" if proposal.because else times
        _say(f"propose {proposal.change}", f"risk {proposal.risk}, {why}", proposal.example)
    for refusal in found.refusals:
        how = f"; a person could write: {refusal.how}" if refusal.how else ""
        _say(f"not proposed: {refusal.what}", f"{refusal.reason}{how}; {refusal.evidence} times:", refusal.example)
    if found.proposals:
        for line in lines(diff(before, found.profile)):
            say(line)
    else:
        say("nothing to add")


def _say(what: str, why: str, example: Violation) -> None:
    say(what)
    say(f"    {why}")
    say(f"    {reader.moment(example.time)} {reader.describe(example)}")


def _agrees(profile: str, source: str) -> bool:
    if source == "-" or not sys.stdin.isatty():
        raise UsageError(
            "was not changed: without a terminal nobody can agree", where=profile,
            todo="review the proposals above, then pass --yes or run this in a terminal",
        )  # fmt: skip
    return agrees(f"Write this to {profile}?")
