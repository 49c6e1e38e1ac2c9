"""A handler that starts threads and joins them: clone with CLONE_THREAD, no process."""

from __future__ import annotations

import threading
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Start `threads` threads (4 by default) that run at the same time; return the sum of what they did."""
    number = int(event.get("threads", 4))
    together = threading.Barrier(number)
    done: list[int] = []

    def work(index: int) -> None:
        together.wait(timeout=10)
        done.append(index)

    started = [threading.Thread(target=work, args=(index,)) for index in range(number)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return {"threads": number, "sum": sum(done)}
