"""The DNS forwarder on real sockets: a resolver of the test's own above it, raw clients and glibc's below it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from dns_server import Resolver
from dnslib import AAAA, CNAME, EDNS0, PTR, QTYPE, RR, A, DNSHeader, DNSQuestion, DNSRecord

from sandbox.names import forwarder as forwarding
from sandbox.names.forwarder import Forwarder

ALLOWED = {"a.example.com", "b.example.com", "big.example.com", "alias.example.com", "slow.example.com"}
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
GIVE_UP = 20.0


class Clock:
    """Time that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def zone(record: DNSRecord, protocol: str) -> list[bytes]:
    """A small zone: addresses, an alias with strangers beside it, an answer that UDP has no room for."""
    name, kind = str(record.q.qname).rstrip(".").lower(), record.q.qtype
    reply = record.reply()
    if any(extra.rtype == QTYPE.OPT for extra in record.ar):
        reply.add_ar(EDNS0(udp_len=1232))
    if name == "slow.example.com":
        return []
    if name == "alias.example.com":
        reply.add_answer(RR("ALIAS.example.com", QTYPE.CNAME, rdata=CNAME("x.cdn.net"), ttl=300))
        reply.add_answer(RR("x.cdn.net", QTYPE.A, rdata=A("192.0.2.7"), ttl=20))
        reply.add_answer(RR("stranger.cdn.net", QTYPE.A, rdata=A("192.0.2.66"), ttl=20))
        reply.add_ar(RR("alias.example.com", QTYPE.A, rdata=A("192.0.2.67"), ttl=20))
    elif name == "big.example.com" and protocol == "udp":
        reply.header.tc = 1
    elif name == "big.example.com":
        for i in range(1, 201):
            reply.add_answer(RR("big.example.com", QTYPE.A, rdata=A(f"198.51.100.{i}"), ttl=60))
    elif kind == QTYPE.A:
        reply.add_answer(RR(name, QTYPE.A, rdata=A("192.0.2.1"), ttl=30), RR(name, QTYPE.A, rdata=A("0.0.0.0"), ttl=30))
    elif kind == QTYPE.AAAA:
        reply.add_answer(RR(name, QTYPE.AAAA, rdata=AAAA("2001:db8::1"), ttl=30))
    elif kind == QTYPE.PTR:
        reply.add_answer(RR(name, QTYPE.PTR, rdata=PTR("a.example.com"), ttl=30))
    return [bytes(reply.pack())]


