"""An execution environment: one function, one loopback port, one process at a time, one invocation at a time.

Order of events as on the platform: initialisation, invocations, reset after a crash or a time-out, shutdown.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
import signal
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from sandbox.errors import EmulatorError
from sandbox.runtime_api.model import (
    EXIT_ERROR,
    PAYLOAD_LIMIT,
    STREAM_LIMIT,
    TIMEOUT,
    Function,
    Invocation,
    Outcome,
    Status,
    error_document,
    exit_text,
)
from sandbox.runtime_api.process import REGION, Output, Process, variables
from sandbox.runtime_api.server import HttpRequest, Reply, Server
from sandbox.runtime_api.session import Flight, Session

# How long a runtime that has reported an initialisation error may take to exit, and how long the connections
# of a dead process may take to be read to their end (they end at once unless a stranger holds one).
_EXIT_GRACE = 2.0
_DRAIN = 0.5
_ACCOUNT = "123456789012"


class Environment:
    """Runs a function and serves it the Runtime API on 127.0.0.1; use it as a context manager.

    `close_every`: after that many replies on a connection the server closes it (announced), 0 is never.
    `stdout`, `stderr`: file or descriptor for the child, None to inherit. `pass_fds`: descriptors that the
    child keeps under the same numbers. Limits in bytes. The port is bound from construction to `stop`.
    Methods may be called from several threads; invocations take turns.
    """

    def __init__(
        self,
        function: Function,
        *,
        close_every: int = 0,
        stdout: Output = None,
        stderr: Output = None,
        pass_fds: Sequence[int] = (),
        payload_limit: int = PAYLOAD_LIMIT,
        stream_limit: int = STREAM_LIMIT,
    ) -> None:
        self._function = function
        self._stdout = stdout
        self._stderr = stderr
        self._pass_fds = tuple(pass_fds)
        self._payload_limit = payload_limit
        self._stream_limit = stream_limit
        self._service = _Service(self._new_session())
        self._turn = threading.Lock()
        self._life = threading.Lock()
        self._process: Process | None = None
        self._initialising: float | None = None
        self._stopped = False
        self._told: Process | None = None
        self._resets: list[int] = []
        self._server = Server(self._service, close_every=close_every)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API: 'host:port'."""
        return f"127.0.0.1:{self._server.port}"

    @property
    def resets(self) -> tuple[int, ...]:
        """Exit statuses (negative: a signal) of processes that ended by themselves after an event, before the next."""
        self._note_reset()
        return tuple(self._resets)

    def _note_reset(self) -> None:
        process = self._process
        if process is not None and process is not self._told and process.exit_status is not None:
            self._told = process
            self._resets.append(process.exit_status)

    @property
    def pid(self) -> int | None:
        """Number of the process and of its group, None when none lives."""
        process = self._process
        return process.pid if process is not None and process.exit_status is None else None

    def start(self) -> None:
        """Spawn the process; its initialisation may take `init_timeout` from here.

        Raises HandlerNotFound when the command or the root is missing, EmulatorError when a process lives
        already or the environment has been stopped.
        """
        with self._turn:
            if self.pid is not None:
                raise EmulatorError(
                    "the function is already running", where=self._function.name, todo="call start() once"
                )
            self._launch()
            self._initialising = time.monotonic() + self._function.init_timeout

    def wait_ready(self) -> Outcome | None:
        """Wait until the runtime asks for its first invocation (None) or its initialisation failed (why).

        After a failure no process is left; the next `invoke` initialises again, within the function's
        time-out. A later call returns None at once: it is the initialisation that is reported, and only once.
        Raises EmulatorError before `start`.
        """
        with self._turn:
            if self._process is None:
                raise EmulatorError(
                    "no process is running", where=self._function.name, todo="call start() first"
                )
            return self._first_initialisation()

    def invoke(self, invocation: Invocation) -> Outcome:
        """Send one event through the function and return what became of it.

        Starts the process when there was none. A first initialisation that fails, and each one after a reset,
        is run (again) under the function's time-out together with the invocation. Raises HandlerNotFound as
        `start` does, EmulatorError for an event that the platform would not accept or after `stop`.
        """
        headers = self._event_headers(invocation)
        with self._turn:
            deadline: float | None = None
            if self._process is None:
                self._launch()
                self._initialising = time.monotonic() + self._function.init_timeout
            self._first_initialisation()
            request_id = str(uuid.uuid4())
            renewed = False
            while True:
                if self.pid is None:
                    self._note_reset()
                    renewed = True
                    deadline = deadline or time.monotonic() + self._function.timeout
                    self._launch()
                    failure = self._initialise(deadline, self._timed_out(), extend=False)
                    if failure is not None:
                        return dataclasses.replace(failure, cold=True, request_id=request_id)
                limit = deadline or time.monotonic() + self._function.timeout
                clock = self._clock_headers(limit, invocation.sampled)
                flight = Flight(request_id, (*clock, *headers), invocation.payload)
                in_time = self._service.session.carry(flight, limit)
                if in_time and flight.answer is None and flight.waiting and not renewed:
                    # It ended after its last response, before this event reached it: a reset, no loss.
                    self._resets.append(self._expect_exit())
                    continue
                return self._conclude(flight, in_time)

    def reset(self) -> None:
        """Kill the process, as the platform does after a time-out; the next `invoke` starts it again."""
        with self._turn:
            if self.pid is not None:
                self._expect_exit()

    def stop(self, grace: float = 2.0) -> int | None:
        """End the process group (SIGTERM, after `grace` seconds SIGKILL) and the server; idempotent.

        Returns the last process's exit status, None when there never was one. Requests that arrive meanwhile
        get status 500, the platform's sign to exit promptly.
        """
        with self._life:
            self._stopped = True
            process, session = self._process, self._service.session
            session.stopping()
        status = None
        if process is not None:
            process.signal(signal.SIGTERM)
            status = process.wait(grace)
            if status is None:
                process.signal(signal.SIGKILL)
                status = process.wait()
        session.cancel()
        self._server.close()
        return status

    def _new_session(self) -> Session:
        return Session(payload_limit=self._payload_limit, stream_limit=self._stream_limit)

    def _launch(self) -> None:
        with self._life:
            if self._stopped:
                raise EmulatorError(
                    "the environment has been stopped", where=self._function.name, todo="make a new Environment"
                )
            session = self._service.session = self._new_session()
            self._server.start()
            self._process = Process(
                self._function,
                variables(self._function, self.address),
                stdout=self._stdout,
                stderr=self._stderr,
                pass_fds=self._pass_fds,
                on_exit=functools.partial(self._reset, session),
            )

    def _reset(self, session: Session, status: int) -> None:
        session.cancel()
        # What the process had sent before it ended still counts, so read that first.
        self._server.drain(_DRAIN)
        session.ended(status)

    def _expect_exit(self, grace: float = 0.0) -> int:
        """Return the exit status of the process, which is killed unless it ends within `grace` seconds."""
        process = self._told = self._process
        assert process is not None
        status = process.wait(grace) if grace else process.exit_status
        if status is None:
            process.signal(signal.SIGKILL)
            status = process.wait()
        assert status is not None
        return status

    def _first_initialisation(self) -> Outcome | None:
        if self._initialising is None:
            return None
        deadline, self._initialising = self._initialising, None
        text = f"Init timed out after {self._function.init_timeout:.2f} seconds"
        return self._initialise(deadline, text, extend=True)

    def _initialise(self, deadline: float, late: str, *, extend: bool) -> Outcome | None:
        session = self._service.session
        match session.initialised(deadline, extend=extend):
            case "ready":
                return None
            case "ended":
                status = self._expect_exit(_EXIT_GRACE)
                return _platform_outcome("crash", EXIT_ERROR, exit_text(status), exit_status=status)
            case "late":
                return _platform_outcome("timeout", TIMEOUT, late, exit_status=self._expect_exit())
            case "failed":
                failure = session.failure
                assert failure is not None
                return Outcome(
                    "init-error",
                    failure.payload,
                    failure.error_type,
                    failure.error_message,
                    exit_status=self._expect_exit(_EXIT_GRACE),
                    fault=failure.fault,
                )

    def _conclude(self, flight: Flight, in_time: bool) -> Outcome:
        answer = flight.answer
        if answer is not None:
            assert flight.began is not None
            return Outcome(
                answer.status,
                answer.payload,
                answer.error_type,
                answer.error_message,
                answer.ended - flight.began,
                flight.cold,
                flight.request_id,
                self._process.exit_status if self._process is not None else None,
                answer.fault,
                answer.streamed,
            )
        duration = 0.0 if flight.began is None else time.monotonic() - flight.began
        if in_time:
            status = self._expect_exit(_EXIT_GRACE)
            outcome = _platform_outcome("crash", EXIT_ERROR, exit_text(status), flight.request_id, status)
        else:
            status = self._expect_exit()
            outcome = _platform_outcome("timeout", TIMEOUT, self._timed_out(), flight.request_id, status)
        return dataclasses.replace(outcome, duration=duration, cold=flight.cold)

    def _timed_out(self) -> str:
        return f"Task timed out after {self._function.timeout:.2f} seconds"

    def _clock_headers(self, deadline: float, sampled: bool) -> tuple[tuple[str, str], ...]:
        now = time.time()
        parent = f"Parent={secrets.token_hex(8)};Sampled={sampled:d}"
        trace = f"Root=1-{int(now):08x}-{secrets.token_hex(12)};{parent}"
        region = self._function.environment.get("AWS_REGION", REGION)
        return (
            ("Lambda-Runtime-Deadline-Ms", str(int((now + deadline - time.monotonic()) * 1000))),
            (
                "Lambda-Runtime-Invoked-Function-Arn",
                f"arn:aws:lambda:{region}:{_ACCOUNT}:function:{self._function.name}",
            ),
            ("Lambda-Runtime-Trace-Id", trace),
        )

    def _event_headers(self, invocation: Invocation) -> tuple[tuple[str, str], ...]:
        where = invocation.name or self._function.name
        if len(invocation.payload) > self._payload_limit:
            raise EmulatorError(
                f"the event has {len(invocation.payload)} bytes, the limit is {self._payload_limit}",
                where=where,
                todo="send a smaller event; the platform refuses it too (413)",
            )
        optional: Mapping[str, str | None] = {
            "Lambda-Runtime-Client-Context": invocation.client_context,
            "Lambda-Runtime-Cognito-Identity": invocation.cognito_identity,
            "Lambda-Runtime-Aws-Tenant-Id": invocation.tenant_id,
        }
        headers = tuple((name, value) for name, value in optional.items() if value is not None)
        for name, value in headers:
            if not (value.isascii() and value.isprintable() and value == value.strip()):
                raise EmulatorError(
                    f"the value for {name} does not fit into a header: {value!r}",
                    where=where,
                    todo="use printable ASCII in one line (JSON can escape the rest as \\uXXXX)",
                )
        return headers


class _Service:
    """Passes requests on to the session of the process that lives now."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def body_limit(self, headers: Mapping[str, str]) -> int:
        return self.session.body_limit(headers)

    def answer(self, request: HttpRequest) -> Reply | None:
        return self.session.answer(request)

    def broken(self, error: RuntimeError) -> None:
        self.session.broken(error)


def _platform_outcome(
    status: Status, error_type: str, message: str, request_id: str = "", exit_status: int | None = None
) -> Outcome:
    document = error_document(error_type, message, request_id)
    return Outcome(
        status,
        document,
        error_type,
        message,
        request_id=request_id,
        exit_status=exit_status,
        fault=error_type,
    )
