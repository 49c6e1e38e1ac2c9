"""A workshop for the user of the tests, and the profiles that several tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_command import Workshop, workshop_of


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The user of the tests."""
    with workshop_of(None) as found:
        yield found


@pytest.fixture(scope="module")
def hello(workshop: Workshop) -> Path:
    """The profile of the plainest handler."""
    path = workshop.new()
    start = ("--handler", "hello.handler", "--root", workshop.targets)
    events = workshop.home / "examples/hello/events"
    workshop.sandbox("learn", "hello", *start, "--events", events, "--output", path)
    return path


@pytest.fixture(scope="module")
def fails(workshop: Workshop) -> Path:
    """The profile of a handler that fails when asked to, learned from an event that does not ask."""
    path = workshop.new()
    start = ("--handler", "fails.handler", "--root", workshop.targets)
    workshop.sandbox("learn", "fails", *start, "--events", workshop.events({}), "--output", path, "--cold-starts", "1")
    return path
