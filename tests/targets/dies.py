"""A handler whose process ends in mid-event: {"exit": STATUS} exits, {"signal": NUMBER} kills it."""

from __future__ import annotations

import os
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Return the process id where the event asks for no death."""
    if "exit" in event:
        os._exit(int(event["exit"]))
    if "signal" in event:
        os.kill(os.getpid(), int(event["signal"]))
    return {"pid": os.getpid()}
