"""A handler that writes, reads back and removes a file: the event's `path`, else a new one under /tmp."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return path and the text read back, or path and errno; {"keep": true} leaves the file where it is."""
    path = Path(event.get("path", f"/tmp/writes-tmp-{os.getpid()}"))
    try:
        path.write_text(event.get("text", "written"))
        text = path.read_text()
        if not event.get("keep"):
            path.unlink()
    except OSError as error:
        return {"path": str(path), "errno": error.errno}
    return {"path": str(path), "text": text}
