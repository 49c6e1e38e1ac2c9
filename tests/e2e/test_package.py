"""Packages as the platform unpacks them, /opt and /var/task in a mount namespace, under its own emulator."""

from __future__ import annotations

import json
import os
import stat
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from language_runtimes import RUNTIMES, Missing
from platform_emulator import Platform
from sandbox_command import Workshop
from users_and_folders import HOME, THUMBNAIL, place

from sandbox.kernel import landlock

LAID_OUT = """
mount --make-rprivate / && mount --bind {opt} /opt && mount -t tmpfs none /var && mkdir /var/task &&
mount --bind {task} /var/task && mount -o remount,bind,ro /opt && mount -o remount,bind,ro /var/task &&
cd /var/task && exec "$0" "$@"
"""
SUPERVISE = pytest.mark.parametrize("supervise", ["1", "0"], ids=["supervised", "filter alone"])


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """A folder, and the command."""
    if os.geteuid():
        pytest.skip("mount namespaces of one's own need root here")
    with place(None) as folder:
        yield Workshop(None, HOME, folder)


def laid_out(opt: Path, task: Path, *command: str) -> tuple[str, ...]:
    """The command with these folders as /opt and /var/task."""
    return ("unshare", "--mount", "/bin/sh", "-c", LAID_OUT.format(opt=opt, task=task), *command)


def unpacked(package: Path, folder: Path) -> Path:
    """A zip's files where the platform would put them, with their modes and links."""
    with zipfile.ZipFile(package) as archive:
        for member in archive.infolist():
            target = folder / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(member.external_attr >> 16):
                target.symlink_to(archive.read(member).decode())
            else:
                target.write_bytes(archive.read(member))
                target.chmod(member.external_attr >> 16 & 0o777)
    return folder


@pytest.fixture(scope="module")
def layer(workshop: Workshop) -> Path:
    """/opt with the layer of examples/thumbnail, its profile learned here."""
    profile, package = workshop.folder / "thumbnail.yaml", workshop.folder / "layer.zip"
    options = ("--handler", "app.handler", "--root", THUMBNAIL, "--events", THUMBNAIL / "events", "--cold-starts", "1")
    workshop.sandbox("learn", "thumbnail", "--no-verify", *options, "--output", profile)
    workshop.sandbox("package", "layer", profile, "--output", package, "--compile-for", sys.executable)
    return unpacked(package, workshop.folder / "opt")


@SUPERVISE
def test_a_layer_wraps_a_managed_runtime(workshop: Workshop, layer: Path, supervise: str) -> None:
    """Held-out events work, the demo's attacks have no effect, and everything comes from the unpacked package."""
    command = laid_out(layer, THUMBNAIL, "/opt/sandbox/wrapper", sys.executable, "-m", "awslambdaric", "app.handler")
    variables = {"SANDBOX_SUPERVISE": supervise, "LAMBDA_TASK_ROOT": "/var/task", "_HANDLER": "app.handler"}
    attacks = sorted((THUMBNAIL / "attacks").glob("*.json"))
    held_out = sorted((THUMBNAIL / "held-out").glob("*.json"))
    with Platform(workshop.folder, command, variables) as platform:
        for number, attack in enumerate(attacks):
            event = json.loads(attack.read_text())
            marker = workshop.new("")
            aims = {"marker": str(marker), "target": "127.0.0.1:9", "victim": 0}
            status, answer = platform.post(event | {key: value for key, value in aims.items() if key in event})
            if attack.stem == "ptrace" and supervise == "1":
                assert (status, answer["errorType"]) == (502, "Runtime.ExitError")  # whoever tries is ended
            else:
                assert status == 200, platform.log
                assert not answer["computed"]["attack"]["happened"] or landlock.abi_version() < 4
            assert not marker.exists()
            status, answer = platform.post(json.loads(held_out[number % len(held_out)].read_text()))
            assert (status, "errorType" in answer) == (200, False), platform.log
        line = platform.status_lines()[0]
        assert {"syscalls", "exec: single-use"} <= set(line["enforced"])
        assert ("supervision" in line["enforced"]) == (supervise == "1")
        assert ('"event": "violation"' in platform.log) == (supervise == "1")


