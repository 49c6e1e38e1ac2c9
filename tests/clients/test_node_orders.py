"""AWS's client for Node by production's name over TLS, against the fake of DynamoDB that boto3 is trained against."""

from __future__ import annotations

import json
import shutil
import socket
from typing import Any

import pytest
from cloud_fakes import CREDENTIALS, ENDPOINT, Fake
from interpreters import FUNCTIONS, MADE
from language_runtimes import EXAMPLES
from sandbox_command import Workshop

from sandbox.profile import document

PACKAGES = MADE / "node" / "node_modules"


def test_the_client_is_trained_against_a_fake_and_held_to_production(workshop: Workshop, dynamodb: Fake) -> None:
    """Packages that are links load; the profile names production alone; another host is refused with one line."""
    node = shutil.which("node")
    if not node or not PACKAGES.is_dir():
        pytest.skip("tools/interpreters found no node and npm")
    root, path = workshop.new(""), workshop.new()
    root.mkdir()
    shutil.copy(FUNCTIONS / "orders.mjs", root)
    (root / "node_modules").symlink_to(PACKAGES)
    given = (
        "--root", root, "--env", "TABLE=orders", "--env", "NODE_EXTRA_CA_CERTS", "--aws-credentials",
        "--stands-for", f"{ENDPOINT}:443=127.0.0.1:{dynamodb.port}",
    )  # fmt: skip
    command = ("--", node, EXAMPLES / "node-runtime" / "runtime.mjs", "orders.handler")
    more = {**CREDENTIALS, "NODE_EXTRA_CA_CERTS": str(dynamodb.authority)}
    events = workshop.events({"id": "n", "amount": 1}, {"id": "n"}, {"id": "missing"})
    workshop.sandbox("learn", "orders", *given, "--events", events, "--output", path, *command, more=more)
    network = document.read(str(path)).profile.network
    assert network - {"unix:/run/nscd/socket"} == {"runtime-api", f"{ENDPOINT}:443"}

    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.setblocking(False)
        attack: dict[str, Any] = {"id": "n", "host": "127.0.0.1", "port": stranger.getsockname()[1]}
        put: dict[str, Any] = {"id": "m", "amount": 7}
        events = workshop.events(*[put, {"id": "m"}] * 10, attack, {"id": "m"})
        served = workshop.sandbox("invoke", path, *given, "--events", events, "--json", *command, more=more)
        with pytest.raises(BlockingIOError):
            stranger.accept()
    answers = [json.loads(json.loads(line)["result"]) for line in served.stdout.splitlines()]
    assert answers == [*[put] * 20, {"id": "n", "attack": "EPERM"}, put]
    lines = [json.loads(line) for line in served.stderr.splitlines() if line.startswith('{"event": "violation"')]
    assert [line["args"][1] for line in lines] == [f"127.0.0.1:{attack['port']}"]
