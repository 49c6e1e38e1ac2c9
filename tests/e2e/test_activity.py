"""SANDBOX_ACTIVITY: what a function did, one line an invocation, as its profile and its libraries name it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from platform_emulator import BOOTSTRAP
from sandbox_command import Workshop, compiled
from supervised_programs import native_starter
from users_and_folders import HOME

from sandbox.runtime_api import Environment, Function, Invocation

ACTING = """
import ctypes, os, socket, subprocess, threading, time

LIBC = ctypes.CDLL(None)
KEPT = []

def handler(event, context):
    refused = 0
    for _ in range(event.get("connect", 0)):
        try:
            socket.create_connection(("127.0.0.1", event["port"])).close()
        except PermissionError:
            refused += 1
    if "pool" in event and threading.active_count() < 2:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if "keep" in event:
        KEPT.append(socket.create_connection(("127.0.0.1", event["port"])))
    if "fork" in event:
        pid = os.fork()
        if not pid:
            time.sleep(event["fork"])
            os._exit(0)
        if event["fork"] < 1:
            os.waitpid(pid, 0)
    for _ in range(event.get("run", 0)):
        subprocess.run(["/bin/true"], check=True)
    if "write" in event:
        with open(event["write"], "w") as file:
            file.write("x")
    return {"refused": refused, "result": LIBC.mount(0, 0, 0, 0, 0) if "attack" in event else 0}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a listener that takes whatever connects."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as found:
        yield int(found.getsockname()[1])


@pytest.fixture(scope="module")
def acting(workshop: Workshop, server: int) -> str:
    """The bundle of the function, trained on what is meant."""
    (workshop.folder / "acting.py").write_text(ACTING)
    usual = {"connect": 1, "port": server, "run": 1, "write": "/tmp/one.txt"}
    last = {**usual, "write": "/tmp/two.txt", "pool": 1, "fork": 0.01}
    events = str(workshop.events({}, usual, last))
    options = ("--handler", "acting.handler", "--root", str(workshop.folder), "--events", events)
    bundle = compiled(workshop, "acting", *options)
    most = yaml.safe_load((workshop.folder / "acting.yaml").read_text())["most"]
    assert {name: most[name] for name in ("programs", "threads", "processes", "connections")} == {
        "programs": 1, "threads": 1, "processes": 0, "connections": 0,
    }  # fmt: skip
    return bundle


def served(
    workshop: Workshop, bundle: str, activity: str, *events: object, starter: str = BOOTSTRAP
) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of a start that serves these events, and their ids."""
    log = workshop.new(".jsonl")
    variables = {
        "SANDBOX_POLICY": bundle, "LAMBDA_TASK_ROOT": str(workshop.folder), "SANDBOX_ACTIVITY": activity,
        "SANDBOX_FILES": "look", "SANDBOX_EVENT_KEY": "k",
    }  # fmt: skip
    command = (starter, sys.executable, "-m", "awslambdaric", "acting.handler")
    function = Function(command, str(workshop.folder), handler="acting.handler", environment=variables)
    ids, refused = [], []
    with open(log, "wb") as file, Environment(function, stdout=subprocess.DEVNULL, stderr=file) as environment:
        for event in events:
            outcome = environment.invoke(Invocation(json.dumps(event).encode()))
            assert outcome.status == "ok", outcome
            ids.append(outcome.request_id)
            refused.append(json.loads(outcome.payload)["refused"])
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"event": ')]
    assert f"activity: {activity}" in lines[1]["reported"]  # behind the beginning of a signed run
    assert sum(refused) == sum(line.get("anomaly") == "burst" for line in lines if line["event"] == "violation")
    return [lines[0], *lines[2:]], ids


def test_each_invocation_has_a_line_of_what_it_did(workshop: Workshop, acting: str, server: int) -> None:
    """Counts, destinations with their library, programs, files and refusals are each invocation's own, and no more."""
    busy = {"connect": 2, "port": server, "run": 1, "write": "/tmp/three.txt"}
    lines, ids = served(workshop, acting, "summary", {}, busy, {"attack": 1}, {**busy, "connect": 1})
    schema = json.loads((Path(HOME) / "sandbox" / "violations" / "schema.json").read_text())
    for line in lines:
        jsonschema.validate(line, schema)
    first, *told = [line for line in lines if line["event"] == "activity"]
    assert (first["phase"], first["request"]) == ("init", None)
    assert [line["request"] for line in told] == ids
    assert all(line["answered"] and 0 < line["duration"] < 60_000 for line in told)
    idle, worked, attacked, again = told
    assert first["cost"] > 0  # with what loading it took
    assert 0 < worked["cost"] < 10_000
    assert idle["cost"] < first["cost"]
    place = {"to": f"tcp://127.0.0.1:{server}", "by": ["python"]}
    for line, count in ((worked, 2), (again, 1)):
        assert line["destinations"] == [{**place, "count": count}]
        assert line["programs"] == [{"path": os.path.realpath("/bin/true"), "count": 1, "by": ["python"]}]
        assert line["written"] == ["/tmp/three.txt"]
        assert {name: line["accesses"][name] for name in ("network", "program", "write")} == {
            "network": count, "program": 1, "write": 1,
        }  # fmt: skip
        assert (line["refused"], line["new"], line["more"]) == ({}, [], 0)
    for line in (idle, attacked):
        assert (line["destinations"], line["programs"], line["written"]) == ([], [], [])
    assert (idle["refused"], idle["new"], attacked["refused"], attacked["new"]) == (
        {}, [], {"mount: denied": 1}, ["mount"],
    )  # fmt: skip


