"""Where a function may connect and send to: the profile's `network` entries, and the decision about one destination.

    >>> destinations = Destinations(["db.internal:5432", "tcp://10.0.0.0/8:443"], frozenset())
    >>> destinations.decide("tcp", "10.1.2.3", 443).entry
    'tcp://10.0.0.0/8:443'
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from sandbox.behaviour.destination import (
    ANY_PORT,
    METADATA,
    OWN,
    ROUTES,
    RUNTIME_API,
    Entry,
    canonical_name,
    clean_path,
    needs_own_entry,
    packed,
    parse,
    written,
)
from sandbox.errors import ProfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.kernel.sockaddr import SocketAddress


def api_addresses(host: str, port: int) -> frozenset[tuple[str, int]]:
    """The (address, port) at which the Runtime API listens. Raises OSError or ValueError for a name without address."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return frozenset({(inet_ntop(family, inet_pton(family, host)), port)})
    except (OSError, ValueError):
        import socket  # only a name needs it, and it loads slowly

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return frozenset((str(entry[4][0]), port) for entry in found)


class Match:
    """Whether a destination is allowed; `entry` is the one that allows it, `reason` says why it is denied."""

    __slots__ = ("allowed", "entry", "reason")

    def __init__(self, allowed: bool, entry: str, reason: str) -> None:
        self.allowed = allowed
        self.entry = entry
        self.reason = reason

    def __repr__(self) -> str:
        return f"Match({self.allowed}, {self.entry!r}, {self.reason!r})"


