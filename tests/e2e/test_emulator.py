"""The platform's own emulator and the real Python client, through ./bootstrap: what an invoker sees."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_emulator import BOOTSTRAP, WRAPPED, Platform
from process_table import descendants, runs
from sandbox_command import Workshop, compiled
from users_and_folders import TARGETS, THUMBNAIL

from sandbox import bundle
from sandbox.kernel import landlock
from sandbox.profile import document


@pytest.fixture(scope="module")
def platform(workshop: Workshop, policy: str) -> Iterator[Platform]:
    """The application as a custom runtime: `bootstrap` alone, the handler in _HANDLER."""
    variables = {"SANDBOX_POLICY": policy, "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": str(workshop.folder)}
    with Platform(workshop.folder, (BOOTSTRAP,), variables, timeout=2) as found:
        yield found


def test_cold_and_warm(platform: Platform) -> None:
    """Two invocations meet one process, which runs in the bootstrap's place under the policy that it reports."""
    before = len(platform.status_lines())
    _, first = platform.post({})
    status, second = platform.post({})
    assert status == 200
    assert second["pid"] == first["pid"]
    assert second["events"] == first["events"] + 1
    assert second["parent"] == platform.pid
    lines = platform.status_lines()
    assert len(lines) - before <= 1
    assert lines[-1]["mode"] == "enforce"
    assert {"syscalls", "exec: single-use"} <= set(lines[-1]["enforced"])
    assert lines[-1]["filters"] == 1
    assert "Seccomp:\t2" in Path(f"/proc/{second['pid']}/status").read_text()


def test_an_error_of_the_handler(platform: Platform) -> None:
    """A traceback that training never saw is reported whole, and the process lives on."""
    _, before = platform.post({})
    status, error = platform.post({"raise": "missing"})
    assert (status, error["errorType"], error["errorMessage"]) == (200, "KeyError", "'missing'")
    assert any("app.py" in line for line in error["stackTrace"])
    _, after = platform.post({})
    assert after["pid"] == before["pid"]


def test_a_crash_and_the_start_after_it(platform: Platform) -> None:
    """The invoker sees the exit status; the next process is confined again."""
    _, before = platform.post({})
    starts = len(platform.status_lines())
    status, error = platform.post({"exit": 3})
    assert status == 502
    assert error["errorType"] == "Runtime.ExitError"
    assert "exit status 3" in error["errorMessage"]
    status, after = platform.post({})
    assert status == 200
    assert (after["events"], after["pid"] != before["pid"]) == (1, True)
    assert len(platform.status_lines()) == starts + 1
    assert platform.status_lines()[-1]["filters"] == 1


def test_a_time_out_and_the_start_after_it(platform: Platform) -> None:
    """The platform kills the function in mid-event; the next process works."""
    _, before = platform.post({})
    status, text = platform.post({"sleep": 60})
    assert (status, "Task timed out after 2.00 seconds" in str(text)) == (200, True)
    status, after = platform.post({})
    assert status == 200
    assert after["pid"] != before["pid"]
    assert not runs(before["pid"])


def test_an_initialisation_error(workshop: Workshop, policy: str) -> None:
    """The client's own report of a module that cannot be imported gets through the policy."""
    variables = {"SANDBOX_POLICY": policy, "_HANDLER": "init_fails.handler", "LAMBDA_TASK_ROOT": str(TARGETS)}
    with Platform(workshop.folder, (BOOTSTRAP,), variables) as platform:
        status, error = platform.post({})
        assert "this module cannot be imported" in platform.log
    assert (status, error["errorType"], error["errorMessage"]) == (
        502,
        "RuntimeError",
        "this module cannot be imported",
    )