def test_full_tells_each_access(workshop: Workshop, acting: str, server: int) -> None:
    """Each has its line with its request and library, by the launcher too, and `sandbox events` shows and adds up."""
    events: list[object] = [{"connect": 2, "port": server, "run": 1, "write": "/tmp/four.txt"}, {"attack": 1}]
    lines, ids = served(workshop, acting, "full", *events, starter=str(native_starter(HOME)))
    calls = [line for line in lines if line["event"] == "access" and line["request"] == ids[0]]
    assert [(line["reach"], line["target"]) for line in calls if line["reach"] != "read"] == [
        *(("network", f"tcp://127.0.0.1:{server}"),) * 2, ("program", os.path.realpath("/bin/true")),
        ("write", "/tmp/four.txt"),
    ]  # fmt: skip
    assert {line["verdict"] for line in calls} == {"allowed"}
    assert all(line["by"]["handler"]["function"] == "handler" for line in calls if line["reach"] == "network")
    (refused,) = [line for line in lines if line["event"] == "access" and line["request"] == ids[1]]
    assert (refused["syscall"], refused["verdict"]) == ("mount", "denied")
    log = workshop.new(".jsonl")
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = workshop.sandbox("events", log, "--activity").stdout
    assert f"acting invoke {ids[0]}: connect network tcp://127.0.0.1:{server}, allowed; by standard library" in shown
    assert f"; connects to tcp://127.0.0.1:{server} (2 by python); starts {os.path.realpath('/bin/true')} (1" in shown
    total = workshop.sandbox("events", log, "--activity", "--summary").stdout
    assert f"       2 destination tcp://127.0.0.1:{server}, in 1 line, by python\n" in total
    assert "       1 refused mount: denied, in 1 line\n" in total
    assert "\n2 invocations, " in total
    first = json.loads(workshop.sandbox("events", log, "--activity", "--json").stdout.splitlines()[0])
    assert first["event"] in ("activity", "access")


def test_what_outlives_its_invocation_and_bursts(workshop: Workshop, acting: str, server: int) -> None:
    """A process and a connection left behind are named, once; the pool of training is not; bursts are as answered."""
    many = {"connect": 25, "port": server}
    events: list[object] = [{"pool": 1}, {"keep": 1, "port": server, "fork": 60}, {}, many, {**many, "connect": 15}]
    lines, _ = served(workshop, acting, "summary", *events)
    pool, left, idle, burst, few = [line for line in lines if line["event"] == "activity" and line["request"]]
    for line in (pool, idle, few):
        assert (line["outlived"], line["anomalies"]) == ([], {})
    process, connection = left["outlived"]
    assert (process.split()[0][:6], connection) == ("python", f"connection to tcp://127.0.0.1:{server}")
    assert left["anomalies"] == {"survivors": 2}
    assert (burst["anomalies"], burst["accesses"]["network"]) == ({"burst": 1}, 25)
    (line,) = [line for line in lines if line.get("anomaly") == "burst"]
    assert (line["event"], line["target"]) == ("anomaly", f"tcp://127.0.0.1:{server}")
    assert line["detail"].startswith("21 connects in one invocation, in training ")
    profile, bundle = workshop.new(), workshop.new(".bundle")
    text = (workshop.folder / "acting.yaml").read_text()
    profile.write_text(text.replace("\nmost:", "\non-anomaly: {burst: deny, survivors: terminate}\nmost:", 1))
    workshop.sandbox("compile", profile, "--output", bundle)
    lines, _ = served(workshop, str(bundle), "summary", many, {"fork": 60}, {})
    assert [line["errno"] for line in lines if line.get("anomaly") == "burst"] == ["EPERM"] * 5
    burst, left, _ = [line for line in lines if line["event"] == "activity" and line["request"]]
    assert burst["refused"] == {"connect: denied": 5}
    assert left["anomalies"] == {"survivors": 1}
    assert [line["event"] for line in lines].count("begin") == 2  # it was ended, and the next event met a new one
