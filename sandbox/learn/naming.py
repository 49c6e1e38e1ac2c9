"""Names for destinations while learning: the resolver's connection leads to a forwarder of ours, which hears the names.

Everything is allowed; what was asked and answered is remembered, so that a connect to an address is learned as a
connect to the name it was asked for. Where the kernel refuses pidfd_getfd(2) nothing is redirected, and destinations
stay addresses.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sandbox.behaviour.arguments import LOW
from sandbox.behaviour.stand_ins import StandIns
from sandbox.egress import sockets
from sandbox.kernel import sockaddr
from sandbox.kernel.notification import Listener, Notification
from sandbox.kernel.sockaddr import SOCK_STREAM, SocketAddress
from sandbox.kernel.task import Tasks, socket_kind
from sandbox.learn.stand_ins import connect
from sandbox.names import DNS_PORT, resolver

if TYPE_CHECKING:
    from sandbox.names.forwarder import Forwarder


class Naming:
    """The forwarder of one observation, made when the function first connects to anything but the Runtime API."""

    def __init__(
        self, tasks: Tasks, local_domains: Sequence[str], poll: select.poll, stand_ins: StandIns | None = None
    ) -> None:
        self._tasks = tasks
        self._local_domains = local_domains
        self._poll = poll
        self._stand_ins = stand_ins

    @cached_property
    def forwarder(self) -> Forwarder | None:
        """The forwarder, registered with the observer's poll; None where there can be none."""
        found = resolver.make(
            lambda name: True, lambda name, kind: None, self._local_domains, observing=True,
            stand_ins=self._stand_ins,
        )  # fmt: skip
        for fd, events in found.descriptors().items() if found else ():
            self._poll.register(fd, events)
        return found

    def names_of(self, address: bytes) -> frozenset[str]:
        """The names for which an address was given out, or that the hosts file gives it."""
        return self.forwarder.names_of(address) if self.forwarder else frozenset()

    def redirect(self, listener: Listener, call: Notification, data: bytes, address: SocketAddress) -> bool:
        """Answer a connect to a resolver by connecting the socket to the forwarder; False for any other connect.

        A connect to what something stands for goes to that.
        `data` is the address as the recorder has read it, and `address` as it has parsed it.
        """
        if self._stand_ins and self._lead(self._stand_ins, listener, call, address):
            return True
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

    def _lead(self, stand_ins: StandIns, listener: Listener, call: Notification, address: SocketAddress) -> bool:
        """Answer a TCP connect to what something stands for by connecting the socket to that; False for any other."""
        names = self.names_of(address.value) if isinstance(address.value, bytes) else frozenset[str]()
        if stand_ins.lead(address.value, address.port, names, sockaddr.AF_INET6) is None:
            return False
        task = self._tasks.take(call.pid)
        try:
            fd = task.duplicate(call.args[0] & LOW)
        except OSError as error:
            listener.refuse(call.id, error.errno or errno.ECONNREFUSED)
            return True
        finally:
            self._tasks.done(task)
        domain, kind = socket_kind(fd)
        if kind != SOCK_STREAM:
            os.close(fd)
            return False
        connect(listener, call, fd, stand_ins.lead(address.value, address.port, names, domain) or b"")
        return True
