"""What `sandbox learn` says of a training: how it goes, what failed, and what was learned."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sandbox.behaviour import spelling
from sandbox.behaviour.call import Call
from sandbox.cli import environment
from sandbox.cli import generalise as generalising
from sandbox.cli.output import json_line, on_terminal, say, warn
from sandbox.errors import LearningFailed, limit_of
from sandbox.learn import platforms
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.generalise import Learned
from sandbox.learn.platforms import DeploymentPlatform
from sandbox.learn.program import ENDING_IT, LISTENING
from sandbox.learn.recorder import MOST_FACTS
from sandbox.learn.training import Step, Trained, TrainingFailure, TrainingPlan, train
from sandbox.learn.visits import visits
from sandbox.profile.completeness import TARGET, still_needed
from sandbox.profile.model import Profile, Tolerated
from sandbox.runtime_api.variables import masked

SHOWN = 6
"""Cold starts or events that a line lists."""

UNITS = {"init": ("cold starts", "starts"), "invoke": ("events", "invocations"), "run": ("runs", "runs")}


def trained(plan: TrainingPlan, allow_failed: bool, json_output: bool) -> Trained:
    """Train, and say how it goes, in what place it was, and what failed. Raises LearningFailed, LimitReached."""
    with _progress(plan, json_output) as tell:
        found = train(plan, tell)
    if json_output:
        json_line({"event": "place", "platform": plan.platform.name, "description": found.place})
    else:
        say(f"trained for {plan.platform.name}: {found.place}")
    for event, said in found.once_only.items():
        how = masked(said, plan.environment)
        if json_output:
            json_line({"event": "once-only", "sample": event, "how": how})
        else:
            say(f"{event} failed {how}; production meets that where the event comes again")
    failures = environment.without_values(found.failures, plan.environment)
    refuse_failures(failures, allow_failed, json_output, plan.platform)
    if not found.cold_starts:
        raise LearningFailed("nothing was observed", where="sandbox learn", todo="correct what failed; see above")
    warn_of_full(found.cold_starts)
    return found


@contextlib.contextmanager
def _progress(plan: TrainingPlan, json_output: bool) -> Iterator[Callable[[Step], None]]:
    """What to call with each step: JSON lines, a bar on a terminal, or a line for each step that is worth one."""
    if json_output:
        yield lambda step: json_line({"event": "step", **_sample(step)})
    elif on_terminal():
        with _bar(plan) as advance:
            yield advance
    else:
        yield lambda step: _print(step, plan)


def _print(step: Step, plan: TrainingPlan) -> None:
    if step.new_items or not step.order:  # a repeat that brings nothing is what everybody expects
        say(_meanwhile(step, plan) or f"{_describe(step, plan)}: {step.new_items} new")


@contextlib.contextmanager
def _bar(plan: TrainingPlan) -> Iterator[Callable[[Step], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from sandbox.cli.terminal import console

    total = plan.cold_starts + sum(
        len(list(visits(plan.events, start, plan.cold_starts))) for start in range(1, plan.cold_starts + 1)
    )
    news = TextColumn("{task.fields[news]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), news, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total, news="")
        seen = 0

        def advance(step: Step) -> None:
            nonlocal seen
            if meanwhile := _meanwhile(step, plan):
                bar.console.print(meanwhile)
                return
            seen += step.new_items
            bar.update(task, advance=1, description=_describe(step, plan), news=f"{seen} items")

        yield advance


def _sample(told: Step | TrainingFailure) -> dict[str, Any]:
    """A step or failure for machines: `event` says what the line is, `sample` the event or `cold start`."""
    return {"sample": told.event or "cold start", **{key: value for key, value in vars(told).items() if key != "event"}}


def _describe(step: Step, plan: TrainingPlan) -> str:
    where = f"cold start {step.cold_start}/{plan.cold_starts}"
    order = f" {step.order}" if step.order else ""
    return f"{where}, {step.event}{order}: {step.status}" if step.event else f"{where}: {step.status}"


def _meanwhile(step: Step, plan: TrainingPlan) -> str:
    """What to say to the user while a program runs; '' for a step that is done."""
    if step.status == LISTENING:
        ends = f"it ends after {plan.serving.seconds:g} s" if plan.serving.seconds else "then press Ctrl-C"
        return f"it listens: ask it now for all that it should serve; {ends}, which writes the profile"
    if step.status == ENDING_IT:
        return f"ending it with {signal.Signals(plan.serving.stop).name}; another signal gives up, without a profile"
    return ""


def refuse_failures(
    failures: Sequence[TrainingFailure], allowed: bool, json_output: bool, platform: DeploymentPlatform = platforms.HOST
) -> None:
    """Say what failed. Unless it is `allowed`, raises LearningFailed, or LimitReached where that was the reason."""
    alike: dict[tuple[str, str], list[TrainingFailure]] = {}
    for failure in failures:
        alike.setdefault((failure.error, failure.error_type), []).append(failure)
        if json_output:
            json_line({"event": "failed", **_sample(failure)})
    for failure, *others in alike.values() if not json_output else ():
        at = f" in cold start {failure.cold_start}" if failure.cold_start else ""
        warn(f"failed{at}: {failure.event}: {failure.error}")
        if others:
            warn(f"  and {_times(others)}")
        if failure.last:
            warn("  the last system calls: " + ", ".join(failure.last))
        for line in failure.log:
            warn(f"  | {line.expandtabs()}")
    for failure in failures if not allowed else ():
        if limited := limit_of(failure.error_type, failure.exit_status):
            raise limited
    if failures and not allowed:
        other = f"; with --platform host it runs as if nothing of {platform.name} were missing"
        raise LearningFailed(
            f"{len(failures)} of the training failed, so that no profile was written",
            where="sandbox learn",
            todo="correct the events or the function, give it its variables (--env, --env-file) or a fake of what "
            "it asks (--stands-for); --allow-failed writes the profile anyway"
            + (other if platform is not platforms.HOST else ""),
        )


def _times(failures: Sequence[TrainingFailure]) -> str:
    """How often something failed again, and where: `2 times more, in cold starts 2 and 3`."""
    starts = sorted({failure.cold_start for failure in failures if failure.cold_start})
    events = list(dict.fromkeys(failure.event for failure in failures))
    where = [f"in cold start{'s' * (len(starts) > 1)} {_few(starts)}"] if starts else []
    count = f"{len(failures)} time{'s' * (len(failures) > 1)} more"
    return ", ".join([count, *where, f"with {_few(events)}"])


def _few(values: Sequence[object]) -> str:
    """The first and how many there are besides, once they do not fit a line."""
    shown = ", ".join(map(str, values[:SHOWN]))
    return f"{shown} and {len(values) - SHOWN} others" if len(values) > SHOWN else shown


def warn_of_full(cold_starts: Iterable[ColdStart]) -> None:
    """Say which observations end before the function did."""
    for source in sorted({cold_start.source for cold_start in cold_starts if cold_start.full}):
        what = f"{source}: more than {MOST_FACTS} files and destinations came; the profile lacks the rest"
        warn(what)


def report(profile: Profile, learned: Learned, path: str, offered: Mapping[str, Any], json_output: bool) -> None:
    """Say what was learned; `profile` is what was written, with what was known before; `offered` is of generalise."""
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
    say(f"{path}: promises {' '.join(profile.promises)}")
    for training in learned.profile.trainings:
        if training.circumstances:
            say(f"  starts and requests: {training.circumstances}")
    for phase, e in estimates.items():
        unit, next_ = UNITS[phase]
        more = still_needed(e.quiet)
        say(
            f"  {phase}: {e.items} items in {e.samples} {unit}; the others would refuse {e.novelty:.0%} of them "
            f"something; the next needs something new with at most {e.bound:.0%} (95 % confidence)"
            + (f"; {more} more quiet {next_} reach {TARGET:.0%}" if more else "")
        )
        if e.users:
            say(f"  {phase}: in {e.users:.0%} of them a library used what others used, and it in no other (`by`)")
    if estimates:
        worst = max(estimates.values(), key=lambda e: e.bound)
        say(f"  the weakest phase is {worst.phase}; all this assumes training events drawn like production's")
    for entry in sorted(learned.survived):
        what = f"{entry.call} at {entry.at} in {entry.phase}, {entry.errno}"
        if any(known.key == entry.key for known in profile.tolerates):
            say(f"  refused in training and survived, tolerated from now on: {what}")
        else:
            say(f"  refused in the observations and survived: {what}; a person decides whether to tolerate it")
            say(f"    to tolerate it: {spelling.of_tolerated(entry.call, entry.phase, entry.at, entry.errno)}")
    for where, text in sorted(learned.fatal):
        say(f"  refused in training, and supervised it will end the function: {text} in {where}")
    for text in denied:
        call = Call.parse(text)
        say(f"  refused in training, hard-denied: {call}")
        say(f"    to grant it: {spelling.of_grant(call.syscall, (call.arg_class,) if call.arg_class else ())}")


def _tolerated(entry: Tolerated) -> dict[str, str]:
    return {"call": str(entry.call), "phase": entry.phase, "at": entry.at, "errno": entry.errno}


def say_what_is_next(path: str, profile: Profile) -> None:
    """What people do with a new profile, in order."""
    start = f"sandbox package layer {path} --output sandbox.zip" if profile.function.runtime_api else ""
    say(f"next: review it (sandbox profile show {path}; sandbox profile lint {path}), commit it, then")
    say(f"  {start or f'sandbox compile {path} --output build/{profile.function.name}'}")


def say_what_differs(profile: Profile) -> None:
    """Say which platforms lack something of a profile that this host was trained for."""
    for other in (platforms.LAMBDA, platforms.CONTAINER):
        if differing := list(other.differs_for(profile)):
            say(f"  {other.name} differs: {' and '.join(differing)}; --platform {other.name} trains its way")
