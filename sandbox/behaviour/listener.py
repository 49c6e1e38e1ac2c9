"""Where a function listens: the entries of a profile's `listen`, and what each of them allows.

    tcp://127.0.0.1:8001 | udp://[::1]:* | tcp://127.0.0.1:0 | unix:/run/x | unix:/tmp/pool-*/sock | unix:@name | any

`*` is any port and 0 one that the kernel chooses. The unspecified address of either family is every address of the
host, and loopback is one, as a name that a server listens on has whichever family the host has. `any` says that
listening is not decided by address: so reads a profile of schema 1 whose calls can listen.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from sandbox.behaviour import destination
from sandbox.behaviour.destination import ANY_PORT, Entry
from sandbox.errors import ProfileError
from sandbox.kernel import sockaddr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ANY = "any"
CHOSEN = 0
"""The port of a socket whose port the kernel chooses."""
EXAMPLES = "write tcp://ADDRESS:PORT, udp://ADDRESS:PORT, unix:/PATH or unix:@NAME, with * for any port"

_EVERY = (bytes(4), bytes(16))
_LOOPBACK = (b"\x7f\0\0\1", bytes(15) + b"\1")


def parse(text: str) -> Entry:
    """One entry of a profile's `listen`. Raises ProfileError, which says what is wrong with it.

    Unlike the address of a connect, the unspecified one stays what it is: every address of the host.
    """
    if text == ANY:
        return Entry(ANY, ANY, text=text)
    entry = destination.parse(text)
    if entry.protocol == "unix":
        return entry
    if entry.kind != "address":
        raise ProfileError(f"{text!r}: is not an address to listen on", where="listen", todo=EXAMPLES)
    host = text.rpartition("://")[2].rpartition(":")[0].strip("[]")
    address = inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    return Entry(entry.protocol, "address", own_address(address), entry.port, text=text)


def entries(texts: Iterable[str]) -> Iterator[Entry]:
    """The entries among some texts; a reader of profiles (profile/document.py) refuses the others with their place."""
    return destination.entries(texts, parse)


def own_address(address: bytes) -> bytes:
    """The 4 or 16 bytes that a socket bound to this address waits on: an IPv4-mapped address is the IPv4 one."""
    return address[12:] if len(address) == 16 and address.startswith(sockaddr.MAPPED) else address


def of_socket(protocol: str, address: bytes, port: int) -> Entry:
    """The entry for a socket bound to 4 or 16 bytes; `port` is CHOSEN where the kernel chose it, which reads `*`."""
    return Entry(protocol, "address", own_address(address), ANY_PORT if port == CHOSEN else port)


def covers(entry: Entry, other: Entry) -> bool:
    """Whether an entry allows all that another one does, as far as their texts tell."""
    if entry.kind == ANY or entry.protocol != other.protocol:
        return entry.kind == ANY
    if entry.protocol == "unix":
        return destination.covers(entry, other)
    alike = entry.value == other.value or entry.value in _EVERY or {entry.value, other.value} == {*_LOOPBACK}
    return alike and entry.port in (other.port, ANY_PORT)


def decided(texts: Iterable[str]) -> bool:
    """Whether listening is decided by address: not where `any` is among the entries."""
    return ANY not in texts
