"""The examples that touch files and programs: learned, then served under rules on both, alone and supervised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_command import Workshop, workshop_of
from users_and_folders import USERS, user_id

from sandbox.kernel import landlock
from sandbox.profile import document

pytestmark = pytest.mark.skipif(landlock.abi_version() < 3, reason="Landlock ABI 3 is needed (Linux 6.2)")

EXAMPLES = {"archive": ("nothing", {"/usr/bin/gzip"}), "notes": ("/tmp", set()), "thumbnail": ("/tmp", set())}
"""Where each writes, and the programs that it starts."""


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """Each user with the commands."""
    with workshop_of(request.param) as found:
        yield found


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_works_under_its_rules(workshop: Workshop, name: str) -> None:
    """Every sample event is served as it was in training, and the status line tells the rules that were in force."""
    writes, programs = EXAMPLES[name]
    root = workshop.home / "examples" / name
    start = ("--handler", "app.handler", "--root", root, "--events", root / "events")
    path = workshop.new()
    workshop.sandbox("learn", name, *start, "--output", path)
    assert document.read(str(path)).profile.processes == programs
    for supervise in "01":
        done = workshop.sandbox("invoke", path, *start, "--json", more={"SANDBOX_SUPERVISE": supervise})
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert {line["status"] for line in results} == {"ok"}
        said: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        (status,) = [line for line in said if line["event"] == "sandbox"]
        (told,) = [line for line in status["enforced"] if line.startswith("files: ")]
        assert f", write {writes}, by Landlock ABI" in told
        assert any(line.startswith("programs: /usr/bin/gzip, ") for line in status["enforced"]) == bool(programs)
        assert not [line for line in said if line["event"] == "violation"]
