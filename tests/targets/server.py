"""A server for training: answers GET /ROUTE on the port of its argument until it is ended; /shell starts a shell.

Started with `deaf` behind the port it ignores SIGTERM.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    """Says which route was asked for."""

    def do_GET(self) -> None:
        """Answer 200 with the route, or 500 with the error."""
        status, text = 200, self.path
        if self.path == "/shell":
            try:
                text = subprocess.run(["/bin/sh", "-c", "echo pwned"], capture_output=True, text=True).stdout
            except OSError as error:
                status, text = 500, str(error)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until SIGTERM."""
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()


if __name__ == "__main__":
    main()
