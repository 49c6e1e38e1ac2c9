"""Names for destinations while learning: resolvers' sockets lead to a forwarder of ours, which hears the names.

Everything is allowed; what was asked and answered is remembered, so that a connect to an address is learned as a
connect to the name it was asked for. Where the kernel refuses pidfd_getfd(2) the datagram sockets of the function are
made for it, so that its questions are heard there too. A stream is not: our descriptor would keep it open, and a
question by TCP goes to its resolver.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sandbox.behaviour.arguments import LOW
from sandbox.behaviour.stand_ins import StandIns
from sandbox.confine.parent import refuses_duplicates
from sandbox.egress import sockets
from sandbox.egress.answers import RECEIVES, Answers, Resolvers
from sandbox.egress.brokered import Brokered, Duplicates, Target
from sandbox.egress.destinations import Denied
from sandbox.egress.owned import SOCK_TYPE, OwnedSockets
from sandbox.egress.sending import Sends
from sandbox.egress.targets import parsed, to_forwarder
from sandbox.kernel import sockaddr, tables
from sandbox.kernel.notification import CallTable, Listener, Notification
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, SocketAddress
from sandbox.kernel.task import Task, Tasks, socket_kind
from sandbox.learn.stand_ins import connect
from sandbox.names import DNS_PORT, FOR_GOOD, resolver

if TYPE_CHECKING:
    from sandbox.egress.brokered import Answer
    from sandbox.names.forwarder import Forwarder

NO_CALLS = CallTable({})
SENDS = ("sendto", "sendmsg", "sendmmsg")


class Naming:
    """The forwarder of one observation, made when the function first connects to anything but the Runtime API.

    `heard(syscall)` is called for each call by which a resolver sees who answered, `exists(name)` for each answer that
    says that there is such a name. Those of this host, and of addresses, need no entry.
    """

    def __init__(
        self, tasks: Tasks, local_domains: Sequence[str], poll: select.poll, arch: str, heard: Callable[[str], None],
        stand_ins: StandIns | None = None, exists: Callable[[str], None] | None = None,
    ) -> None:
        self._tasks = tasks
        self._local_domains = local_domains
        self._poll = poll
        self._stand_ins = stand_ins
        self._exists = exists
        numbers = tables.numbers(arch)
        self.calls: Mapping[int, str] = {
            numbers[name]: name for name in ("connect", *SENDS, *RECEIVES, "socket") if name in numbers
        }
        """The calls of which some are answered here, by number."""
        self._made = OwnedSockets(NO_CALLS, NO_CALLS, messages=False) if refuses_duplicates() else None
        if self._made:
            tasks.copy = self._made.copy
        self.resolvers = Resolvers()
        self._source = Duplicates()
        self._sends = Sends(self, lambda call, task, syscall, denied: True)
        self._answers = Answers(self.resolvers, self._source, self._is_forwarder, heard)

    @cached_property
    def forwarder(self) -> Forwarder | None:
        """The forwarder, registered with the observer's poll; None where there can be none."""
        found = resolver.make(
            lambda name: True, lambda name, kind: None, self._local_domains, keep=FOR_GOOD, observing=True,
            stand_ins=self._stand_ins, on_answer=self._answered,
        )  # fmt: skip
        for fd, events in found.descriptors().items() if found else ():
            self._poll.register(fd, events)
        return found

    def _answered(self, name: str, addresses: frozenset[str]) -> None:
        if self._exists and not f".{name}".endswith((".localhost", ".arpa")):
            self._exists(name)

    def names_of(self, address: bytes) -> frozenset[str]:
        """The names for which an address was given out, or that the hosts file gives it."""
        return self.forwarder.names_of(address) if self.forwarder else frozenset()

    def asked_as(self, address: bytes) -> frozenset[str]:
        """The names for which an answer gave an address, whatever it is."""
        return self.forwarder.asked_as(address) if self.forwarder else frozenset()

    def leads(self, address: SocketAddress) -> bool:
        """Whether what goes to this address goes to the forwarder."""
        return address.is_ip and address.port == DNS_PORT and self.forwarder is not None

    def take(self, listener: Listener, call: Notification, syscall: str, named: Sequence[bytes]) -> bool:
        """Answer what goes to a resolver, or comes from one; False for any other of `calls`.

        `named` are the addresses that the call names, as the recorder has read them.
        """
        if syscall == "socket" and not self._makes(call):
            return False
        if not (self.resolvers if syscall in RECEIVES else named or syscall == "socket"):
            return False
        task = self._tasks.take(call.pid)
        try:
            if syscall == "socket" and self._made:
                self._made.make(listener, call, task)
                return True
            if syscall in RECEIVES:
                return self._answers.take(listener, call, syscall, task)
            address = parsed(named[0])
            if address is None:
                return False
            if syscall == "connect" and self._lead_to_stand_in(listener, call, address, task):
                return True
            return self.leads(address) and self._lead(listener, call, syscall, task, named[0])
        finally:
            self._tasks.done(task)

    def _makes(self, call: Notification) -> bool:
        domain, kind = call.args[0] & LOW, call.args[1] & SOCK_TYPE
        return self._made is not None and domain in (AF_INET, AF_INET6) and kind == SOCK_DGRAM

    def _lead(self, listener: Listener, call: Notification, syscall: str, task: Task, address: bytes) -> bool:
        try:
            fd = task.duplicate(call.args[0] & LOW)
        except OSError:
            return False
        answer: Answer | None
        brokered = Brokered(listener, call, syscall, task, fd, self._source)
        try:
            brokered.domain, brokered.socket_type = socket_kind(fd)
            if brokered.domain not in (AF_INET, AF_INET6) or not listener.is_valid(call.id):
                return False
            if syscall == "connect":
                target = self.decide(brokered, address)
                if not target.resolver:
                    return False
                self.resolvers.note(fd, target.resolver)
                answer = 0, sockets.connect(fd, target.address)
            elif syscall == "sendmmsg":
                answer = self._sends.several(brokered)
            else:
                answer = self._sends.one(brokered)
        except (OSError, Denied):
            return False
        finally:
            if not brokered.in_thread:
                os.close(fd)
        if answer:
            brokered.answer(*answer)
        return True

    def _lead_to_stand_in(self, listener: Listener, call: Notification, address: SocketAddress, task: Task) -> bool:
        """Answer a TCP connect to what something stands for by connecting the socket to that; False for any other."""
        stand_ins = self._stand_ins
        if stand_ins is None:
            return False
        names = self.names_of(address.value) if isinstance(address.value, bytes) else frozenset[str]()
        if stand_ins.lead(address.value, address.port, names, sockaddr.AF_INET6) is None:
            return False
        try:
            fd = task.duplicate(call.args[0] & LOW)
        except OSError as error:
            listener.refuse(call.id, error.errno or errno.ECONNREFUSED)
            return True
        domain, kind = socket_kind(fd)
        if kind != SOCK_STREAM:
            os.close(fd)
            return False
        connect(listener, call, fd, stand_ins.lead(address.value, address.port, names, domain) or b"")
        return True

    def decide(self, brokered: Brokered, address: bytes, *, sending: bool = False) -> Target:
        """The forwarder in place of a resolver; any other address as it is."""
        destination, protocol = parsed(address), sockaddr.protocol(brokered.socket_type)
        if destination is None or not self.leads(destination) or protocol not in ("tcp", "udp") or not self.forwarder:
            return Target(address)
        return to_forwarder(self.forwarder, brokered.domain, protocol, destination, address)

    def allows_family(self, name: str) -> bool:
        """Training decides about no family."""
        return True

    def _is_forwarder(self, address: SocketAddress) -> bool:
        return self.forwarder is not None and self.forwarder.is_own(address)
