"""A handler that connects to the event's `host` and `port` over TCP, sends a line and reads one back."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return {"reply": text}, or {"call": the step that failed, "errno": n, or null after 5 seconds}."""
    call = "socket"
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(event["host"]).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.settimeout(5)
            call = "connect"
            line.connect((event["host"], int(event["port"])))
            call = "exchange"
            line.sendall(b"ping\n")
            return {"reply": line.recv(64).decode()}
    except OSError as error:
        return {"call": call, "errno": error.errno}
