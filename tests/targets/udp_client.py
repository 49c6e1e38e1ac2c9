"""A handler that sends a datagram to the event's `host` and `port`, by sendto or, with `connect`, send."""

from __future__ import annotations

import socket
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return {"sent": number of bytes}, or {"call": the step that failed, "errno": n}."""
    address = (event["host"], int(event["port"]))
    call = "socket"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            if event.get("connect"):
                call = "connect"
                line.connect(address)
                call = "send"
                return {"sent": line.send(b"ping")}
            call = "sendto"
            return {"sent": line.sendto(b"ping", address)}
    except OSError as error:
        return {"call": call, "errno": error.errno}
