"""DNS messages and resolver files: what is read from them, and that nothing in them can do harm."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from dnslib import AAAA, CNAME, EDNS0, QTYPE, RR, TXT, A, DNSHeader, DNSQuestion, DNSRecord
from dnslib.label import DNSBuffer
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour.destination import packed
from sandbox.names import FOR_GOOD, addresses, questions
from sandbox.names.addresses import MOST_NAMES, KnownAddresses, is_connected
from sandbox.names.questions import Question, read_answer, read_question, reversed_address

KEEP = 60.0
IPV4, IPV6 = b"\xc0\x00\x02\x01", bytes.fromhex("20010db8000000000000000000000001")


def asked(name: str = "a.example.com", kind: str = "A") -> tuple[bytes, Question]:
    packet = DNSRecord.question(name, kind).pack()
    question = read_question(packet)
    assert question is not None
    return packet, question


def damaged(packet: bytes) -> st.SearchStrategy[bytes]:
    """The packet with some bytes changed and its end cut off or grown."""
    change = st.tuples(st.integers(0, len(packet) - 1), st.integers(0, 255))

    def apply(changes: list[tuple[int, int]], cut: int, more: bytes) -> bytes:
        found = bytearray(packet)
        for at, value in changes:
            found[at] = value
        return bytes(found[:cut]) + more

    return st.builds(
        apply, st.lists(change, max_size=6), st.integers(0, len(packet)) | st.just(len(packet)), st.binary(max_size=20)
    )  # fmt: skip


def answer_of_everything() -> bytes:
    question = DNSRecord.question("a.example.com", "A")
    found = question.reply()
    found.header.id = 7
    found.add_answer(RR("a.example.com", QTYPE.CNAME, rdata=CNAME("b.example.com"), ttl=30))
    found.add_answer(RR("b.example.com", QTYPE.A, rdata=A("192.0.2.1"), ttl=60))
    found.add_answer(RR("b.example.com", QTYPE.AAAA, rdata=AAAA("2001:db8::1"), ttl=5))
    found.add_answer(RR("b.example.com", QTYPE.TXT, rdata=TXT("text"), ttl=60))
    found.add_answer(RR("other.example.com", QTYPE.A, rdata=A("192.0.2.66"), ttl=60))
    found.add_ar(RR("a.example.com", QTYPE.A, rdata=A("192.0.2.67"), ttl=60), EDNS0(udp_len=1232))
    return bytes(found.pack())


@given(st.binary(max_size=80) | damaged(DNSRecord.question("a.example.com", "A").pack()))
def test_no_packet_breaks_the_reader_of_questions(packet: bytes) -> None:
    """Whatever arrives is a question or nothing, and a reply to it has its id."""
    question = read_question(packet)
    if question is not None:
        reply = questions.reply(question, questions.REFUSED)
        assert reply[:2] == packet[:2]
        assert reply[2] & 0x80
        assert DNSRecord.parse(reply).header.rcode == questions.REFUSED


@given(st.binary(max_size=120) | damaged(answer_of_everything()))
def test_no_packet_breaks_the_reader_of_answers(packet: bytes) -> None:
    """Whatever arrives is an answer to the question or nothing, and its addresses have a length that there is."""
    found = read_answer(packet, 7, asked()[1])
    if found is not None:
        assert {len(address) for address, _ in found.addresses} <= {4, 16}
        assert all(0 <= ttl < 1 << 31 for _, ttl in found.addresses)


# Two names in each other: at 640 a label of one byte, which is the length of the label at 641; each ends in a pointer
# to the other's begin. The offsets are such that the pointers are UTF-8, as dnslib wants labels to be.
CIRCLE_AT = 640
CIRCLE = b"\x01\x03\xc2\x81z\xc2\x80"


def test_pointers_that_run_in_circles_end() -> None:
    """Names whose compression pointers lead to each other without an end are malformed, in answers and questions."""
    header = DNSHeader(id=7, bitmap=0x8000, q=1)
    start = bytearray(DNSRecord(header, q=DNSQuestion("a.example.com")).pack())
    start[6:8] = b"\0\2"
    padding = CIRCLE_AT - len(start) - 11
    record = b"\0\0\x10\0\1" + bytes(4) + padding.to_bytes(2, "big") + bytes(padding)
    answer = bytes(start) + record + CIRCLE + bytes(10)
    buffer = DNSBuffer(answer)
    buffer.offset = CIRCLE_AT
    with pytest.raises(RecursionError):
        buffer.decode_name()
    assert read_answer(answer, 7, asked()[1]) is None
    labels = (b"\x3f" + b"a" * 63) * 9 + b"\x33" + b"a" * 51
    question = DNSRecord(DNSHeader(id=7, bitmap=0, q=1), q=DNSQuestion("a")).pack()[:12] + labels + CIRCLE + bytes(4)
    assert question.index(CIRCLE) == CIRCLE_AT
    assert read_question(question) is None


def test_a_question_has_nothing_to_point_back_to() -> None:
    """A pointer in a question's name is malformed, even one that leads somewhere."""
    header = DNSRecord(DNSHeader(id=7, bitmap=0, q=1), q=DNSQuestion("a")).pack()[:12]
    for name in (b"\xc0\x02", b"\x01a\xc0\x0c", b"\x01a\xc0\x02"):
        assert read_question(header + name + b"\0\1\0\1") is None


