"""`sandbox learn`: train a function on sample events, or read observations from elsewhere, and write its profile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import typer

from sandbox.behaviour.call import Call
from sandbox.cli import ending, environment, training
from sandbox.cli import generalise as generalising
from sandbox.cli.arguments import Timeout
from sandbox.cli.arguments import seconds as seconds_of
from sandbox.cli.output import warn
from sandbox.cli.profile_files import write_profile
from sandbox.cli.verification import beside, failure_of, prove
from sandbox.errors import ProfileError, UsageError
from sandbox.learn import observations, platforms
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.generalise import Learned, generalise
from sandbox.learn.host import runnable
from sandbox.learn.platforms import DeploymentPlatform
from sandbox.learn.program import ENDED_WELL, Serving
from sandbox.learn.training import TrainingFailure, TrainingPlan
from sandbox.profile import base, document
from sandbox.profile.merge import merge_all
from sandbox.profile.model import Grant, Profile, ProfiledFunction
from sandbox.runtime_api.events import load_events

MOST_STARTS = 10_000
NO_EVENTS = ("cold start", "run")
"""What a failure names where no event failed."""


def learn(
    name: Annotated[str, typer.Argument(help="Name of the function, as in profiles/NAME.yaml", metavar="NAME")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="After --: a custom runtime or program; with --from: more files", metavar="COMMAND..."),
    ] = None,
    handler: Annotated[
        str, typer.Option(help="A Python handler, or the _HANDLER of a command", metavar="MODULE.FUNCTION")
    ] = "",
    root: Annotated[str, typer.Option(help="The function's folder (its working directory)", metavar="DIR")] = ".",
    events: Annotated[str, typer.Option(help="Folder of *.json events, a .jsonl or a .json file", metavar="PATH")] = "",
    python: Annotated[str, typer.Option(help="The function's interpreter or virtual environment", metavar="EXE")] = "",
    cold_starts: Annotated[int, typer.Option(min=1, max=MOST_STARTS, help="Number of cold starts", metavar="N")] = 3,
    output: Annotated[str, typer.Option(help="Where to write it, if not profiles/NAME.yaml", metavar="FILE")] = "",
    add: Annotated[bool, typer.Option("--merge", help="Add to the existing profile, keeping its grants")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a profile that holds a person's edits")] = False,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Logs of SANDBOX_MODE=learn, - for standard input, instead of training", metavar="FILE..."
        ),
    ] = None,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Write a profile even if a run failed")] = False,
    drive: Annotated[
        str, typer.Option(help="A server: once it listens, run this shell command, then end it", metavar="COMMAND")
    ] = "",
    seconds: Annotated[
        float,
        typer.Option(
            "--for", parser=seconds_of, help="A server: end it after that; without, on Ctrl-C", metavar="SECONDS"
        ),
    ] = 0.0,
    until_signal: Annotated[
        bool,
        typer.Option(
            "--until-signal", hidden=True, help="A server: end it on Ctrl-C or SIGTERM, and fail if it ends before"
        ),
    ] = False,  # nearly what happens without it
    stop_signal: Annotated[
        str, typer.Option(help="A server: the signal that ends it, as its image's STOPSIGNAL", metavar="NAME")
    ] = "SIGTERM",
    snapstart: Annotated[bool, typer.Option("--snapstart", help="Start it as from a snapshot, with its hooks")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Of so many workers, as on Managed Instances", metavar="N")] = 0,
    generalise_option: generalising.Option = generalising.Generalise.ask,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Serve the events again, audited and enforced, at the end")
    ] = True,
    timeout: Timeout = 60.0,
    json_output: Annotated[bool, typer.Option("--json", help="JSON lines instead of text")] = False,
    env: environment.Env = None,
    env_file: environment.EnvFile = None,
    aws_credentials: environment.AwsCredentials = False,
    stands_for: environment.StandsFor = None,
    platform: environment.On = platforms.HOST.name,
) -> None:
    """Run a function on sample events, observe its system calls, write a profile to review.

    Example: sandbox learn hello --handler app.handler --root examples/hello --events examples/hello/events
    """
    try:
        document.parse(document.write(Profile(ProfiledFunction(name))), "NAME")
    except ProfileError as error:
        todo = "use letters, digits, _, . and -, a letter or digit first"
        raise UsageError(f"{name!r} is not a name for a function", where="NAME", todo=todo) from error
    path = output or os.path.join("profiles", f"{name}.yaml")
    known = document.read(path).profile if add and os.path.exists(path) else None
    if os.path.exists(path) and not (add or force):
        refuse_to_lose(document.read(path).profile, path)
    variables = environment.chosen(name, env, env_file, aws_credentials)
    fakes = environment.stand_ins(stands_for)
    on = platforms.of(platform)
    plan, failed, asked = None, frozenset[str](), False

    def merged(profile: Profile) -> Profile:
        return merge_all((known, profile)) if known else profile

    if from_:
        if variables or fakes:
            todo = "leave the variables out; the profile of a training notes their names"
            raise UsageError("starts nothing that could be given variables", where="--from", todo=todo)
        learned = _from_files([*from_, *(command or ())], name, allow_failed, json_output)
    else:
        ending.watch()
        plan = _plan(name, command or [], handler, root, events, python, cold_starts, timeout, known, variables)
        serving = _serving(plan, drive, seconds, until_signal, stop_signal)
        plan = replace(
            plan, snapstart=snapstart, workers=workers, stand_ins=fakes.texts, serving=serving, platform=on
        )
        if seconds or until_signal:
            plan = replace(plan, cold_starts=1)  # somebody asks it meanwhile, once
        trained = training.trained(plan, allow_failed, json_output)
        failed = frozenset("" if failure.event in NO_EVENTS else failure.event for failure in trained.failures)
        plan = replace(plan, once_only=frozenset(trained.once_only))
        asked = trained.stopped or bool(seconds) or until_signal  # by somebody who does not do it again
        learned = _noting(generalise(trained.cold_starts, name), variables, on)
    learned, offered = generalising.offer(learned, generalise_option, merged, json_output=json_output)
    profile = merged(learned.profile)
    document.parse(document.write(profile), path)
    proof = prove(plan, failed, profile, learned.denied, json_output) if plan and check and not asked else None
    if proof:
        profile = replace(profile, verified=proof.written())
    document.parse(text := document.write(profile), path)  # what we write must be what we accept
    if proof and not (proof.agrees or force or allow_failed):
        path = beside(path)
    write_profile(path, text)
    training.report(profile, learned, path, offered, json_output)
    if plan and plan.events and on is platforms.HOST and not json_output:
        training.say_what_differs(profile)
    if not (json_output or (proof and not proof.agrees)):
        training.say_what_is_next(path, profile)
    for production in fakes.productions:
        if production not in learned.profile.network:
            warn(f"nothing connected to {production}, for which --stands-for names a fake")
    if proof and not proof.agrees:
        failure = failure_of(proof, path)
        if not allow_failed:
            raise failure
        warn(str(failure))


def refuse_to_lose(profile: Profile, path: str) -> None:
    """Raises UsageError for a profile with what no training writes."""
    reasons = {reason for use in profile.uses for reason in use.because if not reason.startswith("learned")}
    reasons |= {reason for _, reason in profile.listen_because}
    kept = {
        "grants": profile.grants, "responses": profile.responses, "on-anomaly": profile.on_anomaly,
        "audit-until": profile.audit_until, "ignores": profile.ignores, "a person's reasons": reasons,
    }  # fmt: skip
    if found := [name for name, value in kept.items() if value]:
        raise UsageError(
            f"holds {' and '.join(found)} that would be lost", where=path,
            todo="add to it with --merge, write elsewhere with --output, or replace it with --force",
        )  # fmt: skip


def _serving(plan: TrainingPlan, drive: str, seconds: float, until_signal: bool, stop_signal: str) -> Serving:
    """Raises UsageError for more than one end, for a function, which its events end, and for a signal that is none."""
    ends = (("--drive", drive), ("--for", seconds), ("--until-signal", until_signal))
    chosen = [name for name, value in ends if value]
    if len(chosen) > 1:
        raise UsageError(f"cannot go together with {chosen[1]}", where=chosen[0], todo="choose one of them")
    if chosen and plan.events:
        raise UsageError("is for a server, which has no events", where=chosen[0], todo="leave it out, or --events")
    name = stop_signal.upper()
    stop = {number.name: number for number in signal.Signals}.get(name if name.startswith("SIG") else f"SIG{name}")
    if stop is None or stop in (signal.SIGKILL, signal.SIGSTOP):
        todo = "name one that the program can handle: SIGTERM, SIGQUIT, SIGINT, SIGWINCH ..."
        raise UsageError(f"is {stop_signal!r}, which ends no server in order", where="--stop-signal", todo=todo)
    return Serving(drive, seconds, until_signal, stop)


def _plan(
    name: str, command: Sequence[str], handler: str, root: str, events: str, python: str, cold_starts: int,
    timeout: float, known: Profile | None, variables: Mapping[str, str],
) -> TrainingPlan:  # fmt: skip
    if not handler and not command:
        raise UsageError(
            "needs --handler MODULE.FUNCTION or a command after --", where="sandbox learn",
            todo="for a Python handler give --handler, for any other executable `-- ./its-command`, for a runtime both",
        )  # fmt: skip
    if not os.path.isdir(root):
        raise UsageError("is not a folder", where=f"--root {root}", todo="name the folder that holds the function")
    if handler and not events:
        raise UsageError("needs --events for a handler", where="sandbox learn", todo="give a folder of *.json events")
    runs = runnable(command, python, root, inherits=not events)
    return TrainingPlan(
        name=name, root=os.path.abspath(root), handler=handler, command=runs.command, python=runs.python,
        needs=runs.needs, events=load_events(events) if events else (), cold_starts=cold_starts, timeout=timeout,
        grants=frozenset(call for grant in known.grants for call in _granted(grant)) if known else frozenset(),
        environment={**runs.variables, **variables},
    )  # fmt: skip


def _noting(learned: Learned, names: Iterable[str], platform: DeploymentPlatform) -> Learned:
    """With the names of the variables that training was given, and the platform that it imitated."""
    profile = learned.profile
    function = replace(profile.function, environment=tuple(sorted(names)))
    on = "" if platform is platforms.HOST else platform.name
    trainings = frozenset(replace(one, platform=on) for one in profile.trainings)
    return replace(learned, profile=replace(profile, function=function, trainings=trainings))


def _granted(grant: Grant) -> Iterable[str]:
    """The hard-denied calls that a grant means; one without classes means all that can be granted at all."""
    for entry in base.hard_deny():
        if entry.syscall == grant.syscall and entry.grantable:
            for arg_class in entry.classes or ("",):
                if not arg_class or not grant.classes or arg_class in grant.classes:
                    yield str(Call(grant.syscall, arg_class))


def _from_files(files: Sequence[str], name: str, allow_failed: bool, json_output: bool) -> Learned:
    return from_observations(observations.read(files), name, allow_failed, json_output)


def from_observations(cold_starts: Sequence[ColdStart], name: str, allow_failed: bool, json_output: bool) -> Learned:
    """What cold starts from production give, with a word about what they lack. Raises LearningFailed, LimitReached."""
    if older := sorted({cold_start.source for cold_start in cold_starts if not cold_start.names_facts_of_events}):
        warn(
            f"{', '.join(older)}: of an older version, which told a file or destination once and not in each event: "
            "the estimate takes it for new in the first"
        )
    training.warn_of_full(cold_starts)
    failures = [
        TrainingFailure(0, failure.label or "initialisation", f"in {cold_start.source}", failure.last, ())
        for cold_start in cold_starts
        for failure in cold_start.failures
    ]
    failures += [
        TrainingFailure(0, "the process", f"ended with {cold_start.status} in {cold_start.source}", cold_start.last, ())
        for cold_start in cold_starts
        if cold_start.status not in (None, *ENDED_WELL) and not cold_start.failures
    ]
    training.refuse_failures(failures, allow_failed, json_output)
    return generalise(cold_starts, name, trusted=False)
