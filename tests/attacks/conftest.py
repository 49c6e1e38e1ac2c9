"""The thumbnail function, learned once for all the attacks on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sandbox_command import Workshop
from users_and_folders import HOME, THUMBNAIL, place


@dataclass(frozen=True)
class Learned:
    """A workshop with the profile of examples/thumbnail in it."""

    workshop: Workshop
    profile: Path
    start: tuple[str, ...] = ("--handler", "app.handler", "--root", str(THUMBNAIL))


@pytest.fixture(scope="session")
def thumbnail() -> Iterator[Learned]:
    """`sandbox learn` on the sample events."""
    with place(None) as folder:
        learned = Learned(Workshop(None, HOME, folder), folder / "thumbnail.yaml")
        options = ("--events", THUMBNAIL / "events", "--output", learned.profile, "--cold-starts", "2")
        learned.workshop.sandbox("learn", "thumbnail", "--no-verify", *learned.start, *options)
        yield learned
