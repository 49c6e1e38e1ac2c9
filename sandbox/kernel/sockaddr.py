"""Socket addresses as the kernel reads them (linux/socket.h, in.h, in6.h, un.h), and as people write them.

Without the socket and ipaddress modules: the supervisor, which must stay small, loads this.
"""

from __future__ import annotations

from sandbox.kernel import tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6 = 0, 1, 2, 10
MAPPED = b"\0" * 10 + b"\xff\xff"
"""What an IPv6 address begins with that reaches an IPv4 one (RFC 4291, 2.5.5.2)."""


def parse(data: bytes) -> tuple[str, str, int] | None:
    """(family, host, port) of a struct sockaddr; None for AF_UNSPEC and for what is too short to mean anything.

    The family is `AF_INET`, or a number where no name is known. IPv4-mapped IPv6 addresses are the IPv4 addresses that
    they reach. The host of AF_UNIX is its path, or `@name` for an abstract one, so that a relative path is written
    `./@name` where it begins so; port 0 stands where there is none.
    """
    if len(data) < 2:
        return None
    family = int.from_bytes(data[:2], "little")
    name = tables.name_of("socket_family", family) or str(family)
    if family == AF_INET:
        return (name, ipv4(data[4:8]), int.from_bytes(data[2:4], "big")) if len(data) >= 8 else None
    if family == AF_INET6:
        if len(data) < 24:
            return None
        address, port = data[8:24], int.from_bytes(data[2:4], "big")
        if address.startswith(MAPPED):
            return "AF_INET", ipv4(address[12:]), port
        return name, ipv6(address), port
    if family == AF_UNIX:
        path = data[2:]
        if path[:1] == b"\0":
            return name, "@" + path[1:].decode(errors="replace"), 0
        text = path.split(b"\0")[0].decode(errors="replace")
        # A relative path that begins with @ is no abstract name.
        return (name, "./" + text if text.startswith("@") else text, 0) if path else None
    return None if family == AF_UNSPEC else (name, "", 0)


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


def destination(family: str, host: str, port: int, protocol: str) -> str:
    """As a profile writes it: `tcp://10.0.0.1:443`, `unix:/run/x`, `family:AF_VSOCK`."""
    if family in ("AF_INET", "AF_INET6"):
        return f"{protocol}://{endpoint(family, host, port)}"
    return endpoint(family, host, port) if family == "AF_UNIX" else f"family:{family}"
