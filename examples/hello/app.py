"""The smallest handler: greet whom the event names."""

from __future__ import annotations


def handler(event: dict[str, str], context: object) -> dict[str, str]:
    """Return {"greeting": "Hello, NAME!"}."""
    return {"greeting": f"Hello, {event.get('name', 'world')}!"}
