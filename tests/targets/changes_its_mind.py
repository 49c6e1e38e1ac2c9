"""A handler that does more at every start but its first, at which it makes the file that the event's `path` names."""

from __future__ import annotations

import os
from typing import Any


def handler(event: dict[str, Any], context: object) -> str:
    """Return `first` or `again`; again it reads the file `then`, or calls umask."""
    if os.path.exists(event["path"]):
        if "then" in event:
            with open(event["then"]) as file:
                return file.read()
        os.umask(0o22)
        return "again"
    os.close(os.open(event["path"], os.O_CREAT | os.O_WRONLY))
    return "first"
