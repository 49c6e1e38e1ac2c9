"""Two functions of Python and the policy of the first, learned once a file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandbox_command import Workshop, compiled
from users_and_folders import HOME, place

APP = """
import os
import time

events = 0

def handler(event, context):
    global events
    events += 1
    if "raise" in event:
        raise KeyError(event["raise"])
    if "exit" in event:
        os._exit(event["exit"])
    time.sleep(event.get("sleep", 0))
    return {"pid": os.getpid(), "events": events, "parent": os.getppid()}
"""

CALLS = """
import ctypes

LIBC = ctypes.CDLL(None)

def handler(event, context):
    if event.get("attack"):
        return {"result": LIBC.mount(0, 0, 0, 0, 0)}
    if event.get("large"):
        return {"result": 0, "text": "x" * event["large"]}
    return {"result": 0, "request": context.aws_request_id}
"""


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """A folder with both functions in it, and the command."""
    with place(None) as folder:
        (folder / "app.py").write_text(APP)
        (folder / "calls.py").write_text(CALLS)
        yield Workshop(None, HOME, folder)


@pytest.fixture(scope="module")
def policy(workshop: Workshop) -> str:
    """The application's policy; it was trained on nothing that fails."""
    events = str(workshop.events({}, {"sleep": 0.01}))
    return compiled(workshop, "app", "--handler", "app.handler", "--root", str(workshop.folder), "--events", events)
