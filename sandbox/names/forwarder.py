"""The DNS forwarder: answers the function's questions for the names of its profile, and for no others.

The supervisor connects the function's resolver sockets here. Questions for names that are not allowed end with NXDOMAIN
and a report, so that nothing leaves inside a name; the addresses in answers are the ones that the function may then
connect to. One epoll descriptor stands for all sockets, so that the supervisor's loop watches a single one.

    forwarder = Forwarder(upstreams(), destinations.allows_name, on_denied, searches=searches())
    poll with forwarder.timeout(); forwarder.handle(fd, event) for an event, forwarder.tick() after every poll
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from sandbox.behaviour.destination import needs_own_entry, packed, reached, written
from sandbox.kernel import sockaddr
from sandbox.names import questions
from sandbox.names.addresses import KnownAddresses
from sandbox.names.exchange import Client, Datagram, Inquiry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sandbox.behaviour.stand_ins import StandIns
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.names.questions import Question

ANSWER_TIME = 2.5
"""Seconds that an upstream has before the next one is asked."""
CLIENT_TIME = 15.0
"""Seconds after which a silent TCP client is let go; more than three upstreams take."""
MOST_QUESTIONS = 256
"""In flight at once, each with a descriptor of its own; more get no answer, and resolvers ask again."""
MOST_CLIENTS = 16
"""TCP connections at once; the one that was silent for longest makes room."""
BATCH = 32
"""Datagrams that are taken before the supervisor's loop gets its turn again."""
FAILED = (questions.SERVER_FAILURE, questions.NOT_IMPLEMENTED, questions.REFUSED)
"""Codes after which resolvers ask the next server."""


