"""The Runtime API's state for one life of one process: what it may ask next and what its requests mean.

Requests arrive in connection threads through `answer`; the environment waits in `initialised` and `carry`.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sandbox.runtime_api.model import (
    INVALID_RESPONSE_MODE,
    PAYLOAD_LIMIT,
    RESPONSE_TOO_LARGE,
    RESTORE_LIMIT,
    STREAM_LIMIT,
    TRUNCATED_RESPONSE,
    Answer,
    error_answer,
    error_document,
    trailer_answer,
)
from sandbox.runtime_api.server import HttpRequest, Reply, problem

ERROR_TYPE = "lambda-runtime-function-error-type"
ERROR_BODY = "lambda-runtime-function-error-body"
RESPONSE_MODE = "lambda-runtime-function-response-mode"
INVOCATION_ID = "lambda-runtime-invocation-id"

_PREFIX = "/2018-06-01/runtime/"
_FIXED = {
    "invocation/next": "GET",
    "init/error": "POST",
    "restore/next": "GET",
    "restore/error": "POST",
}
_RESULT = re.compile(r"invocation/([^/]+)/(response|error)")
_SECOND_THOUGHTS = 0.25
_ACCEPTED = Reply(202, b'{"status":"OK"}\n', (("Content-Type", "application/json"),))


@dataclass
class Flight:
    """One invocation on its way through one process; `headers` and `payload` are for the answer to /next."""

    request_id: str
    headers: tuple[tuple[str, str], ...]
    payload: bytes
    attempt: str = field(default_factory=lambda: str(uuid.uuid4()))
    waiting: bool = True
    began: float | None = None
    cold: bool = False
    partial: bytes | None = None
    answer: Answer | None = None


@dataclass(eq=False)
class _Poll:
    """A runtime that waits in GET /next."""

    flight: Flight | None = None


class Session:
    """Answers the requests of one process from its start to its end."""

    def __init__(self, *, payload_limit: int = PAYLOAD_LIMIT, stream_limit: int = STREAM_LIMIT) -> None:
        self._payload_limit = payload_limit
        self._stream_limit = stream_limit
        self._changed = threading.Condition()
        self._polls: list[_Poll] = []
        self._flight: Flight | None = None
        self._deliveries = 0
        self._ready = False
        self._restored: float | None = None
        self._failure: Answer | None = None
        self._stopping = False
        self._cancelled = False
        self._exit_status: int | None = None
        self._broken: RuntimeError | None = None

    @property
    def failure(self) -> Answer | None:
        """What the runtime reported to init/error or restore/error."""
        return self._failure

    def initialised(self, deadline: float, *, extend: bool) -> Literal["ready", "failed", "ended", "late"]:
        """Wait until the runtime asks for an invocation, reports an error, ends, or `deadline` has passed.

        With `extend`, a runtime that asks for its restoration gets the platform's time for that on top. Raises
        RuntimeError where a connection could not be served.
        """
        with self._changed:
            self._wait(lambda: self._settled() or self._restored is not None, deadline)
            if self._restored is not None and extend:
                deadline = max(deadline, self._restored + RESTORE_LIMIT)
            self._wait(self._settled, deadline)
            self._check()
            if self._failure is not None:
                return "failed"
            if self._ready:
                return "ready"
            return "late" if self._exit_status is None else "ended"

    def carry(self, flight: Flight, deadline: float) -> bool:
        """Hand an invocation to the runtime and wait for its answer.

        Returns False when `deadline` (time.monotonic) has passed; True when the flight is answered or the
        process has ended. After False no answer is taken any more. Raises RuntimeError as `initialised` does.
        """
        with self._changed:
            self._flight = flight
            self._match()
            done = self._wait(
                lambda: flight.answer is not None or self._exit_status is not None or self._broken is not None, deadline
            )
            self._flight = None
            self._check()
            return done

    def broken(self, error: RuntimeError) -> None:
        """A connection could not be served: who waits for the runtime hears why."""
        with self._changed:
            self._broken = error
            self._changed.notify_all()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def stopping(self) -> None:
        """From now on every request is answered with status 500."""
        with self._changed:
            self._stopping = True

    def cancel(self) -> None:
        """Release every runtime that waits in /next, or will: its connection is closed without a reply."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def ended(self, exit_status: int) -> None:
        """The process is gone and nothing that it sent is left to read."""
        with self._changed:
            self._exit_status = exit_status
            self._changed.notify_all()

    def body_limit(self, headers: Mapping[str, str]) -> int:
        """Return the longest body in bytes: streamed responses may be longer."""
        return self._stream_limit if headers.get(RESPONSE_MODE) == "streaming" else self._payload_limit

    def answer(self, request: HttpRequest) -> Reply | None:
        """Return what the Runtime API says to a request; None closes the connection."""
        if not request.path.startswith(_PREFIX):
            return problem(404, "NotFound", f"no such path: {request.path}")
        path = request.path[len(_PREFIX) :]
        result = _RESULT.fullmatch(path)
        expected = "POST" if result else _FIXED.get(path)
        if expected is None:
            return problem(404, "NotFound", f"no such path: {request.path}")
        if request.method != expected:
            return problem(405, "MethodNotAllowed", f"the path takes {expected} only", ("Allow", expected))
        with self._changed:
            if self._stopping:
                return problem(500, "InternalServerError", "Container error: the environment shuts down")
            if result:
                return self._result(request, result[1], response=result[2] == "response")
            if path == "invocation/next":
                return self._next()
            if path == "restore/next":
                return self._restore()
            return self._initialisation_error(request)

    def _settled(self) -> bool:
        return self._ready or self._failure is not None or self._exit_status is not None or self._broken is not None

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        return self._changed.wait_for(condition, max(0.0, deadline - time.monotonic()))

    def _match(self) -> None:
        """Give the waiting invocation to the newest poll: the client of an older one may have given up."""
        flight = self._flight
        if flight is None or flight.answer is not None or not flight.waiting:
            return
        if self._cancelled or not self._polls:
            return
        if flight.began is None:
            self._deliveries += 1
            flight.cold = self._deliveries == 1
        flight.began = time.monotonic()
        flight.waiting = False
        self._polls.pop().flight = flight
        self._changed.notify_all()

    def _next(self) -> Reply | None:
        flight = self._flight
        if self._cancelled:
            return None
        if self._failure is not None:
            return _forbidden("an error was reported in initialisation")
        if flight is not None and not flight.waiting and flight.answer is None:
            if flight.partial is not None:
                self._settle(flight, _platform_answer(TRUNCATED_RESPONSE, "Response was truncated", flight))
            elif not self._taken_back(flight):
                return _forbidden(f"invocation {flight.request_id} has no response yet")
        self._ready = True
        poll = _Poll()
        self._polls.append(poll)
        self._changed.notify_all()
        self._match()
        self._changed.wait_for(lambda: poll.flight is not None or self._cancelled)
        if poll.flight is None:
            self._polls.remove(poll)
            return None
        taken = poll.flight
        headers = (
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", taken.request_id),
            ("Lambda-Runtime-Invocation-Id", taken.attempt),
            *taken.headers,
        )
        return Reply(200, taken.payload, headers, lambda: self._lost(taken))

    def _taken_back(self, flight: Flight) -> bool:
        """Return whether the client that took an invocation proves to have hung up before it came.

        The connection notices that within moments; until then a runtime that asks anew is not out of order.
        """
        limit = time.monotonic() + _SECOND_THOUGHTS
        return self._wait(lambda: flight.waiting or flight.answer is not None or self._cancelled, limit)

    def _lost(self, flight: Flight) -> None:
        """Offer an invocation that went to a client which had hung up to the next poll."""
        with self._changed:
            if flight is self._flight and flight.answer is None:
                flight.waiting = True
                self._match()
                self._changed.notify_all()

    def _result(self, request: HttpRequest, request_id: str, *, response: bool) -> Reply:
        flight = self._flight
        attempt = request.headers.get(INVOCATION_ID)
        if (
            flight is None
            or flight.began is None
            or flight.answer is not None
            or flight.request_id != request_id
        ):
            return problem(400, "InvalidRequestID", "Invalid request ID")
        if attempt is not None and attempt != flight.attempt:
            return problem(400, "InvalidRequestID", "Invalid invocation ID")
        mode = request.headers.get(RESPONSE_MODE, "")
        if response and mode not in ("", "streaming"):
            answer = _platform_answer(INVALID_RESPONSE_MODE, f"Invalid response mode: {mode}", flight)
            self._settle(flight, answer)
            return problem(400, "InvalidFunctionResponseMode", "Invalid function response mode")
        if request.oversize:
            return self._oversize(flight, self.body_limit(request.headers))
        if request.truncated:
            flight.partial = request.body
            return _truncated()
        now = time.monotonic()
        header = request.headers.get(ERROR_TYPE, "")
        trailers = request.trailers or {}
        if not response:
            self._settle(flight, error_answer(request.body, header, ended=now))
        elif ERROR_TYPE in trailers or ERROR_BODY in trailers:
            kind, document = trailers.get(ERROR_TYPE, ""), trailers.get(ERROR_BODY, "")
            answer = trailer_answer(request.body, kind, document, ended=now)
            self._settle(flight, replace(answer, streamed=mode == "streaming"))
        else:
            self._settle(flight, Answer("ok", request.body, now, streamed=mode == "streaming"))
        return _ACCEPTED

    def _oversize(self, flight: Flight, limit: int) -> Reply:
        message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
        self._settle(flight, _platform_answer(RESPONSE_TOO_LARGE, message, flight))
        return _too_large(limit)

    def _settle(self, flight: Flight, answer: Answer) -> None:
        flight.answer = answer
        self._changed.notify_all()

    def _restore(self) -> Reply:
        if self._ready or self._failure is not None or self._restored is not None:
            return _forbidden("restoration follows initialisation, once")
        self._restored = time.monotonic()
        self._changed.notify_all()
        return Reply(200)

    def _initialisation_error(self, request: HttpRequest) -> Reply:
        if self._ready or self._failure is not None:
            return _forbidden("initialisation is over")
        if request.truncated:
            return _truncated()
        if request.oversize:
            return _too_large(self._payload_limit)
        header = request.headers.get(ERROR_TYPE, "")
        self._failure = error_answer(request.body, header, ended=time.monotonic())
        self._changed.notify_all()
        return _ACCEPTED


def _platform_answer(error_type: str, message: str, flight: Flight) -> Answer:
    document = error_document(error_type, message, flight.request_id)
    return Answer("error", document, time.monotonic(), error_type, message, error_type)


def _forbidden(reason: str) -> Reply:
    return problem(403, "InvalidStateTransition", f"State transition is not allowed: {reason}")


def _too_large(limit: int) -> Reply:
    message = f"Exceeded maximum allowed payload size ({limit} bytes)."
    return problem(413, "RequestEntityTooLarge", message)


def _truncated() -> Reply:
    return problem(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
