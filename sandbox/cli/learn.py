"""`sandbox learn`: train a function on sample events, or read observations from elsewhere, and write its profile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sandbox.behaviour import spelling
from sandbox.behaviour.call import Call
from sandbox.cli import ending, environment
from sandbox.cli import generalise as generalising
from sandbox.cli.output import console, errors, json_line, write_text
from sandbox.cli.verification import beside, failure_of, prove
from sandbox.errors import LearningFailed, ProfileError, UsageError, limit_of
from sandbox.learn import observations, platforms
from sandbox.learn.generalise import Learned, generalise
from sandbox.learn.host import ask_for_client, needs_of, without_chooser
from sandbox.learn.observations import ColdStart
from sandbox.learn.platforms import DeploymentPlatform
from sandbox.learn.program import ENDED_WELL, ENDING_IT, LISTENING, Serving
from sandbox.learn.recorder import MOST_FACTS
from sandbox.learn.training import Step, Trained, TrainingFailure, TrainingPlan, train
from sandbox.learn.visits import visits
from sandbox.profile import base, document
from sandbox.profile.completeness import TARGET, still_needed
from sandbox.profile.merge import merge_all
from sandbox.profile.model import Grant, Profile, ProfiledFunction, Tolerated
from sandbox.runtime_api.events import load_events
from sandbox.runtime_api.variables import masked

UNITS = {"init": ("cold starts", "starts"), "invoke": ("events", "invocations"), "run": ("runs", "runs")}

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
    cold_starts: Annotated[int, typer.Option(min=1, help="Number of cold starts", metavar="N")] = 3,
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
        float, typer.Option("--for", min=0.0, help="A server: end it after that; without, on Ctrl-C", metavar="SECONDS")
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
    timeout: Annotated[float, typer.Option(min=0.1, help="Time limit of one event", metavar="SECONDS")] = 60.0,
    json_output: Annotated[bool, typer.Option("--json", help="JSON lines instead of text")] = False,
    env: environment.Env = None,
    env_file: environment.EnvFile = None,
    aws_credentials: environment.AwsCredentials = False,
    stands_for: environment.StandsFor = None,
    platform: environment.On = platforms.HOST.name,
) -> None:
    """Run a function on sample events, observe its system calls, write a profile to review."""
    try:
        document.parse(document.write(Profile(ProfiledFunction(name))), "NAME")
    except ProfileError as error:
        todo = "use letters, digits, _, . and -, a letter or digit first"
        raise UsageError(f"{name!r} is not a name for a function", where="NAME", todo=todo) from error
    path = output or os.path.join("profiles", f"{name}.yaml")
    known = document.read(path).profile if add and os.path.exists(path) else None
    if os.path.exists(path) and not (add or force):
        _refuse_to_lose(document.read(path).profile, path)
    variables = environment.chosen(name, env, env_file, aws_credentials)
    fakes = environment.stand_ins(stands_for)
    on = platforms.of(platform)
    plan, failed, asked = None, frozenset[str](), False

    def merged(profile: Profile) -> Profile:
        return merge_all((known, profile)) if known else profile

    ending.watch()
    if from_:
        if variables or fakes:
            todo = "leave the variables out; the profile of a training notes their names"
            raise UsageError("starts nothing that could be given variables", where="--from", todo=todo)
        learned = _from_files([*from_, *(command or ())], name, allow_failed, json_output)
    else:
        plan = _plan(name, command or [], handler, root, events, python, cold_starts, timeout, known, variables)
        serving = _serving(plan, drive, seconds, until_signal, stop_signal)
        plan = replace(
            plan, snapstart=snapstart, workers=workers, stand_ins=fakes.texts, serving=serving, platform=on
        )
        if seconds or until_signal:
            plan = replace(plan, cold_starts=1)  # somebody asks it meanwhile, once
        trained, learned = _train(plan, allow_failed, json_output)
        failed = frozenset("" if failure.event in NO_EVENTS else failure.event for failure in trained.failures)
        plan = replace(plan, once_only=frozenset(trained.once_only))
        asked = trained.stopped or bool(seconds) or until_signal  # by somebody who does not do it again
        learned = _noting(learned, variables, on)
    learned, offered = generalising.offer(learned, generalise_option, merged, json_output=json_output)
    profile = merged(learned.profile)
    document.parse(document.write(profile), path)
    proof = prove(plan, failed, profile, learned.denied, json_output) if plan and check and not asked else None
    if proof:
        profile = replace(profile, verified=proof.written())
    document.parse(text := document.write(profile), path)  # what we write must be what we accept
    if proof and not (proof.agrees or force or allow_failed):
        path = beside(path)
    write_text(path, text)
    _report(profile, learned, path, offered, json_output)
    if plan and plan.events and on is platforms.HOST and not json_output:
        for other in (platforms.LAMBDA, platforms.CONTAINER):
            if differing := list(other.differs_for(profile)):
                print(f"  {other.name} differs: {' and '.join(differing)}; --platform {other.name} trains its way")
    for production in fakes.productions:
        if production not in learned.profile.network:
            errors.print(f"nothing connected to {production}, for which --stands-for names a fake", markup=False)
    if proof and not proof.agrees:
        failure = failure_of(proof, path)
        if not allow_failed:
            raise failure
        errors.print(str(failure), markup=False)


def _refuse_to_lose(profile: Profile, path: str) -> None:
    """Raises UsageError for a profile with what no training writes."""
    reasons = {reason for use in profile.uses for reason in use.because if not reason.startswith("learned")}
    kept = {"grants": profile.grants, "responses": profile.responses, "a person's reasons": reasons}
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
    platform = {}
    command, search = without_chooser(command, root, inherits=not events)
    interpreter, needs = "", needs_of(command[0], root) if command else ()
    if not command:
        found = ask_for_client(python or None, root)
        interpreter, needs = found.path, found.needs
        platform = {"AWS_EXECUTION_ENV": found.execution_environment}
    return TrainingPlan(
        name=name, root=os.path.abspath(root), handler=handler, command=tuple(command),
        events=load_events(events) if events else (), cold_starts=cold_starts, python=interpreter, needs=needs,
        timeout=timeout,
        grants=frozenset(call for grant in known.grants for call in _granted(grant)) if known else frozenset(),
        environment={**search, **platform, **variables},
    )  # fmt: skip


def _noting(learned: Learned, names: Iterable[str], platform: DeploymentPlatform) -> Learned:
    """With the names of the variables that training was given, and the platform that it imitated."""
    profile = learned.profile
    function = replace(profile.function, environment=tuple(sorted(names)))
    on = "" if platform is platforms.HOST else platform.name
    trainings = frozenset(replace(training, platform=on) for training in profile.trainings)
    return replace(learned, profile=replace(profile, function=function, trainings=trainings))


def _granted(grant: Grant) -> Iterable[str]:
    """The hard-denied calls that a grant means; one without classes means all that can be granted at all."""
    for entry in base.hard_deny():
        if entry.syscall == grant.syscall and entry.grantable:
            for arg_class in entry.classes or ("",):
                if not arg_class or not grant.classes or arg_class in grant.classes:
                    yield str(Call(grant.syscall, arg_class))


def _from_files(files: Sequence[str], name: str, allow_failed: bool, json_output: bool) -> Learned:
    cold_starts = observations.read(files)
    if older := sorted({cold_start.source for cold_start in cold_starts if not cold_start.names_facts_of_events}):
        errors.print(
            f"{', '.join(older)}: of an older version, which told a file or destination once and not in each event: "
            "the estimate takes it for new in the first", markup=False,
        )  # fmt: skip
    _warn_of_full(cold_starts)
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
    _refuse_failures(failures, allow_failed, json_output)
    return generalise(cold_starts, name, trusted=False)


def _warn_of_full(cold_starts: Iterable[ColdStart]) -> None:
    for source in sorted({cold_start.source for cold_start in cold_starts if cold_start.full}):
        what = f"{source}: more than {MOST_FACTS} files and destinations came; the profile lacks the rest"
        errors.print(what, markup=False)


def _train(plan: TrainingPlan, allow_failed: bool, json_output: bool) -> tuple[Trained, Learned]:
    """What was served, and what was learned of it."""
    if json_output:
        trained = train(plan, lambda step: json_line({"event": "step", **_sample(step)}))
    elif console.is_terminal:
        total = plan.cold_starts + sum(
            len(list(visits(plan.events, start, plan.cold_starts))) for start in range(1, plan.cold_starts + 1)
        )
        news = TextColumn("{task.fields[news]}")
        columns = (TextColumn("{task.description}"), BarColumn(), news, TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("starting", total=total, news="")
            seen = 0

            def advance(step: Step) -> None:
                nonlocal seen
                if meanwhile := _meanwhile(step, plan):
                    bar.console.print(meanwhile, markup=False)
                    return
                seen += step.new_items
                bar.update(task, advance=1, description=_describe(step, plan), news=f"{seen} items")

            trained = train(plan, advance)
    else:

        def tell(step: Step) -> None:
            if step.new_items or not step.order:  # a repeat that brings nothing is what everybody expects
                print(_meanwhile(step, plan) or _describe_new(step, plan), flush=True)

        trained = train(plan, tell)
    if json_output:
        json_line({"event": "place", "platform": plan.platform.name, "description": trained.place})
    else:
        print(f"trained for {plan.platform.name}: {trained.place}")
    for event, said in trained.once_only.items():
        how = masked(said, plan.environment)
        if json_output:
            json_line({"event": "once-only", "sample": event, "how": how})
        else:
            print(f"{event} failed {how}; production meets that where the event comes again")
    failures = environment.without_values(trained.failures, plan.environment)
    _refuse_failures(failures, allow_failed, json_output, plan.platform)
    if not trained.cold_starts:
        raise LearningFailed("nothing was observed", where="sandbox learn", todo="correct what failed; see above")
    _warn_of_full(trained.cold_starts)
    return trained, generalise(trained.cold_starts, plan.name)


def _sample(told: Step | TrainingFailure) -> dict[str, Any]:
    """A step or failure for machines: `event` says what the line is, `sample` the event or `cold start`."""
    return {"sample": told.event or "cold start", **{key: value for key, value in vars(told).items() if key != "event"}}


def _describe(step: Step, plan: TrainingPlan) -> str:
    where = f"cold start {step.cold_start}/{plan.cold_starts}"
    order = f" {step.order}" if step.order else ""
    return f"{where}, {step.event}{order}: {step.status}" if step.event else f"{where}: {step.status}"


def _describe_new(step: Step, plan: TrainingPlan) -> str:
    return f"{_describe(step, plan)}: {step.new_items} new"


def _meanwhile(step: Step, plan: TrainingPlan) -> str:
    """What to say to the user while a program runs; '' for a step that is done."""
    if step.status == LISTENING:
        ends = f"it ends after {plan.serving.seconds:g} s" if plan.serving.seconds else "then press Ctrl-C"
        return f"it listens: ask it now for all that it should serve; {ends}, which writes the profile"
    if step.status == ENDING_IT:
        return f"ending it with {signal.Signals(plan.serving.stop).name}; another signal gives up, without a profile"
    return ""


def _refuse_failures(
    failures: Sequence[TrainingFailure], allowed: bool, json_output: bool, platform: DeploymentPlatform = platforms.HOST
) -> None:
    for failure in failures:
        if json_output:
            json_line({"event": "failed", **_sample(failure)})
            continue
        at = f" in cold start {failure.cold_start}" if failure.cold_start else ""
        errors.print(f"failed{at}: {failure.event}: {failure.error}", markup=False)
        if failure.last:
            errors.print("  the last system calls: " + ", ".join(failure.last), markup=False)
        for line in failure.log:
            errors.print(f"  | {line}", markup=False)
    for failure in failures if not allowed else ():
        if limited := limit_of(failure.error):
            raise limited
    if failures and not allowed:
        other = f"; with --platform host it runs as if nothing of {platform.name} were missing"
        raise LearningFailed(
            f"{len(failures)} of the training failed, so that no profile was written",
            where="sandbox learn",
            todo="correct the events or the function; --allow-failed writes the profile anyway"
            + (other if platform is not platforms.HOST else ""),
        )


def _tolerated(entry: Tolerated) -> dict[str, str]:
    return {"call": str(entry.call), "phase": entry.phase, "at": entry.at, "errno": entry.errno}


def _report(profile: Profile, learned: Learned, path: str, offered: Mapping[str, Any], json_output: bool) -> None:
    denied = sorted(learned.denied)
    estimates = generalising.estimates(learned.profile)
    if json_output:
        json_line(
            {
                "event": "profile", "path": path, "promises": list(profile.promises), "denied": denied,
                "tolerates": [_tolerated(entry) for entry in sorted(learned.survived & profile.tolerates)],
                "not_tolerated": [_tolerated(entry) for entry in sorted(learned.survived - profile.tolerates)],
                "fatal": [{"phase": phase, "call": call} for phase, call in sorted(learned.fatal)],
                "items": len(profile.items()), "completeness": {phase: vars(e) for phase, e in estimates.items()},
                **offered,
            }
        )  # fmt: skip
        return
    print(f"{path}: promises {' '.join(profile.promises)}")
    for training in learned.profile.trainings:
        if training.circumstances:
            print(f"  starts and requests: {training.circumstances}")
    for phase, e in estimates.items():
        unit, next_ = UNITS[phase]
        more = still_needed(e.quiet)
        print(
            f"  {phase}: {e.items} items in {e.samples} {unit}; the others would refuse {e.novelty:.0%} of them "
            f"something; the next needs something new with at most {e.bound:.0%} (95 % confidence)"
            + (f"; {more} more quiet {next_} reach {TARGET:.0%}" if more else "")
        )
    if estimates:
        worst = max(estimates.values(), key=lambda e: e.bound)
        print(f"  the weakest phase is {worst.phase}; all this assumes training events drawn like production's")
    for entry in sorted(learned.survived):
        what = f"{entry.call} at {entry.at} in {entry.phase}, {entry.errno}"
        if any(known.key == entry.key for known in profile.tolerates):
            print(f"  refused in training and survived, tolerated from now on: {what}")
        else:
            print(f"  refused in the observations and survived: {what}; a person decides whether to tolerate it")
            print(f"    to tolerate it: {spelling.of_tolerated(entry.call, entry.phase, entry.at, entry.errno)}")
    for where, text in sorted(learned.fatal):
        print(f"  refused in training, and supervised it will end the function: {text} in {where}")
    for text in denied:
        call = Call.parse(text)
        print(f"  refused in training, hard-denied: {call}")
        print(f"    to grant it: {spelling.of_grant(call.syscall, (call.arg_class,) if call.arg_class else ())}")