@pytest.mark.parametrize(
    ("problem", "error_type"),
    [
        ("missing", "Runtime.SandboxPolicyNotFound"),
        ("damaged", "Runtime.SandboxPolicyInvalid"),
        ("mode", "Runtime.SandboxUsage"),
    ],
)
def test_no_policy_no_function(workshop: Workshop, policy: str, problem: str, error_type: str) -> None:
    """The invoker sees our error type and what to do; the function was never started."""
    variables = {"_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": str(workshop.folder)}
    if problem == "damaged":
        damaged = workshop.new("")
        damaged.mkdir()
        data = bytearray(Path(policy, bundle.FILE).read_bytes())
        data[len(data) // 2] ^= 1
        (damaged / bundle.FILE).write_bytes(data)
        variables["SANDBOX_POLICY"] = str(damaged)
    elif problem == "mode":
        variables |= {"SANDBOX_POLICY": policy, "SANDBOX_MODE": "enfroce"}
    with Platform(workshop.folder, (BOOTSTRAP,), variables) as platform:
        _, error = platform.post({})
        assert error["errorType"] == error_type, platform.log
        assert "what to do" in error["errorMessage"]
        assert platform.status_lines() == []


def test_attacks_without_a_parent_that_watches(workshop: Workshop) -> None:
    """The kernel alone refuses all six, one of them aimed at the emulator itself, and held-out events work."""
    options = ("--handler", "app.handler", "--root", str(THUMBNAIL), "--events", str(THUMBNAIL / "events"))
    variables = {
        "SANDBOX_POLICY": compiled(workshop, "thumbnail", *options), "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": str(THUMBNAIL),
    }  # fmt: skip
    attacks = sorted((THUMBNAIL / "attacks").glob("*.json"))
    held_out = sorted((THUMBNAIL / "held-out").glob("*.json"))
    assert len(attacks) == 6
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Platform(workshop.folder, (BOOTSTRAP,), variables) as platform,
    ):
        server.setblocking(False)
        for number, attack in enumerate(attacks):
            event = json.loads(attack.read_text())
            marker = workshop.new("")
            aims = {"marker": str(marker), "target": f"127.0.0.1:{server.getsockname()[1]}", "victim": 0}
            status, answer = platform.post(event | {key: value for key, value in aims.items() if key in event})
            assert status == 200, platform.log
            report = answer["computed"]["attack"]
            if report["attack"] != "tcp_connect" or landlock.abi_version() >= 4:
                assert not report["happened"], report
                assert report["error"] in ("EPERM", "EACCES", f"status {127 << 8}"), report
            assert not marker.exists()
            status, answer = platform.post(json.loads(held_out[number % len(held_out)].read_text()))
            assert status == 200
            assert "errorType" not in answer
        assert len(platform.status_lines()) == 1
        assert len(descendants(platform.pid)) == 1
        if landlock.abi_version() >= 4:
            with pytest.raises(BlockingIOError):
                server.accept()


def test_learning_on_the_platform(workshop: Workshop) -> None:
    """SANDBOX_MODE=learn under the emulator gives observations, from their file a profile, and under that it works."""
    file, path = workshop.folder / "observed.jsonl", workshop.folder / "observed.yaml"
    variables = {
        "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(file), "_HANDLER": "threads.handler",
        "LAMBDA_TASK_ROOT": str(TARGETS),
    }  # fmt: skip
    with Platform(workshop.folder, (BOOTSTRAP,), variables) as platform:
        for event in ({}, {"threads": 2}, {}):
            status, answer = platform.post(event)
            assert (status, answer["threads"]) == (200, event.get("threads", 4))
    told = workshop.sandbox("learn", "observed", "--output", path, "--from", file).stdout
    assert "invoke:" in told
    profile = document.read(str(path)).profile
    assert "thread" in profile.promises
    assert profile.network >= {"runtime-api"}
    assert {use.phase for use in profile.uses} == {"init", "invoke"}
    start = ("--handler", "threads.handler", "--root", str(TARGETS))
    (line,) = workshop.invoke(path, start, workshop.events({"threads": 5}))
    assert line["status"] == "ok"


def test_learning_into_the_platforms_log(workshop: Workshop) -> None:
    """Without a file the observations stand in the log, between the lines of emulator and function."""
    path = workshop.folder / "logged.yaml"
    variables = {"SANDBOX_MODE": "learn", "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": str(workshop.folder)}
    with Platform(workshop.folder, (BOOTSTRAP,), variables) as platform:
        assert platform.post({})[0] == 200
        assert platform.post({"sleep": 0.01})[0] == 200
    log = workshop.folder / "platform.log"
    log.write_text(platform.log)
    assert "INIT REPORT" in platform.log or "START RequestId" in platform.log
    workshop.sandbox("learn", "logged", "--output", path, "--from", log)
    assert document.read(str(path)).profile.uses


def test_exec_wrapper(workshop: Workshop, policy: str) -> None:
    """`bootstrap COMMAND...`, as the platform calls a wrapper: the same confinement, and no variable of ours left."""
    variables = {"SANDBOX_POLICY": policy, "PYTHONPATH": str(TARGETS), "LAMBDA_TASK_ROOT": str(TARGETS)}
    with Platform(workshop.folder, (*WRAPPED, "env_dump.handler"), variables) as platform:
        status, seen = platform.post({})
        assert status == 200, platform.log
        assert platform.status_lines()[0]["mode"] == "enforce"
    assert seen["arguments"] == [sys.executable, "-m", "awslambdaric", "env_dump.handler"]
    assert (seen["status"]["Seccomp"], seen["status"]["NoNewPrivs"]) == ("2", "1")
    assert not [name for name in seen["environment"] if name.startswith("SANDBOX")]
    assert seen["environment"]["_HANDLER"] == "env_dump.handler"
