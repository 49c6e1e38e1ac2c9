"""A DNS server on loopback that answers as a test wants it to, over UDP and TCP, and counts what it is asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from dnslib import DNSRecord

Answer = Callable[[DNSRecord, str], list[bytes]]
"""From a question and `udp` or `tcp` to the packets to send back, in order."""


class Resolver:
    """`asked` holds (name, type, protocol) of each question, `packets` the whole; `address` is (host, port)."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[tuple[str, str, str]] = []
        self.packets: list[bytes] = []
        self.senders: list[Any] = []
        self.udp, self._tcp = _bound_pair()
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.address: tuple[str, int] = self.udp.getsockname()
        self._tcp.listen(64)
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]

    def __enter__(self) -> Resolver:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self.udp, self._tcp, *self._connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for sock in (self.udp, self._tcp, *self._connections):
            sock.close()

    def _take(self, packet: bytes, protocol: str) -> list[bytes]:
        record = DNSRecord.parse(packet)
        self.packets.append(packet)
        kind = {1: "A", 28: "AAAA", 12: "PTR", 16: "TXT"}.get(record.q.qtype, str(record.q.qtype))
        self.asked.append((str(record.q.qname).rstrip("."), kind, protocol))
        return self._answer(record, protocol)

    def _serve_udp(self) -> None:
        for packet, sender in _until_shut(lambda: self.udp.recvfrom(65535)):
            if not packet:
                return
            self.senders.append(sender)
            for reply in self._take(packet, "udp"):
                self.udp.sendto(reply, sender)

    def _serve_tcp(self) -> None:
        for connection, _ in _until_shut(self._tcp.accept):
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve_connection, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve_connection(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            while len(length := file.read(2)) == 2:
                for reply in self._take(file.read(int.from_bytes(length, "big")), "tcp"):
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)


def _bound_pair() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket with one port: what is free for one protocol may be taken for the other."""
    for _ in range(100):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            udp.bind(("127.0.0.1", 0))
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise OSError("no port is free for both protocols")


def _until_shut(take: Callable[[], Any]) -> Iterator[Any]:
    while True:
        try:
            found = take()
        except OSError:
            return
        yield found
