"""The training driver: cold starts of the function under observation, served with the sample events.

Every cold start serves all events, each beginning with another one, in a clean place (learn/place.py); some starts
close the connection to the Runtime API once in a while, so that reconnecting is learned. What failed is remembered, and
no profile is made of it unless the user insists.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandbox.confine import started_with
from sandbox.learn import observations, own_process, program, records
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.host import started_by
from sandbox.learn.place import StartPlace, nowhere, prepare
from sandbox.learn.platforms import HOST, DeploymentPlatform
from sandbox.learn.visits import visits
from sandbox.profile.circumstances import ON_DEMAND, RESTARTED, RESTORED, WORKERS
from sandbox.runtime_api import Environment, Function, Invocation, Outcome
from sandbox.runtime_api.model import exit_text

INIT_TIMEOUT = 60.0
"""Seconds; observation slows a cold start down, and the platform's 10 s are not what is trained."""
CLOSE_EVERY = 2
"""Answers on one connection, in every second cold start, before the emulator closes it."""
LOG_LINES = 15
NEARLY_FULL = 1 << 20
"""Bytes left on a file system that a write to it finds full."""
BYTECODE = "PYTHONDONTWRITEBYTECODE"
OUTSIDE = "/var/tmp"
WORKING_FOLDERS = ("PWD", "OLDPWD")
"""What a shell says of its own folders, which name nothing that a program needs."""


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
    needs: tuple[str, ...] = ()  # what the interpreter needs of this host: a place of its own must not hide it
    timeout: float = 60.0
    grants: frozenset[str] = frozenset()  # hard-denied calls to let through: `ptrace`, `prctl PR_SET_PTRACER`
    environment: Mapping[str, str] = field(default_factory=dict)
    snapstart: bool = False
    workers: int = 0
    once_only: frozenset[str] = frozenset()  # events that fail when they come again
    stand_ins: tuple[str, ...] = ()  # db.internal:5432=127.0.0.1:15432
    serving: program.Serving = program.TO_THE_END
    platform: DeploymentPlatform = HOST

    def settings(self) -> dict[str, str]:
        """Variables of the starter in any mode."""
        # A function's folder is read-only in production: bytecode that Python would leave there is not its doing.
        found = {} if BYTECODE in self.environment else {BYTECODE: "1"}
        if self.python:
            found["SANDBOX_PYTHON"] = self.python
        if self.stand_ins:
            found["SANDBOX_STANDS_FOR"] = ",".join(self.stand_ins)
        return found

    def circumstances(self) -> frozenset[str]:
        """What each of its starts has."""
        if not self.events:
            return frozenset()
        return frozenset({RESTORED if self.snapstart else ON_DEMAND, *((WORKERS,) if self.workers else ())})

    def function(self, place: StartPlace, environment: Mapping[str, str]) -> Function:
        """What the emulator starts, with these variables beside the plan's own."""
        return Function(
            command=(*place.command, *bootstrap(), *self.command), root=self.root,
            environment={**self.environment, **environment}, name=self.name, handler=self.handler,
            timeout=self.timeout, init_timeout=INIT_TIMEOUT, snapstart=self.snapstart, unset=self.platform.unset,
            workers=self.workers,
        )  # fmt: skip

    @contextlib.contextmanager
    def place(self) -> Iterator[StartPlace]:
        """The place of the starts, and with it a scratch folder.

        A program's folder stays as it is: what it does there is what it is run for.
        """
        variables = {**({} if self.events else _inherited()), **self.environment}
        named = [value for key, value in variables.items() if key not in WORKING_FOLDERS]
        events = [event.payload.decode(errors="replace") for event in self.events]
        programs = tuple(filter(None, (self.python, *self.command[:1])))
        started = [text for path in programs for text in _needed_by(path, self.root)]
        with _scratch() as scratch:
            yield prepare(
                root=self.root, closed=bool(self.events), scratch=scratch,
                named=(*started, *self.needs, *self.command, *named, *events), platform=self.platform,
                programs=programs,
            )  # fmt: skip

    @contextlib.contextmanager
    def no_place(self) -> Iterator[StartPlace]:
        """A scratch folder alone, for a start on the host as it is."""
        with _scratch() as scratch:
            yield nowhere(scratch)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix=f"sandbox-learn-{os.getpid()}-", dir=_outside()) as scratch:
        try:
            yield scratch
        except OSError as error:
            left = os.statvfs(scratch)
            if error.errno == errno.ENOSPC and left.f_bavail * left.f_frsize < NEARLY_FULL:
                # Of a write that failed the kernel does not say where; standard output is another possibility.
                error.filename = error.filename or scratch
            raise


