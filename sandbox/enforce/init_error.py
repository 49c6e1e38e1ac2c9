"""POST /runtime/init/error, so that the platform shows a reason and not a bare Runtime.ExitError.

Only loaded when something went wrong; plain sockets with a time-out, since the way out must not hang.
"""

from __future__ import annotations

import json
import socket

TIMEOUT = 2.0  # seconds; the platform kills an initialisation after 10


def post(api: str, error_type: str, message: str) -> bool:
    """Report an initialisation error to the Runtime API at `host:port`. False when it could not be delivered."""
    host, _, port = api.rpartition(":")
    body = json.dumps({"errorMessage": message, "errorType": error_type, "stackTrace": []}).encode()
    head = (
        f"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: {api}\r\nContent-Type: application/json\r\n"
        f"Lambda-Runtime-Function-Error-Type: {error_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT) as connection:
            connection.sendall(head.encode() + body)
            return connection.recv(64).startswith(b"HTTP/1.1 2")
    except (OSError, ValueError):
        return False
