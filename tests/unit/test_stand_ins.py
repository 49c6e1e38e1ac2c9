"""What stands for a destination: its text, the address that its name gets, and where a connect is led."""

from __future__ import annotations

import socket

import pytest
from dnslib import EDNS0, DNSRecord

from sandbox.behaviour.stand_ins import MOST, StandIns, parse
from sandbox.errors import UsageError
from sandbox.kernel import sockaddr
from sandbox.names import questions

NONE = frozenset[str]()


def led(stand_ins: StandIns, host: str, port: int, names: frozenset[str] = NONE, family: int = socket.AF_INET) -> str:
    """Where a connect goes, as text; '' for nobody, `itself` where nothing stands for it."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    found = stand_ins.lead(packed, port, names, family)
    if not found:
        return "itself" if found is None else ""
    address = sockaddr.parse(found)
    assert address
    return address.endpoint()


@pytest.mark.parametrize(
    "text",
    ["db.test:5432=127.0.0.1:15432", "tcp://10.0.0.5:1=127.0.0.1:2", "db.test:5432=[::1]:15432", "a:1=10.0.0.1:1"],
)
def test_what_is_printed_is_read_again(text: str) -> None:
    """A fake's text is an entry of `network`, `=` and an address."""
    assert str(parse(text)) == text


def test_only_the_name_at_its_port_is_led() -> None:
    """Other ports of the name lead nowhere, and other hosts stay what they are."""
    stand_ins = StandIns(["db.internal:5432=127.0.0.1:15432", "Db.Internal.:80=127.0.0.2:1", "tcp://10.0.0.5:443=10.0.0.6:4"])
    assert stand_ins.productions == ("db.internal:5432", "db.internal:80", "tcp://10.0.0.5:443")
    own = socket.inet_ntop(socket.AF_INET, stand_ins.address("db.internal") or b"")
    names = frozenset({"db.internal"})
    assert stand_ins.address("other.internal") is None
    assert stand_ins.hosts(lambda name: True) == {socket.inet_aton(own): names}
    assert stand_ins.hosts(lambda name: False) == {}
    assert led(stand_ins, own, 5432, names) == "127.0.0.1:15432"
    assert led(stand_ins, own, 5432, names, socket.AF_INET6) == "127.0.0.1:15432"
    assert led(stand_ins, own, 80, names) == "127.0.0.2:1"
    assert led(stand_ins, own, 443, names) == led(stand_ins, own, 443) == ""
    # An address of the name that came from elsewhere, such as the hosts file.
    assert led(stand_ins, "192.0.2.1", 5432, names) == "127.0.0.1:15432"
    assert led(stand_ins, "192.0.2.1", 443, names) == ""
    assert led(stand_ins, "10.0.0.5", 443) == "10.0.0.6:4"
    assert led(stand_ins, "10.0.0.5", 80) == led(stand_ins, "192.0.2.1", 443) == "itself"


def test_a_fake_of_ipv6() -> None:
    """Its name gets an IPv6 address, so that no IPv4 socket is led there."""
    stand_ins = StandIns(["db.internal:5432=[::1]:15432"])
    address = stand_ins.address("db.internal") or b""
    assert len(address) == 16
    host, names = socket.inet_ntop(socket.AF_INET6, address), frozenset({"db.internal"})
    assert led(stand_ins, host, 5432, names, socket.AF_INET6) == "[::1]:15432"
    assert led(stand_ins, "192.0.2.1", 5432, names) == ""


@pytest.mark.parametrize(
    "texts",
    [["a:1"], ["a:1=b:1"], ["a=127.0.0.1:1"], ["a:1=127.0.0.1"], ["a:1=127.0.0.1:*"], ["a:*=127.0.0.1:1"],
     ["*.a:1=127.0.0.1:1"], ["udp://a:1=127.0.0.1:1"], ["unix:/a=127.0.0.1:1"], ["10.0.0.0/8:1=127.0.0.1:1"],
     ["a:1=127.0.0.1:1", "A.:1=127.0.0.1:2"], [f"a{i}:1=127.0.0.1:1" for i in range(MOST + 1)]],
)  # fmt: skip
def test_texts_that_are_no_fake(texts: list[str]) -> None:
    """Each is an error with the place that it came from."""
    with pytest.raises(UsageError) as caught:
        StandIns(texts, "--stands-for")
    assert caught.value.where == "--stands-for"


@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize(("host", "qtype"), [("192.0.2.1", "A"), ("2001:db8::1", "AAAA")])
def test_answers_of_our_own(host: str, qtype: str, edns: bool) -> None:
    """One record of the family of the address, and none for any other question; another reader reads both."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    for asked in ("A", "AAAA", "TXT"):
        record = DNSRecord.question("DB.internal", asked)
        if edns:
            record.add_ar(EDNS0(udp_len=1232))
        question = questions.read_question(record.pack())
        assert question
        packet = questions.addressed(question, packed)
        reply = DNSRecord.parse(packet)
        assert (reply.header.id, reply.header.rcode, len(reply.ar)) == (record.header.id, 0, int(edns))
        assert [str(answer.rdata) for answer in reply.rr] == ([host] if asked == qtype else [])
        answer = questions.read_answer(packet, record.header.id, question)
        assert answer
        assert [address for address, _ in answer.addresses] == ([packed] if asked == qtype else [])