def test_an_answer_is_followed_along_its_aliases() -> None:
    """Only addresses that the name leads to count, each for as long as the shortest link lives."""
    found = read_answer(answer_of_everything(), 7, asked()[1])
    assert found is not None
    assert found.addresses == [(IPV4, 30), (IPV6, 5)]


def test_aliases_in_a_circle_lead_nowhere() -> None:
    """A chain without an end has no address."""
    record = DNSRecord.question("a.example.com").reply()
    record.header.id = 7
    record.add_answer(RR("a.example.com", QTYPE.CNAME, rdata=CNAME("b.example.com")))
    record.add_answer(RR("b.example.com", QTYPE.CNAME, rdata=CNAME("a.example.com")))
    found = read_answer(record.pack(), 7, asked()[1])
    assert found is not None
    assert found.addresses == []


def test_an_answer_belongs_to_its_question() -> None:
    """Another id, name, type, or a question is no answer; the case of letters makes no difference."""
    packet = answer_of_everything()
    assert read_answer(packet, 8, asked()[1]) is None
    assert read_answer(packet, 7, asked("b.example.com")[1]) is None
    assert read_answer(packet, 7, asked("a.example.com", "AAAA")[1]) is None
    assert read_answer(packet, 7, asked("A.EXAMPLE.com")[1]) is not None
    assert read_answer(packet[:2] + b"\0" + packet[3:], 7, asked()[1]) is None
    refused = DNSHeader(id=7, bitmap=0x8005, q=0)
    assert read_answer(DNSRecord(refused).pack(), 7, asked()[1]) is not None


def test_a_label_with_a_dot_is_no_two_labels() -> None:
    """Bytes that no host name has are escaped, so that no name of a profile equals them."""
    packet = DNSRecord(DNSHeader(id=1), q=DNSQuestion([b"x.example", b"com"])).pack()
    question = read_question(packet)
    assert question is not None
    assert question.name == r"x\046example.com"
    packet = DNSRecord(DNSHeader(id=1), q=DNSQuestion([b"a\0\\B c", b"com"])).pack()
    question = read_question(packet)
    assert question is not None
    assert question.name == r"a\000\092b\032c.com"


@pytest.mark.parametrize(("change", "plain"), [
    (lambda r: None, True), (lambda r: setattr(r.header, "opcode", 2), False), (lambda r: r.add_ar(EDNS0()), True),
    (lambda r: r.add_question(DNSQuestion("b.example.com")), False), (lambda r: setattr(r.q, "qclass", 3), False),
    (lambda r: setattr(r.q, "qtype", 252), False), (lambda r: r.add_answer(RR("a", rdata=A("192.0.2.1"))), False),
    (lambda r: r.add_auth(RR("a", rdata=A("192.0.2.1"))), False), (lambda r: r.add_ar(EDNS0(), EDNS0()), False),
    (lambda r: r.add_ar(RR("a", rdata=A("192.0.2.1"))), False),
])  # fmt: skip
def test_only_one_ordinary_question_is_plain(change: object, plain: bool) -> None:
    """Updates, transfers, other classes and what carries records are told from a question."""
    record = DNSRecord.question("a.example.com")
    assert callable(change)
    change(record)
    question = read_question(record.pack())
    assert question is not None
    assert question.plain is plain


