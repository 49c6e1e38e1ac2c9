"""A Python handler for every case of tests/e2e/test_runtimes.py, attacks included."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from typing import Any

events = 0
if os.environ.get("BREAK_INIT"):
    raise ValueError("this handler cannot begin")


def _ended(*_: object) -> None:
    print("the handler saw SIGTERM", flush=True)
    os._exit(0)


signal.signal(signal.SIGTERM, _ended)


def _spawned(marker: str) -> str:
    try:
        return f"spawned: status {subprocess.run(['/usr/bin/touch', marker], check=False).returncode}"
    except OSError as error:
        return str(error)


def _connected(port: int) -> str:
    try:
        with socket.socket() as found:  # create_connection() would import a codec first, and files are refused too
            found.connect(("127.0.0.1", port))
        return "connected"
    except OSError as error:
        return str(error)


def handler(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Do what the event says."""
    global events
    events += 1
    if "raise" in event:
        raise IndexError(event["raise"])
    if "exit" in event:
        os._exit(event["exit"])
    time.sleep(event.get("sleep", 0))
    attack = ""
    if "spawn" in event:
        attack = _spawned(event["spawn"])
    if "connect" in event:
        attack = _connected(event["connect"])
    return {"pid": os.getpid(), "parent": os.getppid(), "events": events, "attack": attack}
