"""A handler that needs something new only at its second event: it starts a thread then, and only then."""

from __future__ import annotations

import threading

events = 0


def handler(event: object, context: object) -> dict[str, int | bool]:
    """Return how many events this environment has seen and whether this one started a thread."""
    global events
    events += 1
    ran = threading.Event()
    if events == 2:
        thread = threading.Thread(target=ran.set)
        thread.start()
        thread.join()
    return {"events": events, "thread": ran.is_set()}