def _needed_by(program: str, root: str) -> Iterator[str]:
    """A program, the interpreter that the first line of a script names, and of each the folder that holds its bin.

    That is its virtual environment, which is more than the bin. `program` is a path from `root`, or a name in PATH.
    """
    for path in started_by(os.path.join(root, program) if "/" in program else shutil.which(program) or program):
        yield path
        if os.path.basename(os.path.dirname(path)) == "bin":
            yield os.path.dirname(os.path.dirname(path))


def _outside() -> str | None:
    """A folder for scratch that few functions write to: a policy below /tmp could be one that they can change.

    None for that of TMPDIR, or where there is no such folder.
    """
    named = "TMPDIR" in os.environ
    return OUTSIDE if not named and os.path.isdir(OUTSIDE) and os.access(OUTSIDE, os.W_OK | os.X_OK) else None


def _inherited() -> dict[str, str]:
    """What a plain program gets of our own environment."""
    ours = started_with(os.environ)
    return {key: value for key, value in ours.items() if not key.startswith(("SANDBOX_", "AWS_LAMBDA_"))}


@dataclass(frozen=True)
class TrainingFailure:
    """A part of the training that failed, with what is known about it.

    `error_type` is as in an Outcome, `exit_status` as os.waitstatus_to_exitcode gives it, None while it lived.
    """

    cold_start: int
    event: str
    error: str
    last: tuple[str, ...]
    log: tuple[str, ...]
    error_type: str = ""
    exit_status: int | None = None


@dataclass(frozen=True)
class Step:
    """Progress: one served event or finished start (`event` is ''), or what a program does (program.LISTENING)."""

    cold_start: int
    event: str
    status: str
    new_items: int
    order: str = ""


@dataclass(frozen=True)
class Trained:
    """What a training observed, and in what kind of place, in words; whether its user ended it.

    `once_only` are the events that failed when they came again, and how: production meets that, too.
    """

    cold_starts: tuple[ColdStart, ...]
    failures: tuple[TrainingFailure, ...]
    place: str
    stopped: bool = False
    once_only: Mapping[str, str] = field(default_factory=dict)


