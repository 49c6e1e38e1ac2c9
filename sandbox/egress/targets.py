"""Where a call really goes: its address, once read, decided on; where a name, a link or 0.0.0.0 leads, followed."""

from __future__ import annotations

import errno
import os
import struct

from sandbox.behaviour import socket_path
from sandbox.behaviour.destination import RUNTIME_API
from sandbox.egress import sockets
from sandbox.egress.answers import Resolvers, resolver_seen
from sandbox.egress.brokered import Target
from sandbox.egress.destinations import Denied
from sandbox.kernel import sockaddr
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC
from sandbox.memo import bounded_memo
from sandbox.names import DNS_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from sandbox.behaviour.stand_ins import StandIns
    from sandbox.egress.brokered import Brokered
    from sandbox.egress.destinations import Destinations
    from sandbox.egress.listen import Listens
    from sandbox.egress.relay import Relay
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task
    from sandbox.names.forwarder import Forwarder

    Suspects: TypeAlias = Callable[[Brokered, str, str, str], bool]

NOWHERE = bytes(4)  # 0.0.0.0
MOST_ASKED = 256
"""Names of no entry that were asked for in audit, and not yet connected to."""
SUN_PATH = 110  # sizeof(struct sockaddr_un)

parsed = bounded_memo(sockaddr.parse, 64)


def suspects_nothing(brokered: Brokered, section: str, entry: str, target: str) -> bool:
    """Whether what an entry of a section allows must not be made all the same, for whose call it is: never."""
    return False


