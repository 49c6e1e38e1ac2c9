"""The launcher's reader of DNS messages: it takes, refuses and makes what the Python forwarder does."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import AAAA, CNAME, EDNS0, QTYPE, RR, A, DNSHeader, DNSQuestion, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.launcher import HERE
from sandbox.names import questions

CORPUS = Path(__file__).parents[1] / "corpus" / "dns"
ID = 7
"""Under which fuzz_dns.c reads answers."""
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@functools.cache
def reader() -> subprocess.Popen[bytes]:
    """The launcher's half under sanitizers, waiting for inputs."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    program = str(Path(folder.name) / "messages")
    command = ["cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DREPLAY"]
    subprocess.run([*command, "-o", program, str(HERE / "fuzz_dns.c")], check=True)
    return subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def natively(data: bytes) -> list[str]:
    """What the launcher's half says of an input."""
    process = reader()
    assert process.stdin
    assert process.stdout
    process.stdin.write(len(data).to_bytes(4, "little") + data)
    process.stdin.flush()
    lines = []
    while (line := process.stdout.readline().decode().strip()) != "end":
        assert line, process.communicate()[1].decode()
        lines.append(line)
    return lines


def in_python(data: bytes) -> Iterator[str]:
    """What the Python forwarder's half says of an input: a question behind its length, and an answer to it."""
    length = min(int.from_bytes(data[:2], "big"), max(0, len(data) - 2)) if len(data) >= 2 else 0
    question = questions.read_question(data[2 : 2 + length])
    if question is None:
        return
    numbers = (question.id, question.recursion, question.plain, question.edns, question.offer, question.qtype,
               question.qclass)  # fmt: skip
    yield f"question {' '.join(str(int(number)) for number in numbers)}"
    yield f"wire {question.wire.hex()}".strip()
    yield f"reply {questions.reply(question, questions.NAME_ERROR).hex()}"
    if not question.plain:
        return
    yield f"ask {ID:04x}{questions.to_ask(question).hex()}"
    if "\\" not in question.name:
        yield f"name {question.name}".strip()
        yield f"reversed {(questions.reversed_address(question.name) or b'').hex()}".strip()
    packet = data[2 + length :]
    answer = questions.read_answer(packet, ID, question)
    if answer is None:
        return
    yield f"answer {answer.code} {answer.records}"
    yield from (f"for {ttl} given {address.hex()}" for address, ttl in answer.addresses)
    for stream in (False, True):
        found = questions.answer_for(question, packet, stream=stream)
        yield f"{'stream' if stream else 'datagram'} {found.hex()}"


def framed(question: bytes, answer: bytes) -> bytes:
    return len(question).to_bytes(2, "big") + question + answer


HOSTS = ("a.example.com", "A.Example.COM", "x.cdn.net", "b.example.com", "1.2.0.192.in-addr.arpa", "", "1.in-addr.arpa",
         ".".join("0123456789abcdef" * 2) + ".ip6.arpa", "a" * 63 + ".example")  # fmt: skip
NAMES = st.sampled_from(HOSTS) | st.lists(st.binary(min_size=1, max_size=63), max_size=3)
TYPES = st.sampled_from((1, 5, 12, 28, 41, 16, 251, 252, 65)) | st.integers(0, 65535)
RECORDS = st.builds(
    lambda owner, data, ttl: RR(owner, {A: 1, AAAA: 28, CNAME: 5}[type(data)], rdata=data, ttl=ttl),
    st.sampled_from(HOSTS),
    st.sampled_from((A("192.0.2.1"), A("0.0.0.0"), AAAA("2001:db8::1"), *map(CNAME, HOSTS))),
    st.sampled_from((0, 30, 1 << 31, (1 << 31) - 1)),
)  # fmt: skip


def message(record: DNSRecord) -> bytes:
    """Packed; nothing for what dnslib does not write."""
    try:
        return bytes(record.pack())
    except Exception:
        return b""


@st.composite
def exchanges(draw: st.DrawFn) -> bytes:
    """A question and an answer to it, as they are or damaged: bytes changed, pointers put in, ends cut off or grown."""
    question = DNSQuestion(draw(NAMES), draw(TYPES), draw(st.sampled_from((1, 1, 1, 3))))
    asked = DNSRecord(DNSHeader(id=258, bitmap=256), q=question)
    if draw(st.booleans()):
        asked.add_ar(EDNS0(udp_len=draw(st.sampled_from((0, 100, 512, 1232, 65535)))))
    answer = asked.reply()
    answer.header.id = draw(st.sampled_from((ID, ID, ID, 8)))
    answer.header.rcode = draw(st.sampled_from((0, 0, 2, 3)))
    answer.add_answer(*draw(st.lists(RECORDS, max_size=40)))
    if draw(st.booleans()):
        answer.q.qname = draw(NAMES)
    packets = []
    for packet in (message(asked), message(answer)):
        data = bytearray(packet)
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 3)))):
            at = draw(st.integers(0, len(data)))
            new = draw(st.binary(max_size=3) | st.integers(0, 80).map(lambda to: bytes((0xC0, to))))
            data[at : at + len(new)] = new
        end = draw(st.just(len(data)) | st.integers(0, len(data)))
        packets.append(bytes(data[:end]) + draw(st.just(b"") | st.binary(max_size=4)))
    return framed(*packets)


@settings(max_examples=400, deadline=None)
@given(exchanges() | st.binary(max_size=60))
def test_both_read_and_make_the_same(data: bytes) -> None:
    """Of any two packets: what is asked, what goes upstream, which addresses an answer gives, what the client gets."""
    assert natively(data) == list(in_python(data))


def chain(length: int, answer_id: int = ID) -> bytes:
    """An answer along so many aliases."""
    question = DNSRecord.question("h0")
    answer = question.reply()
    answer.header.id = answer_id
    for number in range(length):
        answer.add_answer(RR(f"h{number}", QTYPE.CNAME, rdata=CNAME(f"h{number + 1}"), ttl=60 - number))
    answer.add_answer(RR(f"h{length}", rdata=A("192.0.2.1"), ttl=300))
    return framed(question.pack(), answer.pack())


def test_chains_of_aliases_end_alike() -> None:
    """An address is found behind as many aliases as are followed, and none behind one more."""
    for length, found in ((0, 1), (questions.MOST_ALIASES, 1), (questions.MOST_ALIASES + 1, 0)):
        data = chain(length)
        lines = natively(data)
        assert lines == list(in_python(data))
        assert len([line for line in lines if line.startswith("for")]) == found


def test_the_kept_corpus_is_read_alike() -> None:
    """What a fuzzer reached of the launcher's half (tools/fuzz), and answers of many records."""
    question = DNSRecord.question("a.example.com")
    answer = question.reply()
    answer.header.id = ID
    answer.add_answer(*(RR("a.example.com", rdata=A(f"192.0.2.{number % 256}")) for number in range(400)))
    kept = sorted(CORPUS.iterdir())
    assert len(kept) > 5
    for data in (framed(question.pack(), answer.pack()), *(path.read_bytes() for path in kept)):
        assert natively(data) == list(in_python(data))
