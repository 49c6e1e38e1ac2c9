"""One entry of a profile's `network`: what it says, or what is wrong with it, and addresses as they are reached.

Every reader and writer of entries comes here: lint, the compiler, the supervisor, what it proposes, amend and diff.

    >>> parse("db.internal:5432").kind, parse("tcp://10.0.0.0/8:443").bits
    ('name', 8)
    >>> str(parse("tcp://DB.internal.:5432"))
    'db.internal:5432'
"""

from __future__ import annotations

# The socket module around it would cost the supervisor 7 ms and 1.6 MiB.
from _socket import AF_INET, AF_INET6, inet_pton

from sandbox.errors import ProfileError
from sandbox.kernel import sockaddr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sandbox.kernel.sockaddr import SocketAddress

RUNTIME_API = "runtime-api"
DNS_PORT = 53
"""Where resolvers wait: what goes there goes to the forwarder, in a profile with names and in training."""
OWN = "own"
"""What the function itself is bound to on loopback, whatever the port."""
ROUTES = "routes"
"""Nothing: datagram sockets that are connected for the source address that the route gives them, and send nothing."""
LOOKED_UP = "dns"
"""The protocol of a name that resolvers may be asked for, of whatever type, and that opens no destination."""
ANY_PORT = -1
LARGEST_PORT = 65535

EXAMPLES = "write HOST:PORT, tcp://ADDRESS:PORT, udp://ADDRESS:PORT, *.DOMAIN:PORT, tcp://NETWORK/BITS:PORT, unix:/PATH"
SCHEMES = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "mysql": 3306, "redis": 6379, "amqp": 5672}
"""URLs that people paste, with the port that they mean."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
NAT64 = b"\0\x64\xff\x9b" + bytes(8)  # 64:ff9b::/96, RFC 6052
_UNSPECIFIED = {bytes(4): b"\x7f\0\0\1", bytes(16): bytes(15) + b"\1"}
_METADATA_V4 = (b"\xa9\xfe\xa9\xfe", b"\xa9\xfe\xaa\x02", b"\xa9\xfe\xaa\x17")
METADATA = frozenset(
    (*_METADATA_V4, *(NAT64 + address for address in _METADATA_V4),
     inet_pton(AF_INET6, "fd00:ec2::254"), inet_pton(AF_INET6, "fd00:ec2::23"))
)  # fmt: skip
"""Packed addresses where platforms hand out credentials: EC2 (169.254.169.254, fd00:ec2::254), ECS (169.254.170.2) and
EKS (169.254.170.23, fd00:ec2::23), also as a NAT64 gateway would reach them."""


class Entry:
    """One parsed entry. `kind` is address, network, name, suffix, path, folder, pattern, abstract, family, own, routes
    or runtime-api (and any, see behaviour/listener.py).

    `value` is the packed address (with its prefix length in `bits` for a network), the name in lower case, the
    `.suffix` behind a `*`, the path without what the kernel ignores, the @name, or the family's name. `port` may be
    ANY_PORT.
    `text` is the entry as it was written; entries that mean the same are equal, however they were written.
    """

    __slots__ = ("bits", "kind", "port", "protocol", "text", "value")

    def __init__(
        self, protocol: str, kind: str, value: str | bytes = "", port: int = ANY_PORT, bits: int = 0, text: str = ""
    ) -> None:
        self.protocol = protocol
        self.kind = kind
        self.value = value
        self.port = port
        self.bits = bits
        self.text = text or str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, str | bytes, int, int]:
        return (self.protocol, self.kind, self.value, self.port, self.bits)

    def __repr__(self) -> str:
        return f"<Entry {self.kind} {self.text!r}>"

    def __str__(self) -> str:
        """The entry as learning and the supervisor write it, which `parse` reads back as an equal one."""
        if self.kind in (RUNTIME_API, OWN, ROUTES):
            return self.kind
        if self.protocol in ("unix", "family"):
            last = "/*" if self.kind == "folder" else ""
            return f"{self.protocol}:{self.value!s}{last}"
        if isinstance(self.value, bytes):
            host = written(self.value) + (f"/{self.bits}" if self.kind == "network" else "")
            host = f"[{host}]" if ":" in host else host
        else:
            host = f"*{self.value}" if self.kind == "suffix" else self.value
        # Names are those of TCP, unless something else is said; an address says it.
        scheme = "" if self.protocol == "tcp" and isinstance(self.value, str) else f"{self.protocol}://"
        if self.protocol == LOOKED_UP:
            return f"{scheme}{host}"
        return f"{scheme}{host}:{'*' if self.port == ANY_PORT else self.port}"

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for more than one destination."""
        several_ports = self.kind in ("address", "name") and self.port == ANY_PORT and self.protocol != LOOKED_UP
        return self.kind in ("network", "suffix", "folder", "pattern", OWN) or several_ports

    @property
    def is_unspecified(self) -> bool:
        """Whether it is every address of the host (0.0.0.0, ::), as only a listener can be."""
        return self.kind == "address" and self.value in _UNSPECIFIED

    @property
    def is_metadata(self) -> bool:
        """Whether it is an address where a platform hands out credentials."""
        return self.kind == "address" and self.value in METADATA


