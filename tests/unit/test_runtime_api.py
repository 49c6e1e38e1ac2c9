"""Environments of the Runtime API emulator, with a real child process (tests/targets/plain_runtime.py)."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import EmulatorError, HandlerNotFound
from sandbox.runtime_api import Environment, Function, Invocation, Outcome

RUNTIME = Path(__file__).parents[1] / "targets" / "plain_runtime.py"
COMMAND = (sys.executable, "-I", "-S", str(RUNTIME))


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    threads, descriptors = set(threading.enumerate()), sorted(os.listdir("/proc/self/fd"))
    yield
    assert set(threading.enumerate()) == threads
    assert sorted(os.listdir("/proc/self/fd")) == descriptors


@pytest.fixture(params=[0, 1, 2], ids=lambda n: f"close_every={n}")
def close_every(request: pytest.FixtureRequest) -> int:
    """Keep-alive, a new connection for each request, and a new one for every second."""
    value: int = request.param
    return value


def function(
    root: Path, *, timeout: float = 20.0, init_timeout: float = 10.0, **environment: str
) -> Function:
    """Return the plain runtime as a function that works in `root`."""
    return Function(COMMAND, str(root), environment, "plain", "app.handler", timeout, init_timeout)


def event(do: str, **fields: Any) -> Invocation:
    """Return the invocation that makes the plain runtime do something."""
    return Invocation(json.dumps({"do": do, **fields}).encode(), name=f"{do}.json")


def look(environment: Environment) -> dict[str, Any]:
    """Return what the plain runtime sees."""
    outcome = environment.invoke(event("look"))
    assert outcome.status == "ok", outcome
    seen: dict[str, Any] = json.loads(outcome.payload)
    return seen


def ends(pid: int) -> bool:
    """Return whether a process ends within seconds, or has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5)[0])
    finally:
        os.close(descriptor)


def test_ok_cold_then_warm(tmp_path: Path, close_every: int) -> None:
    """Events come back from one process, and only the first is cold."""
    with Environment(function(tmp_path), close_every=close_every) as environment:
        outcomes = [environment.invoke(event("echo", n=n)) for n in range(4)]
        assert [json.loads(outcome.payload)["event"]["n"] for outcome in outcomes] == [0, 1, 2, 3]
        assert [outcome.status for outcome in outcomes] == ["ok"] * 4
        assert [outcome.cold for outcome in outcomes] == [True, False, False, False]
        assert len({outcome.request_id for outcome in outcomes}) == 4
        assert all(0 < outcome.duration < 5 and outcome.exit_status is None for outcome in outcomes)
        assert look(environment)["last_status"] == 202


@pytest.mark.parametrize(("every", "connects"), [(0, 1), (1, 9), (2, 5), (3, 3)])
def test_close_every_makes_clients_reconnect(tmp_path: Path, every: int, connects: int) -> None:
    """After every N-th reply the client needs a new connection: nine requests were sent when it counts."""
    with Environment(function(tmp_path), close_every=every) as environment:
        for _ in range(4):
            assert environment.invoke(event("echo")).status == "ok"
        assert look(environment)["connects"] == connects


