"""`sandbox learn --generalise`: a novelty that is true, what is behind it, and wider lines that hold what they say."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_command import Workshop
from users_and_folders import identity

from sandbox.profile import document

HANDLER = """\
def handler(event, _):
    with open(event["path"]) as file:
        return len(file.read())
"""
NAMES = ("ash", "birch", "cedar", "elm")


@pytest.fixture(name="start")
def start_(workshop: Workshop) -> tuple[str, ...]:
    """A function that reads the file that its event names, and files in folders of their own beside it."""
    root = workshop.new("")
    root.mkdir()
    (root / "app.py").write_text(HANDLER)
    root.chmod(0o755)
    for name in NAMES:
        (workshop.folder / "data" / name).mkdir(parents=True, exist_ok=True)
        (workshop.folder / "data" / name / "in.txt").write_text(name)
    return ("--handler", "app.handler", "--root", str(root))


def events(workshop: Workshop, *names: str) -> Path:
    """Events that read these."""
    return workshop.events(*({"path": str(workshop.folder / "data" / name / "in.txt")} for name in names))


def test_without_a_terminal_nothing_is_accepted(workshop: Workshop, start: tuple[str, ...]) -> None:
    """The report names what is new, shows the lines and the option; the next such event is refused, as was foretold."""
    path = workshop.new()
    chosen = ("--cold-starts", "1", "--events", events(workshop, *NAMES[:3]), "--output", path)
    learn: tuple[str | Path, ...] = ("learn", "reads", *start, *chosen)
    done = workshop.sandbox(*learn)
    assert "the others would refuse 100% of them something" in done.stdout
    assert f"new: read {workshop.folder}/data/** in 3 events" in done.stdout
    assert f"  + read: {workshop.folder}/data/**" in done.stdout
    assert "invoke from 100% to 0%" in done.stdout
    assert "--generalise yes" in done.stdout
    assert f"{workshop.folder}/data/**" not in document.read(str(path)).profile.reads
    results = workshop.invoke(path, start, events(workshop, NAMES[3]), expect=1)
    assert "PermissionError" in json.dumps(results)


def test_an_accepted_folder_holds_the_next_event(workshop: Workshop, start: tuple[str, ...]) -> None:
    """With `yes` the folder is in the profile, the novelty is that of the wider profile, and other files are served."""
    path = workshop.new()
    chosen = ("--cold-starts", "1", "--events", events(workshop, *NAMES[:3]), "--output", path)
    learn: tuple[str | Path, ...] = ("learn", "reads", *start, *chosen)
    done = workshop.sandbox(*learn, "--generalise", "yes", "--json")
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["generalised"]
    assert said["completeness"]["invoke"]["novelty"] == 0.0
    assert [(one["reach"], one["place"], one["events"]) for one in said["new"]] == [
        ("read", f"{workshop.folder}/data/**", 3)
    ]
    assert f"{workshop.folder}/data/**" in document.read(str(path)).profile.reads
    results = workshop.invoke(path, start, events(workshop, NAMES[3]))
    assert [line["result"] for line in results] == [str(len(NAMES[3]))]
    outside = workshop.folder / "other.txt"
    outside.write_text("no part of it")
    workshop.invoke(path, start, workshop.events({"path": str(outside)}), expect=1)


@pytest.mark.parametrize(("answer", "accepted"), [("y", True), ("n", False)])
def test_on_a_terminal_it_asks(workshop: Workshop, start: tuple[str, ...], answer: str, accepted: bool) -> None:
    """A person who says yes gets the lines that were shown, and one who says no the profile without them."""
    path = workshop.new()
    ours, theirs = pty.openpty()
    arguments = (
        "learn", "reads", "--no-verify",
        *start, "--cold-starts", "1", "--events", events(workshop, *NAMES[:3]), "--output", path,
    )  # fmt: skip
    environment = {"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": str(workshop.home), "TERM": "xterm"}
    os.write(ours, answer.encode() + b"\n")
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox", *map(str, arguments)], cwd=workshop.folder, env=environment, stdin=theirs,
        stdout=theirs, stderr=theirs, **identity(workshop.uid),
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:
                break  # EIO: nobody has the other end any more
        assert process.wait(60) == 0, said.decode()
    os.close(ours)
    assert b"Accept them? [y/N]" in said
    assert (f"{workshop.folder}/data/**" in document.read(str(path)).profile.reads) == accepted


def test_what_a_profile_has_is_not_proposed_again(workshop: Workshop, start: tuple[str, ...]) -> None:
    """Once accepted, the lines stay with --merge, and nothing is left to ask."""
    path = workshop.new()
    learn: tuple[str | Path, ...] = ("learn", "reads", *start, "--cold-starts", "1", "--output", path)
    workshop.sandbox(*learn, "--events", events(workshop, *NAMES[:3]), "--generalise", "yes")
    done = workshop.sandbox(*learn, "--events", events(workshop, *NAMES[1:]), "--merge", "--json")
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["proposed"] == []
    assert f"{workshop.folder}/data/**" in document.read(str(path)).profile.reads
