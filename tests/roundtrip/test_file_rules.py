"""The examples that touch files and programs: learned, then served under rules on both, alone and supervised."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_command import Workshop, workshop_of
from users_and_folders import USERS, user_id

from sandbox.kernel import landlock
from sandbox.profile import document

pytestmark = pytest.mark.skipif(landlock.abi_version() < 3, reason="Landlock ABI 3 is needed (Linux 6.2)")

EXAMPLES = {"archive": ("nothing", {"/usr/bin/gzip"}), "notes": ("/tmp", set())}
"""Where each writes, and the programs that it starts."""


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """Each user with the commands."""
    with workshop_of(request.param, "/var/tmp") as found:
        yield found


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_works_under_its_rules(workshop: Workshop, name: str) -> None:
    """Every sample event is served as it was in training, and the status line tells the rules that were in force."""
    writes, programs = EXAMPLES[name]
    root = workshop.home / "examples" / name
    start = ("--handler", "app.handler", "--root", root, "--events", root / "events")
    path = workshop.new()
    workshop.sandbox("learn", name, "--no-verify", *start, "--output", path)
    assert document.read(str(path)).profile.processes == programs
    for supervise in "01":
        done = workshop.sandbox("invoke", path, *start, "--json", more={"SANDBOX_SUPERVISE": supervise})
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert {line["status"] for line in results} == {"ok"}
        said: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        (status,) = [line for line in said if line["event"] == "sandbox"]
        (told,) = [line for line in status["enforced"] if line.startswith("files: read ")]
        assert f", write {writes}, by Landlock ABI" in told
        assert any(line.startswith("programs: /usr/bin/gzip, ") for line in status["enforced"]) == bool(programs)
        assert not [line for line in said if line["event"] == "violation"]


DOTS = """
import os, socket

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def handler(event, _):
    base = HOME + "/here/link/.."
    try:
        os.close(os.open(HOME + "/not-there/clock", os.O_RDWR | os.O_CREAT, 0o660))
    except OSError:
        pass
    if event["what"] == "write":
        with open(event["path"], "w") as file:
            file.write("x")
        return "written"
    if event["what"] == "file":
        with open(base + "/data") as file:
            return file.read()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(base + "/s.sock")
        return client.recv(10).decode()
"""


def test_paths_through_links_and_creates_that_fail(workshop: Workshop) -> None:
    """Learned as the kernel walks them, both are served again; the create that failed opens no folder to write."""
    home = workshop.folder / "dots"
    for folder in ("f", "here", "there/deep"):
        (home / folder).mkdir(parents=True)
    (home / "here" / "link").symlink_to("../there/deep")
    (home / "there" / "data").write_text("data")
    (home / "f" / "app.py").write_text(DOTS)
    for place in (home, *home.rglob("*")):
        place.chmod(0o777)
    events = workshop.events({"what": "file"}, {"what": "socket"})
    attempts = workshop.events({"what": "write", "path": str(home / "new")})
    start = ("--handler", "app.handler", "--root", str(home / "f"))
    path = workshop.new()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "there" / "s.sock"))
        (home / "there" / "s.sock").chmod(0o777)
        listener.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as one:
                        one.sendall(b"socket")

        threading.Thread(target=answer, daemon=True).start()
        workshop.sandbox("learn", "dots", "--no-verify", *start, "--events", events, "--output", path)
        profile = document.read(str(path)).profile
        assert f"unix:{home}/there/s.sock" in profile.network
        assert str(home / "there" / "data") in profile.reads
        assert not [pattern for pattern in profile.writes if pattern.startswith(str(workshop.folder))]
        assert [line["result"] for line in workshop.invoke(path, start, events)] == ['"data"', '"socket"']
        assert [line["status"] for line in workshop.invoke(path, start, attempts, expect=None)] == ["error"]
    assert not (home / "new").exists()
