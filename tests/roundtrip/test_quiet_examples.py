"""No benign event of any example writes a line: in audit, looked at, and elsewhere on the platform's emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agreement import AUDIT, LOOKING, Trip
from platform_emulator import BOOTSTRAP, Platform
from sandbox_command import Workshop, workshop_of
from users_and_folders import HOME, imports, place

from sandbox.learn.platforms import LAMBDA
from sandbox.runtime_api.events import load_events

EXAMPLES = HOME / "examples"


def _python(_: Path) -> tuple[str, ...]:
    return ()


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def _c(root: Path) -> tuple[str, ...]:
    subprocess.run([_program("cc"), "-O2", "-std=c11", "-o", "runtime", "runtime.c"], cwd=root, check=True)
    return ("./runtime",)


def _shell(_: Path) -> tuple[str, ...]:
    _program("curl")
    return ("./bootstrap.handler",)


def _node(_: Path) -> tuple[str, ...]:
    return (_program("node"), "runtime.mjs", "app.handler")


def _java(root: Path) -> tuple[str, ...]:
    compiler = (_program("javac"), "--release", "17", "-d", "classes", "Runtime.java", "Lines.java")
    subprocess.run(compiler, cwd=root, check=True)
    quick = ("-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-Xmx64m")
    return (_program("java"), *quick, "-cp", "classes", "Runtime", "Lines")


COMMANDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    **dict.fromkeys(("archive", "hello", "imports", "notes", "thumbnail", "wordcount"), _python),
    "c-runtime": _c, "java-runtime": _java, "node-runtime": _node, "shell-runtime": _shell,
}  # fmt: skip


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The user of the tests."""
    with workshop_of(None, "/var/tmp") as found:
        yield found


def copied(name: str, folder: Path) -> Path:
    """An example's folder, in `folder`, as anybody may read it."""
    root = folder / "task"
    shutil.copytree(EXAMPLES / name, root, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return root


WORKER = LAMBDA.user
assert WORKER
ELSEWHERE = f"""
cd {HOME} && mount --bind "$1" /etc/passwd && mount -t tmpfs -o mode=1777 none /tmp && mkdir -p {HOME} &&
  mount --bind . {HOME} && cd "$2" && shift 2 &&
  exec setpriv --reuid={WORKER.uid} --regid={WORKER.gid} --clear-groups --inh-caps=-all -- "$@"
"""
"""As the platform's user, who has a name, with an empty /tmp that shows only the checkout, if that is there."""


def serve_elsewhere(trip: Trip, name: str, profile: Path, command: tuple[str, ...]) -> None:
    """On the platform's emulator, as its user, from another folder, with an empty /tmp: no line, and good answers."""
    assert WORKER
    if os.geteuid() or imports(WORKER.uid, HOME):
        return  # only root may mount and become another; a checkout of root's own is not for that user
    with place(None, "/var/tmp") as folder:
        root = copied(name, folder)
        start = COMMANDS[name](root)
        assert start == command
        bundle = folder / "bundle"
        trip.workshop.sandbox("compile", profile, "--output", bundle)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        variables = {
            "SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": "1", "SANDBOX_FILES": "look",
            "SANDBOX_ACTIVITY": "summary", "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": str(root),
            "SANDBOX_PYTHON": sys.executable,
        }  # fmt: skip
        users = folder / "passwd"
        users.write_text(WORKER.line + Path("/etc/passwd").read_text())
        users.chmod(0o644)
        around = ("unshare", "-m", "/bin/sh", "-c", ELSEWHERE, "sh", str(users), str(root))
        with Platform(root, (BOOTSTRAP, *start), variables, around=around) as platform:
            for event in load_events(str(EXAMPLES / name / "events")):
                status, answer = platform.post(json.loads(event.payload))
                assert status == 200, platform.log
                assert "errorMessage" not in answer, platform.log
            said = [line for line in platform.log.splitlines() if line.startswith('{"event": "violation')]
            assert not said, said
            lines = [json.loads(line) for line in platform.log.splitlines() if line.startswith('{"event": "activity"')]
            assert any(line["request"] for line in lines)  # the last invocation has not ended
            assert not [line for line in lines if line["refused"] or line["anomalies"] or line["outlived"]], lines
            assert platform.status_lines()[0]["mode"] == "enforce"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_events_of_an_example_write_no_line(workshop: Workshop, name: str) -> None:
    """What was trained is served again by a supervisor that has nothing to report, refused, suspected or not."""
    folder = workshop.new("")
    folder.mkdir()
    root = copied(name, folder)
    command = COMMANDS[name](root)
    handler = () if command else ("--handler", "app.handler")
    trip = Trip(workshop, (*handler, "--root", str(root)), command, "lambda")
    profile = trip.learn(events := root / "events")
    profile.write_text(f"{profile.read_text()}\non-anomaly: deny\n")  # what a detector suspects fails
    held_out = root / "held-out"
    for mode, asked in ((LOOKING, events), (AUDIT, held_out if held_out.exists() else events)):
        served = trip.serve(profile, asked, mode)
        assert served.is_quiet, (served.failed, served.told)
    serve_elsewhere(trip, name, profile, command)


TRIED_WITH_CLIENTS = {"orders", "web"}
"""Need boto3 and a fake of DynamoDB (tests/clients/test_orders.py), and gunicorn (docs/servers.md)."""
NO_FUNCTIONS = {"alerts", "ci"}
"""Files to copy (docs/automation.md)."""


def test_every_example_is_here() -> None:
    """A new example joins them."""
    known = set(COMMANDS) | TRIED_WITH_CLIENTS | NO_FUNCTIONS
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == known
