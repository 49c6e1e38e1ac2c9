"""In a Lambda-like guest without seccomp(2) the examples serve below a tripwire, and the demo's attacks are refused."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from guests import inside
from guests.hosts import why_not
from sandbox_command import Workshop
from users_and_folders import HOME, home_for, imports, place

from sandbox import tripwire
from sandbox.kernel import abi
from sandbox.learn.host import ask_for_client
from sandbox.learn.training import bootstrap
from sandbox.runtime_api import Environment, Function, Invocation

STRANGER = 1000
EXAMPLES = ("hello", "imports", "notes", "wordcount", "thumbnail")


@pytest.fixture(scope="session", autouse=True)
def clients() -> None:
    """No environment of clients is needed here."""


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "guests can be made")
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example(name: str) -> None:
    """Its events are served without a refusal; each attack is refused, with a line."""
    tripwire.path(abi.MACHINE)
    with home_for(STRANGER) as home, place(None) as folder, socket.create_server(("127.0.0.1", 0)) as stream:
        if reason := imports(STRANGER, home):
            pytest.skip(reason)
        root, bundle, log = home / "examples" / name, folder / "bundle", folder / "log"
        workshop = Workshop(None, home, folder)
        workshop.sandbox("compile", HOME / "profiles" / f"{name}.yaml", "--output", bundle)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        client = ask_for_client(None, str(root))
        function = Function(
            command=(*inside("lambda-like without seccomp"), *bootstrap()[:-1], str(home / "bootstrap")),
            root=str(root), name=name, handler="app.handler", timeout=60,
            environment={
                "SANDBOX_PYTHON": client.path, "AWS_EXECUTION_ENV": client.execution_environment,
                "PYTHONDONTWRITEBYTECODE": "1", "SANDBOX_POLICY": str(bundle), "SANDBOX_ON_UNAVAILABLE": "detect",
                "SANDBOX_SUPERVISE": "0",
            },
        )  # fmt: skip
        with log.open("w+b") as output, Environment(function, stdout=output, stderr=output) as served:
            for path in (*sorted((root / "events").glob("*.json")), *sorted((root / "held-out").glob("*.json"))):
                assert served.invoke(Invocation(path.read_bytes())).status == "ok", path
            assert [line for line in violations(log) if line["verdict"] == "denied"] == []
            for path in sorted((root / "attacks").glob("*.json")):
                before = len(violations(log))
                event = path.read_bytes().replace(b"PORT", str(stream.getsockname()[1]).encode())
                outcome = served.invoke(Invocation(event))
                assert outcome.status == "ok", path
                assert json.loads(outcome.payload)["computed"]["attack"]["happened"] is False, path
                assert any(line["verdict"] == "denied" for line in violations(log)[before:]), path


def violations(log: Path) -> list[dict[str, Any]]:
    """The lines of refused calls in a log, and of what was only reported."""
    lines = log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"event": "violation"')]
