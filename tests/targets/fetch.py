"""A handler that sends one line to event["host"]:event["port"] by name and returns what came back, or the errno."""

from __future__ import annotations

import socket
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return {"answer": text} or {"error": text}; the address of event["look"], if it has one."""
    try:
        if "look" in event:
            return {"answer": socket.gethostbyname(event["look"])}
        with socket.create_connection((event["host"], event["port"]), timeout=5) as connection:
            connection.sendall(b"hello\n")
            return {"answer": connection.recv(64).decode()}
    except OSError as error:
        return {"error": f"{type(error).__name__} {error.errno}"}
