"""The service that functions of the evaluation ask by production's name: HTTPS on loopback, with a memory."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from production_servers import API, https

DESTINATION = f"{API}:443"


@dataclass
class Production:
    """The running service. `received` are the paths and bodies of all requests."""

    port: int
    authority: Path
    received: list[str] = field(default_factory=list)

    @property
    def stand_in(self) -> str:
        """As starts that do not resolve production's name take it."""
        return f"{DESTINATION}=127.0.0.1:{self.port}"


Serve = Callable[[Path, type[http.server.BaseHTTPRequestHandler]], contextlib.AbstractContextManager[int]]


@contextlib.contextmanager
def plain(folder: Path, handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """HTTP on loopback, without a name."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextlib.contextmanager
def production(folder: Path, serve: Serve = https) -> Iterator[Production]:
    """GET /items/N answers N's price, and whatever is posted is accepted."""
    received: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_GET(self) -> None:
            self._answer({"price": len(self.path.partition("?")[0].rpartition("/")[2]) * 7})

        def do_POST(self) -> None:
            self._answer({"accepted": True})

        def _answer(self, answer: dict[str, object]) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            received.append(f"{self.path} {body.decode(errors='replace')}")
            said = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serve(folder, Handler) as port:
        yield Production(port, folder / "shop.pem", received)
