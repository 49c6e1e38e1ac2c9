"""Commands that follow a log until Ctrl-C, SIGTERM, or the end of whoever reads their output."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sandbox.logs.following import LogFollower

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def following(path: str) -> Iterator[LogFollower]:
    """A log to follow. The first signal ends the following and the command ends well; the second ends it at once."""
    follower = LogFollower(path, output=1)
    before: dict[int, Any] = {}

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        follower.stop()

    for number in map(int, ENDING):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, end)
    try:
        yield follower
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        follower.close()
