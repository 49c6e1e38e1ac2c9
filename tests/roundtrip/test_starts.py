"""Starts as the platform varies them: restored from a snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sandbox_command import Workshop, workshop_of
from users_and_folders import USERS, user_id

RESTORED = """
import os, tempfile, threading
from snapshot_restore_py import register_after_restore, register_before_snapshot

state = []


def before():
    state.append("before")


def after():
    state.append("after")
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.write(os.urandom(4))
    thread = threading.Thread(target=state.append, args=("thread",))
    thread.start()
    thread.join()


register_before_snapshot(before)
register_after_restore(after)


def handler(event, context):
    return state
"""


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """Each user with the commands."""
    with workshop_of(request.param) as made:
        yield made


def start_of(workshop: Workshop, name: str, code: str) -> tuple[str, ...]:
    """The options that start a handler with this code."""
    root = workshop.folder / name
    root.mkdir()
    root.chmod(0o755)
    (root / "app.py").write_text(code)
    (root / "app.py").chmod(0o644)
    return ("--handler", "app.handler", "--root", str(root))


def test_restored_starts_are_trained(workshop: Workshop) -> None:
    """With --snapstart the hooks run in training; the same start is served, and one without those rights fails."""
    start, events, profile = start_of(workshop, "restored", RESTORED), workshop.events({}), workshop.new()
    options = (*start, "--snapstart")
    workshop.sandbox("learn", "restored", *options, "--events", events, "--cold-starts", "1", "--output", profile)
    (served,) = workshop.invoke(profile, options, events)
    assert json.loads(served["result"]) == ["before", "after", "thread"]
    on_demand = workshop.new()
    one = ("--no-verify", "--cold-starts", "1", "--events", events)
    workshop.sandbox("learn", "restored", *start, *one, "--output", on_demand)
    (served,) = workshop.invoke(on_demand, start, events)
    assert json.loads(served["result"]) == []
    (refused,) = workshop.invoke(on_demand, options, events, expect=1)
    assert refused["status"] == "error"