class Targets:
    """Decides about the addresses that calls name. For the callables see `Egress` (sandbox/egress/broker.py)."""

    def __init__(
        self, destinations: Destinations, connected_to_api: Callable[[], None],
        report: Callable[[Notification, Task, str, Denied], bool], suspects: Suspects = suspects_nothing,
    ) -> None:  # fmt: skip
        self._suspects = suspects
        self._destinations = destinations
        self._match = bounded_memo(destinations.decide, 256)
        self.forwarder: Forwarder | None = None
        self.relay: Relay | None = None
        self.stand_ins: StandIns | None = None
        self.own: Listens | None = None
        """Who knows what the function is bound to itself, where its profile allows that."""
        self._connected_to_api = connected_to_api
        self._report = report
        self._asked: dict[str, None] = {}
        self.resolvers = Resolvers()

    def note_question(self, name: str) -> None:
        """In audit a name was asked for that no entry holds: the next connect to it is reported, with its port."""
        self._asked[name] = None
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]

    def allows_family(self, name: str) -> bool:
        """Whether an entry allows all that sockets of a family can do."""
        return self._match("family", name, 0, frozenset()).allowed

    def decide(self, brokered: Brokered, address: bytes, *, sending: bool = False) -> Target:
        """The target for an address that was read: itself, or the forwarder's. Raises Denied, OSError."""
        domain = brokered.domain
        brokered.address = parsed(address)
        if domain == AF_UNIX:
            return self._decide_unix(brokered, address)
        if domain not in (AF_INET, AF_INET6):
            if sending or int.from_bytes(address[:2], "little") != AF_UNSPEC:
                self.judge_family(brokered)
            return Target(address)
        decided = address
        if sending and len(address) >= 2 and int.from_bytes(address[:2], "little") == AF_UNSPEC:
            # Senders of datagrams take AF_UNSPEC for the socket's own family (net/ipv4/udp.c, net/ipv6/raw.c).
            decided = domain.to_bytes(2, "little") + address[2:]
        if domain == AF_INET6 or decided[4:8] == NOWHERE:
            # The kernel puts another address for this one behind our decision: we put it before.
            decided = sockets.specified(brokered.fd, decided)
            address = address[:2] + decided[2:]
        destination = brokered.address if decided is address else parsed(decided)
        if destination is None or not destination.is_ip:
            return Target(address)  # the kernel refuses it; AF_UNSPEC to connect dissolves an association
        if not sockaddr.takes(domain, address):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        brokered.address = brokered.address or destination
        port = destination.port
        protocol = sockaddr.protocol(brokered.socket_type)
        forwarder = self.forwarder
        if port == DNS_PORT and forwarder and protocol in ("tcp", "udp"):
            return to_forwarder(forwarder, brokered.domain, protocol, destination, decided)
        value = destination.value
        if self.own and isinstance(value, bytes) and self.own.is_own(protocol, value, port):
            brokered.reaches_own = True
            return Target(address)
        names = forwarder.names_of(destination.value) if forwarder else frozenset()
        routes = self._destinations.allows_routes and port != DNS_PORT
        sorts = routes or names or (forwarder and forwarder.asked_as(destination.value))
        connects = protocol == "udp" and not sending
        if connects and sorts and not self._match(protocol, destination.value, port, names).allowed:
            # getaddrinfo(3) connects to each address that it was given for a name, to sort them, and sends nothing;
            # others so ask for their own address.
            return Target(address, mute=True)
        if self._asked and protocol == "tcp" and not sending:
            names = self._report_asked(brokered, destination.value, port, names)
        entry = self._judge(brokered, protocol, destination.value, port, names)
        if entry == RUNTIME_API and self.relay and not sending:
            return Target(self.relay.address(destination.host, port, domain))
        if self.stand_ins and protocol == "tcp":
            fake = self.stand_ins.lead(destination.value, port, names, domain)
            if fake == b"":
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            address = fake or address
        return Target(address)

    def judge_family(self, brokered: Brokered) -> None:
        """Raises Denied where no entry allows all that a socket of this family does."""
        self._judge(brokered, "family", _family(brokered.domain), 0, frozenset())

    def _report_asked(
        self, brokered: Brokered, value: str | bytes, port: int, names: frozenset[str]
    ) -> frozenset[str]:  # fmt: skip
        """Report a connect to an address that was asked for by a name of no entry; the names to decide it by.

        Another name of the same address may allow it in audit, and does not help under enforcement.
        """
        asked = frozenset(names & self._asked.keys())  # a view makes a set of it, which no memo takes
        for name in asked:
            del self._asked[name]
        if not asked or not self._match("tcp", value, port, names).allowed:
            return asked or names
        for name in sorted(asked):
            text = self._destinations.text_to_allow("tcp", value, port, frozenset({name}))
            reason = f"the profile does not hold {name}, by which its address was asked for"
            self._report(brokered.call, brokered.task, brokered.syscall, Denied(reason, text, brokered.address))
        return names

    def _decide_unix(self, brokered: Brokered, address: bytes) -> Target:
        if len(address) <= 2 or int.from_bytes(address[:2], "little") != AF_UNIX:
            return Target(address)  # dissolves an association, or the kernel refuses it
        if len(address) > SUN_PATH:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if address[2] == 0:
            self._judge(brokered, "unix", brokered.address.host if brokered.address else "", 0, frozenset())
            return Target(address)
        # A path in a folder that the function can write may lead anywhere by a link: what is decided on is where it
        # leads, and that, kept by a descriptor, is what is connected to.
        path = address[2:].split(b"\0")[0]
        walked = socket_path.connected(brokered.task, path, keep=True)
        pin = walked.fd
        if pin < 0:
            walked.close()
            self._judge(brokered, "unix", socket_path.shown(walked), 0, frozenset())
            if walked.error or walked.blind:
                raise OSError(walked.error or errno.EACCES, os.strerror(walked.error or errno.EACCES))
            # On a file system that may hang, and listed: only then is it touched.
            pin = os.open(_seen_from_here(brokered.task.tid, walked.path), os.O_PATH | os.O_CLOEXEC)
        target = Target(struct.pack("<H", AF_UNIX) + b"/proc/self/fd/%d\0" % pin, (pin,))
        try:
            real = link(b"/proc/self/fd/%d" % pin)
            self._judge(brokered, "unix", real.decode(errors="replace"), 0, frozenset())
        except (OSError, Denied):
            target.close()
            raise
        return target

    def _judge(self, brokered: Brokered, protocol: str, host: str | bytes, port: int, names: frozenset[str]) -> str:
        """The entry that allows it, '' where only the report says to go on. Raises Denied."""
        match = self._match(protocol, host, port, names)
        if match.allowed:
            if match.entry == RUNTIME_API:
                self._connected_to_api()
                return match.entry
            if self._suspects(brokered, "network", match.entry, match.entry):
                raise Denied("suspected", match.entry, brokered.address)
            return match.entry
        text = self._destinations.text_to_allow(protocol, host, port, names)
        denied = Denied(match.reason, text, brokered.address)
        if not self._report(brokered.call, brokered.task, brokered.syscall, denied):
            raise denied
        return ""


def to_forwarder(forwarder: Forwarder, domain: int, protocol: str, resolver: SocketAddress, address: bytes) -> Target:
    """The forwarder instead of a resolver, at an address of the family that the call names (`address`, parsed)."""
    family = int.from_bytes(address[:2], "little")
    mapped = family == AF_INET6 and resolver.family == "AF_INET"
    own = forwarder.address(protocol, family, mapped=mapped)
    return Target(own, resolver=resolver_seen(domain, resolver, address))


def _family(domain: int) -> str:
    from sandbox.kernel import tables

    return tables.name_of("socket_family", domain) or str(domain)


def _seen_from_here(tid: int, path: str) -> str:
    """A physical path of a task in its own mount namespace, from which no link leads back into this one."""
    root = f"/proc/{tid}/root"
    try:
        top = os.readlink(root).rstrip("/")
    except OSError:
        return path
    return root + path.removeprefix(top) if path.startswith(f"{top}/") else path


def link(path: bytes) -> bytes:
    """What a link in /proc says; `?` where there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return b"?"
