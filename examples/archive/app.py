"""Compress the event's text by running one child program, /usr/bin/gzip."""

from __future__ import annotations

import base64
import gzip
import subprocess
from typing import Any

PROGRAM = "/usr/bin/gzip"


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return the compressed text as base64 with both lengths in bytes; raise where gzip fails or lies."""
    content = event["text"].encode() * event.get("repeat", 1)
    level = f"-{event.get('level', 6)}"
    command = [PROGRAM, "-n", "-c", level]
    packed = subprocess.run(command, input=content, capture_output=True, check=True).stdout
    if gzip.decompress(packed) != content:
        raise ValueError(f"{PROGRAM} gave back something else than it was given")
    return {"before": len(content), "after": len(packed), "gzip": base64.b64encode(packed).decode()}