def parse(text: str) -> Entry:
    """One entry of a profile's `network`. Raises ProfileError, which says what is wrong with it.

    `runtime-api` | `own` | `routes` | [tcp://|udp://]HOST:PORT | unix:/path | unix:/folder/* |
    unix:/folder/name-*/s-* | unix:@abstract | unix:@name-* | dns://NAME | family:AF_NAME, where HOST is an address
    ([...] around an IPv6 one), NETWORK/BITS, a name or *.name, and PORT a number or `*`. In a unix path or name a `*`
    stands for its random part (sandbox/behaviour/path.py). `own` is what the function itself is bound to on loopback.
    With `routes` a datagram socket may be connected anywhere, and can then send nothing. `dns://` opens no destination:
    the name may be looked up. `typeN://` stands for sockets of another type (the number of SOCK_RAW and the like), as
    learning writes them.
    """
    if text == RUNTIME_API:
        return Entry("tcp", RUNTIME_API, text=text)
    if text in (OWN, ROUTES):
        return Entry(text, text, text=text)
    if text.startswith("unix:"):
        return _parse_unix(text, text[5:])
    if text.startswith("family:"):
        if not text.startswith("family:AF_") and not text[7:].isdecimal():
            raise _wrong(text, f"{text[7:]!r} is not an address family", "write family:AF_VSOCK or the like")
        return Entry("family", "family", text[7:], text=text)
    scheme, found, rest = text.partition("://")
    if found and scheme == LOOKED_UP:
        entry = _parse_host(text, LOOKED_UP, rest, ANY_PORT)
        if entry.kind not in ("name", "suffix"):
            raise _wrong(text, f"{rest!r} is not a name to ask for", "write dns://HOST, without a port")
        return entry
    protocol = scheme if found else "tcp"
    if protocol not in ("tcp", "udp") and not (protocol.startswith("type") and protocol[4:].isdecimal()):
        host = rest.partition("/")[0]
        todo = f"write {host}:{SCHEMES[scheme]}" if scheme in SCHEMES and ":" not in host else "write tcp:// or udp://"
        raise _wrong(text, f"{scheme!r} is not a protocol that a destination can have", todo)
    host, port = _split(text, rest if found else text)
    return _parse_host(text, protocol, host, port)


def by_datagram(entry: Entry) -> bool:
    """Whether datagram sockets of IP serve for it."""
    return entry.protocol in ("udp", OWN, ROUTES)


