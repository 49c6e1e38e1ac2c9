"""Egress where another process's descriptors cannot be duplicated (Lambda-like guests, containers' default filters).

The calls cannot be made in the caller's place there. What they name is read, reported and refused as the profile says,
and the rest goes on in the kernel: a thread of the caller can change it after the look. That is what the filter alone
allows, never more. Names cannot be followed, since DNS questions cannot be led to the forwarder: where the profile has
names, only the addresses that hand out credentials are refused. The status line says all this as `destinations:`.
"""

from __future__ import annotations

import errno
import os

from sandbox.kernel import sockaddr
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, AF_UNIX
from sandbox.profile.destination import METADATA, RUNTIME_API, packed
from sandbox.supervise import messages
from sandbox.supervise.egress import LOW, SUN_PATH, Denied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.kernel.notification import Listener, Notification
    from sandbox.supervise.caller import Caller
    from sandbox.supervise.destinations import Destinations
    from sandbox.supervise.names import Forwarder
    from sandbox.supervise.relay import Relay


class Onlooker:
    """Answers the same calls as Egress, with the same three arguments; `forwarder` and `relay` stay None."""

    def __init__(
        self, destinations: Destinations, connected_to_api: Callable[[], None],
        report: Callable[[Notification, Caller, str, Denied], bool],
    ) -> None:  # fmt: skip
        self._destinations = destinations
        self._connected_to_api = connected_to_api
        self._report = report
        self.forwarder: Forwarder | None = None
        self.relay: Relay | None = None

    def take(self, listener: Listener, call: Notification, syscall: str, caller: Caller) -> None:
        """Answer one call: refuse it, or let the kernel make it."""
        to_api = False
        try:
            for address in _addresses(call, syscall, caller):
                if not listener.is_valid(call.id):
                    return
                try:
                    to_api |= self._judge(address, caller) and syscall == "connect"
                except Denied as denied:
                    if not self._report(call, caller, syscall, denied):
                        raise
        except Denied as denied:
            if denied.final:
                self._report(call, caller, syscall, denied)
            listener.refuse(call.id, errno.EPERM)
            return
        except OSError:
            pass  # nothing that can be read: the kernel finds the same fault
        if to_api:
            self._connected_to_api()
        listener.let_through(call.id)

    def _judge(self, address: bytes, caller: Caller) -> bool:
        """Whether an address is the Runtime API's. Raises Denied for a destination that is not allowed."""
        family = int.from_bytes(address[:2], "little")
        if family == AF_UNIX:
            self._judge_unix(address, caller)
            return False
        place = sockaddr.parse(address) if family in (AF_INET, AF_INET6) else None
        if place is None:
            return False  # the class of the socket decides, or the kernel refuses it
        _, host, port = place
        # Whether the socket is one of TCP or UDP cannot be asked; either is the filter's to refuse.
        found = [self._destinations.decide(protocol, host, port) for protocol in ("tcp", "udp")]
        if any(decision.allowed for decision in found):
            return found[0].rule == RUNTIME_API
        if self._destinations.has_names and packed(host) not in METADATA:
            return False
        text = self._destinations.text_to_allow("tcp", host, port, frozenset())
        raise Denied(text, found[0].reason, f"network: [{text}]" if text else "")

    def _judge_unix(self, address: bytes, caller: Caller) -> None:
        place = sockaddr.parse(address)
        if place is None or len(address) > SUN_PATH:
            return
        path = place[1]
        if not path.startswith("@"):
            base = "/" if path.startswith("/") else os.readlink(f"/proc/{caller.tid}/cwd")
            path = os.path.realpath(os.path.join(base, path))
        decision = self._destinations.decide("unix", path)
        if not decision.allowed:
            text = self._destinations.text_to_allow("unix", path, 0, frozenset())
            raise Denied(text, decision.reason, f"network: [{text}]" if text else "")


def _addresses(call: Notification, syscall: str, caller: Caller) -> Iterator[bytes]:
    """The addresses that a call names. Raises OSError where the memory cannot be read, Denied for what goes along."""
    args = call.args
    if syscall == "connect":
        yield messages.read_address(caller, args[1], args[2] & LOW)
    elif syscall == "sendto":
        if args[4]:
            yield messages.read_address(caller, args[4], args[5] & LOW)
    else:
        many = syscall == "sendmmsg"
        for i in range(min(args[2] & LOW, messages.MOST_PIECES) if many else 1):
            message = messages.read_message(caller, args[1] + messages.MMSGHDR * i, stream=True)
            objection = messages.objection(message.control)
            if objection:
                raise Denied("", objection, "", final=True)
            if message.address:
                yield message.address
