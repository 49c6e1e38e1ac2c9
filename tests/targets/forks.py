"""A handler that forks: the child writes the event's `marker`, if any, and exits with 7; the parent waits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Return the child's status, or the errno of the fork."""
    try:
        child = os.fork()
    except OSError as error:
        return {"errno": error.errno or 0}
    if child == 0:
        if "marker" in event:
            Path(event["marker"]).write_text("the child ran")
        os._exit(7)
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status)}