def bootstrap() -> tuple[str, ...]:
    """The command that starts the bootstrap beside this package with this interpreter."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return (sys.executable, "-I", "-S", os.path.join(home, "bootstrap"))


def train(plan: TrainingPlan, progress: Callable[[Step], None]) -> Trained:
    """Run the plan. Raises HandlerNotFound or EmulatorError when it cannot start at all."""
    own_process.adopt_orphans()
    failures: list[TrainingFailure] = []
    seen: list[ColdStart] = []
    with plan.place() as place:
        for start in range(1, plan.cold_starts + 1):
            run = _Start(plan, place, start, progress)
            run.serve() if plan.events else run.once()
            failures += run.failures
            if os.path.exists(run.file) and os.path.getsize(run.file):
                place.translate(run.file, str(start))
                seen += (place.as_learned(cold_start) for cold_start in run.cold_starts())
            if run.stopped:
                break
        return Trained(tuple(seen), tuple(failures), str(place), run.stopped, run.once_only)


def run_program(
    plan: TrainingPlan, place: StartPlace, environment: Mapping[str, str], log: int,
    tell: program.Tell = lambda state: None, pass_fds: Sequence[int] = (),
) -> program.Run:  # fmt: skip
    """Run the command of a plain program, as long as the plan says; `tell` hears how far it is."""
    command = (*place.command, *bootstrap(), *plan.command)
    inherited = {key: value for key, value in _inherited().items() if key not in plan.platform.unset}
    variables = {**inherited, **plan.environment, **environment}
    return program.run(command, plan.root, variables, log, plan.serving, tell, pass_fds)


class _Start:
    """One cold start."""

    def __init__(self, plan: TrainingPlan, place: StartPlace, number: int, progress: Callable[[Step], None]) -> None:
        self._plan = plan
        self._place = place
        self._number = number
        self._progress = progress
        self._read = 0
        self.file = os.path.join(place.layout.scratch, f"{number}.jsonl")
        self._log = self.file + ".log"
        self.failures: list[TrainingFailure] = []
        self.once_only: dict[str, str] = {}  # events that fail when they come again, and how
        self.circumstances = set(plan.circumstances())
        self.stopped = False

    def _environment(self) -> dict[str, str]:
        ours = {
            **self._plan.settings(), "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": self._place.file(self.file),
            **self._place.variables(str(self._number)),
        }  # fmt: skip
        if self._plan.grants:
            ours["SANDBOX_GRANTS"] = ",".join(sorted(self._plan.grants))
        return ours

    def serve(self) -> None:
        """A Runtime API function: all events, beginning with another one each time."""
        plan = self._plan
        last = self._number == plan.cold_starts
        place = self._place.lasting(str(self._number)) if last else self._place
        function = plan.function(place, self._environment())
        close_every = CLOSE_EVERY if self._number % 2 == 0 or plan.cold_starts == 1 else 0
        with (
            program.piped(self._log) as log,
            Environment(function, close_every=close_every, stdout=log, stderr=log) as environment,
        ):
            environment.start()
            if failed := environment.wait_ready():
                self._failed("cold start", failed)
                return
            self._step("", "ready")
            labels = self._visited(environment)
        self._label(labels)

    def _visited(self, environment: Environment) -> dict[str, str]:
        """Serve the events. Returns which request each was."""
        labels: dict[str, str] = {}
        seen = 0
        for visit in visits(self._plan.events, self._number, self._plan.cold_starts):
            outcome = visit.carried_out(environment)
            labels[outcome.request_id] = visit.name
            self._step(visit.name, outcome.status, visit.order)
            if ended := [status for status in environment.resets[seen:] if status]:
                # After its answer, or the one before: production would start it anew, and lose an event.
                what = f"it ended between two events: {exit_text(ended[0])}"
                self._fail(visit.name, what, exit_status=ended[0])
            seen = len(environment.resets)
            if outcome.status in ("ok", "error"):
                self.circumstances |= visit.circumstances(outcome)
            if outcome.status == "ok":
                continue
            if visit.is_first:
                self._failed(visit.name, outcome)
                if outcome.status != "error":
                    break  # the process is gone, or in a state that production would not keep
            elif not any(failure.event == visit.name for failure in self.failures):
                self.once_only[visit.name] = f"{visit.order}: {outcome.failure}"
        return labels

    def once(self) -> None:
        """A plain program: one run to its end."""
        with program.piped(self._log) as log:
            run = run_program(
                self._plan, self._place, self._environment(), log,
                lambda state: self._progress(Step(self._number, "", state, 0)),
            )  # fmt: skip
        self.stopped = run.stopped
        self._step("", "error" if run.problem else "ok")
        if run.problem:
            self._fail("run", run.problem, exit_status=run.status)

    def cold_starts(self) -> Iterator[ColdStart]:
        """What was observed of its process, and of the one that took its place."""
        in_order = sorted(observations.read([self.file]), key=lambda one: min((s.time for s in one.samples), default=0))
        for cold_start in in_order:
            is_restart = RESTARTED in self.circumstances and cold_start is in_order[-1] is not in_order[0]
            shared = self.circumstances - {RESTARTED}
            yield replace(cold_start, circumstances=frozenset({RESTARTED} if is_restart else shared))

    def _step(self, event: str, status: str, order: str = "") -> None:
        # The observer writes before it lets the answer go, so that what was new is in the file by now; a bootstrap
        # that found no command to start has written none.
        data = b""
        if os.path.exists(self.file):
            with open(self.file, "rb") as file:
                file.seek(self._read)
                data = file.read()
        self._read += len(data)
        self._progress(Step(self._number, event, status, records.count_items(data), order))

    def _failed(self, event: str, outcome: Outcome) -> None:
        self._fail(event, outcome.failure, outcome.error_type, outcome.exit_status)

    def _fail(self, event: str, error: str, error_type: str = "", exit_status: int | None = None) -> None:
        failure = TrainingFailure(self._number, event, error, self._last(), self._tail(), error_type, exit_status)
        self.failures.append(failure)

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
        time.sleep(program.POLL)  # what it wrote may still be on its way through the pipe
        with open(self._log, "rb") as file:
            return tuple(file.read().decode(errors="replace").splitlines()[-LOG_LINES:])

    def _label(self, labels: Mapping[str, str]) -> None:
        with open(self.file, "ab") as file:
            for request, name in labels.items():
                file.write(records.encode(records.Label(request, name)))
