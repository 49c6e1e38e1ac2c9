"""`sandbox promote`: whether an audit's log speaks for enforcing a profile."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from sandbox.cli.events import LogFormat, key_of, moment_of, opened, signed
from sandbox.cli.output import json_line, say
from sandbox.cli.sources import policy_of, profile_of
from sandbox.errors import UsageError
from sandbox.kernel import tables
from sandbox.logs.counts import many
from sandbox.logs.promotion import AUDIT, AuditedRun, AuditLog, Refused, weigh
from sandbox.logs.reading import LogReader
from sandbox.profile import document
from sandbox.profile.model import Profile
from sandbox.violations import reader

SHOWN = 20
"""Runs that are shown one by one; --json has all."""
UNCOUNTED = "invocations not counted"


def promote(
    profile: Annotated[str, typer.Argument(help="The profile, its name, or a bundle", metavar="PROFILE")],
    from_: Annotated[str, typer.Option("--from", help="A log of an audit; - for standard input", metavar="LOG")],
    log_format: Annotated[LogFormat, typer.Option(help="What carries the lines; auto looks at each")] = LogFormat.auto,
    since: Annotated[str, typer.Option(help="Only later lines: 10m, 2h, 1d, a date and time, seconds since 1970")] = "",
    invocations: Annotated[
        int, typer.Option(min=0, help="How many the audit must have seen (SANDBOX_ACTIVITY=summary)", metavar="N")
    ] = 0,
    key_file: Annotated[str, typer.Option(help="Take only lines that verify with the key in this file")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of text")] = False,
) -> None:
    """Say whether enforcement would have refused anything that an audit let through, and since when not.

    Exit 0: it would have refused nothing. 1: it would have, or the audit saw too little of this very profile.

    Example: sandbox promote thumbnail --from audit.log --since 7d
    """
    name = profile_of(profile)
    read = document.read(name).profile
    reading = LogReader(log_format.value)
    with opened(from_) as source:
        lines = reading.lines(source, starts=not key_file)
        verified = signed(lines, key_of(key_file)) if key_file else lines
        found = weigh(verified, read, policies(profile, read), moment_of(since) or 0.0)
    if not found.runs and not found.other_runs:
        others = f"; it has lines of {', '.join(sorted(found.elsewhere))}" if found.elsewhere else ""
        raise UsageError(
            f"holds no run of {read.function.name} with a supervisor: {reading.counts.verdict()}{others}", where=from_,
            todo="start the function with SANDBOX_MODE=audit, and collect its standard error",
        )  # fmt: skip
    lacking = _lacking(found, invocations)
    if json_output:
        json_line({**_facts(found, read), "promote": not (found.refused or lacking), "lacking": lacking})
    else:
        _show(found, read, lacking, name, from_)
    if found.refused or lacking:
        raise typer.Exit(1)


def policies(argument: str, profile: Profile) -> Callable[[str], bool]:
    """Whether a digest is that of a policy compiled from the profile, for any choice of architectures.

    Where a bundle was named, of that bundle alone.
    """
    known: set[str] = set()

    def is_ours(digest: str) -> bool:
        from sandbox import bundle
        from sandbox.policy import build

        path = policy_of(argument)
        if not known and path != profile_of(argument):
            with opened(os.path.join(path, bundle.FILE)) as file:
                known.add(f"sha256:{bundle.sha256(file.read())}")
        elif not known:
            for arches in ((tables.machine(),), tables.ARCHES, *((arch,) for arch in tables.ARCHES)):
                known.add(f"sha256:{bundle.sha256(build.build(profile, arches).files[bundle.FILE])}")
        return digest in known

    return is_ours


def _lacking(found: AuditLog, invocations: int) -> str:
    """What is missing for a yes, besides that nothing was refused; '' for nothing."""
    if not found.runs:
        return "every run was under another policy than this profile's: audit this one"
    if not any(run.mode == AUDIT for run in found.runs.values()):
        return "no run was an audit, as far as its lines say"
    seen = found.invocations()
    if seen < invocations:
        return f"it saw {seen} of the {invocations} invocations asked for, as SANDBOX_ACTIVITY=summary counts them"
    return ""


def _show(found: AuditLog, profile: Profile, lacking: str, name: str, source: str) -> None:
    function, last = profile.function.name, found.last_refused
    since = last or found.began
    counted = any(run.invocations for run in found.runs.values())
    over = many(len(found.runs_since(last)), "run")
    quiet = f"{many(found.invocations(last), 'invocation')} in {over}" if counted else f"{over}, {UNCOUNTED}"
    if found.refused:
        count = sum(one.count for one in found.refused.values())
        calls = f"{many(count, 'call')} of {many(len(found.refused), 'kind')}"
        say(f"{function}: no: enforcement would have refused {calls}")
        say(f"the last at {reader.moment(last)}; none since, over {quiet}")
        for one in sorted(found.refused.values(), key=lambda one: -one.count):
            say(f"{one.count:>8} {_named(one)}, from {reader.moment(one.first)} to {reader.moment(one.last)}, in "
                f"{many(len(one.runs), 'run')}; to allow: {one.allow or 'nothing can'}")  # fmt: skip
    elif lacking:
        say(f"{function}: no: {lacking}")
    else:
        say(f"{function}: yes: enforcement would have refused nothing since {reader.moment(since)}, over {quiet}")
    if found.refused and lacking:
        say(lacking)
    for run in sorted(found.runs.values(), key=lambda run: run.began)[-SHOWN:]:
        say(f"    {_told(run)}")
    if len(found.runs) > SHOWN:
        say(f"    and {many(len(found.runs) - SHOWN, 'run')} before")
    if found.other_runs:
        say(f"left out {many(len(found.other_runs), 'run')} under another policy")
    if found.elsewhere:
        say(f"left out lines of other functions: {', '.join(sorted(found.elsewhere))}")
    if found.runs and not counted:
        say("SANDBOX_ACTIVITY=summary on the function makes its lines count the invocations")
    if found.refused:
        say(f"next: if the function needs these: sandbox profile amend {name} --from {source}, and audit again")
    elif not lacking:
        say("next: start it without SANDBOX_MODE; SANDBOX_MODE=audit takes it back to the audit")


def _told(run: AuditedRun) -> str:
    ended = "" if run.ended else ", not ended"
    already = f", {run.already} refused in the audit as well" if run.already else ""
    seen = many(len(run.invocations), "invocation") if run.invocations else UNCOUNTED
    return (
        f"{run.supervisor} {run.mode or 'mode not known'} from {reader.moment(run.began)} to {reader.moment(run.last)}"
        f"{ended}: {seen}, {run.refused} to be refused{already}"
    )


def _facts(found: AuditLog, profile: Profile) -> dict[str, object]:
    last = found.last_refused
    return {
        "function": profile.function.name, "since": last or found.began, "invocations": found.invocations(last),
        "refused": [
            {
                "syscall": one.call.syscall, "class": one.call.arg_class, "target": one.target, "count": one.count,
                "first": one.first, "last": one.last, "runs": sorted(one.runs), "allow": one.allow,
            }
            for one in found.refused.values()
        ],
        "runs": [
            {
                "supervisor": run.supervisor, "mode": run.mode, "policy": run.policy, "began": run.began,
                "last": run.last, "ended": run.ended, "invocations": len(run.invocations), "refused": run.refused,
                "already": run.already,
            }
            for run in found.runs.values()
        ],
        "other_runs": sorted(run.supervisor for run in found.other_runs),
        "starts": found.starts,
    }  # fmt: skip


def _named(one: Refused) -> str:
    return f"{one.call}" + (f" {one.target}" if one.target else "")