class Denied(Exception):
    """A destination or listener that the profile does not allow, or a socket that cannot be used.

    `destination` is the entry of `section` that would allow it, '' where no entry can. `address` is what the call
    names, as it was read and parsed; None where it was not read, or names nothing. `final`: no mode and no response
    lets it through.
    """

    def __init__(
        self, reason: str, destination: str = "", address: SocketAddress | None = None, *, final: bool = False,
        section: str = "network",
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.destination = destination
        self.reason = reason
        self.address = address
        self.final = final
        self._section = section

    @property
    def allow(self) -> str:
        """What a person adds to the profile to allow it; '' where no entry can."""
        if not self.destination:
            return ""
        from sandbox.behaviour import spelling  # a start without violations does without

        return spelling.of_entry(self._section, self.destination)


class Destinations:
    """The entries of a profile, ready to decide. Raises ProfileError for an entry that says nothing known.

    `api` holds (host, port) of the Runtime API, which is always allowed; port 53 is no special case here: the broker
    gives it to the DNS forwarder before it asks.
    """

    def __init__(self, entries: Iterable[str], api: frozenset[tuple[str, int]]) -> None:
        self._exact: dict[tuple[str, str | bytes, int], str] = {}
        self._networks: list[tuple[str, int, int, int, int, str]] = []  # protocol, bytes, free bits, prefix, port, text
        self._suffixes: list[tuple[str, str, int, str]] = []  # protocol, .suffix, port, text
        self._folders: dict[str, str] = {}
        self._patterns: dict[str, str] = {}
        self._names: set[str] = set()
        self._api = {(packed(host) or canonical_name(host), port) for host, port in api}
        self.allows_own = False
        """Whether the function may reach what it is bound to itself; the caller knows what that is."""
        self.allows_routes = False
        """Whether datagram sockets may be connected to any destination, to send nothing."""
        for text in entries:
            self._add(parse(text))
        self._names.update(host for host, _ in self._api if isinstance(host, str) and host)

    def _add(self, entry: Entry) -> None:
        value = entry.value
        if entry.kind == "network" and isinstance(value, bytes):
            free = 8 * len(value) - entry.bits
            prefix = int.from_bytes(value, "big") >> free
            self._networks.append((entry.protocol, len(value), free, prefix, entry.port, entry.text))
        elif entry.kind == "suffix":
            self._suffixes.append((entry.protocol, str(value), entry.port, entry.text))
        elif entry.kind == "folder":
            self._folders.setdefault(str(value), entry.text)
        elif entry.kind == "pattern":
            self._patterns.setdefault(str(value), entry.text)
        elif entry.kind == OWN:
            self.allows_own = True
        elif entry.kind == ROUTES:
            self.allows_routes = True
        elif entry.kind != RUNTIME_API:
            self._exact.setdefault((entry.protocol, value, entry.port), entry.text)
            if entry.kind == "name":
                self._names.add(str(value))

    @property
    def has_names(self) -> bool:
        """Whether any entry names a host, so that a DNS forwarder is needed."""
        return bool(self._names or self._suffixes)

    def allows_name(self, name: str) -> bool:
        """Whether some entry, of any protocol and port, names this host: what the forwarder may look up."""
        name = name.removesuffix(".").lower()
        return name in self._names or any(_under(name, suffix) for _, suffix, _, _ in self._suffixes)

    def decide(self, protocol: str, host: str | bytes, port: int = 0, names: frozenset[str] = frozenset()) -> Match:
        """Decide about one destination.

        `protocol` is tcp, udp, typeN, unix (`host` is the path or @name) or family (`host` is its name). An IP address
        is text, or the 4 or 16 bytes that were read, which are compared as they are. `names` are
        the host names for which the address stands now. A unix path is compared as it is written: the caller has
        followed its links, or connects without following any.
        """
        if isinstance(host, str) and protocol == "unix":
            return self._decide_unix(host)
        if isinstance(host, str) and protocol == "family":
            rule = self._exact.get((protocol, host, ANY_PORT), "")
            return Match(bool(rule), rule, "" if rule else f"no entry names sockets of the family {host}")
        address = packed(host)
        if address is None:
            return Match(False, "", f"{host!r} is not an address")
        known = sorted(names)
        if protocol == "tcp" and any((place, port) in self._api for place in (address, *known)):
            return Match(True, RUNTIME_API, "")
        rule = self._find(protocol, address, port)
        if not rule and address in METADATA:
            place = written(address)
            reason = f"{place} hands out the platform's credentials; only an entry with this very address allows it"
            return Match(False, "", reason)
        rule = rule or self._by_name(protocol, known, port) or self._by_network(protocol, address, port)
        return Match(True, rule, "") if rule else Match(False, "", self._why_not(protocol, address, port, known))

    def _find(self, protocol: str, value: str | bytes, port: int) -> str:
        return self._exact.get((protocol, value, port)) or self._exact.get((protocol, value, ANY_PORT)) or ""

    def _by_name(self, protocol: str, names: Iterable[str], port: int) -> str:
        for name in names:
            rule = self._find(protocol, name, port)
            if rule:
                return rule
            for which, suffix, number, text in self._suffixes:
                if which == protocol and number in (port, ANY_PORT) and _under(name, suffix):
                    return text
        return ""

    def _by_network(self, protocol: str, address: bytes, port: int) -> str:
        value = int.from_bytes(address, "big")
        for which, size, free, prefix, number, text in self._networks:
            if which == protocol and size == len(address) and value >> free == prefix and number in (port, ANY_PORT):
                return text
        return ""

    def _why_not(self, protocol: str, address: bytes, port: int, names: list[str]) -> str:
        place = f"{written(address)}, known as {names[0]}," if names else written(address)
        others = [text for (_, value, _), text in self._exact.items() if value == address or value in names]
        if others:
            found = ", ".join(sorted(others)[:3])
            return f"{place} is not allowed with {protocol} port {port}; the profile has {found}"
        if self.has_names and needs_own_entry(address):
            return f"no entry names {place} with {protocol} port {port}, which no name that resolves to it allows"
        if self.has_names and not names:
            return f"no entry names {place}, and no host name of the profile stands for it now"
        return f"no entry names {place} with {protocol} port {port}"

    def _decide_unix(self, place: str) -> Match:
        rule: str | None = None
        if place.startswith("@"):
            if "\ufffd" not in place:
                rule = self._exact.get(("unix", place, ANY_PORT)) or self._by_pattern(place)
        else:
            path = clean_path(place)
            # What could not be decoded could be any other byte.
            if path is None or "\ufffd" in path:
                return Match(False, "", f"{place!r} is not a plain absolute path")
            rule = self._exact.get(("unix", path, ANY_PORT))
            if rule is None and path != "/":
                rule = self._folders.get(path.rpartition("/")[0]) or self._by_pattern(path)
        return Match(rule is not None, rule or "", "" if rule else f"no entry names the socket {place}")

    def _by_pattern(self, path: str) -> str | None:
        if not self._patterns:
            return None
        from sandbox.behaviour.path import is_like  # a start without patterns does without

        return next((text for pattern, text in self._patterns.items() if is_like(pattern, path)), None)

    @staticmethod
    def text_to_allow(protocol: str, host: str | bytes, port: int = 0, names: frozenset[str] = frozenset()) -> str:
        """The entry that would allow a destination, by name where one is known; '' where no entry can.

        Takes what `decide` takes; protocol `dns` stands for a question for `host`, whose port nobody knows yet.
        """
        if isinstance(host, str) and protocol == "family":
            wanted = Entry("family", "family", host)
        elif isinstance(host, str) and protocol == "unix":
            place = host if host.startswith("@") else clean_path(host) or host
            wanted = Entry("unix", "abstract" if host.startswith("@") else "path", place)
        elif isinstance(host, str) and protocol == "dns":
            wanted = Entry("tcp", "name", canonical_name(host))
        else:
            address = packed(host)
            if address is None:
                return ""
            wanted = Entry(protocol, "address", address, port)
            name = min((name for name in names if canonical_name(name) == name), default="")
            if name and not wanted.is_metadata:
                wanted = Entry(protocol, "name", name, port)
        try:
            means_it = parse(wanted.text) == wanted and "\ufffd" not in wanted.text
        except ProfileError:
            return ""
        return wanted.text if means_it else ""


def _under(name: str, suffix: str) -> bool:
    return len(name) > len(suffix) and name.endswith(suffix)
