"""Starts as the platform varies them: restored from a snapshot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

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


KEEPS = """
import os, shutil

HOME = os.path.join(os.environ.get("TMPDIR", "/tmp"), "FOLDER")
if os.path.exists(HOME):
    os.utime(HOME)
else:
    os.mkdir(HOME)
once = []


def handler(event, context):
    if once:
        os.replace(HOME + "/state", HOME + "/state.old")
    elif os.path.exists(HOME + "/state"):
        shutil.move(HOME + "/state", HOME + "/before")
    with open(HOME + "/state", "w") as file:
        file.write("state")
    if event.get("makes"):
        os.mkdir(HOME + "/made")
    once.append(event)
    return len(once)
"""


def test_repeats_and_restarts_are_trained(workshop: Workshop) -> None:
    """What an event finds of its own, and a restart of its predecessor's, is trained; the report says how it served."""
    kept = Path(f"/tmp/keeps-{os.getpid()}-{user_id(workshop.uid)}")
    start = start_of(workshop, "keeps", KEEPS.replace("FOLDER", kept.name))
    profile, events = workshop.new(), workshop.events({}, {"makes": 1})
    options = ("--events", events, "--cold-starts", "1", "--output", profile)
    said = workshop.sandbox("learn", "keeps", *start, *options).stdout
    assert "starts and requests: on-demand, again, restarted, sampled" in said
    assert f"{events.name}:2 failed again: FileExistsError" in said
    assert "  enforce: ok" in said
    repeated = workshop.events({}, {}, {"makes": 1}, {})
    try:
        served = workshop.invoke(profile, start, repeated, more={"SANDBOX_SUPERVISE": "1"})
    finally:
        shutil.rmtree(kept)
    assert [line["result"] for line in served] == ["1", "2", "3", "4"]
    (finding,) = [line for line in workshop.sandbox("profile", "lint", profile, expect=None).stdout.splitlines()
                  if "training saw no" in line]  # fmt: skip
    assert finding.endswith("no start from a snapshot (SnapStart), no second worker (Managed Instances)")


WORKERS = """
import os


def handler(event, context):
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], os.environ["AWS_LAMBDA_MAX_CONCURRENCY"]
"""


def test_several_workers_are_trained(workshop: Workshop) -> None:
    """With --workers the real client forks them, which the profile allows at init and enforcement serves."""
    start, events, profile = start_of(workshop, "several", WORKERS), workshop.events({}), workshop.new()
    options = (*start, "--workers", "2")
    one = ("--events", events, "--cold-starts", "1", "--no-verify")
    workshop.sandbox("learn", "several", *options, *one, "--output", profile)
    assert "workers" in profile.read_text()
    (served,) = workshop.invoke(profile, options, events)
    assert json.loads(served["result"]) == ["lambda-managed-instances", "2"]
