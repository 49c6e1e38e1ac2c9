"""The relay to the Runtime API on real sockets: bytes, ends and resets pass as they are, and ids are known in time."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from sandbox.egress import relay as relays

LIMIT = 10.0
GET = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n"


class Bench:
    """A relay that runs in a thread, in front of a listener that stands for the Runtime API."""

    def __init__(self, family: int, host: str) -> None:
        self.family = family
        self.api = socket.create_server((host, 0), family=family)
        self.api.settimeout(LIMIT)
        self.relay = relays.Relay()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            if select.select([self.relay.descriptor()], [], [], 0.05)[0]:
                self.relay.handle()

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """(the handler's end, the Runtime API's end) of a new connection."""
        client = self.reach(self.api.getsockname()[1])
        peer = self.api.accept()[0]
        peer.settimeout(LIMIT)
        return client, peer

    def reach(self, port: int) -> socket.socket:
        """A connection through the relay to a port of the host."""
        raw = self.relay.address(self.api.getsockname()[0], port, self.family)
        client = socket.socket(self.family)
        client.settimeout(LIMIT)
        host = "127.0.0.1" if self.family == socket.AF_INET else "::1"
        client.connect((host, int.from_bytes(raw[2:4], "big")))
        return client

    def close(self) -> None:
        """End the thread, then what is open."""
        self._done.set()
        self._thread.join()
        self.relay.finish()
        self.api.close()


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One for each family."""
    found = Bench(*request.param)
    with contextlib.closing(found):
        yield found


def respond(peer: socket.socket, request: bytes, body: bytes = b"{}") -> None:
    """An invocation, as the Runtime API hands it over."""
    head = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: %s\r\nContent-Length: %d\r\n\r\n" % (request, len(body))
    peer.sendall(head + body)


def heard(sock: socket.socket, length: int) -> bytes:
    """So many bytes, fewer where the other end stops."""
    found = bytearray()
    while len(found) < length and (piece := sock.recv(length - len(found))):
        found += piece
    return bytes(found)


def test_an_id_is_known_from_its_answer_to_the_next_question(bench: Bench) -> None:
    """The id is there before the handler has its event, stays until the next is asked for, and only its own is said."""
    client, peer = bench.connect()
    with client, peer:
        for request in ("one", "two"):
            client.sendall(GET)
            heard(peer, len(GET))
            assert bench.relay.request() is None
            respond(peer, request.encode())
            assert client.recv(1) == b"H"
            assert bench.relay.request() == request
            client.recv(4096)
            post = b"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\n\r\nHTTP/1.1" % request.encode()
            client.sendall(post)
            heard(peer, len(post))
            assert bench.relay.request() == request
            peer.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            client.recv(4096)
            assert bench.relay.request() == request


def test_a_connection_for_each_message(bench: Bench) -> None:
    """A runtime that connects anew for each message, as shell scripts do, is followed across its connections."""
    for request in ("one", "two"):
        client, peer = bench.connect()
        with client, peer:
            client.sendall(GET)
            heard(peer, len(GET))
            assert bench.relay.request() is None
            respond(peer, request.encode())
            client.recv(4096)
        client, peer = bench.connect()
        with client, peer:
            post = b"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\n\r\n" % request.encode()
            client.sendall(post)
            heard(peer, len(post))
            assert bench.relay.request() == request
            peer.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            client.recv(4096)


def test_of_two_at_once_none_is_said(bench: Bench) -> None:
    """Where two requests are served at the same time, nobody can tell which one a call belongs to."""
    pairs = [bench.connect() for _ in range(2)]
    for (client, peer), request in zip(pairs, (b"one", b"two"), strict=True):
        client.sendall(GET)
        heard(peer, len(GET))
        respond(peer, request)
        client.recv(4096)
    assert bench.relay.request() is None
    for client, peer in pairs:
        client.close()
        peer.close()


def test_much_in_both_directions_and_each_end_by_itself(bench: Bench) -> None:
    """Eight mebibytes pass each way unchanged; an end that stops sending still hears the other to its end."""
    data = bytes(range(256)) * (8 << 12)
    client, peer = bench.connect()
    with client, peer:
        for sender, receiver in ((client, peer), (peer, client)):
            writer = threading.Thread(target=lambda sock=sender: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            writer.start()
            assert heard(receiver, len(data)) == data
            assert receiver.recv(1) == b""
            writer.join()


def test_a_reset_and_a_refusal_arrive(bench: Bench) -> None:
    """A Runtime API that is gone in the middle, or not there at all, is heard as a reset, not as a short answer."""
    client, peer = bench.connect()
    with client:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with socket.socket(bench.family) as closed:
        closed.bind((bench.api.getsockname()[0], 0))
        with pytest.raises(ConnectionResetError), bench.reach(closed.getsockname()[1]) as client:
            client.recv(1)


def test_more_connections_than_are_served_wait_for_a_place(bench: Bench) -> None:
    """So many are relayed at a time; the next is when one has ended, and nothing of it is lost."""
    with contextlib.ExitStack() as stack:
        served = [tuple(map(stack.enter_context, bench.connect())) for _ in range(relays.MOST)]
        late = stack.enter_context(bench.reach(bench.api.getsockname()[1]))
        late.sendall(GET)
        assert not select.select([bench.api], [], [], 0.2)[0]
        for client, peer in served[:1]:
            client.close()
            peer.close()
        peer = stack.enter_context(bench.api.accept()[0])
        peer.settimeout(LIMIT)
        assert heard(peer, len(GET)) == GET
