"""Which addresses stand for which names: by DNS answers, for a time, and by the files of the C library's resolver.

The supervisor reads the files before the function runs: what the function writes there later changes nothing. See man 5
resolv.conf and man 5 hosts.
"""

from __future__ import annotations

from sandbox.behaviour.destination import canonical_name, packed
from sandbox.names import DNS_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESOLV_CONF = "/etc/resolv.conf"
HOSTS = "/etc/hosts"
MOST_SERVERS = 3  # MAXNS of resolv.h
LARGEST = 1 << 20
"""Bytes of either file that are read."""
LONGEST = 86400.0
"""Seconds; no answer is believed for longer."""
LARGEST_TABLE = 4 << 20
"""Bytes of a table of connections that are read."""
MOST_ADDRESSES = 1024
MOST_NAMES = 16
"""For one address: many hosts of a content network share one."""


class KnownAddresses:
    """Bounded: the address, and for one address the name, that was not heard of for longest is forgotten first."""

    def __init__(
        self, clock: Callable[[], float], keep: float, most: int = MOST_ADDRESSES,
        connected: Callable[[bytes], bool] | None = None,
    ) -> None:  # fmt: skip
        """`keep` is for how many seconds beyond its time to live an address stands for a name; behind that, as long as
        a connection to it is open (`connected`)."""
        self._clock = clock
        self._keep = keep
        self._connected = connected or is_connected
        self._most = most
        # Both are ordered: what was used last stands last.
        self._names: dict[bytes, dict[str, float]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def remember(self, name: str, address: bytes, ttl: float) -> None:
        """The packed address stands for the name for `ttl` seconds from now, and is kept. Never shortens."""
        self.stand(name, address, min(ttl, LONGEST) + self._keep)

    def stand(self, name: str, address: bytes, seconds: float) -> None:
        """The packed address stands for the name for so many seconds from now, and for no shorter time than it did."""
        until = self._clock() + seconds
        names = self._names.pop(address, {})
        until = max(until, names.pop(name, 0.0))
        if len(names) >= MOST_NAMES:
            del names[next(iter(names))]
        names[name] = until
        self._names[address] = names
        if len(self._names) > self._most:
            del self._names[next(iter(self._names))]

    def names_of(self, address: bytes) -> frozenset[str]:
        """The names for which the packed address stands now; none for an unknown one."""
        names = self._names.pop(address, None)
        if not names:
            return frozenset()
        now = self._clock()
        current = {name: until for name, until in names.items() if until > now}
        if len(current) < len(names) and self._connected(address):
            current = names
        if current:
            self._names[address] = current
        return frozenset(current)


CONNECTIONS = ("tcp", "tcp6", "udp", "udp6")
OPEN = (b"01", b"08")
"""TCP_ESTABLISHED, as which connected datagram sockets count, too, and TCP_CLOSE_WAIT (net/tcp_states.h)."""


def is_connected(address: bytes, folder: str = "/proc/net") -> bool:
    """Whether a socket of this network is connected to a packed address (man 5 proc, /proc/net/tcp)."""
    words = [address[at : at + 4] for at in range(0, len(address), 4)]
    if len(words) == 1:
        words = [bytes(4), bytes(4), b"\0\0\xff\xff", *words]
    # Each word as the number that it is on a little-endian machine; an IPv4 address is the last one alone.
    whole = "".join([word[::-1].hex().upper() for word in words]).encode()
    ends = (whole, whole[-8:]) if len(address) == 4 else (whole,)
    for name in CONNECTIONS:
        try:
            with open(f"{folder}/{name}", "rb") as file:
                lines = file.read(LARGEST_TABLE).splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            fields = line.split(None, 4)
            if len(fields) == 5 and fields[3] in OPEN and fields[2].partition(b":")[0] in ends:
                return True
    return False


def upstreams(path: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """(address, port) of the name servers, in order; this host where none is named. An address may carry %scope."""
    found = []
    for words in _lines(path):
        if words[0] == "nameserver" and len(words) > 1 and packed(words[1].partition("%")[0]) is not None:
            found.append((words[1], DNS_PORT))
    return found[:MOST_SERVERS] or [("127.0.0.1", DNS_PORT)]


def searches(path: str = RESOLV_CONF, local: Sequence[str] = ()) -> tuple[str, ...]:
    """The domains that resolvers append to names, in lower case; `local`, of LOCALDOMAIN, wins."""
    found: list[str] = []
    for words in _lines(path):
        if words[0] in ("search", "domain"):
            found = words[1:] if words[0] == "search" else words[1:2]
    found = list(local) or found
    return tuple(dict.fromkeys(name for name in map(canonical_name, found) if name))


def hosts(wanted: Callable[[str], bool], path: str = HOSTS) -> dict[bytes, frozenset[str]]:
    """{packed address: names} of the hosts file, for the names that are wanted. No DNS question is asked for these."""
    found: dict[bytes, frozenset[str]] = {}
    for words in _lines(path):
        address = packed(words[0].partition("%")[0])
        names = frozenset(name for name in map(canonical_name, words[1:]) if name and wanted(name))
        if address is not None and names:
            found[address] = found.get(address, frozenset()) | names
    return found


def _lines(path: str) -> Iterator[list[str]]:
    """The words of each line that has any."""
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # the C library goes on without it, too
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            yield words
