"""A handler that a timer interrupts: SIGALRM every 10 ms cuts into sleep, select and read, and they go on."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Any

alarms = 0


def count(number: int, frame: object) -> None:
    """Count one SIGALRM."""
    global alarms
    alarms += 1


# In the main thread, at import: the runtime client may call the handler from another one.
signal.signal(signal.SIGALRM, count)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Sleep, select and read for `seconds` each (0.1 by default); return alarms and milliseconds taken."""
    seconds = float(event.get("seconds", 0.1))
    reader, writer = os.pipe()
    before, start = alarms, time.monotonic()
    late = threading.Timer(seconds, os.write, (writer, b"x"))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        time.sleep(seconds)
        select.select([reader], [], [], seconds)
        late.start()
        got = os.read(reader, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    late.join()
    os.close(reader)
    os.close(writer)
    return {"alarms": alarms - before, "read": got.decode(), "ms": round((time.monotonic() - start) * 1000)}
