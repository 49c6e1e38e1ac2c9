"""What README.md and docs/questions.md show, run as it stands: the first example, and an incomplete profile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from sandbox_command import LIMIT, Workshop

QUESTION = "**What happens if the profile is incomplete?**"


def commands(workshop: Workshop) -> list[str]:
    """The commands of the answer, with this interpreter and a folder of the test's own."""
    text = (workshop.home / "docs" / "questions.md").read_text().partition(QUESTION)[2].partition("\n**")[0]
    found = re.findall(r"^    \$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    ours = {"--python build/venv ": "", "$PWD/build/": "build/", "build/": f"{workshop.folder}/"}
    for old, new in ours.items():
        found = [command.replace(old, new) for command in found]
    return [re.sub(r"(?<![\w/-])sandbox ", f"{sys.executable} -m sandbox ", command) for command in found]


def test_an_incomplete_profile_is_amended_by_one_audit(workshop: Workshop) -> None:
    """Refused with a line, let through in audit, amended, and enforced without a line."""
    ran = []
    for command in commands(workshop):
        environment = {"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": str(workshop.home), "LANG": "C.UTF-8"}
        ran.append(
            subprocess.run(
                command, shell=True, cwd=workshop.home, env=environment, text=True, capture_output=True,
                stdin=subprocess.DEVNULL, timeout=LIMIT, check=False,
            )
        )  # fmt: skip
    assert [done.returncode for done in ran] == [0, 1, 0, 0, 0, 0, 0], [done.stdout + done.stderr for done in ran]
    _, refused, events, audited, amended, enforced, quiet = (done.stdout for done in ran)
    assert refused.startswith("1-replace.json: PermissionError: ")
    assert "unlink(" in events
    assert "denied: not in the profile; by " in events
    assert " line 20; to allow: syscalls.invoke.unlink: " in events
    assert audited.startswith("1-replace.json: ok in ")
    assert "+ write: /tmp/* (by function, python)\n" in amended
    assert "+ invoke: unlink, cpath (learned from violations)\n" in amended
    assert enforced.startswith("1-replace.json: ok in ")
    assert quiet == ""


def test_the_first_example_has_no_line(workshop: Workshop) -> None:
    """The committed profile serves an ordinary event of its example from wherever this project lies."""
    example = workshop.home / "examples" / "thumbnail"
    where = ("--handler", "app.handler", "--root", example, "--events", example / "held-out" / "4-png-stripes.json")
    done = workshop.sandbox("invoke", workshop.home / "profiles" / "thumbnail.yaml", *where)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")] == ["sandbox"]
