"""Local fakes: an address of this host, or near it, that stands for a destination of production.

    dynamodb.eu-west-1.amazonaws.com:443=127.0.0.1:4566

The function asks for the name and connects to its port as in production. The forwarder answers the name with an address
that reaches nobody, and whoever makes the connect puts the fake's in its place; so the profile, which is made of what
was asked for, holds production's name. Only SANDBOX_STANDS_FOR says so, for one start; a policy cannot.
"""

from __future__ import annotations

import struct

from sandbox.behaviour import destination
from sandbox.errors import ProfileError, UsageError
from sandbox.kernel import sockaddr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WHERE = "SANDBOX_STANDS_FOR"
"""The variable that holds them for a start, with commas between."""
EXAMPLE = "write HOST:PORT=ADDRESS:PORT, as in db.internal:5432=127.0.0.1:15432"
MOST = 200
"""Each has an address of its own in 198.18.0.0/24 or 2001:2::/120."""

# Kept for benchmarks of networks (RFC 2544, RFC 5180): no host of the internet has them.
_FOUR = b"\xc6\x12\0"
_SIX = b"\x20\x01\0\x02" + bytes(11)


class StandIn:
    """One fake: `production` is a name or an address of TCP with a port, (`host`, `port`) the fake's packed address."""

    __slots__ = ("host", "port", "production")

    def __init__(self, production: destination.Entry, host: bytes, port: int) -> None:
        self.production = production
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return f"{self.production}={destination.Entry('tcp', 'address', self.host, self.port)}".replace("=tcp://", "=")


def parse(text: str, where: str = WHERE) -> StandIn:
    """HOST:PORT=ADDRESS:PORT. Raises UsageError."""
    one, _, other = text.partition("=")
    if not (one and other):
        raise UsageError(f"{text!r} is not a destination and a fake", where=where, todo=EXAMPLE)
    try:
        production, fake = destination.parse(one), destination.parse(f"tcp://{other}")
    except ProfileError as error:
        raise UsageError(f"{text!r}: {error.what}", where=where, todo=EXAMPLE) from error
    if production.kind not in ("name", "address") or production.protocol != "tcp" or production.is_pattern:
        raise UsageError(f"{one!r} is not one host and port of TCP", where=where, todo=EXAMPLE)
    if fake.kind != "address" or fake.is_pattern or not isinstance(fake.value, bytes):
        raise UsageError(f"{other!r} is not an address and a port", where=where, todo=EXAMPLE)
    return StandIn(production, destination.reached(fake.value), fake.port)


class StandIns:
    """All fakes of one start. Raises UsageError for a destination that two stand for, or for too many."""

    def __init__(self, texts: Iterable[str], where: str = WHERE) -> None:
        self.texts = tuple(texts)
        self._fakes: dict[tuple[str | bytes, int], StandIn] = {}
        self._addresses: dict[str, bytes] = {}
        for text in self.texts:
            found = parse(text, where)
            key = (found.production.value, found.production.port)
            if key in self._fakes:
                raise UsageError(f"two stand for {found.production}", where=where, todo="give one of them")
            self._fakes[key] = found
            name = found.production.value
            if isinstance(name, str) and name not in self._addresses:
                # In the fake's family: a socket of the other could not be led to it.
                number = len(self._addresses) + 1
                self._addresses[name] = (_FOUR if len(found.host) == 4 else _SIX) + bytes([number])
        if len(self.texts) > MOST:
            raise UsageError(f"more than {MOST} of them", where=where, todo="give fewer")

    def __bool__(self) -> bool:
        return bool(self._fakes)

    @property
    def productions(self) -> tuple[str, ...]:
        """What they stand for, as a profile lists it."""
        return tuple(str(found.production) for found in self._fakes.values())

    def address(self, name: str) -> bytes | None:
        """The packed address that the forwarder gives for a name; None for a name that nothing stands for."""
        return self._addresses.get(name)

    def hosts(self, allowed: Callable[[str], bool]) -> dict[bytes, frozenset[str]]:
        """{packed address: its name} of the names that are allowed."""
        return {address: frozenset({name}) for name, address in self._addresses.items() if allowed(name)}

    def lead(self, host: str | bytes, port: int, names: Iterable[str], family: int) -> bytes | None:
        """The struct sockaddr to connect to in place of an address that was asked for, b"" where nobody is.

        None for an address that nothing stands for. `host` is packed, `names` are the names for which it stands now,
        `family` is the socket's.
        """
        for key in ((host, port), *((name, port) for name in names)):
            if found := self._fakes.get(key):
                return _sockaddr(found.host, found.port, family)
        # Another port of a name that a fake stands for: what would answer there is production.
        return b"" if host in self._addresses.values() or self._addresses.keys() & set(names) else None


def _sockaddr(host: bytes, port: int, family: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6; b"" where a socket of this family cannot reach the host."""
    if family == sockaddr.AF_INET:
        return struct.pack("<H", family) + struct.pack(">H4s8x", port, host) if len(host) == 4 else b""
    host = sockaddr.MAPPED + host if len(host) == 4 else host
    return struct.pack("<H", sockaddr.AF_INET6) + struct.pack(">HI16sI", port, 0, host, 0)