def test_another_wrapper_comes_first(workshop: Workshop, layer: Path) -> None:
    """With SANDBOX_NEXT_WRAPPER theirs runs first, a shell script that execs its arguments, and ours is innermost."""
    theirs = layer / "otel-handler"
    theirs.write_text('#!/bin/bash\nexport FROM_THEM="wrapped $#"\nls / > /dev/null\nexec "$@"\n')
    theirs.chmod(0o755)
    (workshop.folder / "task").mkdir()
    app = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
    (workshop.folder / "task" / "app.py").write_text(app)
    command = laid_out(
        layer, workshop.folder / "task", "/opt/sandbox/wrapper", sys.executable, "-m", "awslambdaric", "app.handler"
    )
    variables = {"SANDBOX_NEXT_WRAPPER": "/opt/otel-handler", "LAMBDA_TASK_ROOT": "/var/task"}
    with Platform(workshop.folder, command, variables) as platform:
        status, seen = platform.post({})
        assert status == 200, platform.log
        assert len(platform.status_lines()) == 1
    assert seen["FROM_THEM"] == "wrapped 5"  # our wrapper and its four arguments
    assert not [name for name in seen if name.startswith("SANDBOX")]


def test_a_wrapper_that_is_not_there(workshop: Workshop, layer: Path) -> None:
    """A next wrapper that cannot be executed is told to the invoker, and nothing is started without it."""
    command = laid_out(layer, THUMBNAIL, "/opt/sandbox/wrapper", sys.executable, "-m", "awslambdaric", "app.handler")
    variables = {"SANDBOX_NEXT_WRAPPER": "/opt/nonexistent", "LAMBDA_TASK_ROOT": "/var/task"}
    with Platform(workshop.folder, command, variables) as platform:
        _, error = platform.post({})
        assert error["errorType"] == "Runtime.SandboxHandlerNotFound", platform.log
        assert "/opt/nonexistent" in error["errorMessage"]
        assert platform.status_lines() == []


@SUPERVISE
def test_a_repacked_runtime(workshop: Workshop, supervise: str) -> None:
    """A provided.* function in C is started by ours under its policy; its attack is refused, its files are whole."""
    (runtime,) = [runtime for runtime in RUNTIMES if runtime.name == "c"]
    folder = workshop.new("")
    folder.mkdir()
    try:
        (program,) = runtime.command(folder)
    except Missing as missing:
        pytest.skip(str(missing))
    profile, original, package = workshop.new(), workshop.new(".zip"), workshop.new(".zip")
    workshop.sandbox(
        "learn", "c", "--no-verify",
        "--root", folder, "--events", workshop.events({}, {}), "--output", profile, "--cold-starts", "1",
        "--", program,
    )  # fmt: skip
    with zipfile.ZipFile(original, "w") as archive:
        archive.write(program, "bootstrap")
        archive.writestr("data/words.txt", "one two")
        link = zipfile.ZipInfo("words")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "data/words.txt")
    done = workshop.sandbox("package", "runtime", profile, original, "--output", package)
    assert "3 of 3 members" in done.stdout
    task = unpacked(package, workshop.new(""))
    assert (task / "words").read_text() == "one two"
    assert (task / "bootstrap.handler").read_bytes() == Path(program).read_bytes()
    command = laid_out(workshop.folder, task, "/var/task/bootstrap")
    variables = {"SANDBOX_SUPERVISE": supervise, "LAMBDA_TASK_ROOT": "/var/task"}
    with Platform(workshop.folder, command, variables) as platform:
        status, answer = platform.post({})
        assert (status, "pid" in answer) == (200, True), platform.log
        marker = workshop.new("")
        status, attacked = platform.post({"spawn": str(marker)})
        assert (status, attacked["pid"]) == (200, answer["pid"]), platform.log
        assert attacked["attack"]
        assert not marker.exists()
        status, answer = platform.post({})
        assert (status, "pid" in answer) == (200, True), platform.log
