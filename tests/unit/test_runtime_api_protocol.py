"""The Runtime API's server and session over raw sockets: hostile clients, framing, long polls."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from sandbox.runtime_api.server import Server
from sandbox.runtime_api.session import Flight, Session

BASE = "/2018-06-01/runtime/"
NEXT = f"GET {BASE}invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Api:
    """A server with a session of its own, as an environment would hold it."""

    def __init__(self, close_every: int = 0) -> None:
        self.session = Session(payload_limit=1000, stream_limit=10**6)
        self.server = Server(self.session, close_every=close_every)
        self.server.start()

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=10)

    def talk(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back until the server closes."""
        with self.connect() as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: peer.recv(65536), b""))

    def fly(self, payload: bytes = b"{}", seconds: float = 10) -> tuple[Flight, threading.Thread]:
        """Send an invocation from a thread of its own."""
        flight = Flight("id-1", (("Lambda-Runtime-Trace-Id", "t"),), payload)
        thread = threading.Thread(target=self.session.carry, args=(flight, time.monotonic() + seconds))
        thread.start()
        return flight, thread

    def close(self) -> None:
        """End everything."""
        self.session.cancel()
        self.server.close()
        self.server.close()


@pytest.fixture
def api() -> Iterator[Api]:
    """A running server; when it is closed no thread and no descriptor is left."""
    threads, descriptors = set(threading.enumerate()), sorted(os.listdir("/proc/self/fd"))
    running = Api()
    yield running
    running.close()
    assert set(threading.enumerate()) == threads
    assert sorted(os.listdir("/proc/self/fd")) == descriptors


def result(status_line: bytes) -> int:
    """Return the status of a raw response."""
    return int(status_line.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBroken Header\r\n\r\n",
        b"GET / FTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        NEXT[:-4],
    ],
)
def test_garbage_gets_400(api: Api, garbage: bytes) -> None:
    """A client that does not speak HTTP is told so, and the next one is served."""
    answer = api.talk(garbage)
    assert result(answer) == 400
    assert b"connection: close" in answer.lower()
    assert result(api.talk(f"GET {BASE}x HTTP/1.1\r\nHost: x\r\n\r\n".encode())) == 404


def test_endless_header_is_refused(api: Api) -> None:
    """A head without an end gets 431 and not all of the memory."""
    assert result(api.talk(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_500_000)) == 431


def test_clients_that_vanish_do_no_harm(api: Api) -> None:
    """Connections that end before, inside or after a request leave the server as it was."""
    for data in (
        b"",
        NEXT[:10],
        f"POST {BASE}init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1".encode(),
    ):
        with api.connect() as peer:
            peer.sendall(data)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert api.session.failure is None
    assert result(api.talk(f"GET {BASE}x HTTP/1.1\r\nHost: x\r\n\r\n".encode())) == 404


