"""Names for destinations while learning: the resolver's connection leads to a forwarder of ours, which hears the names.

Everything is allowed; what was asked and answered is remembered, so that a connect to an address is learned as a
connect to the name it was asked for. Where the kernel refuses pidfd_getfd(2) nothing is redirected, and destinations
stay addresses.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from sandbox.behaviour.arguments import LOW
from sandbox.egress import sockets
from sandbox.egress.broker import DNS_PORT
from sandbox.kernel.notification import Listener, Notification
from sandbox.learn.decode import Reader, parse_sockaddr
from sandbox.names import resolver

if TYPE_CHECKING:
    from sandbox.names.forwarder import Forwarder

PROTOCOLS = {sockets.SOCK_STREAM: "tcp", sockets.SOCK_DGRAM: "udp"}


class Naming:
    """The forwarder of one observation, made when the function first connects to anything but the Runtime API."""

    def __init__(self, reader: Reader, environment: Mapping[str, str], poll: select.poll) -> None:
        self._reader = reader
        self._environment = environment
        self._poll = poll

    @cached_property
    def forwarder(self) -> Forwarder | None:
        """The forwarder, registered with the observer's poll; None where there can be none."""
        found = resolver.make(lambda name: True, lambda name, kind: None, self._environment, observing=True)
        for fd, events in found.descriptors().items() if found else ():
            self._poll.register(fd, events)
        return found

    def names_of(self, address: str) -> frozenset[str]:
        """The names for which an address was given out, or that the hosts file gives it."""
        return self.forwarder.names_of(address) if self.forwarder else frozenset()

    def redirect(self, listener: Listener, call: Notification) -> bool:
        """Answer a connect to a resolver by connecting the socket to the forwarder; False for any other connect."""
        length = call.args[2] & LOW
        address = self._reader.data(call.pid, call.args[1], min(length, 128))
        place = parse_sockaddr(address)
        if place is None or place.port != DNS_PORT or place.family not in ("AF_INET", "AF_INET6") or not self.forwarder:
            return False
        try:
            fd = sockets.duplicate(self._reader.process(call.pid), call.args[0] & LOW)
        except OSError:
            return False
        try:
            _, kind = sockets.kind(fd)
            if kind not in PROTOCOLS or not listener.is_valid(call.id):
                return False
            number = sockets.connect(fd, self.forwarder.address(PROTOCOLS[kind], address[0]))
        except OSError:
            return False
        finally:
            os.close(fd)
        if number:
            listener.refuse(call.id, number)
        else:
            listener.answer(call.id, 0)
        return True
