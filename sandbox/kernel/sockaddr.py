"""Socket addresses as the kernel reads them (linux/socket.h, in.h, in6.h, un.h), and as people write them.

Without the socket and ipaddress modules: the supervisor, which must stay small, loads this.
"""

from __future__ import annotations

from sandbox.kernel import tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 0, 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3  # linux/net.h
LONGEST = 128
"""Bytes of struct sockaddr_storage; the kernel takes no longer address (net/socket.c, move_addr_to_kernel)."""
MAPPED = b"\0" * 10 + b"\xff\xff"
"""What an IPv6 address begins with that reaches an IPv4 one (RFC 4291, 2.5.5.2)."""


class SocketAddress:
    """What one struct sockaddr names, to compare and to print; never changed.

    `family` is `AF_INET`, or a number where no name is known. `value` is the 4 or 16 bytes of an IP address, the path
    or `@name` of AF_UNIX, and empty for other families. `port` is 0 where there is none.
    """

    __slots__ = ("family", "port", "value")

    def __init__(self, family: str, value: str | bytes = "", port: int = 0) -> None:
        self.family = family
        self.value = value
        self.port = port

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SocketAddress):
            return NotImplemented
        return (self.family, self.value, self.port) == (other.family, other.value, other.port)

    def __hash__(self) -> int:
        return hash((self.family, self.value, self.port))

    def __repr__(self) -> str:
        return f"SocketAddress({self.family!r}, {self.value!r}, {self.port})"

    @property
    def is_ip(self) -> bool:
        """Whether it is an IPv4 or IPv6 address, with a port."""
        return isinstance(self.value, bytes)

    @property
    def host(self) -> str:
        """The address, path or `@name` as text; '' for families without one."""
        if isinstance(self.value, str):
            return self.value
        return ipv4(self.value) if len(self.value) == 4 else ipv6(self.value)

    def endpoint(self) -> str:
        """As people write it: `10.0.0.1:443`, `[::1]:53`, `unix:/run/x`, `unix:@name`, or the family alone."""
        return endpoint(self.family, self.host, self.port)


def parse(data: bytes) -> SocketAddress | None:
    """A struct sockaddr; None for AF_UNSPEC and for what is too short to mean anything.

    IPv4-mapped IPv6 addresses are the IPv4 addresses that they reach. The value of AF_UNIX is its path, or `@name` for
    an abstract one, so that a relative path is written `./@name` where it begins so.
    """
    if len(data) < 2:
        return None
    family = int.from_bytes(data[:2], "little")
    name = tables.name_of("socket_family", family) or str(family)
    if family == AF_INET:
        return SocketAddress(name, data[4:8], int.from_bytes(data[2:4], "big")) if len(data) >= 8 else None
    if family == AF_INET6:
        if len(data) < 24:
            return None
        address, port = data[8:24], int.from_bytes(data[2:4], "big")
        if address.startswith(MAPPED):
            return SocketAddress("AF_INET", address[12:], port)
        return SocketAddress(name, address, port)
    if family == AF_UNIX:
        path = data[2:]
        if path[:1] == b"\0":
            return SocketAddress(name, "@" + path[1:].decode(errors="replace"))
        text = path.split(b"\0")[0].decode(errors="replace")
        # A relative path that begins with @ is not an abstract name.
        return SocketAddress(name, "./" + text if text.startswith("@") else text) if path else None
    return None if family == AF_UNSPEC else SocketAddress(name)


def takes(domain: int, data: bytes) -> bool:
    """Whether sockets of a domain take a struct sockaddr of its family; others are refused (EAFNOSUPPORT, EINVAL).

    AF_UNSPEC dissolves an association, or stands for the socket's own family (net/ipv4/udp.c, net/ipv6/raw.c).
    """
    family = int.from_bytes(data[:2], "little")
    if domain in (AF_INET, AF_INET6):
        return family in (domain, AF_INET, AF_UNSPEC)
    return family == domain


def protocol(socket_type: int) -> str:
    """What an entry of `network` calls a socket of this type: tcp, udp, or typeN for any other."""
    return "tcp" if socket_type == SOCK_STREAM else "udp" if socket_type == SOCK_DGRAM else f"type{socket_type}"


def ipv4(address: bytes) -> str:
    """Four bytes as 127.0.0.1."""
    return ".".join([str(byte) for byte in address])


def ipv6(address: bytes) -> str:
    """Sixteen bytes in the short form of RFC 5952, without the dotted tail: what ipaddress.IPv6Address prints."""
    words = [int.from_bytes(address[i : i + 2], "big") for i in range(0, 16, 2)]
    start, length = _longest_zeroes(words)
    parts = [f"{word:x}" for word in words]
    if length < 2:
        return ":".join(parts)
    return ":".join(parts[:start]) + "::" + ":".join(parts[start + length :])


def _longest_zeroes(words: Sequence[int]) -> tuple[int, int]:
    """(start, length) of the longest run of zeroes, the first of several."""
    best, run = (0, 0), 0
    for i, word in enumerate(words):
        run = run + 1 if word == 0 else 0
        if run > best[1]:
            best = (i - run + 1, run)
    return best


def endpoint(family: str, host: str, port: int) -> str:
    """As people write it: `10.0.0.1:443`, `[::1]:53`, `unix:/run/x`, `unix:@name`, or the family alone."""
    if family == "AF_UNIX":
        return f"unix:{host}"
    if family in ("AF_INET", "AF_INET6"):
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return family