@pytest.mark.parametrize(
    "path", ["/", "/2018-06-01/", f"{BASE}invocation/", f"{BASE}invocation/a/b/response"]
)
def test_unknown_paths(api: Api, path: str) -> None:
    """What the contract does not name is 404, in JSON."""
    answer = api.talk(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    assert result(answer) == 404
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errorType"] == "NotFound"


def test_pipelined_requests_and_other_forms(api: Api) -> None:
    """Requests in one packet are answered in order; HEAD has no body; the absolute form and a query are fine."""
    head = f"HEAD {BASE}invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
    query = f"GET {BASE}init/error?a=b HTTP/1.1\r\nHost: x\r\n\r\n"
    absolute = f"GET http://x{BASE}restore/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = api.talk((head + query + absolute).encode())
    statuses = [result(line) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [405, 405]
    assert answer.count(b"HTTP/1.1 ") == 3
    assert b"HTTP/1.1 200 OK\r\n" in answer


def test_old_clients(api: Api) -> None:
    """An HTTP/1.0 client is served and the connection closed."""
    flight, thread = api.fly(b"event")
    answer = api.talk(f"GET {BASE}invocation/next HTTP/1.0\r\n\r\n".encode())
    assert answer.endswith(b"\r\n\r\nevent")
    body = b"POST " + f"{BASE}invocation/id-1/response HTTP/1.0\r\nContent-Length: 2\r\n\r\nok".encode()
    assert result(api.talk(body)) == 202
    thread.join()
    assert flight.answer is not None
    assert flight.answer.payload == b"ok"


def test_half_closed_long_poll_is_answered(api: Api) -> None:
    """A client that shut down its sending side (nc, for one) still gets its invocation."""
    answers: list[bytes] = []
    poll = threading.Thread(
        target=lambda: answers.append(api.talk(NEXT.replace(b"x\r\n", b"x\r\nConnection: close\r\n")))
    )
    poll.start()
    assert api.session.initialised(time.monotonic() + 10, extend=False) == "ready"
    _, thread = api.fly(b"event", seconds=0.5)
    poll.join()
    thread.join()
    assert answers[0].endswith(b"event")


@pytest.mark.parametrize("every", [0, 1])
def test_invocation_goes_past_clients_that_gave_up(every: int) -> None:
    """One that hung up in its long poll does not swallow the invocation; the next poll gets it."""
    for _ in range(30):
        api = Api(close_every=every)
        with api.connect() as quitter:
            quitter.sendall(NEXT)
            assert api.session.initialised(time.monotonic() + 10, extend=False) == "ready"
        flight, thread = api.fly(b"event")
        assert api.talk(NEXT).endswith(b"\r\n\r\nevent")
        head = f"POST {BASE}invocation/id-1/response HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        assert result(api.talk(head.encode())) == 202
        thread.join()
        assert flight.cold
        assert flight.answer is not None
        api.close()


def test_invocation_in_an_unread_buffer_is_offered_again(api: Api) -> None:
    """One that reached a client which closed without reading it goes to the next poll."""
    with api.connect() as quitter:
        quitter.sendall(NEXT)
        flight, thread = api.fly(b"event")
        assert quitter.recv(1, socket.MSG_PEEK) == b"H"
    assert api.talk(NEXT).endswith(b"\r\n\r\nevent")
    assert not flight.waiting
    api.session.ended(0)
    thread.join()


def test_late_answers_are_refused(api: Api) -> None:
    """After its deadline an invocation takes no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", api.server.port)
    _, thread = api.fly(seconds=0.3)
    connection.request("GET", f"{BASE}invocation/next")
    connection.getresponse().read()
    thread.join()
    connection.request("POST", f"{BASE}invocation/id-1/response", b"{}")
    assert connection.getresponse().status == 400
    connection.close()


def test_expect_continue(api: Api) -> None:
    """A client that asks before it sends its body is told to go on."""
    with api.connect() as peer:
        head = (
            f"POST {BASE}init/error HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        peer.sendall(head.encode())
        assert result(peer.recv(4096)) == 100
        peer.sendall(b"{}")
        assert result(peer.recv(4096)) == 202
    assert api.session.initialised(time.monotonic() + 10, extend=False) == "failed"


def test_oversized_bodies_leave_the_connection_usable(api: Api) -> None:
    """A body over the limit is read to its end, so that the client sees 413 and can go on."""
    connection = http.client.HTTPConnection("127.0.0.1", api.server.port)
    for _ in range(2):
        connection.request("POST", f"{BASE}init/error", b"x" * 1_000_000)
        response = connection.getresponse()
        assert response.status == 413
        response.read()
    connection.close()


def test_state_after_an_initialisation_error(api: Api) -> None:
    """Nothing but the end may follow an error in initialisation."""
    connection = http.client.HTTPConnection("127.0.0.1", api.server.port)
    statuses = []
    for method, path in (
        ("POST", "init/error"),
        ("POST", "init/error"),
        ("GET", "invocation/next"),
        ("GET", "restore/next"),
    ):
        connection.request(method, BASE + path, b"{}" if method == "POST" else None)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses == [202, 403, 403, 403]


def test_restoration_extends_the_init_limit(api: Api) -> None:
    """A runtime that asks to be restored gets the restore limit on top of the init limit."""
    assert result(api.talk(f"GET {BASE}restore/next HTTP/1.1\r\nHost: x\r\n\r\n".encode())) == 200
    timer = threading.Timer(
        0.4,
        lambda: api.talk(
            f"POST {BASE}restore/error HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        ),
    )
    timer.start()
    assert api.session.initialised(time.monotonic() + 0.1, extend=False) == "late"
    assert api.session.initialised(time.monotonic() + 0.1, extend=True) == "failed"
    timer.join()


def test_drain_cuts_what_does_not_end() -> None:
    """After its time drain cuts idle connections, and the server serves new ones."""
    api = Api()
    with api.connect() as idle:
        idle.sendall(f"GET {BASE}x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert result(idle.recv(4096)) == 404
        api.server.drain(0.1)
        assert idle.recv(1) == b""
    assert result(api.talk(f"GET {BASE}x HTTP/1.1\r\nHost: x\r\n\r\n".encode())) == 404
    api.close()


def test_only_loopback_listens(api: Api) -> None:
    """The port is bound to 127.0.0.1 and to nothing else."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", api.server.port), timeout=2)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("every", [0, 1, 2, 3])
def test_curl_survives_closing(every: int) -> None:
    """curl, several requests on one handle, copes with a server that closes after every N-th reply."""
    api = Api(close_every=every)
    url = f"http://127.0.0.1:{api.server.port}{BASE}"
    command = ["curl", "-sS", "-w", "%{http_code} "]
    command += ["-o", "/dev/null", url + "restore/next"]
    for _ in range(5):
        command += ["-o", "/dev/null", url + "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    api.close()
    assert done.stderr == ""
    assert done.stdout.split() == ["200", *["404"] * 5]
