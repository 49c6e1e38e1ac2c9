"""A Runtime API to which a start that fails reports."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any


class InitErrors:
    """A Runtime API that only notes what is posted, as (path, type in the header, body); or one that never answers."""

    def __init__(self, *, answers: bool = True) -> None:
        self.requests: list[tuple[str, str | None, dict[str, Any]]] = []
        requests = self.requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append((self.path, self.headers["Lambda-Runtime-Function-Error-Type"], json.loads(body)))
                if answers:
                    self.send_response(202)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.rfile.read()  # until the other side gives up

            def log_message(self, *args: object) -> None:
                """Nothing on standard error."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> InitErrors:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def name(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.server.server_address[1]}"
