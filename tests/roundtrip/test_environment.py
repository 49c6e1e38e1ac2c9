"""Functions that are configured by variables: trained with them, their names noted, their values nowhere."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from sandbox_command import Workshop

from sandbox.learn.training import bootstrap
from sandbox.profile import document
from sandbox.runtime_api import Environment, Function, Invocation

SECRET = "correct-horse-battery-staple"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": f"{SECRET}-token",
    "AWS_REGION": "eu-west-1",
}  # fmt: skip
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def test_a_function_is_trained_and_served_with_its_variables(workshop: Workshop) -> None:
    """The handler sees table and credentials in training and enforced; without the table it cannot be imported."""
    (workshop.folder / "configured.env").write_text("TABLE=orders\n")
    (workshop.folder / "configured.json").write_text('{"configured": {"TABLE": "orders"}, "Parameters": {"LEVEL": 3}}')
    (workshop.folder / "configured.py").write_text(
        "import os\nTABLE = os.environ['TABLE']\n"
        "def handler(event, context):\n"
        "    return {'table': TABLE, 'region': os.environ['AWS_REGION'], 'key': len(os.environ.get(event['k'], ''))}\n"
    )
    path, events = workshop.new(), workshop.events({"k": "AWS_SECRET_ACCESS_KEY"})
    start = ("--handler", "configured.handler", "--root", ".", "--events", events)
    learn = ("learn", "configured", *start, "--output", path, "--cold-starts", "1")
    failed = workshop.sandbox(*learn, "--aws-credentials", expect=74, more=CREDENTIALS)
    assert "KeyError: 'TABLE'" in failed.stderr

    done = workshop.sandbox(*learn, "--env-file", "configured.env", "--aws-credentials", more=CREDENTIALS)
    assert document.read(str(path)).profile.function.environment == (*NAMES, "TABLE")
    served = workshop.sandbox(
        "invoke", path, *start, "--env", "TABLE", "--aws-credentials", "--json", more={**CREDENTIALS, "TABLE": "orders"}
    )
    result = json.loads(json.loads(served.stdout)["result"])
    assert result == {"table": "orders", "region": "eu-west-1", "key": len(SECRET)}
    assert '"event": "violation"' not in served.stderr
    assert "training was given" not in served.stderr
    for text in (failed.stdout + failed.stderr, done.stdout + done.stderr, served.stdout + served.stderr):
        assert SECRET not in text
    for file in workshop.folder.rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file

    again = ("--merge", "--env-file", "configured.json")
    workshop.sandbox(*learn, *again)
    assert document.read(str(path)).profile.function.environment == tuple(sorted((*NAMES, "TABLE", "LEVEL")))
    bare = workshop.sandbox("invoke", path, *start, "--env-file", "configured.json")
    assert bare.stderr.count("sandbox: training was given") == 1
    missing = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"
    assert f"training was given {missing}, which this start lacks" in bare.stderr


def test_a_failure_is_told_without_values(workshop: Workshop) -> None:
    """What a function prints of its secrets while it fails does not come out of a training's report."""
    (workshop.folder / "shows.py").write_text(
        "import os\nprint('with', os.environ['TOKEN'])\n"
        "def handler(event, context):\n    raise ValueError(os.environ['TOKEN'])\n"
    )
    start = ("--handler", "shows.handler", "--root", ".", "--events", workshop.events({}), "--env", "TOKEN")
    for json_option in ((), ("--json",)):
        done = workshop.sandbox("learn", "shows", *start, *json_option, expect=74, more={"TOKEN": SECRET})
        assert "ValueError: <TOKEN>" in done.stdout + done.stderr
        assert "with <TOKEN>" in done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_an_outcome_is_written_without_values(workshop: Workshop) -> None:
    """What a function says when it fails at the end of training stands in the profile, and no secret in it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as outside:
        (workshop.folder / "once.py").write_text(
            "import os\n"
            "def handler(event, context):\n"
            f"    if os.path.exists('{outside}/served'):\n        raise ValueError(os.environ['TOKEN'])\n"
            f"    open('{outside}/served', 'w').close()\n"
        )
        path = workshop.new()
        start = ("--handler", "once.handler", "--root", ".", "--events", workshop.events({}), "--env", "TOKEN")
        done = workshop.sandbox(
            "learn", "once", *start, "--cold-starts", "1", "--output", path, "--allow-failed", more={"TOKEN": SECRET}
        )
    assert "ValueError: <TOKEN>" in path.read_text()
    assert SECRET not in path.read_text() + done.stdout + done.stderr


def test_a_runtime_is_given_its_handler(workshop: Workshop) -> None:
    """--handler together with a command is the _HANDLER of a custom runtime, in training and enforced."""
    path, events = workshop.new(), workshop.events({})
    command = ("--", sys.executable, "-m", "awslambdaric", "env_dump.handler")
    start = ("--handler", "the.handler", "--root", workshop.targets, "--env", "A=1")
    learn = ("learn", "runtime", *start, "--events", events, "--output", path, "--cold-starts", "1")
    workshop.sandbox(*learn, *command)
    assert document.read(str(path)).profile.function.handler == "the.handler"
    [line] = workshop.invoke(path, (*map(str, start), *command), events)
    environment = json.loads(line["result"])["environment"]
    assert (environment["_HANDLER"], environment["A"]) == ("the.handler", "1")


def test_observations_hold_no_value(workshop: Workshop, tmp_path: Path) -> None:
    """What the observer writes of a start with secrets in its environment holds none of them."""
    observations = tmp_path / "observations.jsonl"
    ours = {"SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(observations), "SANDBOX_PYTHON": sys.executable}
    function = Function(
        bootstrap(), str(workshop.targets), {**ours, **CREDENTIALS}, "env_dump", "env_dump.handler", timeout=60.0
    )
    with open(os.devnull, "wb") as log, Environment(function, stdout=log, stderr=log) as served:
        outcome = served.invoke(Invocation(b"{}"))
        assert json.loads(outcome.payload)["environment"]["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert observations.stat().st_size
    assert SECRET not in observations.read_text()


def test_values_stay_out_of_errors(workshop: Workshop) -> None:
    """A file with a fault is an error that names its line; what cannot be given is refused, never dropped."""
    path = workshop.folder / "broken.env"
    path.write_text(f"A=1\nB='{SECRET}\n")
    done = workshop.sandbox("learn", "broken", "--env-file", path, "--", "/bin/true", expect=64)
    assert f"{path}:2: is not NAME=VALUE" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    done = workshop.sandbox("learn", "broken", "--env", "SANDBOX_MODE=off", "--", "/bin/true", expect=64)
    assert "SANDBOX_MODE configures the sandbox and is removed before the function starts" in done.stderr
    done = workshop.sandbox("learn", "broken", "--env", "A=1", "--from", path, expect=64)
    assert "starts nothing that could be given variables" in done.stderr


@pytest.mark.parametrize("starts", ["1", "2"])
def test_sampled_requests_are_trained(workshop: Workshop, starts: str) -> None:
    """The datagram that a tracing library sends only for sampled requests is learned, and arrives under enforcement."""
    path = workshop.new()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(5.0)
        port = daemon.getsockname()[1]
        start = ("--handler", "traced.handler", "--root", workshop.targets)
        events = workshop.events({"port": port, "n": 1}, {"port": port, "n": 2})
        workshop.sandbox("learn", "traced", *start, "--events", events, "--output", path, "--cold-starts", starts)
        for _ in range(1 if starts == "1" else 2):
            assert daemon.recv(100).endswith(b"{}")
        assert f"udp://127.0.0.1:{port}" in document.read(str(path)).profile.network
        for options, sent in (((), False), (("--sampled",), True)):
            lines = workshop.invoke(path, (*map(str, start), *options), events)
            assert [json.loads(line["result"]) for line in lines] == [{"sent": sent}] * 2
        assert daemon.recv(100)
        assert daemon.recv(100)
