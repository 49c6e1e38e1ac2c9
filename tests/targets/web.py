"""A web application, for WSGI (`application`) and ASGI (`app`): answers with the path, its version, and its process.

/shell starts a shell.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Start = Callable[[str, list[tuple[str, str]]], object]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

VERSION = 1


def answer(path: str) -> tuple[int, bytes]:
    """Status and body."""
    if path == "/shell":
        try:
            return 200, subprocess.run(["/bin/sh", "-c", "echo pwned"], capture_output=True, check=False).stdout
        except OSError as error:
            return 500, str(error).encode()
    return 200, f"{path} {VERSION} {os.getpid()}".encode()


def application(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """PEP 3333."""
    status, body = answer(environ["PATH_INFO"])
    start_response(f"{status} .", [("Content-Length", str(len(body)))])
    return [body]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """ASGI 3, with its life span."""
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
    status, body = answer(scope["path"])
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})