def of_address(address: SocketAddress, protocol: str, name: str = "") -> Entry:
    """The entry for an address on a socket of this protocol, by the host's `name` where it stands for one now.

    Its text has the address as the function wrote it (0.0.0.0). What no profile can hold, such as a relative path,
    `parse` of that text refuses.
    """
    if address.is_ip and isinstance(address.value, bytes):
        if name:
            return Entry(protocol, "name", name, address.port)
        text = f"{protocol}://{address.endpoint()}"
        return Entry(protocol, "address", reached(address.value), address.port, text=text)
    if address.family == "AF_UNIX":
        return Entry("unix", "abstract" if address.host.startswith("@") else "path", address.host)
    return Entry("family", "family", address.family)


def covers(entry: Entry, other: Entry) -> bool:
    """Whether an entry allows all that another one does, as far as their texts tell: equal ones, and unix sockets."""
    if entry == other:
        return True
    if entry.kind not in ("folder", "pattern") or other.kind not in ("folder", "pattern", "path", "abstract"):
        return False
    from sandbox.behaviour.path import is_like

    path, other_path = (str(e.value) + "/*" * (e.kind == "folder") for e in (entry, other))
    return is_like(path, other_path)


def entries(texts: Iterable[str], parser: Callable[[str], Entry] | None = None) -> Iterator[Entry]:
    """The entries among some texts; a reader of profiles (profile/document.py) refuses the others with their place.

    `parser` is `parse`, or that of listeners.
    """
    for text in texts:
        try:
            yield (parser or parse)(text)
        except ProfileError:
            continue


def _wrong(text: str, what: str, todo: str = EXAMPLES) -> ProfileError:
    return ProfileError(f"{text!r}: {what}", where="network", todo=todo)


def _split(text: str, rest: str) -> tuple[str, int]:
    if rest.startswith("["):
        host, found, tail = rest[1:].partition("]")
        colon, port = tail[:1], tail[1:]
        if not found or ":" not in host:
            raise _wrong(text, "brackets stand around an IPv6 address", "write tcp://[2001:db8::1]:443")
    else:
        host, colon, port = rest.rpartition(":")
        if ":" in host:
            raise _wrong(text, "an IPv6 address without brackets", "write tcp://[2001:db8::1]:443")
    if colon != ":" or not port:
        raise _wrong(text, "has no port", "add :PORT, or :* for every port")
    if port == "*":
        return host, ANY_PORT
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > LARGEST_PORT:
        raise _wrong(text, f"{port!r} is not a port", f"a port is a number up to {LARGEST_PORT}, or * for every port")
    return host, int(port)


def _parse_host(text: str, protocol: str, host: str, port: int) -> Entry:
    if "/" in host:
        value, bits = _parse_network(text, host)
        return Entry(protocol, "network", value, port, bits, text)
    address = packed(host)
    if address is not None:
        return Entry(protocol, "address", address, port, text=text)
    if ":" in host or "%" in host:
        raise _wrong(text, f"{host!r} is not an IPv6 address")
    if host == "*":
        todo = "for any address write tcp://0.0.0.0/0:PORT and tcp://[::]/0:PORT"
        raise _wrong(text, "'*' alone is not a host", todo)
    wildcard = host.startswith("*.")
    name = canonical_name(host[2:] if wildcard else host)
    if not name:
        todo = "write its ASCII form (xn--...)" if not host.isascii() else EXAMPLES
        raise _wrong(text, f"{host!r} is neither an address nor a host name", todo)
    if wildcard:
        return Entry(protocol, "suffix", f".{name}", port, text=text)
    return Entry(protocol, "name", name, port, text=text)


def _parse_network(text: str, host: str) -> tuple[bytes, int]:
    start, _, length = host.partition("/")
    address = _pton(start)
    if address is None:
        raise _wrong(text, f"{start!r} is not an address")
    if not (length.isascii() and length.isdecimal()) or len(length) > 3 or int(length) > 8 * len(address):
        raise _wrong(text, f"{length!r} is not a prefix length", f"it is a number up to {8 * len(address)}")
    bits = int(length)
    if address.startswith(sockaddr.MAPPED) and len(address) == 16:
        if bits < 96:
            raise _wrong(text, "reaches beyond the IPv4-mapped addresses", "write the IPv4 network itself")
        address, bits = address[12:], bits - 96
    number, free = int.from_bytes(address, "big"), 8 * len(address) - bits
    first = (number >> free << free).to_bytes(len(address), "big")
    if first != address:
        raise _wrong(text, f"the address has bits behind /{bits}", f"the network is {written(first)}/{bits}")
    return address, bits


