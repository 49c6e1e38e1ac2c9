"""examples/orders: boto3 by production's name over TLS, against a local fake of DynamoDB."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from cloud_fakes import CREDENTIALS, ENDPOINT, SECRET, Fake
from sandbox_command import Workshop
from users_and_folders import HOME

from sandbox.profile import document

ORDERS = HOME / "examples" / "orders"


def test_boto3_is_trained_against_a_fake_and_held_to_production(
    workshop: Workshop, dynamodb: Fake, clients: Path
) -> None:
    """The profile names production's endpoint; held-out events are served without a line; another host is refused."""
    path = workshop.new()
    where = ("--handler", "app.handler", "--root", ORDERS, "--python", clients)
    given = (
        "--env", "TABLE=orders", "--env", "AWS_CA_BUNDLE", "--aws-credentials",
        "--stands-for", f"{ENDPOINT}:443=127.0.0.1:{dynamodb.port}",
    )  # fmt: skip
    more = {**CREDENTIALS, "AWS_CA_BUNDLE": str(dynamodb.authority)}
    learn = ("learn", "orders", *where, *given, "--events", ORDERS / "events", "--output", path)
    learned = workshop.sandbox(*learn, more=more)
    profile = document.read(str(path)).profile
    assert profile.network - {"unix:/run/nscd/socket"} == {"runtime-api", f"{ENDPOINT}:443"}
    assert set(profile.function.environment) >= {"TABLE", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE"}
    for text in ("127.0.0.1", f":{dynamodb.port}", SECRET, "198.18."):
        assert text not in path.read_text()
    assert SECRET not in learned.stdout + learned.stderr

    served = workshop.sandbox("invoke", path, *where, *given, "--events", ORDERS / "held-out", "--json", more=more)
    answers = [json.loads(json.loads(line)["result"]) for line in served.stdout.splitlines()]
    assert answers == [{"id": "b", "amount": 7}] * 2
    assert [json.loads(line)["event"] for line in served.stderr.splitlines() if line.startswith("{")] == ["sandbox"]

    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.setblocking(False)
        host = f"127.0.0.1:{stranger.getsockname()[1]}"
        attack = ("--events", workshop.events({"id": "b", "call_back": f"http://{host}/"}), "--json")
        for mode, reached in (("enforce", False), ("audit", True)):
            done = workshop.sandbox(
                "invoke", path, *where, *given, *attack, expect=1, more={**more, "SANDBOX_MODE": mode}
            )
            violations = [json.loads(line) for line in done.stderr.splitlines() if '"event": "violation"' in line]
            assert [line["args"][1].partition(" ")[0] for line in violations] == [host]
            assert ("Operation not permitted" in done.stdout) is not reached
            assert _was_reached(stranger) is reached


def _was_reached(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
