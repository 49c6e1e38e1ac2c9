"""What goes into the emulator and what comes out: functions, invocations, outcomes, the platform's error texts.

Pure data and pure functions; nothing here touches a socket or a process.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Synchronous payloads: 6 MB in the quota table, 6 MiB + 100 bytes in the platform's messages and in
# aws-lambda-runtime-interface-emulator (interop.MaxPayloadSize).
PAYLOAD_LIMIT = 6 * 1024 * 1024 + 100
# Streamed responses: 200 MB (Lambda Developer Guide, response streaming).
STREAM_LIMIT = 200 * 1024 * 1024
# A restored runtime must be back at /next within 10 s (Lambda Developer Guide, SnapStart).
RESTORE_LIMIT = 10.0

EXIT_ERROR = "Runtime.ExitError"
TIMEOUT = "Sandbox.Timeout"
TRUNCATED_RESPONSE = "Runtime.TruncatedResponse"
RESPONSE_TOO_LARGE = "Function.ResponseSizeTooLarge"
INVALID_RESPONSE_MODE = "Runtime.InvalidResponseModeHeader"

Status = Literal["ok", "error", "timeout", "crash", "init-error"]

_VALID_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")


@dataclass(frozen=True)
class Function:
    """A program that speaks the Runtime API and the limits it runs under.

    `root` is its working directory and LAMBDA_TASK_ROOT; a relative command is looked up from there.
    `environment` is added to the platform's variables and wins over them. Times in seconds, memory in MiB
    (told to the function, not enforced). With `snapstart` the function is started as one that is restored from a
    snapshot: its hooks run around restore/next, though nothing is restored and no clock jumps. With
    `workers` it is told to serve so many events at once, as on Managed Instances; here one comes at a time. `unset`
    are variables of the emulator's that this platform does not set.
    """

    command: tuple[str, ...]
    root: str
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "function"
    handler: str = ""
    timeout: float = 60.0
    init_timeout: float = 10.0
    memory: int = 512
    snapstart: bool = False
    workers: int = 0
    unset: tuple[str, ...] = ()


@dataclass(frozen=True)
class Invocation:
    """One event. `name` is what messages call it; the other texts become headers of /next unless None.

    `sampled`: the platform traces it, so that a tracing library sends its segments (X-Ray, `Sampled=1`).
    """

    payload: bytes
    name: str = ""
    client_context: str | None = None
    cognito_identity: str | None = None
    tenant_id: str | None = None
    sampled: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an invocation or of an initialisation.

    `payload` is what an invoker would receive. `error_type` is the one in the error document when there is
    one; `fault` is the category that the platform records: the header Lambda-Runtime-Function-Error-Type,
    normalised. `duration` in seconds from the answer to /next until the whole response had arrived, 0.0 when nothing
    was delivered. `exit_status` as os.waitstatus_to_exitcode gives it, None while the process lives. `streamed`: the
    response came in pieces.
    """

    status: Status
    payload: bytes = b""
    error_type: str = ""
    error_message: str = ""
    duration: float = 0.0
    cold: bool = False
    request_id: str = ""
    exit_status: int | None = None
    fault: str = ""
    streamed: bool = False

    @property
    def failure(self) -> str:
        """What failed, as far as the runtime or the platform said it: type and message, or else the status."""
        return ": ".join(filter(None, (self.error_type, self.error_message))) or self.status


@dataclass(frozen=True)
class Answer:
    """The part of an outcome that one request of the runtime decides. `ended` is a time.monotonic() value."""

    status: Literal["ok", "error"]
    payload: bytes
    ended: float
    error_type: str = ""
    error_message: str = ""
    fault: str = ""
    streamed: bool = False


def normalise_error_type(text: str) -> str:
    """Return the error type that the platform records for a header value.

    Source: aws-lambda-runtime-interface-emulator, internal/lambda/fatalerror/fatalerror.go: the expression is
    not anchored, and what does not match is unknown.
    """
    if _VALID_ERROR_TYPE.search(text):
        return text
    return "Function.Unknown" if text.startswith("Function.") else "Runtime.Unknown"


def error_fields(body: bytes) -> tuple[str, str]:
    """Return (errorType, errorMessage) of an error document, "" for what it does not hold."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    kind, message = document.get("errorType"), document.get("errorMessage")
    return kind if isinstance(kind, str) else "", message if isinstance(message, str) else ""


def error_answer(body: bytes, header: str, *, ended: float) -> Answer:
    """Return the answer that a POST to an error path means; the document's type goes before the header."""
    kind, message = error_fields(body)
    fault = normalise_error_type(header)
    return Answer("error", body, ended, kind or fault, message, fault)


def trailer_answer(payload: bytes, header: str, document: str, *, ended: float) -> Answer:
    """Return the answer of a stream that ended in error trailers; the document is JSON, usually in base64."""
    try:
        body = base64.b64decode(document, validate=True)
    except (binascii.Error, ValueError):
        body = document.encode("latin-1", "replace")
    answer = error_answer(body, header, ended=ended)
    return Answer("error", payload, ended, answer.error_type, answer.error_message, answer.fault)


def exit_text(status: int) -> str:
    """Return the platform's sentence for a runtime that ended with this os.waitstatus_to_exitcode status."""
    if status == 0:
        return "Runtime exited without providing a reason"
    if status > 0:
        return f"Runtime exited with error: exit status {status}"
    text = signal.strsignal(-status) if -status < 32 else None
    if text is None:
        text = f"signal {-status}"
    elif text[1:2].islower():
        text = text[0].lower() + text[1:]
    return f"Runtime exited with error: signal: {text}"


def error_document(error_type: str, message: str, request_id: str = "") -> bytes:
    """Return the JSON that an invoker receives when the platform itself reports the error."""
    text = f"RequestId: {request_id} Error: {message}" if request_id else message
    return json.dumps({"errorType": error_type, "errorMessage": text}).encode()
