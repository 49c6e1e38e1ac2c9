"""`sandbox invoke` and `sandbox run`: local use under the same bootstrap, policy and kernel as in production."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from sandbox.cli import ending
from sandbox.cli.arguments import ProfileFile, Timeout
from sandbox.cli.environment import AwsCredentials, Env, EnvFile, On, StandsFor, chosen, stand_ins
from sandbox.cli.output import emit, json_line, warn
from sandbox.cli.sources import policy_of, profile_of
from sandbox.errors import UsageError, limit_of
from sandbox.kernel import tables
from sandbox.learn import platforms
from sandbox.learn.host import runnable, without_chooser
from sandbox.learn.training import TrainingPlan, bootstrap
from sandbox.policy import build
from sandbox.profile import document
from sandbox.runtime_api import Environment, Function, Outcome, process
from sandbox.runtime_api.events import load_events
from sandbox.runtime_api.model import exit_text


def invoke(
    profile: ProfileFile,
    command: Annotated[list[str] | None, typer.Argument(help="After --: a runtime", metavar="COMMAND...")] = None,
    handler: Annotated[
        str,
        typer.Option(
            help="A Python handler, if not the profile's, or the _HANDLER of a command", metavar="MODULE.FUNCTION"
        ),
    ] = "",
    root: Annotated[str, typer.Option(help="The function's folder", metavar="DIR")] = ".",
    events: Annotated[str, typer.Option(help="Folder of *.json events, a .jsonl or a .json file", metavar="PATH")] = "",
    python: Annotated[str, typer.Option(help="The function's interpreter or virtual environment", metavar="EXE")] = "",
    timeout: Timeout = 60.0,
    snapstart: Annotated[bool, typer.Option("--snapstart", help="Start it as from a snapshot, with its hooks")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Of so many workers, as on Managed Instances", metavar="N")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON line for each event")] = False,
    env: Env = None,
    env_file: EnvFile = None,
    aws_credentials: AwsCredentials = False,
    stands_for: StandsFor = None,
    platform: On = "",
    sampled: Annotated[bool, typer.Option("--sampled", help="Serve the events as X-Ray samples them")] = False,
) -> None:
    """Serve events under ./bootstrap and print each result; exit 1 if an event failed or the function ended.

    Example: sandbox invoke hello --root examples/hello --events examples/hello/events
    """
    if not events:
        raise UsageError("needs --events", where="sandbox invoke", todo="give a folder of *.json events")
    on = platforms.of(platform or platforms.HOST.name)
    invocations = load_events(events)
    checked = document.read(profile_of(profile)).checked().profile
    handler = handler or ("" if command else checked.function.handler)
    if not (handler or command):
        raise UsageError(
            "names no handler", where=profile, todo="give --handler MODULE.FUNCTION, or a command after --"
        )  # fmt: skip
    variables = chosen(checked.function.name, env, env_file, aws_credentials)
    # What the caller sets for the bootstrap (SANDBOX_SUPERVISE, SANDBOX_EVENTS ...) holds here too.
    environment = {key: value for key, value in os.environ.items() if key.startswith("SANDBOX_")}
    kind, _, path = environment.get("SANDBOX_EVENTS", "").partition(":")
    if kind in ("file", "unix") and not path.startswith("@"):
        environment["SANDBOX_EVENTS"] = f"{kind}:{os.path.abspath(path)}"  # the function starts in another folder
    collector = _inherited(path) if kind == "fd" else ()
    runs = runnable(command or (), python, root, inherits=False)
    plan = TrainingPlan(
        name=checked.function.name, root=os.path.abspath(root), handler=handler, command=runs.command,
        events=invocations, python=runs.python, needs=runs.needs, timeout=timeout,
        environment={**environment, **runs.variables, **variables}, snapstart=snapstart, workers=workers,
        stand_ins=stand_ins(stands_for).texts, platform=on,
    )  # fmt: skip
    failed, limited = 0, None
    ending.watch()
    with plan.place() if platform else plan.no_place() as place:
        policy = os.path.join(place.layout.scratch, "policy")
        build.write(build.build(checked, (tables.machine(),)), policy)
        build.close(policy)
        if platform:
            warn(f"sandbox: {on.name}: {place}")
        else:
            os.chmod(place.layout.scratch, 0o555)  # or the function could put another policy in its place
        starts = {**plan.settings(), "SANDBOX_POLICY": place.inside(policy), **place.variables("invoke")}
        function = replace(plan.function(place, starts), init_timeout=Function.init_timeout)
        if missing := sorted(set(checked.function.environment) - process.variables(function, "").keys()):
            warn(f"sandbox: training was given {', '.join(missing)}, which this start lacks: see --env")
        # The function's own output goes to standard error: standard output holds the results.
        with Environment(function, stdout=sys.stderr, stderr=sys.stderr, pass_fds=collector) as served:
            for index, invocation in enumerate(invocations):
                outcome = served.invoke(replace(invocation, sampled=sampled))
                failed += outcome.status != "ok"
                limited = limited or limit_of(outcome.error_type, outcome.exit_status)
                line = _line(index, invocation.name, outcome)
                json_line(line) if json_output else emit(f"{_text(line)}\n")
            ended = [status for status in served.resets if status]
    for status in ended:
        # Its answers were good; but the platform starts such a function anew, and may fail the event that comes then.
        warn(f"sandbox: the function ended between two events: {exit_text(status)}")
    if ended:
        warn(f"sandbox: it ended {len(ended)} times; the violations above say what it was refused")
    if failed:
        warn(f"sandbox: {failed} of {len(invocations)} invocations failed")
    if limited:
        raise limited
    if failed or ended:
        raise typer.Exit(1)


def _inherited(number: str) -> tuple[int, ...]:
    """The descriptor of SANDBOX_EVENTS=fd:N if this command was given it; of any other the start says what is wrong."""
    with contextlib.suppress(OSError, OverflowError, ValueError):
        if os.get_inheritable(int(number)):  # what this command opened is not
            return (int(number),)
    return ()


def _line(index: int, name: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "index": index,
        "event": name,
        "status": "ok" if outcome.status == "ok" else "error",
        "result": outcome.payload.decode(errors="replace") if outcome.status == "ok" else None,
        "error_type": outcome.error_type,
        "error_message": outcome.error_message,
        "duration": round(outcome.duration, 6),
    }


def _text(line: Mapping[str, Any]) -> str:
    if line["status"] == "ok":
        return f"{line['event']}: ok in {line['duration'] * 1000:.1f} ms: {line['result']}"
    return f"{line['event']}: {line['error_type']}: {line['error_message']}"


def run(
    profile: ProfileFile,
    command: Annotated[list[str], typer.Argument(help="After --: the program and its arguments", metavar="COMMAND...")],
) -> None:
    """Run a plain program under a profile, replacing this process; SANDBOX_MODE holds as in production.

    Example: sandbox run profiles/hello.yaml -- ./my-program --flag
    """
    profile = policy_of(profile)
    start = bootstrap()
    started, search = without_chooser(command, os.getcwd())
    ours = {"SANDBOX_POLICY": profile}
    os.execve(start[0], [*start, *started], {**os.environ, **search, **ours})
