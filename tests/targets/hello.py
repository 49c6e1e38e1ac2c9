"""A handler that gives its event back."""

from __future__ import annotations

from typing import Any


def handler(event: Any, context: object) -> dict[str, Any]:
    """Return {"event": event}."""
    return {"event": event}
