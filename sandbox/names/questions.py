"""What of a DNS message the forwarder looks at: the question, and which addresses an answer gives for it (RFC 1035).

Bytes from the function and from the network: whatever they are, nothing here raises. dnslib reads and writes the wire
format; this module adds the limits that it leaves to its callers.
"""

from __future__ import annotations

import struct

from dnslib.buffer import BufferError as WireError
from dnslib.dns import EDNS0, QTYPE, DNSError, DNSHeader
from dnslib.label import DNSBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dnslib.label import DNSLabel

LARGEST_QUESTION = 4096
"""Bytes; a name of 255 with EDNS options and padding takes a few hundred."""
MOST_RECORDS = 256
"""Of an answer, those that are looked at."""
MOST_ALIASES = 16
"""That are followed from a name, as by resolvers."""

QUERY = 0
LIFE = 60
"""Seconds that an answer of our own making may be kept."""
NO_ERROR = 0
SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = 2, 3, 4, 5
A, CNAME, PTR, AAAA, OPT, IXFR, AXFR = 1, 5, 12, 28, 41, 251, 252
INTERNET = 1
TYPES = frozenset(
    # A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, NAPTR, SVCB, HTTPS, ANY, CAA
    (1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 64, 65, 255, 257)
)
"""What is asked about a name. Any of 65,536 types would be two bytes a question that the function can choose."""
RECURSION = 0x0100
TRUNCATED = 0x0200
SMALLEST_OFFER = 512
"""Bytes of a datagram that every client takes (RFC 1035, 4.2.1)."""
OFFERED_SIZE = 1232
"""Bytes of a datagram that we say to take, as resolvers do (dnsflagday.net/2020)."""

# A label may hold any byte, a dot too: what is escaped equals no name of a profile.
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


class Question:
    """One question. `name` is lower case without a last dot, odd bytes as \\DDD; `plain` is whether we take it at all.

    `wire` holds its bytes behind the header, as the client wrote them; `offer` is the longest datagram that it takes.
    """

    __slots__ = ("edns", "id", "name", "offer", "plain", "qclass", "qtype", "recursion", "wire")

    def __init__(self, id_: int, recursion: int, *, plain: bool) -> None:
        self.id = id_
        self.recursion = recursion
        self.plain = plain
        self.name = ""
        self.qtype = 0
        self.qclass = 0
        self.wire = b""
        self.edns = False
        self.offer = SMALLEST_OFFER

    @property
    def type_name(self) -> str:
        """`A`, `TXT`, or `TYPE1234` for a type without a name."""
        return str(QTYPE.forward.get(self.qtype, f"TYPE{self.qtype}"))


def read_question(packet: bytes) -> Question | None:
    """The question in a packet from a client; None for what is malformed, too long, or no question at all."""
    if len(packet) > LARGEST_QUESTION:
        return None
    buffer = DNSBuffer(packet)
    try:
        header = DNSHeader.parse(buffer)
        if header.qr:
            return None  # never answer an answer
        ordinary = header.opcode == QUERY and header.q == 1 and not header.a and not header.auth and header.ar <= 1
        question = Question(header.id, header.rd, plain=False)
        if not ordinary:
            return question
        label = buffer.decode_name()
        if not _fits(label) or buffer.offset - 12 != _length(label):
            return None  # the first name of a message has nothing that it could point back to
        question.name = _written(label)
        question.qtype, question.qclass = buffer.unpack("!HH")
        question.wire = bytes(packet[12 : buffer.offset])
        if header.ar:
            name, kind, offer, _, length = _record(buffer)
            buffer.get(length)
            question.edns = kind == OPT and not name
            question.offer = max(SMALLEST_OFFER, offer)
        if buffer.remaining():
            return None
    except (WireError, DNSError, RecursionError):
        return None
    transfer = question.qtype in (IXFR, AXFR)
    question.plain = question.qclass == INTERNET and not transfer and question.edns == bool(header.ar)
    return question


def to_ask(question: Question) -> bytes:
    """What is sent for a question, behind the id: the question and nothing else that a client chose.

    So the name is in lower case, the flags ask for recursion and no more, and of EDNS only our own offer is left.
    """
    buffer = DNSBuffer()
    DNSHeader(id=0, bitmap=RECURSION, q=1, ar=int(question.edns)).pack(buffer)
    buffer.append(question.wire[:-4].lower() + question.wire[-4:])  # no length of a label is a letter: below 64
    if question.edns:
        EDNS0(udp_len=OFFERED_SIZE).pack(buffer)
    return bytes(buffer.data[2:])


def answer_for(question: Question, packet: bytes, *, stream: bool) -> bytes:
    """An upstream's answer under the client's id, with its spelling of the name, and cut to what it takes."""
    end = 12 + len(question.wire)
    whole = packet[12:end].lower() == question.wire.lower()
    packet = question.id.to_bytes(2, "big") + packet[2:12] + (question.wire if whole else packet[12:end]) + packet[end:]
    if stream or len(packet) <= question.offer:
        return packet
    flags = int.from_bytes(packet[2:4], "big") | TRUNCATED
    return packet[:2] + flags.to_bytes(2, "big") + b"\0\1" + bytes(6) + question.wire