class Forwarder:
    """`allowed` says which names may be asked for; `on_denied(name, type)` hears of every other question.

    `on_answer(name, addresses)` hears which addresses an answer gave, and while observing that a name exists.
    `observing` forwards every question, for learning and audit. `known_hosts` is what `hosts` returns, `keep` for how
    many seconds an address outlives its answer; `stand_ins` has addresses for names that no server is asked for. Raises
    OSError when loopback has no IPv4 address to bind.
    """

    def __init__(
        self,
        upstreams: Sequence[tuple[str, int]],
        allowed: Callable[[str], bool],
        on_denied: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        keep: float,
        searches: Iterable[str] = (),
        known_hosts: Mapping[bytes, frozenset[str]] | None = None,
        on_answer: Callable[[str, frozenset[str]], None] | None = None,
        observing: bool = False,
        stand_ins: StandIns | None = None,
    ) -> None:
        self._upstreams = tuple(upstreams)
        self._attempts = max(2, len(self._upstreams))
        self._allowed = allowed
        self._on_denied = on_denied
        self._on_answer = on_answer
        self._observing = observing
        self._suffixes = tuple(f".{name}" for name in searches)
        self._hosts = dict(known_hosts or {})
        self._stand_ins = stand_ins
        self._known = KnownAddresses(clock, keep)
        self._clock = clock
        self._most = max(8, min(MOST_QUESTIONS, os.sysconf("SC_OPEN_MAX") // 4))
        self._epoll = select.epoll()
        self._owners: dict[int, Callable[[int], None]] = {}
        # Both are ordered by deadline, because every new deadline is the same time away.
        self._inquiries: dict[Inquiry, float] = {}
        self._clients: dict[Client, float] = {}
        self._listening: dict[tuple[str, int], socket.socket] = {}
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                self._listen(family, host)
            except OSError:
                if family == socket.AF_INET:
                    self.close()
                    raise
                self._stop_listening(family)  # no IPv6 here: `address` gives the IPv4-mapped form
        places = [sock.getsockname() for sock in self._listening.values()]
        self._own = frozenset((packed(host), port) for host, port, *_ in places)

    def _listen(self, family: int, host: str) -> None:
        udp = self._listening["udp", family] = socket.socket(family, socket.SOCK_DGRAM)
        udp.setblocking(False)
        udp.bind((host, 0))
        self.watch(udp, select.EPOLLIN, lambda events: self._receive(udp))
        tcp = self._listening["tcp", family] = socket.socket(family, socket.SOCK_STREAM)
        tcp.setblocking(False)
        tcp.bind((host, 0))
        tcp.listen(MOST_CLIENTS)
        self.watch(tcp, select.EPOLLIN, lambda events: self._accept(tcp))

    def _stop_listening(self, family: int) -> None:
        for key in [key for key in self._listening if key[1] == family]:
            self.drop(self._listening.pop(key))

    def address(self, protocol: str, family: int, *, mapped: bool = False) -> bytes:
        """The struct sockaddr that stands for every resolver, for a `tcp` or `udp` socket of AF_INET or AF_INET6.

        `mapped`: of AF_INET6, for a resolver whose address is IPv4-mapped.
        """
        own = None if mapped else self._listening.get((protocol, family))
        port = (own or self._listening[protocol, socket.AF_INET]).getsockname()[1]
        loopback = socket.INADDR_LOOPBACK.to_bytes(4, "big")
        if family == socket.AF_INET:
            return struct.pack("<H", family) + struct.pack(">H4s8x", port, loopback)
        host = bytes(15) + b"\1" if own else sockaddr.MAPPED + loopback
        return struct.pack("<H", socket.AF_INET6) + struct.pack(">HI16sI", port, 0, host, 0)

    def is_own(self, address: SocketAddress) -> bool:
        """Whether an address is one of the forwarder's."""
        return (address.value, address.port) in self._own

    def descriptors(self) -> dict[int, int]:
        """{descriptor: events} to poll for; the same for as long as the forwarder lives."""
        return {self._epoll.fileno(): select.POLLIN}

    def handle(self, fd: int, event: int) -> None:
        """Do what can be done without waiting. `fd` and `event` are what poll said of `descriptors`."""
        # A descriptor that is closed on the way may come back as another socket's: those events are not its own.
        ready = [(number, events, self._owners.get(number)) for number, events in self._epoll.poll(0, 64)]
        for number, events, owner in ready:
            if owner is not None and self._owners.get(number) is owner:
                owner(events)
        self.tick()

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do; None while nothing waits."""
        due = [deadline for waiting in (self._inquiries, self._clients) for deadline in list(waiting.values())[:1]]
        return max(0.0, min(due) - self._clock()) if due else None

    def tick(self) -> None:
        """Ask the next upstream where one was silent for too long, and let silent clients go."""
        now = self._clock()
        while self._inquiries:
            inquiry, deadline = next(iter(self._inquiries.items()))
            if deadline > now:
                break
            self.ask_next(inquiry)
        while self._clients:
            client, deadline = next(iter(self._clients.items()))
            if deadline > now:
                break
            client.close()

    def names_of(self, address: str | bytes) -> frozenset[str]:
        """The allowed names for which an address, as text or packed, stands now; none for what is not an address.

        No answer makes a name mean this host, its link or a metadata address (rebinding); the hosts file does.
        """
        host = packed(address)
        if host is None:
            return frozenset()
        known = frozenset[str]() if needs_own_entry(host) else self._known.names_of(host)
        return known | self._hosts.get(host, frozenset())

    def asked_as(self, address: str | bytes) -> frozenset[str]:
        """The names for which an answer gave an address, whatever it is."""
        host = packed(address)
        return frozenset() if host is None else self._known.names_of(host)

    def learn(self, name: str, host: bytes, seconds: float, fixed: bool) -> None:
        """Another forwarder before this one has given a packed address for a name, or read it in the hosts file."""
        if fixed:
            self._hosts[host] = self._hosts.get(host, frozenset()) | {name}
        else:
            self._known.stand(name, host, seconds)

    def close(self) -> None:
        """Close every descriptor."""
        for client in list(self._clients):
            client.close()
        for inquiry in list(self._inquiries):
            self._end(inquiry)
        for key in list(self._listening):
            self.drop(self._listening.pop(key))
        self._epoll.close()

    def watch(self, sock: socket.socket, events: int, owner: Callable[[int], None]) -> None:
        """From now on `owner(events)` is called when the socket is ready."""
        self._epoll.register(sock, events)
        self._owners[sock.fileno()] = owner

    def change(self, sock: socket.socket, events: int) -> None:
        """Wait for other events of a watched socket."""
        self._epoll.modify(sock, events)

    def drop(self, sock: socket.socket) -> None:
        """Close a socket, watched or not."""
        if self._owners.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock)
        sock.close()

    def touch(self, client: Client) -> None:
        """The client was heard of: it is new or has made progress."""
        self._clients.pop(client, None)
        self._clients[client] = self._clock() + CLIENT_TIME

    def leave(self, client: Client) -> None:
        """The client is gone, and nobody waits for its answer."""
        self._clients.pop(client, None)
        for inquiry in [inquiry for inquiry in self._inquiries if inquiry.client is client]:
            self._end(inquiry)

    def take(self, packet: bytes, client: Client | Datagram) -> bool:
        """Answer a packet, now or later; False for one that gets no answer."""
        question = questions.read_question(packet)
        if question is None:
            return False
        if not question.plain:
            client.answer(questions.reply(question, questions.REFUSED))
        elif not self._may_ask(question):
            client.answer(questions.reply(question, questions.NAME_ERROR))
        elif question.qtype not in questions.TYPES:
            client.answer(questions.reply(question))
        elif self._stand_ins and (host := self._stand_ins.address(question.name)):
            client.answer(questions.addressed(question, host))
        elif len(self._inquiries) >= self._most:
            return False
        elif not any(inquiry.repeated_by(client, packet) for inquiry in self._inquiries):
            self.ask_next(Inquiry(self, question, packet, client))
        return True

    def _may_ask(self, question: Question) -> bool:
        name = question.name
        if question.qtype == questions.PTR:
            host = questions.reversed_address(name)
            if host is not None and (self.names_of(host) or self.asked_as(host)):
                return True
        if self._allowed(name):
            return True
        if name == "localhost" or name.endswith(".localhost"):
            # The C library asks where the hosts file lacks a family; it leads nowhere (RFC 6761, 6.3).
            return self._observing
        # Resolvers try an allowed name with each search domain behind it, too, and a short one with each until one of
        # the names exists: no harm is meant.
        stems = [name.removesuffix(suffix) for suffix in self._suffixes if name.endswith(suffix)]
        if not any(self._allowed(stem + suffix) for stem in stems for suffix in ("", *self._suffixes)):
            self._on_denied(name or ".", question.type_name)
        return self._observing

    def ask_next(self, inquiry: Inquiry) -> None:
        """Ask the next upstream; after the last one answer with what there is."""
        self._end(inquiry)
        while inquiry.attempts < self._attempts:
            upstream = self._upstreams[inquiry.attempts % len(self._upstreams)]
            inquiry.attempts += 1
            if inquiry.start(upstream):
                self._inquiries[inquiry] = self._clock() + ANSWER_TIME
                return
        inquiry.client.answer(inquiry.failure or questions.reply(inquiry.question, questions.SERVER_FAILURE))
        inquiry.client.go_on()

    def _end(self, inquiry: Inquiry) -> None:
        self._inquiries.pop(inquiry, None)
        inquiry.stop()

    def answered(self, inquiry: Inquiry, packet: bytes, answer: questions.DnsAnswer) -> None:
        """An upstream gave its answer, which goes on to the client."""
        question = inquiry.question
        packet = questions.answer_for(question, packet, stream=inquiry.client.stream)
        if answer.code in FAILED and inquiry.attempts < len(self._upstreams):
            inquiry.failure = packet
            self.ask_next(inquiry)
            return
        self._end(inquiry)
        # 0.0.0.0 is how filtering resolvers say no; it must not become a name for loopback.
        given = {reached(address): ttl for address, ttl in answer.addresses if any(address)}
        for host, ttl in given.items():
            self._known.remember(question.name, host, ttl)
        if self._on_answer and (given or (self._observing and answer.records and not answer.code)):
            self._on_answer(question.name, frozenset(map(written, given)))
        inquiry.client.answer(packet)
        inquiry.client.go_on()

    def _receive(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                packet, sender = sock.recvfrom(questions.LARGEST_QUESTION + 1)
            except OSError:
                return  # nothing more, or an error of an answer sent before, which is not this client's
            self.take(packet, Datagram(sock, sender))

    def _accept(self, sock: socket.socket) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            next(iter(self._clients)).close()
        try:
            connection, _ = sock.accept()
        except OSError:
            return  # gone already, or no descriptor left: then the connection waits in the backlog
        Client(self, connection)
