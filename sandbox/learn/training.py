"""The training driver: cold starts of the function under observation, served with the sample events.

Every cold start serves all events, each beginning with another one; some starts close the connection to the Runtime
API once in a while, so that reconnecting is learned. What failed is remembered, and no profile is made of it unless
the user insists.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import prctl

from sandbox.learn import observations, records
from sandbox.learn.observations import ColdStart
from sandbox.runtime_api import Environment, Function, Invocation, Outcome
from sandbox.runtime_api.model import exit_text

INIT_TIMEOUT = 60.0
"""Seconds; observation slows a cold start down, and the platform's 10 s are not what is trained."""
CLOSE_EVERY = 2
"""Answers on one connection, in every second cold start, before the emulator closes it."""
LOG_LINES = 15


@dataclass(frozen=True)
class TrainingPlan:
    """What to train. `command` is what `bootstrap` gets (nothing: awslambdaric with `handler`)."""

    name: str
    root: str
    handler: str = ""
    command: tuple[str, ...] = ()
    events: tuple[Invocation, ...] = ()
    cold_starts: int = 3
    python: str = ""
    timeout: float = 60.0
    grants: frozenset[str] = frozenset()  # hard-denied calls to let through: `ptrace`, `prctl PR_SET_PTRACER`
    environment: Mapping[str, str] = field(default_factory=dict)
    snapstart: bool = False
    stand_ins: tuple[str, ...] = ()  # db.internal:5432=127.0.0.1:15432


@dataclass(frozen=True)
class TrainingFailure:
    """A part of the training that failed, with what is known about it."""

    cold_start: int
    event: str
    error: str
    last: tuple[str, ...]
    log: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """Progress: one served event or finished start (`event` is '')."""

    cold_start: int
    event: str
    status: str
    new_items: int


@dataclass(frozen=True)
class Trained:
    """What a training observed."""

    cold_starts: tuple[ColdStart, ...]
    failures: tuple[TrainingFailure, ...]


