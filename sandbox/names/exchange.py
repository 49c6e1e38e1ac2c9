"""The two ends of a DNS exchange: who asked (a datagram or a TCP client), and the inquiry at an upstream on its behalf.

Nothing waits here, and no error of a peer leaves this module: a client that is gone needs no answer, and an upstream
that fails makes way for the next.
"""

from __future__ import annotations

import errno
import os
import select
import socket

from sandbox.names import questions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Exchange(Protocol):
        """What both ends need of the forwarder."""

        def watch(self, sock: socket.socket, events: int, owner: Callable[[int], None]) -> None: ...
        def change(self, sock: socket.socket, events: int) -> None: ...
        def drop(self, sock: socket.socket) -> None: ...
        def touch(self, client: Client) -> None: ...
        def leave(self, client: Client) -> None: ...
        def take(self, packet: bytes, client: Client | Datagram) -> bool: ...
        def ask_next(self, inquiry: Inquiry) -> None: ...
        def answered(self, inquiry: Inquiry, packet: bytes, answer: questions.DnsAnswer) -> None: ...


LARGEST_MESSAGE = 65535
STRANGERS = 32
"""Datagrams of others that an inquiry reads past before the supervisor's loop gets its turn again."""


class Datagram:
    """A client that asked by UDP; forgotten once it has its answer."""

    __slots__ = ("_sender", "_sock")
    stream = False

    def __init__(self, sock: socket.socket, sender: Any) -> None:
        self._sock = sock
        self._sender = sender

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Datagram) and (self._sock, self._sender) == (other._sock, other._sender)

    def __hash__(self) -> int:
        return hash(self._sender)

    def answer(self, packet: bytes) -> None:
        try:
            self._sock.sendto(packet, self._sender)
        except OSError:
            return  # its buffer is full or it is gone: a datagram may be lost, and resolvers ask again

    def go_on(self) -> None:
        """Nothing waits behind a datagram."""


class Client:
    """A TCP connection. One question at a time: what is sent behind it waits in the kernel (RFC 7766 lets us)."""

    stream = True

    def __init__(self, exchange: Exchange, sock: socket.socket) -> None:
        self._exchange = exchange
        self._sock = sock
        self._incoming = bytearray()
        self._outgoing = b""
        self._asking = False
        self._closed = False
        sock.setblocking(False)
        exchange.watch(sock, select.EPOLLIN, self._ready)
        exchange.touch(self)

    def close(self) -> None:
        """Hang up; an inquiry for this client ends with it."""
        if not self._closed:
            self._closed = True
            self._exchange.drop(self._sock)
            self._exchange.leave(self)

    def answer(self, packet: bytes) -> None:
        """Send an answer, as much of it as there is room for now."""
        self._asking = False
        self._outgoing = len(packet).to_bytes(2, "big") + packet
        self._flush()

    def go_on(self) -> None:
        """Take the next question, if it is there."""
        while not (self._closed or self._asking or self._outgoing):
            length = int.from_bytes(self._incoming[:2], "big")
            if len(self._incoming) < 2 or (len(self._incoming) < 2 + length <= 2 + questions.LARGEST_QUESTION):
                break
            packet = bytes(self._incoming[2 : 2 + length])
            del self._incoming[: 2 + length]
            self._asking = True
            if length > questions.LARGEST_QUESTION or not self._exchange.take(packet, self):
                self.close()
        if not self._closed:
            waiting = select.EPOLLOUT if self._outgoing else 0 if self._asking else select.EPOLLIN
            self._exchange.change(self._sock, waiting)

    def _ready(self, events: int) -> None:
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self.close()
            return
        self._exchange.touch(self)
        if self._outgoing:
            self._flush()
        elif not self._asking:
            self._read()
        self.go_on()

    def _read(self) -> None:
        try:
            data = self._sock.recv(2 + questions.LARGEST_QUESTION)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._incoming += data
        else:
            self.close()

    def _flush(self) -> None:
        try:
            self._outgoing = self._outgoing[self._sock.send(self._outgoing) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()


class Inquiry:
    """A question at the upstreams, one after the other; each attempt has a socket, a port and an id of its own.

    `failure` is an answer that says no more than that an upstream failed.
    """

    def __init__(
        self, exchange: Exchange, question: questions.Question, packet: bytes, client: Client | Datagram
    ) -> None:
        self._exchange = exchange
        self.question = question
        self.client = client
        self.attempts = 0
        self.failure = b""
        self._packet = packet
        self._id = 0
        self._sock: socket.socket | None = None
        self._incoming = bytearray()
        self._outgoing = b""

    def repeated_by(self, client: Client | Datagram, packet: bytes) -> bool:
        """Whether a packet is the same question of the same client, asked again out of impatience."""
        return packet == self._packet and client == self.client

    def start(self, upstream: tuple[str, int]) -> bool:
        """Ask an upstream; False when it cannot be reached."""
        family = socket.AF_INET6 if ":" in upstream[0] else socket.AF_INET
        stream = self.client.stream
        start = os.urandom(2)
        message = start + questions.to_ask(self.question)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        except OSError:
            return False
        try:
            sock.setblocking(False)
            number = sock.connect_ex(upstream)
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
            if not stream:
                sock.send(message)
        except OSError:
            sock.close()
            return False
        self._id = int.from_bytes(start, "big")
        self._sock = sock
        self._incoming.clear()
        self._outgoing = len(message).to_bytes(2, "big") + message if stream else b""
        if stream:
            self._exchange.watch(sock, select.EPOLLOUT, self._stream_ready)
        else:
            self._exchange.watch(sock, select.EPOLLIN, self._datagram_ready)
        return True

    def stop(self) -> None:
        """Close what is open."""
        if self._sock is not None:
            self._exchange.drop(self._sock)
            self._sock = None

    def _datagram_ready(self, events: int) -> None:
        for _ in range(STRANGERS):
            if self._sock is None:
                return
            try:
                packet = self._sock.recv(LARGEST_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                self._exchange.ask_next(self)
                return
            # What does not belong to the question is forged or late: the right answer may still come.
            answer = questions.read_answer(packet, self._id, self.question)
            if answer is not None:
                self._exchange.answered(self, packet, answer)
                return

    def _stream_ready(self, events: int) -> None:
        if self._sock is None:
            return
        try:
            if self._outgoing:
                self._outgoing = self._outgoing[self._sock.send(self._outgoing) :]
                if not self._outgoing:
                    self._exchange.change(self._sock, select.EPOLLIN)
                return
            data = self._sock.recv(2 + LARGEST_MESSAGE - len(self._incoming))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._incoming += data
        length = int.from_bytes(self._incoming[:2], "big")
        if data and (len(self._incoming) < 2 or len(self._incoming) < 2 + length):
            return
        packet = bytes(self._incoming[2 : 2 + length])
        answer = questions.read_answer(packet, self._id, self.question) if data else None
        if answer is None:
            self._exchange.ask_next(self)  # hung up, or said what belongs to no question of ours
        else:
            self._exchange.answered(self, packet, answer)