def test_headers_of_next(tmp_path: Path) -> None:
    """Every header of the contract arrives, the optional ones only when they are given."""
    invocation = Invocation(b'{"do": "look"}', "x.json", '{"client": {}}', '{"id": "me"}', "blue")
    with Environment(function(tmp_path, timeout=20.0)) as environment:
        outcome = environment.invoke(invocation)
        headers = json.loads(outcome.payload)["headers"]
        left = int(headers["lambda-runtime-deadline-ms"]) / 1000 - time.time()
        assert 10 < left <= 20
        assert headers["lambda-runtime-aws-request-id"] == outcome.request_id
        assert headers["lambda-runtime-invoked-function-arn"].endswith(":function:plain")
        assert headers["lambda-runtime-trace-id"].startswith("Root=1-")
        assert headers["lambda-runtime-trace-id"].endswith(";Sampled=0")
        assert headers["lambda-runtime-invocation-id"]
        assert headers["lambda-runtime-client-context"] == '{"client": {}}'
        assert headers["lambda-runtime-cognito-identity"] == '{"id": "me"}'
        assert headers["lambda-runtime-aws-tenant-id"] == "blue"
        assert headers["content-type"] == "application/json"
        optional = {"client-context", "cognito-identity", "aws-tenant-id"}
        assert not {f"lambda-runtime-{name}" for name in optional} & set(look(environment)["headers"])


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has the platform's variables and the function's, none of the caller's, and leads its group."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("UNRELATED", "value")
    with Environment(function(tmp_path, LANG="C", MINE="1")) as environment:
        seen = look(environment)
        variables = seen["environ"]
        assert not {"AWS_SECRET_ACCESS_KEY", "UNRELATED"} & set(variables)
        assert variables["AWS_LAMBDA_RUNTIME_API"] == environment.address
        assert variables["LAMBDA_TASK_ROOT"] == str(tmp_path)
        assert variables["_HANDLER"] == "app.handler"
        assert variables["AWS_LAMBDA_FUNCTION_NAME"] == "plain"
        assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
        assert variables["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
        assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
        assert variables["AWS_XRAY_DAEMON_ADDRESS"] == "169.254.79.129:2000"
        assert variables["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/plain"
        assert "[$LATEST]" in variables["AWS_LAMBDA_LOG_STREAM_NAME"]
        assert (variables["TZ"], variables["LANG"], variables["MINE"]) == (":UTC", "C", "1")
        assert (variables["HOME"], variables["AWS_REGION"]) == ("/tmp", variables["AWS_DEFAULT_REGION"])
        assert seen["pid"] == seen["pgid"] == environment.pid
        assert seen["cwd"] == str(tmp_path.resolve())
        assert [number for number in seen["fds"] if number > 2] == seen["fds"][3:][:2]  # socket and listing


def test_error(tmp_path: Path, close_every: int) -> None:
    """An error document comes through; its type is the user's, the fault the platform's normalised one."""
    with Environment(function(tmp_path), close_every=close_every) as environment:
        outcome = environment.invoke(event("error"))
        assert (outcome.status, outcome.error_type, outcome.error_message) == ("error", "ValueError", "boom")
        assert outcome.fault == "Runtime.Unknown"
        assert json.loads(outcome.payload)["stackTrace"] == []
        named = {"Lambda_Runtime_Function_Error_Type": "Function.MyError"}
        outcome = environment.invoke(event("error", headers=named, body="not JSON"))
        assert (outcome.status, outcome.error_type, outcome.fault) == (
            "error",
            "Function.MyError",
            "Function.MyError",
        )
        assert outcome.payload == b"not JSON"
        assert environment.invoke(event("echo")).status == "ok"


def test_requests_out_of_order(tmp_path: Path, close_every: int) -> None:
    """What does not fit the state gets the contract's status and leaves the invocation alone."""
    with Environment(function(tmp_path), close_every=close_every) as environment:
        assert json.loads(environment.invoke(event("probe")).payload) == {
            "next in flight": 403,
            "init/error after init": 403,
            "restore/next after init": 403,
            "wrong id": 400,
            "wrong attempt": 400,
            "unknown path": 404,
            "wrong method": 405,
        }
        assert environment.invoke(event("twice")).payload == b'"first"'
        assert look(environment)["last_status"] == 202400


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"do": "exit", "status": 3}, 3, "Runtime exited with error: exit status 3"),
        ({"do": "exit", "status": 0}, 0, "Runtime exited without providing a reason"),
        ({"do": "kill", "signal": signal.SIGKILL}, -9, "Runtime exited with error: signal: killed"),
        ({"do": "kill", "signal": signal.SIGSYS}, -31, "Runtime exited with error: signal: bad system call"),
    ],
)
def test_crash_then_new_process(tmp_path: Path, fields: dict[str, int], status: int, text: str) -> None:
    """A process that ends is Runtime.ExitError at once; the next invocation gets a new one."""
    with Environment(function(tmp_path)) as environment:
        first = look(environment)["pid"]
        began = time.monotonic()
        outcome = environment.invoke(Invocation(json.dumps(fields).encode()))
        assert time.monotonic() - began < 5
        assert (outcome.status, outcome.error_type) == ("crash", "Runtime.ExitError")
        assert (outcome.error_message, outcome.exit_status) == (text, status)
        assert json.loads(outcome.payload)["errorMessage"] == f"RequestId: {outcome.request_id} Error: {text}"
        assert environment.pid is None
        again = environment.invoke(event("look"))
        assert again.cold
        assert json.loads(again.payload)["pid"] != first


