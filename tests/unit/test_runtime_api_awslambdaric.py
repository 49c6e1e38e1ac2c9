"""The real Python runtime client (awslambdaric) against the emulator."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.runtime_api import Environment, Function, Invocation

APP = """
import os
from pathlib import Path

def handler(event, context):
    if "raise" in event:
        raise PermissionError(1, "Operation not permitted")
    if "exit" in event:
        os._exit(event["exit"])
    if "size" in event:
        return "x" * event["size"]
    return {
        "event": event,
        "left": context.get_remaining_time_in_millis(),
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "tenant": getattr(context, "tenant_id", None),
        "client": context.client_context.custom if context.client_context else None,
        "identity": context.identity.cognito_identity_id if context.identity else None,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }
"""

HOOKS = """
from snapshot_restore_py import register_before_snapshot, register_after_restore
from app import handler

register_before_snapshot(lambda: print("before", flush=True))
register_after_restore(lambda: print("after", flush=True))
"""

BROKEN_HOOKS = """
from snapshot_restore_py import register_after_restore
from app import handler

register_after_restore(lambda: 1 / 0)
"""


@pytest.fixture(params=[0, 1, 2], ids=lambda n: f"close_every={n}")
def close_every(request: pytest.FixtureRequest) -> int:
    """Keep-alive, a new connection for each request, and a new one for every second."""
    value: int = request.param
    return value


@pytest.fixture(params=["", "AWS_Lambda_python3.12"], ids=["main thread", "polling thread"])
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """The client polls in its main thread, or in a thread of its own where the platform names Python 3.12."""
    return {"AWS_EXECUTION_ENV": request.param} if request.param else {}


def function(root: Path, handler: str = "app.handler", **environment: str) -> Function:
    """Return the application as a function under awslambdaric."""
    (root / "app.py").write_text(APP)
    (root / "hooks.py").write_text(HOOKS)
    (root / "broken.py").write_text(BROKEN_HOOKS)
    command = (sys.executable, "-m", "awslambdaric", handler)
    return Function(command, str(root), environment, handler=handler, timeout=30.0)


def invocation(event: dict[str, Any]) -> Invocation:
    """Return an invocation with every optional header."""
    context = '{"custom": {"k": "v"}, "env": {}}'
    identity = '{"cognitoIdentityId": "me", "cognitoIdentityPoolId": "pool"}'
    return Invocation(json.dumps(event).encode(), "event.json", context, identity, "blue")


def test_invocations(tmp_path: Path, close_every: int, variables: dict[str, str]) -> None:
    """Results, exceptions and every header pass through, on kept and on closed connections."""
    with Environment(function(tmp_path, **variables), close_every=close_every) as environment:
        environment.start()
        assert environment.wait_ready() is None
        for n in range(4):
            outcome = environment.invoke(invocation({"n": n}))
            assert outcome.status == "ok", outcome
            seen = json.loads(outcome.payload)
            assert seen["event"] == {"n": n}
            assert seen["id"] == outcome.request_id
            assert 10_000 < seen["left"] <= 30_000
            assert (seen["tenant"], seen["client"], seen["identity"]) == ("blue", {"k": "v"}, "me")
            assert seen["trace"].startswith("Root=1-")
            outcome = environment.invoke(invocation({"raise": True}))
            assert (outcome.status, outcome.error_type) == ("error", "PermissionError")
            assert outcome.error_message == "[Errno 1] Operation not permitted"
            assert not outcome.cold


def test_crash_and_large_responses(tmp_path: Path, close_every: int) -> None:
    """A crash and a response over 6 MB are reported, and the next invocation works."""
    with Environment(function(tmp_path), close_every=close_every) as environment:
        outcome = environment.invoke(invocation({"exit": 3}))
        assert outcome.error_message == "Runtime exited with error: exit status 3"
        outcome = environment.invoke(invocation({"size": 7 * 1024 * 1024}))
        assert outcome.error_type == "Function.ResponseSizeTooLarge"
        outcome = environment.invoke(invocation({"size": 6 * 1024 * 1024}))
        assert (outcome.status, len(outcome.payload)) == ("ok", 6 * 1024 * 1024 + 2)


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [
        ("missing.handler", "Runtime.ImportModuleError"),
        ("app.missing", "Runtime.HandlerNotFound"),
    ],
)
def test_initialisation_errors(tmp_path: Path, handler: str, error_type: str) -> None:
    """A handler that cannot be loaded is an error of initialisation with the client's own words."""
    with Environment(function(tmp_path, handler), close_every=1) as environment:
        environment.start()
        outcome = environment.wait_ready()
        assert outcome is not None
        assert (outcome.status, outcome.error_type, outcome.fault) == ("init-error", error_type, error_type)
        assert outcome.error_message
        assert outcome.exit_status == 1


def test_snapshot_restoration(tmp_path: Path) -> None:
    """With snap-start the client's hooks run around restore/next, and a failing one is reported."""
    variables = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    with (
        (tmp_path / "out").open("wb") as out,
        Environment(function(tmp_path, "hooks.handler", **variables), stdout=out) as environment,
    ):
        assert environment.invoke(invocation({})).status == "ok"
    assert (tmp_path / "out").read_text().split() == ["before", "after"]
    with Environment(function(tmp_path, "broken.handler", **variables)) as environment:
        environment.start()
        outcome = environment.wait_ready()
        assert outcome is not None
        assert (outcome.status, outcome.fault) == ("init-error", "Runtime.AfterRestoreError")
        assert outcome.exit_status == 65