def bootstrap() -> tuple[str, ...]:
    """The command that starts the bootstrap beside this package with this interpreter."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return (sys.executable, "-I", "-S", os.path.join(home, "bootstrap"))


def train(plan: TrainingPlan, progress: Callable[[Step], None]) -> Trained:
    """Run the plan. Raises HandlerNotFound or EmulatorError when it cannot start at all."""
    prctl.set_child_subreaper(True)  # what a function leaves behind comes to us, not to init, and is not lost
    failures: list[TrainingFailure] = []
    with tempfile.TemporaryDirectory(prefix="sandbox-learn-") as scratch:
        files = []
        for start in range(1, plan.cold_starts + 1):
            run = _Start(plan, start, os.path.join(scratch, f"{start}.jsonl"), progress)
            run.serve() if plan.events else run.once()
            failures += run.failures
            files.append(run.file)
        written = [path for path in files if os.path.exists(path)]
        return Trained(observations.read(written) if written or not failures else (), tuple(failures))


class _Start:
    """One cold start."""

    def __init__(self, plan: TrainingPlan, number: int, file: str, progress: Callable[[Step], None]) -> None:
        self._plan = plan
        self._number = number
        self._progress = progress
        self._log = file + ".log"
        self._known = 0
        self._read = 0
        self.file = file
        self.failures: list[TrainingFailure] = []

    def _environment(self) -> dict[str, str]:
        # A function's folder is read-only in production: bytecode that Python would leave there is not its doing.
        ours = {"PYTHONDONTWRITEBYTECODE": "1", "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": self.file}
        if self._plan.python:
            ours["SANDBOX_PYTHON"] = self._plan.python
        if self._plan.stand_ins:
            ours["SANDBOX_STANDS_FOR"] = ",".join(self._plan.stand_ins)
        if self._plan.grants:
            ours["SANDBOX_GRANTS"] = ",".join(sorted(self._plan.grants))
        return {**self._plan.environment, **ours}

    def serve(self) -> None:
        """A Runtime API function: all events, beginning with another one each time."""
        plan = self._plan
        shift = (self._number - 1) * len(plan.events) // max(1, plan.cold_starts)
        ordered = plan.events[shift:] + plan.events[:shift]
        function = Function(
            command=(*bootstrap(), *plan.command), root=plan.root, environment=self._environment(), name=plan.name,
            handler=plan.handler, timeout=plan.timeout, init_timeout=INIT_TIMEOUT,
            snapstart=plan.snapstart,
        )  # fmt: skip
        labels: dict[str, str] = {}
        with open(self._log, "wb") as log:
            close_every = CLOSE_EVERY if self._number % 2 == 0 or plan.cold_starts == 1 else 0
            with Environment(function, close_every=close_every, stdout=log, stderr=log) as environment:
                environment.start()
                failed = environment.wait_ready()
                if failed:
                    self._fail("cold start", failed)
                    return
                self._step("", "ready")
                seen = 0
                for position, invocation in enumerate(ordered):
                    # The platform samples some requests: each event is served in both ways where it is served twice.
                    sampled = (position if plan.cold_starts == 1 else self._number - 1) % 2 == 1
                    outcome = environment.invoke(replace(invocation, sampled=sampled))
                    labels[outcome.request_id] = invocation.name
                    self._step(invocation.name, outcome.status)
                    if ended := [status for status in environment.resets[seen:] if status]:
                        # After its answer, or the one before: production would start it anew, and lose an event.
                        self._fail_at(invocation.name, f"it ended between two events: {exit_text(ended[0])}")
                    seen = len(environment.resets)
                    if outcome.status != "ok":
                        self._fail(invocation.name, outcome)
                        if outcome.status != "error":
                            break  # the process is gone, or in a state that production would not keep
        self._label(labels)

    def once(self) -> None:
        """A plain program: one run to its end."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SANDBOX_", "AWS_LAMBDA_"))}
        with open(self._log, "wb") as log:
            done = subprocess.run(
                [*bootstrap(), *self._plan.command], cwd=self._plan.root, env={**kept, **self._environment()},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
            )  # fmt: skip
        self._step("", "ok" if done.returncode == 0 else "error")
        if done.returncode:
            error = f"exit status {done.returncode}"
            self.failures.append(TrainingFailure(self._number, "run", error, self._last(), self._tail()))

    def _step(self, event: str, status: str) -> None:
        # The observer writes before it lets the answer go, so that what was new is in the file by now; a bootstrap
        # that found no command to start has written none.
        data = b""
        if os.path.exists(self.file):
            with open(self.file, "rb") as file:
                file.seek(self._read)
                data = file.read()
        self._read += len(data)
        self._progress(Step(self._number, event, status, records.count_items(data)))

    def _fail(self, event: str, outcome: Outcome) -> None:
        self._fail_at(event, ": ".join(filter(None, (outcome.error_type, outcome.error_message))) or outcome.status)

    def _fail_at(self, event: str, error: str) -> None:
        self.failures.append(TrainingFailure(self._number, event, error, self._last(), self._tail()))

    def _last(self) -> tuple[str, ...]:
        """The last calls of the newest failure or end that the observer wrote."""
        last: tuple[str, ...] = ()
        if os.path.exists(self.file):
            with open(self.file, "rb") as file:
                for text in file:
                    try:
                        line = records.parse(text)
                        record = line.record() if line else None
                    except records.DAMAGE:
                        continue
                    if isinstance(record, records.Failure | records.End):
                        last = record.last
        return last

    def _tail(self) -> tuple[str, ...]:
        with open(self._log, "rb") as file:
            return tuple(file.read().decode(errors="replace").splitlines()[-LOG_LINES:])

    def _label(self, labels: Mapping[str, str]) -> None:
        with open(self.file, "ab") as file:
            for request, name in labels.items():
                file.write(records.encode(records.Label(request, name)))
