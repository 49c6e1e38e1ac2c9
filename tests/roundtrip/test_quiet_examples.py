"""No benign event of any example writes a line: in audit, and enforced with a look at what Landlock refuses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agreement import AUDIT, LOOKING, Trip
from sandbox_command import Workshop, workshop_of
from users_and_folders import HOME

EXAMPLES = HOME / "examples"


def _python(_: Path) -> tuple[str, ...]:
    return ()


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def _c(folder: Path) -> tuple[str, ...]:
    source = EXAMPLES / "c-runtime" / "runtime.c"
    subprocess.run([_program("cc"), "-O2", "-std=c11", "-o", str(folder / "runtime"), str(source)], check=True)
    return (str(folder / "runtime"),)


def _shell(_: Path) -> tuple[str, ...]:
    _program("curl")
    return ("./bootstrap.handler",)


def _node(_: Path) -> tuple[str, ...]:
    return (_program("node"), "runtime.mjs", "app.handler")


def _java(folder: Path) -> tuple[str, ...]:
    sources = [str(EXAMPLES / "java-runtime" / name) for name in ("Runtime.java", "Lines.java")]
    subprocess.run([_program("javac"), "--release", "17", "-d", str(folder / "classes"), *sources], check=True)
    quick = ("-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-Xmx64m")
    return (_program("java"), *quick, "-cp", str(folder / "classes"), "Runtime", "Lines")


COMMANDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    **dict.fromkeys(("archive", "hello", "imports", "notes", "thumbnail", "wordcount"), _python),
    "c-runtime": _c, "java-runtime": _java, "node-runtime": _node, "shell-runtime": _shell,
}  # fmt: skip


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The user of the tests."""
    with workshop_of(None) as found:
        yield found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_events_of_an_example_write_no_line(workshop: Workshop, name: str) -> None:
    """What was trained is served again by a supervisor that has nothing to report, refused or let through."""
    root = workshop.home / "examples" / name
    folder = workshop.new("")
    folder.mkdir()
    command = COMMANDS[name](folder)
    handler = () if command else ("--handler", "app.handler")
    trip = Trip(workshop, (*handler, "--root", str(root)), command)
    profile = trip.learn(events := root / "events")
    held_out = root / "held-out"
    for mode, asked in ((LOOKING, events), (AUDIT, held_out if held_out.exists() else events)):
        served = trip.serve(profile, asked, mode)
        assert served.is_quiet, (served.failed, served.told)


ELSEWHERE = {"orders", "web"}
"""Need boto3 and a fake of DynamoDB (tests/clients/test_orders.py), and gunicorn (docs/servers.md)."""


def test_every_example_is_here() -> None:
    """A new example joins them."""
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(COMMANDS) | ELSEWHERE
