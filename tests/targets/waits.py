"""A handler that says when it waits, and a module that can wait while it is loaded."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

if os.environ.get("WAIT_IN_INIT"):
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Sleep for `wait` seconds."""
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(event.get("wait", 0))
    return {}
