"""A handler that raises on {"fail": true} and succeeds on anything else."""

from __future__ import annotations

from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, bool]:
    """Return {"ok": true}, or raise ValueError("asked to fail")."""
    if event.get("fail"):
        raise ValueError("asked to fail")
    return {"ok": True}