class Bench:
    """A forwarder, what it reported, and clients that ask it."""

    def __init__(self, upstreams: list[tuple[str, int]], **options: object) -> None:
        self.clock = Clock()
        self.denied: list[tuple[str, str]] = []
        self.answers: list[tuple[str, frozenset[str]]] = []
        self.forwarder = Forwarder(
            upstreams, ALLOWED.__contains__, lambda name, kind: self.denied.append((name, kind)), self.clock,
            keep=60, on_answer=lambda name, addresses: self.answers.append((name, addresses)),
            **options,  # type: ignore[arg-type]
        )  # fmt: skip
        self._poll = select.poll()
        for fd, events in self.forwarder.descriptors().items():
            self._poll.register(fd, events)

    def turn(self, until: Callable[[], object], milliseconds: int = 5) -> None:
        """Run the supervisor's loop until something holds."""
        end = time.monotonic() + GIVE_UP
        while not until():
            assert time.monotonic() < end, "nothing happened"
            for fd, event in self._poll.poll(milliseconds):
                self.forwarder.handle(fd, event)
            self.forwarder.tick()

    def settle(self) -> None:
        """Run the loop until nothing is ready any more."""
        idle = 0
        while idle < 3:
            ready = self._poll.poll(10)
            idle = 0 if ready else idle + 1
            for fd, event in ready:
                self.forwarder.handle(fd, event)

    def client(self, protocol: str = "udp", family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        found = socket.socket(family, kind)
        address = self.forwarder.address(protocol, family)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.connect(found.fileno(), address, len(address)) == 0, os.strerror(ctypes.get_errno())
        return found

    def ask_raw(self, packet: bytes, protocol: str = "udp", family: socket.AddressFamily = socket.AF_INET) -> bytes:
        with self.client(protocol, family) as sock:
            sock.sendall(packet if protocol == "udp" else len(packet).to_bytes(2, "big") + packet)
            return self.receive(sock, protocol)

    def receive(self, sock: socket.socket, protocol: str = "udp") -> bytes:
        """One answer from a client's socket; empty where the forwarder hung up."""
        sock.setblocking(False)
        if protocol == "udp":
            self.turn(lambda: select.select([sock], [], [], 0)[0])
            return sock.recv(65535)
        found = b""
        while len(found) < 2 or len(found) < 2 + int.from_bytes(found[:2], "big"):
            self.turn(lambda: select.select([sock], [], [], 0)[0])
            try:
                data = sock.recv(2 if not found else 2 + int.from_bytes(found[:2], "big") - len(found))
            except ConnectionError:
                data = b""
            if not data:
                return b""
            found += data
        return found[2:]

    def ask(self, name: str, kind: str = "A", protocol: str = "udp") -> DNSRecord:
        record = DNSRecord.question(name, kind)
        found = DNSRecord.parse(self.ask_raw(record.pack(), protocol))
        assert found.header.id == record.header.id
        assert found.header.qr
        return found


def addresses(record: DNSRecord) -> set[str]:
    return {str(found.rdata) for found in record.rr if found.rtype in (QTYPE.A, QTYPE.AAAA)}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def benched(
    answer: Callable[[DNSRecord, str], list[bytes]] = zone, **options: object
) -> Iterator[tuple[Bench, Resolver]]:
    """A resolver and a forwarder to it; no descriptor outlives them."""
    before = open_descriptors()
    with Resolver(answer) as resolver:
        found = Bench([resolver.address], **options)
        try:
            yield found, resolver
        finally:
            found.forwarder.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_an_allowed_name_is_answered_and_remembered(protocol: str) -> None:
    """The answer arrives as the resolver gave it, and its addresses stand for the name from then on."""
    with benched() as (bench, resolver):
        assert bench.forwarder.names_of("192.0.2.1") == frozenset()
        assert addresses(bench.ask("A.Example.com", "A", protocol)) == {"192.0.2.1", "0.0.0.0"}
        assert addresses(bench.ask("b.example.com", "AAAA", protocol)) == {"2001:db8::1"}
        assert bench.forwarder.names_of("192.0.2.1") == {"a.example.com"}
        assert bench.forwarder.names_of("::ffff:192.0.2.1") == {"a.example.com"}
        assert bench.forwarder.names_of("2001:db8:0::1") == {"b.example.com"}
        assert resolver.asked == [("a.example.com", "A", protocol), ("b.example.com", "AAAA", protocol)]
        assert bench.denied == []
        # How a filtering resolver says no gives nobody a name for loopback.
        assert not bench.forwarder.names_of("127.0.0.1")
        assert bench.answers == [
            ("a.example.com", frozenset({"192.0.2.1"})),
            ("b.example.com", frozenset({"2001:db8::1"})),
        ]
        for nonsense in ("", "x", "1.2.3", "a.example.com"):
            assert bench.forwarder.names_of(nonsense) == frozenset()


def test_the_address_works_for_sockets_of_both_families() -> None:
    """Sockets that were made for an IPv6 resolver are answered, too, over UDP and TCP."""
    packet = DNSRecord.question("a.example.com").pack()
    with benched() as (bench, _):
        for protocol in ("udp", "tcp"):
            for family in (socket.AF_INET, socket.AF_INET6):
                try:
                    answer = bench.ask_raw(packet, protocol, family)
                except AssertionError:
                    if family == socket.AF_INET6 and not os.path.exists("/proc/net/if_inet6"):
                        continue
                    raise
                assert addresses(DNSRecord.parse(answer)) == {"192.0.2.1", "0.0.0.0"}


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_tunnel_ends_here(protocol: str) -> None:
    """Names that are not allowed are NXDOMAIN and reported; the resolver above never hears of them."""
    secret = "6b65793d736563726574.evil.org"
    with benched() as (bench, resolver):
        for name, kind in ((secret, "TXT"), ("x.a.example.com", "A"), ("example.com", "NULL"), ("com", "NS")):
            found = bench.ask(name, kind, protocol)
            assert found.header.rcode == NXDOMAIN
            assert str(found.q.qname).rstrip(".") == name
            assert not found.rr
        assert bench.denied == [
            (secret, "TXT"), ("x.a.example.com", "A"), ("example.com", "NULL"), ("com", "NS"),
        ]  # fmt: skip
        assert resolver.asked == []
        label = DNSRecord(DNSHeader(id=1), q=DNSQuestion([b"a.example", b"com"])).pack()
        assert DNSRecord.parse(bench.ask_raw(label, protocol)).header.rcode == NXDOMAIN
        assert resolver.asked == []


def test_search_domains_are_no_violation() -> None:
    """An allowed name with a search domain behind it is NXDOMAIN without a report; a stranger with one is reported."""
    with benched(searches=("svc.local", "local")) as (bench, resolver):
        for name in ("a.example.com.svc.local", "B.example.com.local"):
            assert bench.ask(name).header.rcode == NXDOMAIN
        assert bench.denied == []
        assert bench.ask("evil.org.svc.local").header.rcode == NXDOMAIN
        assert bench.ask("svc.local").header.rcode == NXDOMAIN
        assert bench.denied == [("evil.org.svc.local", "A"), ("svc.local", "A")]
        assert resolver.asked == []


def test_aliases_are_followed_and_strangers_are_not() -> None:
    """The address behind a CNAME stands for the name that was asked for; other records stand for nothing."""
    with benched() as (bench, _):
        assert bench.ask("alias.example.com").header.rcode == NOERROR
        assert bench.forwarder.names_of("192.0.2.7") == {"alias.example.com"}
        assert not bench.forwarder.names_of("192.0.2.66")
        assert not bench.forwarder.names_of("192.0.2.67")


def test_truncation_is_passed_on_and_tcp_brings_the_rest() -> None:
    """The client sees the TC bit and asks again over TCP, which goes to the resolver over TCP."""
    with benched() as (bench, resolver):
        short = bench.ask("big.example.com")
        assert short.header.tc
        assert not short.rr
        assert len(addresses(bench.ask("big.example.com", "A", "tcp"))) == 200
        assert resolver.asked == [("big.example.com", "A", "udp"), ("big.example.com", "A", "tcp")]
        assert bench.forwarder.names_of("198.51.100.200") == {"big.example.com"}


def test_names_end_with_their_time_to_live() -> None:
    """After the time to live and a minute of grace an address stands for nothing; a new answer brings it back."""
    with benched() as (bench, _):
        bench.ask("a.example.com")
        bench.clock.now += 89
        assert bench.forwarder.names_of("192.0.2.1")
        bench.clock.now += 1
        assert not bench.forwarder.names_of("192.0.2.1")
        bench.ask("a.example.com")
        assert bench.forwarder.names_of("192.0.2.1")


def test_answers_that_do_not_belong_to_the_question_are_ignored() -> None:
    """Another id, name, type, a question, garbage: read past, remembered as nothing, and the right answer counts."""

    def forge(record: DNSRecord, protocol: str) -> list[bytes]:
        bad = record.reply()
        bad.add_answer(RR(record.q.qname, QTYPE.A, rdata=A("203.0.113.66"), ttl=60))
        wrong_id = bytes(bad.pack())
        wrong_id = bytes([wrong_id[0] ^ 0x55]) + wrong_id[1:]
        other_name = DNSRecord.question("b.example.com").reply()
        other_name.header.id = record.header.id
        other_name.add_answer(RR("b.example.com", QTYPE.A, rdata=A("203.0.113.67"), ttl=60))
        other_type = DNSRecord.question(str(record.q.qname), "AAAA").reply()
        other_type.header.id = record.header.id
        other_type.add_answer(RR(record.q.qname, QTYPE.AAAA, rdata=AAAA("2001:db8::66"), ttl=60))
        question = bytes(bad.pack())
        question = question[:2] + bytes([question[2] & 0x7F]) + question[3:]
        cut = bytes(bad.pack())[:-3]
        return [wrong_id, other_name.pack(), other_type.pack(), question, cut, b"", b"x", *zone(record, protocol)]

    with benched(forge) as (bench, _):
        assert addresses(bench.ask("a.example.com")) == {"192.0.2.1", "0.0.0.0"}
        for address in ("203.0.113.66", "203.0.113.67", "2001:db8::66"):
            assert not bench.forwarder.names_of(address)


def test_an_answer_from_elsewhere_is_ignored() -> None:
    """Whoever knows id and port but is not the resolver cannot answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        resolver_of: list[Resolver] = []

        def spoof(record: DNSRecord, protocol: str) -> list[bytes]:
            bad = record.reply()
            bad.add_answer(RR(record.q.qname, QTYPE.A, rdata=A("203.0.113.66"), ttl=60))
            with contextlib.suppress(ConnectionRefusedError):
                stranger.sendto(bad.pack(), resolver_of[0].senders[-1])
            return zone(record, protocol)

        with benched(spoof) as (bench, resolver):
            resolver_of.append(resolver)
            for _ in range(20):
                assert addresses(bench.ask("a.example.com")) == {"192.0.2.1", "0.0.0.0"}
            assert not bench.forwarder.names_of("203.0.113.66")


def test_each_question_has_a_port_and_an_id_of_its_own() -> None:
    """So that an answer can be guessed neither from the last one nor from what the function sent."""
    ids: list[int] = []

    def note(record: DNSRecord, protocol: str) -> list[bytes]:
        ids.append(record.header.id)
        return zone(record, protocol)

    with benched(note) as (bench, resolver):
        packet = DNSRecord(DNSHeader(id=77), q=DNSQuestion("a.example.com")).pack()
        for _ in range(40):
            assert bench.ask_raw(packet)[:2] == b"\0\x4d"
        assert len(set(ids)) >= 35
        assert len(set(resolver.senders)) >= 20


def _asked_over(resolver: Resolver, protocol: str) -> bool:
    return any(found[2] == protocol for found in resolver.asked)


def test_the_next_resolver_is_asked_when_one_is_silent_or_fails() -> None:
    """After a time-out, after SERVFAIL, and when nobody listens; with none left the client hears SERVFAIL."""

    def fail(record: DNSRecord, protocol: str) -> list[bytes]:
        reply = record.reply()
        reply.header.rcode = SERVFAIL
        return [reply.pack()]

    with Resolver(lambda record, protocol: []) as silent, Resolver(fail) as failing, Resolver(zone) as good:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
            free.bind(("127.0.0.1", 0))
            nobody = free.getsockname()
        bench = Bench([silent.address, failing.address, good.address])
        for protocol in ("udp", "tcp"):
            with bench.client(protocol) as sock:
                packet = DNSRecord.question("a.example.com").pack()
                sock.sendall(packet if protocol == "udp" else len(packet).to_bytes(2, "big") + packet)
                bench.turn(partial(_asked_over, silent, protocol))
                assert bench.forwarder.timeout() == forwarding.ANSWER_TIME
                bench.clock.now += forwarding.ANSWER_TIME
                assert bench.forwarder.timeout() == 0
                answer = DNSRecord.parse(bench.receive(sock, protocol))
                assert addresses(answer) == {"192.0.2.1", "0.0.0.0"}
            assert len(failing.asked) == len(good.asked)
        bench.forwarder.close()
        for dead in ([nobody], [nobody, failing.address], [failing.address, nobody], []):
            bench = Bench(dead or [nobody, nobody, nobody])
            for protocol in ("udp", "tcp"):
                assert bench.ask("a.example.com", "A", protocol).header.rcode == SERVFAIL
            bench.forwarder.close()


def test_what_is_no_plain_question_is_refused() -> None:
    """Updates, transfers and the like are REFUSED and go nowhere; malformed packets are dropped in silence."""
    with benched() as (bench, resolver):
        update = DNSRecord.question("a.example.com")
        update.header.opcode = 5
        two = DNSRecord.question("a.example.com")
        two.add_question(DNSQuestion("b.example.com"))
        chaos = DNSRecord(DNSHeader(), q=DNSQuestion("a.example.com", 16, 3))
        transfer = DNSRecord.question("a.example.com", "AXFR")
        for record in (update, two, chaos, transfer):
            for protocol in ("udp", "tcp"):
                found = DNSRecord.parse(bench.ask_raw(record.pack(), protocol))
                assert found.header.rcode == REFUSED
                assert found.header.id == record.header.id
        chance = random.Random(7)
        with bench.client() as sock:
            for _ in range(300):
                sock.send(chance.randbytes(chance.randrange(60)))
                bench.settle() if chance.random() < 0.05 else None
        bench.settle()
        assert resolver.asked == []
        assert addresses(bench.ask("a.example.com")) == {"192.0.2.1", "0.0.0.0"}


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_nothing_leaves_but_the_question(protocol: str) -> None:
    """No letter case, no flags, no EDNS options, size or version; the client sees its own spelling in the answer."""
    wire = b"\1A\7eXaMpLe\3CoM\0\0\1\0\1"
    plain = b"\1a\7example\3com\0\0\1\0\1"
    opt = b"\0\0\x29\x04\xd0" + bytes(6)
    data = b"\0\x0a\0\x08secrets!" + b"\0\x0c\0\x20" + b"padding!" * 4  # a cookie, padding
    options = b"\0\0\x29\x10\0\x01\0\x80\0" + len(data).to_bytes(2, "big") + data
    with benched() as (bench, resolver):
        for flags in (0x0100, 0x0000, 0x07F0, 0x0130):
            for extra in (b"", b"\0\0\x29\x05\x78" + bytes(6), options):
                head = b"\x12\x34" + flags.to_bytes(2, "big") + b"\0\1" + bytes(5) + bytes([bool(extra)])
                found = bench.ask_raw(head + wire + extra, protocol)
                sent = b"\1\0\0\1" + bytes(5) + bytes([bool(extra)]) + plain + (opt if extra else b"")
                assert resolver.packets.pop()[2:] == sent
                assert found[:2] == b"\x12\x34"
                assert found[12 : 12 + len(wire)] == wire
                assert addresses(DNSRecord.parse(found)) == {"192.0.2.1", "0.0.0.0"}
                assert len(DNSRecord.parse(found).ar) == bool(extra)


def test_a_refusal_has_an_opt_record_where_the_question_had_one() -> None:
    """As EDNS asks for (RFC 6891, 7)."""
    with benched() as (bench, resolver):
        record = DNSRecord.question("evil.org")
        record.add_ar(EDNS0(udp_len=1400))
        found = DNSRecord.parse(bench.ask_raw(record.pack()))
        assert [extra.edns_len for extra in found.ar] == [1232]
        assert resolver.packets == []


def test_types_of_no_use_are_not_asked() -> None:
    """An allowed name with one has no records of it, in training and audit too, and no packet leaves."""
    for observing in (False, True):
        with benched(observing=observing) as (bench, resolver):
            for kind in (0, 3, 99, 1234, 65280, 65535):
                question = DNSQuestion("a.example.com", kind)
                found = DNSRecord.parse(bench.ask_raw(DNSRecord(DNSHeader(id=9, rd=1), q=question).pack()))
                assert (found.header.id, found.header.rcode, found.rr) == (9, NOERROR, [])
            assert resolver.packets == []
            assert bench.ask("a.example.com", "TXT").header.rcode == NOERROR
            assert len(resolver.packets) == 1


def test_an_answer_is_cut_to_what_the_client_takes() -> None:
    """Longer ones come as truncated, with nothing but the question, so that the client asks by TCP."""

    def long(record: DNSRecord, protocol: str) -> list[bytes]:
        reply = record.reply()
        for i in range(60):
            reply.add_answer(RR("a.example.com", QTYPE.A, rdata=A(f"198.51.100.{i}"), ttl=60))
        return [bytes(reply.pack())]

    with benched(long) as (bench, _):
        for size, cut in ((0, True), (512, True), (700, True), (1232, False), (4096, False)):
            record = DNSRecord.question("a.example.com")
            if size:
                record.add_ar(EDNS0(udp_len=size))
            packet = bench.ask_raw(record.pack())
            found = DNSRecord.parse(packet)
            assert (bool(found.header.tc), len(found.rr)) == ((True, 0) if cut else (False, 60))
            assert len(packet) <= max(512, size)
            assert len(DNSRecord.parse(bench.ask_raw(record.pack(), "tcp")).rr) == 60


def test_reverse_names_only_for_known_addresses() -> None:
    """The name of an address may be asked for once the address was given, or stands in the hosts file."""
    with benched(known_hosts={b"\xc0\0\2\5": frozenset({"b.example.com"})}) as (bench, resolver):
        assert bench.ask("1.2.0.192.in-addr.arpa", "PTR").header.rcode == NXDOMAIN
        assert bench.denied == [("1.2.0.192.in-addr.arpa", "PTR")]
        bench.ask("a.example.com")
        assert bench.ask("1.2.0.192.in-addr.arpa", "PTR").header.rcode == NOERROR
        assert bench.ask("5.2.0.192.in-addr.arpa", "PTR").header.rcode == NOERROR
        assert bench.ask("1.2.0.192.in-addr.arpa", "TXT").header.rcode == NXDOMAIN
        assert len(resolver.asked) == 3
        assert bench.forwarder.names_of("192.0.2.5") == {"b.example.com"}


def test_two_hundred_questions_in_flight() -> None:
    """Each client gets the answer to its own question, though the resolver answers all at the end and backwards."""
    waiting: list[tuple[DNSRecord, object]] = []

    def late(record: DNSRecord, protocol: str) -> list[bytes]:
        waiting.append((record, resolvers[0].senders[-1]))
        return []

    resolvers: list[Resolver] = []
    with benched(late) as (bench, resolver), contextlib.ExitStack() as stack:
        resolvers.append(resolver)
        asked = []
        for i in range(200):
            sock = stack.enter_context(bench.client())
            record = DNSRecord(DNSHeader(id=i % 3), q=DNSQuestion("a.example.com" if i % 2 else "b.example.com"))
            sock.send(record.pack())
            asked.append((sock, record))
        bench.turn(lambda: len(waiting) == 200)
        for i, (record, sender) in reversed(list(enumerate(waiting))):
            reply = record.reply()
            reply.add_answer(RR(record.q.qname, QTYPE.A, rdata=A(f"192.0.2.{i}"), ttl=60))
            resolver.udp.sendto(reply.pack(), sender)
            bench.turn(lambda: True)
            bench.settle() if i % 20 == 0 else None
        found = set()
        for sock, record in asked:
            answer = DNSRecord.parse(bench.receive(sock))
            assert answer.header.id == record.header.id
            assert answer.q == record.q
            found |= addresses(answer)
        assert len(found) == 200


def test_a_question_asked_again_is_not_sent_twice() -> None:
    """Impatience of one client is one question above; another client's is its own."""
    with benched() as (bench, resolver), bench.client() as one, bench.client() as two:
        packet = DNSRecord.question("slow.example.com").pack()
        for _ in range(5):
            one.send(packet)
        two.send(packet)
        bench.turn(lambda: len(resolver.asked) == 2)
        bench.settle()
        assert len(resolver.asked) == 2


def test_floods_are_bounded() -> None:
    """Questions, connections and addresses beyond the limits cost no descriptors, and service goes on afterwards."""
    with benched() as (bench, _), bench.client() as sock:
        idle = open_descriptors()
        for i in range(3000):
            sock.send(DNSRecord(DNSHeader(id=i), q=DNSQuestion("slow.example.com")).pack())
            if i % 50 == 0:
                bench.settle()
        bench.settle()
        limit = min(forwarding.MOST_QUESTIONS, os.sysconf("SC_OPEN_MAX") // 4)
        assert limit // 2 < open_descriptors() - idle <= limit
        for _ in range(3):
            bench.clock.now += forwarding.ANSWER_TIME
            bench.forwarder.tick()
        assert open_descriptors() == idle
        assert bench.ask("a.example.com").header.rcode == NOERROR
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(bench.client("tcp"))]
            for _ in range(3 * forwarding.MOST_CLIENTS):
                clients.append(stack.enter_context(bench.client("tcp")))
                bench.settle()
            assert open_descriptors() - idle - len(clients) <= forwarding.MOST_CLIENTS
            packet = DNSRecord.question("b.example.com").pack()
            clients[-1].sendall(len(packet).to_bytes(2, "big") + packet)
            assert DNSRecord.parse(bench.receive(clients[-1], "tcp")).header.rcode == NOERROR
            bench.clock.now += forwarding.CLIENT_TIME
            bench.forwarder.tick()
            # The test's own server closes its end a moment later.
            bench.turn(lambda: open_descriptors() == idle + len(clients))
            assert bench.forwarder.timeout() is None


def test_tcp_clients_of_every_kind() -> None:
    """Byte by byte, two questions in one piece, half closed, too long, nothing, gone while waiting."""

    def framed(name: str) -> bytes:
        packet = DNSRecord.question(name).pack()
        return len(packet).to_bytes(2, "big") + bytes(packet)

    with benched() as (bench, resolver):
        with bench.client("tcp") as sock:
            for byte in framed("a.example.com"):
                sock.send(bytes([byte]))
                bench.turn(lambda: True)
                bench.settle() if byte % 7 == 0 else None
            assert DNSRecord.parse(bench.receive(sock, "tcp")).header.rcode == NOERROR
            sock.setblocking(True)
            sock.sendall(framed("evil.org") + framed("b.example.com") + framed("a.example.com"))
            sock.shutdown(socket.SHUT_WR)
            assert DNSRecord.parse(bench.receive(sock, "tcp")).header.rcode == NXDOMAIN
            assert str(DNSRecord.parse(bench.receive(sock, "tcp")).q.qname) == "b.example.com."
            assert str(DNSRecord.parse(bench.receive(sock, "tcp")).q.qname) == "a.example.com."
            assert bench.receive(sock, "tcp") == b""
        for wrong in (b"\xff\xff", b"\0\0", b"\0\x05hello", b"\0\x20half"):
            with bench.client("tcp") as sock:
                sock.sendall(wrong)
                sock.shutdown(socket.SHUT_WR)
                assert bench.receive(sock, "tcp") == b""
        before = open_descriptors()
        with bench.client("tcp") as sock:
            sock.sendall(framed("slow.example.com"))
            bench.turn(lambda: resolver.asked[-1][0] == "slow.example.com")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bench.settle()
        assert open_descriptors() - before <= 1  # the resolver's own end
        assert bench.forwarder.timeout() is None


def test_an_upstream_that_hangs_up_or_lies_over_tcp() -> None:
    """A closed connection or another question's answer is a failure of that resolver, and the next is asked."""

    def lie(record: DNSRecord, protocol: str) -> list[bytes]:
        other = DNSRecord.question("b.example.com").reply()
        other.header.id = record.header.id
        return [other.pack()]

    def hang_up(record: DNSRecord, protocol: str) -> list[bytes]:
        raise OSError

    for bad in (lie, hang_up):
        with Resolver(bad) as wrong, Resolver(zone) as good:
            bench = Bench([wrong.address, good.address])
            assert addresses(bench.ask("a.example.com", "A", "tcp")) == {"192.0.2.1", "0.0.0.0"}
            bench.forwarder.close()


def test_observing_answers_everything_and_tells_what_for() -> None:
    """For learning and audit: every name goes through with its addresses, and each that is not allowed is told."""
    with benched(observing=True) as (bench, _):
        assert bench.ask("anything.org", "TXT").header.rcode == NOERROR
        assert bench.ask("anything.org").header.rcode == NOERROR
        assert bench.ask("9.9.9.9.in-addr.arpa", "PTR").header.rcode == NOERROR
        assert bench.ask("a.example.com", "AAAA").header.rcode == NOERROR
        assert bench.denied == [("anything.org", "TXT"), ("anything.org", "A"), ("9.9.9.9.in-addr.arpa", "PTR")]
        assert bench.answers[:1] == [("anything.org", frozenset({"192.0.2.1"}))]
        assert bench.forwarder.names_of("192.0.2.1") == {"anything.org"}


def test_the_memory_of_addresses_is_bounded() -> None:
    """A name with ever new addresses displaces the oldest ones."""
    counter = iter(range(1, 1 << 16))

    def ever_new(record: DNSRecord, protocol: str) -> list[bytes]:
        reply = record.reply()
        for _ in range(20):
            number = next(counter)
            reply.add_answer(RR(record.q.qname, QTYPE.A, rdata=A(f"10.1.{number >> 8}.{number & 255}"), ttl=3600))
        return [reply.pack()]

    with benched(ever_new) as (bench, _):
        for _ in range(60):
            bench.ask("a.example.com")
        last = next(counter) - 1
        known = sum(bool(bench.forwarder.names_of(f"10.1.{i >> 8}.{i & 255}")) for i in range(1, last + 1))
        assert last == 1200
        assert known == 1024
        assert bench.forwarder.names_of(f"10.1.{last >> 8}.{last & 255}")
        assert not bench.forwarder.names_of("10.1.0.1")


GETADDRINFO = """
import ctypes, socket, struct, sys
libc = ctypes.CDLL(None)
libc.__res_state.restype = ctypes.POINTER(ctypes.c_char)
libc.__res_init()
state = ctypes.addressof(libc.__res_state().contents)
# struct __res_state (resolv.h): int retrans, retry; unsigned long options; int nscount; sockaddr_in nsaddr_list[3]
options, = struct.unpack_from("<Q", ctypes.string_at(state + 8, 8))
options |= 8 if sys.argv[2] == "tcp" else 0  # RES_USEVC
ctypes.memmove(state + 8, struct.pack("<Qi", options, 1), 12)
address = struct.pack("<H", socket.AF_INET) + struct.pack(">H4s8x", int(sys.argv[1]), bytes([127, 0, 0, 1]))
ctypes.memmove(state + 20, address, 16)
for name in sys.argv[3:]:
    try:
        print(name, *sorted({entry[4][0] for entry in socket.getaddrinfo(name, 443)}))
    except socket.gaierror as error:
        print(name, error.errno == socket.EAI_NONAME)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "__res_state"), reason="glibc's resolver is needed")
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_getaddrinfo_of_glibc(protocol: str) -> None:
    """The C library's own resolver takes the answers, asks again over TCP after truncation, and believes NXDOMAIN."""
    with benched() as (bench, resolver):
        port = struct.unpack(">H", bench.forwarder.address(protocol, socket.AF_INET)[2:4])[0]
        # Over UDP a truncated answer moves glibc to TCP on the same port, where in the field the broker connects it.
        names = ["a.example.com", *(["big.example.com"] if protocol == "tcp" else []), "evil.org"]
        child = subprocess.Popen(
            [sys.executable, "-c", GETADDRINFO, str(port), protocol, *names], stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        try:
            bench.turn(lambda: child.poll() is not None)
        finally:
            child.kill()
            output, _ = child.communicate(timeout=10)
        lines = output.splitlines()
        assert lines[0] == "a.example.com 0.0.0.0 192.0.2.1 2001:db8::1"
        assert lines[-1] == "evil.org True"
        if protocol == "tcp":
            assert len(lines[1].split()) == 201
        assert {name for name, _, _ in resolver.asked} <= ALLOWED
        assert {name for name, _ in bench.denied} >= {"evil.org"}
        assert bench.forwarder.names_of("2001:db8::1") == {"a.example.com"}