def reply(question: Question, code: int = 0) -> bytes:
    """An answer without records: NAME_ERROR, REFUSED or SERVER_FAILURE, or (0) that there are none of this type."""
    opt = 1 if question.edns else 0
    header = DNSHeader(
        id=question.id, bitmap=0, q=1 if question.wire else 0, ar=opt, qr=1, rd=question.recursion, ra=1, rcode=code
    )
    buffer = DNSBuffer()
    header.pack(buffer)
    buffer.append(question.wire)
    if opt:
        EDNS0(udp_len=OFFERED_SIZE).pack(buffer)
    return bytes(buffer.data)


def addressed(question: Question, host: bytes) -> bytes:
    """An answer with this packed address, and without any record for a question of another type."""
    kind = A if len(host) == 4 else AAAA
    if question.qtype != kind:
        return reply(question, NO_ERROR)
    found = bytearray(reply(question, NO_ERROR))
    found[6:8] = (1).to_bytes(2, "big")  # one record, whose name is the question's, behind the header
    at = 12 + len(question.wire)
    found[at:at] = b"\xc0\x0c" + struct.pack("!HHIH", kind, INTERNET, LIFE, len(host)) + host
    return bytes(found)


class DnsAnswer:
    """What an answer says: its response code, and (packed address, seconds to live) of the name that was asked for.

    `records` is how many it has, of whatever type.
    """

    __slots__ = ("addresses", "code", "records")

    def __init__(self, code: int, addresses: list[tuple[bytes, int]], records: int = 0) -> None:
        self.code = code
        self.addresses = addresses
        self.records = records


def read_answer(packet: bytes, id_: int, question: Question) -> DnsAnswer | None:
    """The answer to this question, sent under this id; None for anything else, malformed or somebody else's."""
    buffer = DNSBuffer(packet)
    try:
        header = DNSHeader.parse(buffer)
        if header.id != id_ or not header.qr or header.opcode != QUERY:
            return None
        if header.q == 0 and header.rcode and len(packet) == 12:
            return DnsAnswer(header.rcode, [])  # some say no more than that they would not
        if header.q != 1:
            return None
        name = _name(buffer)
        if (name, *buffer.unpack("!HH")) != (question.name, question.qtype, question.qclass):
            return None
        return DnsAnswer(header.rcode, _addresses(buffer, min(header.a, MOST_RECORDS), name), header.a)
    except (WireError, DNSError, RecursionError):
        return None


def _addresses(buffer: DNSBuffer, count: int, name: str) -> list[tuple[bytes, int]]:
    """Follow the aliases from the name; an address lives as long as every link on the way to it."""
    aliases: dict[str, tuple[str, int]] = {}
    found: dict[str, list[tuple[bytes, int]]] = {}
    for _ in range(count):
        owner, kind, class_, ttl, length = _record(buffer)
        end = buffer.offset + length
        if kind == CNAME and class_ == INTERNET:
            aliases.setdefault(owner, (_name(buffer), ttl))
        elif kind in (A, AAAA) and class_ == INTERNET:
            if length != (4 if kind == A else 16):
                raise WireError("an address of another length")
            found.setdefault(owner, []).append((buffer.get(length), ttl))
        else:
            buffer.get(length)
        if buffer.offset != end:
            raise WireError("a record longer or shorter than it says")
    longest = 1 << 31
    for _ in range(min(len(aliases), MOST_ALIASES)):
        if name in found or name not in aliases:
            break
        name, ttl = aliases[name]
        longest = min(longest, ttl)
    return [(address, min(ttl, longest)) for address, ttl in found.get(name, ())]


def _record(buffer: DNSBuffer) -> tuple[str, int, int, int, int]:
    """(owner, type, class, seconds to live, length of the data) of the record that begins here."""
    name = _name(buffer)
    kind, class_, ttl, length = buffer.unpack("!HHIH")
    return name, kind, class_, 0 if ttl >> 31 else ttl, length  # RFC 2181, 8: the top bit means zero


def _name(buffer: DNSBuffer) -> str:
    label = buffer.decode_name()
    if not _fits(label):
        raise WireError("longer than a name can be")
    return _written(label)


def _length(label: DNSLabel) -> int:
    return 1 + sum(1 + len(part) for part in label.label)


def _fits(label: DNSLabel) -> bool:
    return _length(label) <= 255 and all(len(part) < 64 for part in label.label)


def _written(label: DNSLabel) -> str:
    parts = [part.lower() for part in label.label]
    return ".".join([part.decode() if _PLAIN.issuperset(part) else _escaped(part) for part in parts])


def _escaped(part: bytes) -> str:
    return "".join([chr(byte) if byte in _PLAIN else f"\\{byte:03d}" for byte in part])


def reversed_address(name: str) -> bytes | None:
    """The packed address that a name under in-addr.arpa or ip6.arpa stands for, else None (RFC 1035, 3596)."""
    if name.endswith(".in-addr.arpa"):
        parts = name[: -len(".in-addr.arpa")].split(".")
        numbers = [int(part) for part in parts if part.isdecimal() and len(part) <= 3]
        whole = len(parts) == len(numbers) == 4 and all(number < 256 for number in numbers)
        return bytes(reversed(numbers)) if whole else None
    if name.endswith(".ip6.arpa"):
        digits = name[: -len(".ip6.arpa")].split(".")
        if len(digits) == 32 and all(len(digit) == 1 and digit in "0123456789abcdef" for digit in digits):
            return bytes.fromhex("".join(reversed(digits)))
    return None