def test_exit_between_invocations_costs_no_event(tmp_path: Path) -> None:
    """A process that ends after its response is replaced before the next event is delivered, and its end is told."""
    with Environment(function(tmp_path)) as environment:
        for _ in range(5):
            assert environment.invoke(event("exit after", status=1)).status == "ok"
            outcome = environment.invoke(event("echo"))
            assert (outcome.status, outcome.cold) == ("ok", True)
        assert environment.resets == (1,) * 5
        assert environment.invoke(event("exit", status=3)).status == "crash"
        assert environment.invoke(event("echo")).status == "ok"
        assert environment.resets == (1,) * 5


def test_last_words_count(tmp_path: Path) -> None:
    """A response that was sent before the process ended is the outcome, however soon the end came."""
    with Environment(function(tmp_path)) as environment:
        for _ in range(10):
            outcome = environment.invoke(event("answer and die", status=4))
            assert (outcome.status, outcome.payload) == ("ok", b'"last words"')


def test_timeout_kills_the_group(tmp_path: Path) -> None:
    """A hanging invocation is ended at its deadline with its children, and the next one starts afresh."""
    with Environment(function(tmp_path, timeout=1.5)) as environment:
        assert environment.invoke(event("echo")).status == "ok"
        outcome = environment.invoke(event("hang"))
        assert (outcome.status, outcome.error_type, outcome.exit_status) == ("timeout", "Sandbox.Timeout", -9)
        assert outcome.error_message == "Task timed out after 1.50 seconds"
        assert 1.4 < outcome.duration < 4
        assert ends(int((tmp_path / "child").read_text()))
        assert environment.invoke(event("echo")).cold


def test_exit_ends_the_group(tmp_path: Path) -> None:
    """Children that the process leaves in its group do not outlive it."""
    with Environment(function(tmp_path)) as environment:
        assert environment.invoke(event("leave")).status == "crash"
        assert ends(int((tmp_path / "child").read_text()))


def test_too_large(tmp_path: Path, close_every: int) -> None:
    """A response over the limit gets 413 and is the function's fault; at the limit it passes."""
    with Environment(function(tmp_path), close_every=close_every) as environment:
        outcome = environment.invoke(event("big", size=6 * 1024 * 1024 + 101))
        assert (outcome.status, outcome.error_type) == ("error", "Function.ResponseSizeTooLarge")
        assert look(environment)["last_status"] == 413
        outcome = environment.invoke(event("big", size=6 * 1024 * 1024 + 100))
        assert (outcome.status, len(outcome.payload)) == ("ok", 6 * 1024 * 1024 + 100)
    with Environment(function(tmp_path), payload_limit=1000) as environment:
        assert environment.invoke(event("big", size=1000)).status == "ok"
        assert environment.invoke(event("big", size=1001)).status == "error"
        with pytest.raises(EmulatorError, match=r"big\.json.*1014 bytes"):
            environment.invoke(event("big", size=1, filler="f" * 976))


def test_streaming(tmp_path: Path, close_every: int) -> None:
    """A streamed response may be longer than 6 MB, up to a limit of its own."""
    with Environment(function(tmp_path), close_every=close_every, stream_limit=200 * 65536) as environment:
        outcome = environment.invoke(event("stream", chunks=160))
        assert (outcome.status, outcome.payload) == ("ok", b"s" * 160 * 65536)
        outcome = environment.invoke(event("stream", chunks=201))
        assert (outcome.status, outcome.error_type) == ("error", "Function.ResponseSizeTooLarge")


def test_streaming_error_trailers(tmp_path: Path) -> None:
    """Trailers turn a stream into an error and keep what was streamed; their document is base64 or plain."""
    document = json.dumps({"errorType": "Broke", "errorMessage": "midway"})
    for body in (base64.b64encode(document.encode()).decode(), document):
        trailers = {
            "Lambda-Runtime-Function-Error-Type": "Function.Broke",
            "Lambda-Runtime-Function-Error-Body": body,
        }
        with Environment(function(tmp_path)) as environment:
            outcome = environment.invoke(event("stream", chunks=2, trailers=trailers))
            assert (outcome.status, len(outcome.payload)) == ("error", 2 * 65536)
            assert (outcome.error_type, outcome.error_message) == ("Broke", "midway")
            assert outcome.fault == "Function.Broke"