def test_what_is_no_question_is_dropped() -> None:
    """An answer, bytes behind the message, and what is too long."""
    packet, _ = asked()
    assert read_question(DNSRecord.parse(packet).reply().pack()) is None
    assert read_question(packet + b"x") is None
    assert read_question(packet + bytes(questions.LARGEST_QUESTION)) is None
    assert read_question(b"") is None
    assert read_question(packet[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1") is None
    assert read_question(packet[:12] + b"\x3f" + b"a" * 63 + b"\0\0\1\0\1") is not None
    assert read_question(packet[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1") is None


def test_names_for_reverse_lookups() -> None:
    """Both trees, and nothing but whole addresses in them."""
    assert reversed_address("1.2.0.192.in-addr.arpa") == IPV4
    name = ".".join(reversed(IPV6.hex())) + ".ip6.arpa"
    assert reversed_address(name) == IPV6
    for wrong in ("2.0.192.in-addr.arpa", "1.2.0.256.in-addr.arpa", "x.1.2.0.192.in-addr.arpa", "a" + name, "a.com"):
        assert reversed_address(wrong) is None


class Clock:
    """Time that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_is_known_for_its_time_to_live_and_kept() -> None:
    """And a shorter answer later does not cut that short."""
    clock = Clock()
    known = KnownAddresses(clock, KEEP, connected=lambda address: False)
    known.remember("a", IPV4, 30)
    known.remember("a", IPV4, 0)
    known.remember("b", IPV4, 0)
    clock.now += KEEP
    assert known.names_of(IPV4) == {"a"}
    clock.now += 29
    assert known.names_of(IPV4) == {"a"}
    clock.now += 1
    assert known.names_of(IPV4) == frozenset()
    assert len(known) == 0


def test_an_address_stays_while_a_connection_is_open_or_for_good() -> None:
    """However long ago it was given out; behind the end of the last connection it is gone."""
    clock, known_connections = Clock(), {IPV4}
    known = KnownAddresses(clock, KEEP, connected=known_connections.__contains__)
    known.remember("a", IPV4, 30)
    clock.now += 10 * KEEP
    assert known.names_of(IPV4) == {"a"}
    known_connections.clear()
    assert known.names_of(IPV4) == frozenset()
    for_good = KnownAddresses(clock, FOR_GOOD)
    for_good.remember("a", IPV4, 0)
    clock.now += 1e9
    assert for_good.names_of(IPV4) == {"a"}


@pytest.mark.parametrize("host", ["127.0.0.9", "::ffff:127.0.0.9", "::1"])
def test_an_open_connection_is_seen(host: str) -> None:
    """On each kind of socket while it is open, and not for the address beside it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = packed(host)
    assert address is not None
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind((host, 0))
        listener.listen()
        before = is_connected(address)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        assert is_connected(address)
        accepted.close()
    assert not before or host == "::1"
    assert not is_connected(b"\x7f\0\0\xf1")


def test_known_addresses_are_bounded() -> None:
    """The one that was not used for longest is forgotten, and of one address's names the oldest."""
    known = KnownAddresses(Clock(), KEEP, most=3)
    for i in range(3):
        known.remember("a", bytes([i]), 60)
    assert known.names_of(b"\0")
    known.remember("a", b"\x09", 60)
    assert len(known) == 3
    assert known.names_of(b"\0")
    assert not known.names_of(b"\1")
    for i in range(MOST_NAMES + 1):
        known.remember(str(i), b"\2", 60)
    assert len(known.names_of(b"\2")) == MOST_NAMES
    assert "a" not in known.names_of(b"\2")


def test_resolver_files(tmp_path: Path) -> None:
    """Name servers, search domains and hosts, as the C library reads them."""
    conf = tmp_path / "resolv.conf"
    conf.write_text(
        "# nameserver 9.9.9.9\n;nameserver 9.9.9.9\nnameserver 10.0.0.2\nnameserver\tfe80::1%eth0 # x\n"
        "nameserver nonsense\nnameserver\ndomain ignored.example\nsearch Svc.Cluster.Local. example.com -.x!\n"
        "options ndots:5\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n"
    )
    assert addresses.upstreams(str(conf)) == [("10.0.0.2", 53), ("fe80::1%eth0", 53), ("10.0.0.3", 53)]
    assert addresses.searches(str(conf)) == ("svc.cluster.local", "example.com")
    assert addresses.searches(str(conf), ["other.example"]) == ("other.example",)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n192.0.2.1 Db.Internal db # comment\n192.0.2.1 db2\nnonsense x\n\n::1\n")
    assert addresses.hosts(lambda name: name.startswith("db"), str(hosts)) == {IPV4: {"db.internal", "db", "db2"}}
    missing = str(tmp_path / "missing")
    assert addresses.upstreams(missing) == [("127.0.0.1", 53)]
    assert addresses.searches(missing) == ()
    assert addresses.hosts(lambda name: True, missing) == {}


@given(st.binary(max_size=200))
def test_no_resolver_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever lies there, there is at least one name server."""
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(b"nameserver " + data)
    assert addresses.upstreams(str(path))
    addresses.searches(str(path))
    addresses.hosts(lambda name: True, str(path))
