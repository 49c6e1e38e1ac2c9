"""The supervised bootstrap on the platform's emulator and on ours: time-outs, crashes, and nobody left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from platform_emulator import BOOTSTRAP, Platform
from process_table import all_end, descendants, runs
from sandbox_command import Workshop, compiled
from supervised_programs import read_events

from sandbox.runtime_api import Environment, Function, Invocation


def test_the_platforms_time_out_leaves_nobody(workshop: Workshop, policy: str) -> None:
    """'Task timed out': supervisor, handler and what stands above are gone, and others serve; so after a crash."""
    log = workshop.new(".jsonl")
    variables = {
        "SANDBOX_POLICY": policy, "SANDBOX_SUPERVISE": "1", "SANDBOX_EVENTS": f"file:{log}", "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": str(workshop.folder),
    }  # fmt: skip
    with Platform(workshop.folder, (BOOTSTRAP,), variables, timeout=2) as platform:
        status, first = platform.post({})
        assert status == 200, platform.log
        assert "supervision" in platform.status_lines()[0]["enforced"]
        pids = descendants(platform.pid)
        assert len(pids) == 3  # guardian, supervisor, handler
        assert first["parent"] in pids
        status, text = platform.post({"sleep": 60})
        assert "Task timed out after 2.00 seconds" in str(text)
        assert all_end(pids)
        status, second = platform.post({})
        assert (status, second["events"]) == (200, 1)
        pids = descendants(platform.pid)
        assert len(pids) == 3  # guardian, supervisor, handler
        status, error = platform.post({"exit": 3})
        assert "exit status 3" in error["errorMessage"]
        assert all_end(pids)
        assert platform.post({})[0] == 200
        assert len(descendants(platform.pid)) == 3
        assert runs(platform.pid)
    assert {event["event"] for event in read_events(log)} <= {"violations", "violation"}


def test_an_attack_is_seen_on_the_platform(workshop: Workshop) -> None:
    """A call that was not learned is refused and in the platform's log as a line, and the function serves on."""
    events = str(workshop.events({}))
    options = ("--handler", "calls.handler", "--root", str(workshop.folder), "--events", events)
    variables = {
        "SANDBOX_POLICY": compiled(workshop, "calls", *options), "SANDBOX_SUPERVISE": "1", "_HANDLER": "calls.handler",
        "LAMBDA_TASK_ROOT": str(workshop.folder),
    }  # fmt: skip
    with Platform(workshop.folder, (BOOTSTRAP,), variables) as platform:
        assert platform.post({})[1]["result"] == 0
        assert platform.post({"attack": True})[1] == {"result": -1}
        lines = [json.loads(line) for line in platform.log.splitlines() if line.startswith('{"event": "violation"')]
        assert platform.post({})[1]["result"] == 0
    (line,) = [line for line in lines if line["syscall"] == "mount"]
    assert (line["verdict"], line["phase"], line["technique"][0]) == ("denied", "invoke", "T")
    assert line["request"] is None


@pytest.mark.parametrize("emulator", ["the platform's", "ours"])
def test_a_violation_names_its_request(workshop: Workshop, emulator: str) -> None:
    """Through the relay, a line carries the id that the handler's own context has, and large answers arrive whole."""
    options = ("--handler", "calls.handler", "--root", str(workshop.folder), "--events", str(workshop.events({})))
    log = workshop.new(".jsonl")
    variables = {
        "SANDBOX_POLICY": compiled(workshop, "calls", *options), "SANDBOX_SUPERVISE": "1", "_HANDLER": "calls.handler",
        "LAMBDA_TASK_ROOT": str(workshop.folder), "SANDBOX_REQUEST_ID": "relay", "SANDBOX_EVENTS": f"file:{log}",
    }  # fmt: skip
    ids: list[str] = []
    if emulator == "ours":
        command = (BOOTSTRAP, sys.executable, "-m", "awslambdaric", "calls.handler")
        function = Function(command, str(workshop.folder), handler="calls.handler", environment=variables)
        with Environment(function, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as environment:
            for body in (b'{"attack": 1}', b"{}", b'{"large": 5000000}', b'{"attack": 1}'):
                outcome = environment.invoke(Invocation(body))
                assert outcome.status == "ok"
                ids.append(outcome.request_id)
                assert b"large" not in body or len(outcome.payload) > 5_000_000
    else:
        with Platform(workshop.folder, (BOOTSTRAP,), variables) as platform:
            for event in ({"attack": 1}, {}, {"large": 5_000_000}, {"attack": 1}):
                status, found = platform.post(event)
                assert status == 200
                assert "large" not in event or len(found["text"]) == 5_000_000
            lines = platform.log.splitlines()
            ids = [line.split()[2] for line in lines if line.startswith("START RequestId:")]
    assert len(set(ids)) == 4
    assert [line["request"] for line in read_events(log) if line.get("syscall") == "mount"] == [ids[0], ids[3]]


def test_our_emulators_reset_leaves_nobody(workshop: Workshop, policy: str) -> None:
    """After a time-out of the training emulator both are gone, too, and the next environment has a pair of its own."""
    variables = {"SANDBOX_POLICY": policy, "SANDBOX_SUPERVISE": "1", "SANDBOX_ON_UNAVAILABLE": "fail"}
    command = (BOOTSTRAP, sys.executable, "-m", "awslambdaric", "app.handler")
    function = Function(command, str(workshop.folder), handler="app.handler", environment=variables, timeout=1.5)
    with Environment(function, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as environment:
        first = environment.invoke(Invocation(b"{}"))
        assert first.status == "ok"
        found = json.loads(first.payload)
        pids = [found["pid"], found["parent"]]
        assert all(map(runs, pids))
        assert environment.invoke(Invocation(b'{"sleep": 60}')).status == "timeout"
        assert all_end(pids)
        second = json.loads(environment.invoke(Invocation(b"{}")).payload)
        pids = [second["pid"], second["parent"]]
        assert Path(f"/proc/{pids[1]}/task/{pids[1]}/children").read_text().split() == [str(pids[0])]
    assert all_end(pids)
