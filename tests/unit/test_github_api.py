"""What GitHub, or the way to it, refuses is one error, whatever answers there."""

from __future__ import annotations

import socket
from threading import Thread

import pytest

from sandbox.ci.github_api import GitHub, NotDone

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[]"


@pytest.mark.parametrize("answer", [b"hello\r\n\r\n", CUT], ids=["not HTTP", "cut"])
def test_an_answer_that_is_not_one(answer: bytes) -> None:
    """A broken answer is as a refusal, and says to what."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection = server.accept()[0]
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        with pytest.raises(NotDone, match="GET /issues/7/labels: "):
            GitHub(f"http://127.0.0.1:{server.getsockname()[1]}", "o/r", "token").labels(7)
        thread.join()


def test_no_address() -> None:
    """Without GITHUB_API_URL nothing can be asked."""
    with pytest.raises(NotDone, match="unknown url type"):
        GitHub("", "o/r", "token").labels(7)