def test_truncated_stream(tmp_path: Path) -> None:
    """A stream without its end is Runtime.TruncatedResponse, or the crash that cut it."""
    with Environment(function(tmp_path)) as environment:
        outcome = environment.invoke(event("stream", end=False))
        assert (outcome.status, outcome.error_type) == ("error", "Runtime.TruncatedResponse")
        outcome = environment.invoke(event("stream", end=False, exit=5))
        assert (outcome.status, outcome.exit_status) == ("crash", 5)


def test_unknown_response_mode(tmp_path: Path) -> None:
    """A response mode that the contract does not know is refused with 400."""
    with Environment(function(tmp_path)) as environment:
        outcome = environment.invoke(event("mode"))
        assert (outcome.status, outcome.error_type) == ("error", "Runtime.InvalidResponseModeHeader")
        assert look(environment)["last_status"] == 400


def ready(environment: Environment) -> Outcome | None:
    """Start and wait."""
    environment.start()
    return environment.wait_ready()


def test_wait_ready(tmp_path: Path) -> None:
    """A runtime that asks for its first invocation is ready, and the first invocation is cold."""
    with Environment(function(tmp_path)) as environment:
        assert environment.pid is None
        assert ready(environment) is None
        assert environment.wait_ready() is None
        with pytest.raises(EmulatorError, match="already running"):
            environment.start()
        assert environment.invoke(event("echo")).cold


def test_initialisation_error(tmp_path: Path, close_every: int) -> None:
    """What is posted to init/error is reported, by wait_ready and by the invocation that tries again."""
    with Environment(function(tmp_path, PLAIN_INIT="error"), close_every=close_every) as environment:
        for outcome in (ready(environment), environment.invoke(event("echo"))):
            assert outcome is not None
            assert (outcome.status, outcome.error_type) == ("init-error", "Plain.Broken")
            assert (outcome.fault, outcome.error_message) == ("Runtime.PlainBroken", "no luck")
            assert outcome.exit_status == 7
            assert environment.pid is None


