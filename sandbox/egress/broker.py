"""The egress broker: makes connects and addressed sends itself, on a duplicate of the task's socket.

The address is copied once, decided on, and used: what the task's memory holds afterwards no longer matters. Nothing
here is ever answered with "go on" (man 2 seccomp_unotify: a check of what a pointer names can be raced).
"""

from __future__ import annotations

import _thread
import errno

from sandbox.egress import sockets
from sandbox.egress.answers import Answers
from sandbox.egress.brokered import STACK, Brokered, Duplicates
from sandbox.egress.destinations import Denied
from sandbox.egress.sending import Sends
from sandbox.egress.targets import Targets, suspects_nothing
from sandbox.errors import LIMITS
from sandbox.kernel import tables
from sandbox.kernel.memory import socket_address
from sandbox.kernel.sockaddr import AF_UNIX, SOCK_DGRAM
from sandbox.kernel.task import socket_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.egress.brokered import Answer, SocketSource, Target
    from sandbox.egress.destinations import Destinations
    from sandbox.egress.listen import Listens
    from sandbox.egress.owned import OwnedSockets
    from sandbox.egress.targets import Suspects
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task

LOW = 0xFFFFFFFF


class Egress:
    """Decides and makes the calls of tables.WITH_DESTINATION and tables.LISTENS.

    `connected_to_api` is called when the Runtime API is connected to. `report(call, task, syscall, denied)` hears
    of every destination that is not allowed, while the call still waits, and says whether it goes through all the same.
    """

    def __init__(
        self, destinations: Destinations, connected_to_api: Callable[[], None],
        report: Callable[[Notification, Task, str, Denied], bool], owned: OwnedSockets | None = None,
        listen: Sequence[str] = (), suspects: Suspects = suspects_nothing,
    ) -> None:  # fmt: skip
        """`owned` makes the function's sockets where they cannot be duplicated. `listen` are the entries for listeners,
        followed as the destinations are.

        `suspects(brokered, section, entry, target)` hears of what an entry allows, before it is made, and says whether
        it must not be.
        """
        self._owned = owned
        self._source: SocketSource = owned or Duplicates()
        self.targets = Targets(destinations, connected_to_api, report, suspects)
        """Where the forwarder and the relay are set."""
        self._report = report
        self._suspects = suspects
        self._sends = Sends(self.targets, report)
        self._listen = listen
        self._listens: Listens | None = None
        self._allows_own = destinations.allows_own
        self._answers = Answers(self.targets.resolvers, self._source, self._is_forwarder)
        self.begun = 0
        """The id of a call whose connect somebody else has begun."""
        _thread.stack_size(STACK)

    def take(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        """Answer one call of tables.WITH_DESTINATION or tables.LISTENS."""
        try:
            fd = self._source.duplicate(task, call.args[0] & LOW)
        except OSError as error:
            if error.errno in LIMITS:
                raise  # it is our own that is reached
            listener.refuse(call.id, error.errno or errno.EPERM)
            return
        except Denied as denied:
            # Let through by a report only: the kernel looks at the number anew, and at the address.
            if self._report(call, task, syscall, denied):
                listener.let_through(call.id)
            else:
                listener.refuse(call.id, errno.EPERM)
            return
        brokered = Brokered(listener, call, syscall, task, fd, self._source)
        answer: Answer | None
        try:
            brokered.domain, brokered.socket_type = socket_kind(fd)
            if syscall == "connect":
                answer = self._connect(brokered)
            elif syscall in tables.LISTENS:
                answer = self._listeners().take(brokered)
            elif syscall == "sendmmsg":
                answer = self._sends.several(brokered)
            else:
                answer = self._sends.one(brokered)
            if brokered.reaches_own and brokered.socket_type == SOCK_DGRAM and not brokered.in_thread:
                self._listeners().note(brokered)  # the kernel has given it a port, to which the answer goes
        except OSError as error:
            answer = 0, error.errno or errno.EPERM
        except Denied as denied:
            if denied.final:
                self._report(call, task, syscall, denied)
            answer = 0, errno.EPERM
        finally:
            # Before the answer: a socket that the task closes at once is closed then, and not when we come to it.
            if not brokered.in_thread:
                self._source.release(fd)
        if answer:
            brokered.answer(*answer)

    def _listeners(self) -> Listens:
        if self._listens is None:
            from sandbox.egress.listen import Listens  # most functions listen nowhere

            self._listens = Listens(self._listen, self.targets, self._report, self._suspects)
            if self._allows_own:
                self.targets.own = self._listens
        return self._listens

    def receive(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        """Answer one call of RECEIVES (sandbox/egress/answers.py) that the profile has."""
        if not self._answers.take(listener, call, syscall, task):
            listener.let_through(call.id)

    def make_netlink(self, listener: Listener, call: Notification, task: Task) -> None:
        """Answer a socket(2) for netlink: it reads, in audit too, unless an entry allows the whole family."""
        privileged = self.targets.allows_family("AF_NETLINK")
        if self._owned:
            self._owned.make(listener, call, task, privileged=privileged)
        elif privileged:
            listener.let_through(call.id)
        else:
            from sandbox.egress import netlink  # few functions have such a socket

            netlink.answer(listener, call)

    def _is_forwarder(self, address: SocketAddress) -> bool:
        return self.targets.forwarder is not None and self.targets.forwarder.is_own(address)

    def _connect(self, brokered: Brokered) -> Answer | None:
        call, fd = brokered.call, brokered.fd
        address = socket_address(brokered.task, call.args[1], call.args[2] & LOW)
        if not brokered.listener.is_valid(call.id):
            return None
        target = self.targets.decide(brokered, address)
        if target.resolver:
            self.targets.resolvers.note(fd, target.resolver)
        try:
            if target.mute:
                return 0, sockets.connect_mute(fd, target.address)
            if brokered.socket_type == SOCK_DGRAM or not sockets.is_blocking(fd):
                return 0, sockets.connect(fd, target.address)
            number = sockets.connect_without_sleep(fd, target.address)
            if number == errno.EALREADY and call.id == self.begun:
                number = errno.EINPROGRESS
            if number in sockets.SLEEPS:
                try:
                    return brokered.sleep(lambda: (0, _connected(brokered, target, number)), target)
                except Denied:
                    sockets.connect(fd, bytes(16))  # AF_UNSPEC dissolves what was begun
                    raise
            return 0, number
        finally:
            if not brokered.in_thread:
                target.close()


def _connected(brokered: Brokered, target: Target, first: int) -> int:
    if brokered.domain == AF_UNIX:  # a full backlog cannot be polled
        return sockets.connect_to_its_end(brokered.fd, target.address, first)
    return sockets.wait_connected(brokered.listener, brokered.call, brokered.fd, target.address, first)