def _parse_unix(text: str, place: str) -> Entry:
    if place.startswith("@"):
        if len(place) < 2:
            raise _wrong(text, "has no name behind the @", "write unix:@name")
        if place[1] == "*" or "**" in place:
            raise _wrong(text, "has a wildcard where its name begins, or two together", "write unix:@name-*")
        return Entry("unix", "pattern" if "*" in place else "abstract", place, text=text)
    if not place.startswith("/"):
        raise _wrong(text, "is not an absolute path", "write unix:/path, unix:/folder/* or unix:@abstract")
    path = clean_path(place)
    if path is None:
        raise _wrong(text, "goes through '..'", "write the path without it")
    folder, _, last = path.rpartition("/")
    if last == "*" and "*" not in folder:
        return Entry("unix", "folder", folder, text=text)
    if "*" in path:
        from sandbox.behaviour.path import wildcard_problem  # only a pattern needs it

        if problem := wildcard_problem(path):
            raise _wrong(text, problem, "write unix:/folder/* or unix:/folder/name-*")
        return Entry("unix", "pattern", path, text=text)
    return Entry("unix", "path", path, text=text)


def clean_path(path: str) -> str | None:
    """An absolute path without `//` and `/./`; None for one that is relative or goes through `..`."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return None if ".." in parts or not path.startswith("/") else "/" + "/".join(parts)


def canonical_name(host: str) -> str:
    """A host name in lower case without its last dot; '' for what is none (RFC 1123, and underscores)."""
    name = host.removesuffix(".").lower()
    labels = name.split(".")
    if len(name) > 253 or labels[-1].isdecimal():
        return ""
    return name if all(0 < len(label) < 64 and _LETTERS.issuperset(label) for label in labels) else ""


def packed(host: str | bytes) -> bytes | None:
    """The 4 or 16 bytes that a connect to this address, text or packed, reaches; None for anything else."""
    address = host if isinstance(host, bytes) else _pton(host)
    return None if address is None else reached(address)


def reached(address: bytes) -> bytes:
    """Where a connect to these 4 or 16 bytes ends: an IPv4-mapped address is the IPv4 one, and the unspecified address
    is this host's loopback (the kernel connects there: net/ipv4/route.c, net/ipv6/tcp_ipv6.c). So an entry for
    127.0.0.1 covers 0.0.0.0. Which address a bound socket reaches by it, the address alone does not tell: the broker
    has put that one before it asks (sandbox/egress/sockets.py, specified)."""
    if len(address) == 16 and address.startswith(sockaddr.MAPPED):
        address = address[12:]
    return _UNSPECIFIED.get(address, address)


def is_loopback(address: bytes) -> bool:
    """Whether packed bytes, as `reached` gives them, stay on this host."""
    return address[:1] == b"\x7f" if len(address) == 4 else address == _UNSPECIFIED[bytes(16)]


def needs_own_entry(address: bytes) -> bool:
    """Whether packed bytes, as `reached` gives them, are this host, its link or an address that hands out credentials.

    Whoever answers for a name could make it mean one of these (rebinding), so that only an entry with an address
    allows them. Also as a NAT64 gateway would reach them.
    """
    if address.startswith(NAT64) and len(address) == 16:
        address = address[12:]
    if len(address) == 16:
        link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
        return link_local or is_loopback(address) or address in METADATA
    return is_loopback(address) or address.startswith(b"\xa9\xfe")  # 169.254.0.0/16


def _pton(host: str) -> bytes | None:
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return None


def written(address: bytes) -> str:
    """A packed address as people write it."""
    return sockaddr.ipv4(address) if len(address) == 4 else sockaddr.ipv6(address)
