"""A workshop for the user of the tests, and the profiles that several tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from users import home_for, place
from workshop import Workshop


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The user of the tests."""
    with place(None) as folder, home_for(None) as home:
        yield Workshop(None, home, folder)


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