def test_restore_error(tmp_path: Path) -> None:
    """restore/next is answered once, and restore/error ends the initialisation."""
    snapshot = function(tmp_path, PLAIN_INIT="restore-error", AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    with Environment(snapshot) as environment:
        outcome = ready(environment)
        assert outcome is not None
        assert (outcome.status, outcome.exit_status, outcome.fault) == ("init-error", 65, "Runtime.Unknown")


@pytest.mark.parametrize(("what", "status"), [("exit 1", 1), ("exit 0", 0), ("kill 11", -11)])
def test_initialisation_crash(tmp_path: Path, what: str, status: int) -> None:
    """A process that ends before it is ready is a crash, and so is the second try inside the invocation."""
    with Environment(function(tmp_path, PLAIN_INIT=what)) as environment:
        for outcome in (ready(environment), environment.invoke(event("echo"))):
            assert outcome is not None
            assert (outcome.status, outcome.exit_status) == ("crash", status)
            assert outcome.error_message.startswith("Runtime exited with")


def test_initialisation_is_run_again_in_the_first_invocation(tmp_path: Path) -> None:
    """One that was too slow for the init limit is killed and run again under the function's own time-out."""
    with Environment(function(tmp_path, init_timeout=0.5, PLAIN_INIT="hang-once")) as environment:
        outcome = environment.invoke(event("echo"))
        assert (outcome.status, outcome.cold) == ("ok", True)
        assert (tmp_path / "hung").exists()


def test_initialisation_times_out(tmp_path: Path) -> None:
    """One that never ends is stopped by the init limit, and by the function's time-out when run again."""
    slow = function(tmp_path, timeout=0.7, init_timeout=0.5, PLAIN_INIT="hang")
    with Environment(slow) as environment:
        outcome = ready(environment)
        assert outcome is not None
        assert (outcome.status, outcome.error_message) == ("timeout", "Init timed out after 0.50 seconds")
        outcome = environment.invoke(event("echo"))
        assert (outcome.status, outcome.error_message) == ("timeout", "Task timed out after 0.70 seconds")
        assert outcome.exit_status == -9


def test_stop(tmp_path: Path) -> None:
    """stop ends the process by SIGTERM, or by SIGKILL after the grace, and says how; later use is an error."""
    with Environment(function(tmp_path)) as environment:
        ready(environment)
        assert environment.stop() == -signal.SIGTERM
        assert environment.stop() == -signal.SIGTERM
        for use in (environment.start, lambda: environment.invoke(event("echo"))):
            with pytest.raises(EmulatorError, match="has been stopped"):
                use()
    with Environment(function(tmp_path, PLAIN_STUBBORN="1")) as environment:
        ready(environment)
        assert environment.stop(grace=0.2) == -signal.SIGKILL
    with Environment(function(tmp_path)) as environment:
        assert environment.stop() is None


def test_requests_while_stopping_get_500(tmp_path: Path) -> None:
    """A runtime that still asks after SIGTERM is told that its container goes away."""
    with Environment(function(tmp_path, PLAIN_LAST_WORDS="1")) as environment:
        ready(environment)
        assert environment.stop(grace=5) == 50


def test_stop_ends_a_running_invocation(tmp_path: Path) -> None:
    """stop from another thread ends the invocation as a crash; nobody hangs."""
    with Environment(function(tmp_path)) as environment:
        ready(environment)
        outcomes: list[Outcome] = []
        runner = threading.Thread(target=lambda: outcomes.append(environment.invoke(event("hang"))))
        runner.start()
        while not (tmp_path / "child").exists():
            os.sched_yield()
        assert environment.stop() == -signal.SIGTERM
        runner.join()
        assert [outcome.status for outcome in outcomes] == ["crash"]
        assert outcomes[0].error_message == "Runtime exited with error: signal: terminated"


def test_several_environments_at_once(tmp_path: Path) -> None:
    """Each environment has its own port and its own process."""
    with Environment(function(tmp_path)) as one, Environment(function(tmp_path), close_every=1) as two:
        results: dict[str, list[int]] = {}

        def work(name: str, environment: Environment) -> None:
            results[name] = [look(environment)["pid"] for _ in range(10)]

        threads = [threading.Thread(target=work, args=pair) for pair in (("one", one), ("two", two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.address != two.address
        assert set(results["one"]) == {one.pid}
        assert set(results["two"]) == {two.pid}


def test_output_goes_where_it_is_told(tmp_path: Path) -> None:
    """The child's output lands in the given files, and passed descriptors keep their number."""
    command = ("/bin/sh", "-c", f"echo out; echo err >&2; exec {sys.executable} -I -S {RUNTIME}")
    reader, writer = os.pipe()
    try:
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            plain = Function(command, str(tmp_path))
            with Environment(plain, stdout=out, stderr=err.fileno(), pass_fds=[writer]) as environment:
                assert writer in look(environment)["fds"]
    finally:
        os.close(reader)
        os.close(writer)
    assert (tmp_path / "out").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"


def test_nothing_to_start(tmp_path: Path) -> None:
    """A command, a folder or a program format that is missing is an error that says where and what to do."""
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "locked").write_text("#!/bin/sh\n")
    cases = [
        (("./missing",), str(tmp_path), HandlerNotFound, "does not exist"),
        (("missing-from-path",), str(tmp_path), HandlerNotFound, "does not exist"),
        (("./locked",), str(tmp_path), HandlerNotFound, "cannot be executed"),
        (("./text",), str(tmp_path), HandlerNotFound, "not a program"),
        (("/bin/true",), str(tmp_path / "nowhere"), HandlerNotFound, "directory does not exist"),
        (("/bin/true", "a\0b"), str(tmp_path), EmulatorError, "cannot be passed on"),
        ((), str(tmp_path), EmulatorError, "no command"),
    ]
    for command, root, kind, text in cases:
        with Environment(Function(command, root)) as environment, pytest.raises(kind, match=text) as caught:
            environment.invoke(event("echo"))
        assert caught.value.where
        assert caught.value.todo


def test_event_that_fits_no_header(tmp_path: Path) -> None:
    """A context with a line break is refused by the event's name before anything starts."""
    with Environment(function(tmp_path)) as environment:
        with pytest.raises(EmulatorError, match=r"bad\.json: the value for Lambda-Runtime-Client-Context"):
            environment.invoke(Invocation(b"{}", "bad.json", client_context="a\r\nb: c"))
        assert environment.pid is None
        with pytest.raises(EmulatorError, match="no process"):
            environment.wait_ready()
