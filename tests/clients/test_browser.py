"""A headless browser as functions bring it: unpacked to /tmp at the first event, and started as a child."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_command import Workshop

from sandbox.profile import document

FOLDER = "/usr/lib/chromium"
NAME = "chromium-headless-shell"
PLACE = f"/tmp/browser-{os.getpid()}"
HANDLER = f"""
import os, shutil, subprocess, tempfile

PLACE = {PLACE!r}
FLAGS = ("--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage")


def handler(event, context):
    if not os.path.exists(PLACE):
        shutil.copytree({FOLDER!r}, PLACE + ".part", ignore=shutil.ignore_patterns("*validation*", "*crashpad*"))
        os.rename(PLACE + ".part", PLACE)
    program = os.path.join(PLACE, {NAME!r})
    if "other" in event:
        os.remove(program)
        shutil.copyfile(event["other"], program)
        os.chmod(program, 0o755)
    page = f"data:text/html,<p id=x></p><script>x.textContent = 'six times ' + {{event['n']}} / 6</script>"
    with tempfile.TemporaryDirectory() as data:
        command = [program, *FLAGS, f"--user-data-dir={{data}}", "--dump-dom", page]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        except OSError as error:
            return error.strerror
"""


def lines(text: str, event: str) -> list[dict[str, Any]]:
    """The lines of one sort that a supervisor wrote."""
    found = (json.loads(line) for line in text.splitlines() if line.startswith('{"event"'))
    return [line for line in found if line["event"] == event]


@pytest.fixture(autouse=True)
def _removed() -> Iterator[None]:
    """Training has a /tmp of its own; what is invoked leaves the browser behind."""
    yield
    shutil.rmtree(PLACE, ignore_errors=True)


@pytest.mark.skipif(not os.path.exists(f"{FOLDER}/{NAME}"), reason="no chromium-headless-shell")
def test_a_browser_is_trained_and_another_program_does_not_take_its_place(workshop: Workshop) -> None:
    """Pages are rendered, audited once and enforced without a line; what replaced the browser does not start."""
    root, path, log = workshop.folder / "browser", workshop.new(), workshop.new(".jsonl")
    root.mkdir()
    (root / "app.py").write_text(HANDLER)
    start = ("--handler", "app.handler", "--root", root, "--timeout", "90")
    training = ("--no-verify", "--cold-starts", "1", "--events", workshop.events({"n": 36}, {"n": 42}))
    workshop.sandbox("learn", "browser", *start, *training, "--output", path)
    (browser,) = document.read(str(path)).profile.processes
    assert browser == f"{PLACE}/{NAME}"
    # Without datagrams the base refuses one of IPv6 unseen, so that the browser goes on with what training never saw.
    audited = workshop.sandbox(
        "invoke", path, *start, "--events", workshop.events({"n": 48}), more={"SANDBOX_MODE": "audit"}
    )
    log.write_text(audited.stderr)
    if lines(audited.stderr, "violation"):
        workshop.sandbox("profile", "amend", path, "--from", log, "--yes")
    events = workshop.events({"n": 54}, {"n": 60, "other": "/usr/bin/echo"})
    served = workshop.sandbox("invoke", path, *start, "--events", events, "--json")
    page, refused = (json.loads(json.loads(line)["result"]) for line in served.stdout.splitlines())
    assert '<p id="x">six times 9</p>' in page
    assert refused == "Operation not permitted"
    (line,) = lines(served.stderr, "violation")
    assert (line["target"], "another content" in line["reason"]) == (browser, True)
