"""A handler that resolves names and talks to nobody: libc connects UDP sockets only to sort the addresses.

Libc sorts where there are two addresses or more. Whether "localhost" has two depends on /etc/hosts; no name
at all always stands for both loopback addresses, so that one is asked for as well.
"""

from __future__ import annotations

import socket
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """Return the addresses of `name`, "localhost" by default, and those of no name at all."""
    return {"name": addresses(event.get("name", "localhost")), "loopback": addresses(None)}


def addresses(name: str | None) -> list[str]:
    """Resolve `name` for TCP port 80 and keep the addresses, in libc's order."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(name, 80, proto=socket.IPPROTO_TCP)]
