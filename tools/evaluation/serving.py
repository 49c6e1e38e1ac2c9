"""Functions of the evaluation: each in a folder of its own, trained, and started bare or under its profile.

with enforced(deployed, profile, work) as start:
    reply = start.ask({"document": "..."})
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import launcher
from sandbox.kernel import abi, tables
from sandbox.learn.generalise import Learned, generalise
from sandbox.learn.host import runnable
from sandbox.learn.training import TrainingPlan, bootstrap, train
from sandbox.policy import build
from sandbox.profile.model import Profile
from sandbox.runtime_api import Environment, Function, Invocation, Outcome

Event = Mapping[str, Any]
TIMEOUT = 30.0
"""Seconds for one event."""
SETTLED = 1.0
"""Seconds in which what an attack started has had its effect."""


class EvaluationFailed(Exception):
    """A function does not do bare what it is there for, so that nothing can be said about it."""


class Missing(Exception):
    """What a function needs and this machine has not."""


@dataclass(frozen=True)
class Deployed:
    """A function in a folder. Without `command` it is a Python handler, `app.handler`, of a virtual environment.

    `variables` are those of every start, `production` those of starts in which `stand_ins` lead connects to fakes, and
    `local` those of bare starts, which ask the fakes by their addresses.
    """

    name: str
    root: Path
    python: Path
    command: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    production: Mapping[str, str] = field(default_factory=dict)
    local: Mapping[str, str] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()

    @property
    def bare_command(self) -> tuple[str, ...]:
        """What a platform starts."""
        return self.command or (str(self.python / "bin/python"), "-m", "awslambdaric", "app.handler")

    def plan(self, events: Sequence[Event], cold_starts: int) -> TrainingPlan:
        """The training with these events."""
        runs = runnable(self.command, str(self.python), str(self.root), inherits=False)
        named = tuple(Invocation(json.dumps(event).encode(), f"event {n}") for n, event in enumerate(events, 1))
        return TrainingPlan(
            name=self.name, root=str(self.root), handler="" if self.command else "app.handler", command=runs.command,
            python=runs.python, needs=runs.needs, events=named, cold_starts=cold_starts, timeout=TIMEOUT,
            environment={**runs.variables, **self.variables, **self.production}, stand_ins=self.stand_ins,
        )  # fmt: skip

    def learned(self, events: Sequence[Event], cold_starts: int = 2) -> Learned:
        """What training with these events gives. Raises EvaluationFailed."""
        trained = train(self.plan(events, cold_starts), lambda step: None)
        if trained.failures:
            failure = trained.failures[0]
            raise EvaluationFailed(f"{self.name}: {failure.event}: {failure.error}: {' / '.join(failure.log[-3:])}")
        return generalise(trained.cold_starts, self.name)


@dataclass(frozen=True)
class Reply:
    """What became of an event, and the supervisor's lines about it."""

    outcome: Outcome
    lines: tuple[Mapping[str, Any], ...]

    @property
    def answer(self) -> Any:
        """What the function returned; None where it returned nothing."""
        return json.loads(self.outcome.payload) if self.outcome.status == "ok" else None

    @property
    def text(self) -> str:
        """The answer, or how it failed, on one line."""
        said = self.outcome.payload.decode(errors="replace") if self.outcome.status == "ok" else self.outcome.failure
        return " ".join(said.split())


class Start:
    """One running function."""

    def __init__(self, environment: Environment, journal: Path | None, took: float) -> None:
        """`took` are the seconds from its spawn until it asked for an event."""
        self.environment = environment
        self.took = took
        self._journal = journal
        self._read = 0

    def ask(self, event: Event) -> Reply:
        """Serve one event."""
        outcome = self.environment.invoke(Invocation(json.dumps(event).encode()))
        return Reply(outcome, tuple(self.lines()))

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """Those that came since the last time: violations, anomalies, and whatever else names what was noticed."""
        if self._journal is None:
            return
        with self._journal.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        for line in data.splitlines():
            record = json.loads(line)
            if record["event"] in ("violation", "anomaly"):
                yield record


@contextlib.contextmanager
def bare(deployed: Deployed, work: Path, before: tuple[str, ...] = ()) -> Iterator[Start]:
    """A start without anything of ours; `before` is a command that starts it, as `strace -f` does."""
    runs = runnable(deployed.command, str(deployed.python), str(deployed.root), inherits=False)
    variables = {**runs.variables, **deployed.variables, **deployed.local, "PYTHONDONTWRITEBYTECODE": "1"}
    with _started(deployed, (*before, *deployed.bare_command), variables, work, None) as start:
        yield start


@contextlib.contextmanager
def enforced(
    deployed: Deployed, profile: Profile, work: Path, mode: str = "enforce", *, native: bool = False
) -> Iterator[Start]:
    """A start under the profile, in a clean place as training had it, with a journal of its own.

    `native`: by the launcher, on the host as it is and without a journal, so that nothing counts that is not ours.
    """
    plan = deployed.plan(({},), 1)
    with plan.no_place() if native else plan.place() as place:
        policy = os.path.join(place.layout.scratch, "policy")
        build.write(build.build(profile, (tables.machine(),)), policy)
        build.close(policy)
        settings = {**plan.settings(), "SANDBOX_POLICY": place.inside(policy), "SANDBOX_MODE": mode}
        variables = {**plan.environment, **settings, **place.variables("invoke")}
        command, journal = (*place.command, *bootstrap(), *plan.command), work / f"journal-{time.monotonic_ns()}"
        if native:
            command = (str(launcher.path(abi.MACHINE)), *deployed.bare_command)
        with _started(deployed, command, variables, work, None if native else journal) as start:
            yield start


@contextlib.contextmanager
def _started(
    deployed: Deployed, command: tuple[str, ...], variables: Mapping[str, str], work: Path, journal: Path | None
) -> Iterator[Start]:
    log = work / f"log-{time.monotonic_ns()}"
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        passed: tuple[int, ...] = ()
        if journal:
            passed = (stack.enter_context(journal.open("wb")).fileno(),)
            variables = {**variables, "SANDBOX_EVENTS": f"fd:{passed[0]}"}
        function = Function(
            command=command, root=str(deployed.root), environment=variables, name=deployed.name,
            handler="" if deployed.command else "app.handler", timeout=TIMEOUT, init_timeout=TIMEOUT,
        )  # fmt: skip
        environment = stack.enter_context(Environment(function, stdout=output, stderr=output, pass_fds=passed))
        began = time.monotonic()
        environment.start()
        if failed := environment.wait_ready():
            text = log.read_text(errors="replace").strip().splitlines()[-4:]
            raise EvaluationFailed(f"{deployed.name} does not start: {failed.failure}: {' / '.join(text)}")
        yield Start(environment, journal, time.monotonic() - began)


def installed(python: Path, distribution: str) -> str:
    """The version of a distribution in a virtual environment; '' where it is not there."""
    for info in python.glob("lib/python3.*/site-packages/*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        if normalised(name) == normalised(distribution):
            return version
    return ""


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))
