"""Names for destinations while learning: the resolver's connection leads to a forwarder of ours, which hears the names.

Everything is allowed; what was asked and answered is remembered, so that a connect to an address is learned as a
connect to the name it was asked for. Where the kernel refuses pidfd_getfd(2) nothing is redirected, and destinations
stay addresses.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sandbox.behaviour.arguments import LOW
from sandbox.egress import sockets
from sandbox.kernel import sockaddr
from sandbox.kernel.notification import Listener, Notification
from sandbox.kernel.sockaddr import SocketAddress
from sandbox.kernel.task import Tasks, socket_kind
from sandbox.names import DNS_PORT, resolver

if TYPE_CHECKING:
    from sandbox.names.forwarder import Forwarder


class Naming:
    """The forwarder of one observation, made when the function first connects to anything but the Runtime API."""

    def __init__(self, tasks: Tasks, local_domains: Sequence[str], poll: select.poll) -> None:
        self._tasks = tasks
        self._local_domains = local_domains
        self._poll = poll

    @cached_property
    def forwarder(self) -> Forwarder | None:
        """The forwarder, registered with the observer's poll; None where there can be none."""
        found = resolver.make(lambda name: True, lambda name, kind: None, self._local_domains, observing=True)
        for fd, events in found.descriptors().items() if found else ():
            self._poll.register(fd, events)
        return found

    def names_of(self, address: bytes) -> frozenset[str]:
        """The names for which an address was given out, or that the hosts file gives it."""
        return self.forwarder.names_of(address) if self.forwarder else frozenset()

    def redirect(self, listener: Listener, call: Notification, data: bytes, address: SocketAddress) -> bool:
        """Answer a connect to a resolver by connecting the socket to the forwarder; False for any other connect.

        `data` is the address as the recorder has read it, and `address` as it has parsed it.
        """
        if address.port != DNS_PORT or not address.is_ip or not self.forwarder:
            return False
        task = self._tasks.take(call.pid)
        try:
            fd = task.duplicate(call.args[0] & LOW)
        except OSError:
            return False
        finally:
            self._tasks.done(task)
        try:
            protocol = sockaddr.protocol(socket_kind(fd)[1])
            if protocol not in ("tcp", "udp") or not listener.is_valid(call.id):
                return False
            number = sockets.connect(fd, self.forwarder.address(protocol, data[0]))
        except OSError:
            return False
        finally:
            os.close(fd)
        if number:
            listener.refuse(call.id, number)
        else:
            listener.answer(call.id, 0)
        return True
