"""The sends of a task, made on a descriptor of its socket: data and addresses are copied once, and so are descriptors.

What a message hands over (SCM_RIGHTS) are copies of our own, of which it was looked at what they stand for.
"""

from __future__ import annotations

import errno
import os
import struct

from sandbox.egress import messages, sockets
from sandbox.egress.brokered import Duplicates, Target
from sandbox.egress.destinations import Denied
from sandbox.egress.messages import Message
from sandbox.egress.sockets import MSG_DONTWAIT, MSG_FASTOPEN
from sandbox.egress.targets import link, parsed
from sandbox.kernel.memory import MMSGHDR, MOST_PIECES, MSGHDR, socket_address
from sandbox.kernel.sockaddr import AF_NETLINK, AF_UNIX, SOCK_STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from sandbox.egress.answers import Resolvers
    from sandbox.egress.brokered import Answer, Brokered
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.task import Task

    class Targets(Protocol):
        """Who decides: Targets (sandbox/egress/targets.py), or training, which follows resolvers alone."""

        resolvers: Resolvers

        def allows_family(self, name: str) -> bool: ...
        def decide(self, brokered: Brokered, address: bytes, *, sending: bool = False) -> Target: ...

LOW = 0xFFFFFFFF
MSG_NOSIGNAL = 0x4000


class Sends:
    """Answers the calls that send; `report` is that of `Egress` (sandbox/egress/broker.py)."""

    def __init__(self, targets: Targets, report: Callable[[Notification, Task, str, Denied], bool]) -> None:
        self._targets = targets
        self._report = report

    def one(self, brokered: Brokered) -> Answer | None:
        """The answer of sendto or sendmsg; None where nobody waits for it, or a thread gives it."""
        call, memory, stream = brokered.call, brokered.task, brokered.socket_type == SOCK_STREAM
        if brokered.syscall == "sendto":
            address = socket_address(memory, call.args[4], call.args[5] & LOW) if call.args[4] else None
            message = Message(address, messages.read_data(memory, call.args[1], call.args[2], stream=stream))
            flags = call.args[3] & LOW
        else:
            message = messages.read_message(memory, call.args[1], stream=stream)
            flags = call.args[2] & LOW
        if not brokered.listener.is_valid(call.id):
            return None
        target = self._target_of(brokered, message)
        try:
            blocking = not flags & MSG_DONTWAIT and sockets.is_blocking(brokered.fd)
            if not blocking or not flags & MSG_FASTOPEN:
                sent, number = _send(brokered, message, flags | MSG_DONTWAIT, target)
                if number != errno.EAGAIN or not blocking:
                    return sent, number
            return brokered.sleep(lambda: _send(brokered, message, flags, target), target)
        finally:
            if not brokered.in_thread:
                target.close()

    def several(self, brokered: Brokered) -> Answer | None:
        """The same of sendmmsg."""
        call, task = brokered.call, brokered.task
        flags = call.args[3] & LOW
        blocking = not flags & MSG_DONTWAIT and sockets.is_blocking(brokered.fd)
        sent = 0
        for i in range(min(call.args[2] & LOW, MOST_PIECES)):
            at = call.args[1] + MMSGHDR * i
            try:
                message = messages.read_message(task, at, stream=brokered.socket_type == SOCK_STREAM)
                if not brokered.listener.is_valid(call.id):
                    return None
                target = self._target_of(brokered, message)
                try:
                    done, number = _send(brokered, message, flags | MSG_DONTWAIT, target)
                    if number == errno.EAGAIN and blocking and not sent:
                        last = self._last_of(brokered, message, flags, target, at)
                        return brokered.sleep(last, target)
                    if number:
                        raise OSError(number, os.strerror(number))
                finally:
                    if not brokered.in_thread:
                        target.close()
            except (OSError, Denied) as error:
                if not sent:
                    raise
                if isinstance(error, Denied) and error.final:
                    self._report(call, task, brokered.syscall, error)
                break
            if not task.write(at + MSGHDR, struct.pack("<I", done)):
                if not sent:
                    raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
                break
            sent += 1
        return sent, 0

    @staticmethod
    def _last_of(brokered: Brokered, message: Message, flags: int, target: Target, at: int) -> Callable[[], Answer]:
        """What sends the first message of several, for which there was no room: the call ends with it."""

        def last() -> Answer:
            done, number = _send(brokered, message, flags, target)
            if not number and not brokered.task.write(at + MSGHDR, struct.pack("<I", done)):
                return 0, errno.EFAULT
            return (0, number) if number else (1, 0)

        return last

    def _target_of(self, brokered: Brokered, message: Message) -> Target:
        objection = messages.objection(message.control)
        if objection:
            brokered.address = parsed(message.address) if message.address else None
            raise Denied(objection, address=brokered.address, final=True)
        numbers = messages.descriptors(message.control) if message.control else None
        if numbers:
            return self._hand_over(brokered, message, numbers)
        if message.address is None:
            return Target(None)
        if brokered.domain == AF_NETLINK:
            from sandbox.egress import netlink  # few functions have such a socket

            if netlink.is_question(brokered.fd, message.address, message.data):
                return Target(message.address)
            if netlink.changes(brokered.fd, message.data) and not self._targets.allows_family("AF_NETLINK"):
                brokered.address = parsed(message.address)
                reason = "changes routes, addresses or links, which no mode lets through"
                raise Denied(reason, "family:AF_NETLINK", brokered.address, final=True)
        target = self._targets.decide(brokered, message.address, sending=True)
        if target.resolver:
            self._targets.resolvers.note(brokered.fd, target.resolver, message.data)
        return target

    def _hand_over(self, brokered: Brokered, message: Message, numbers: Mapping[int, int]) -> Target:
        """Put our copies of the sender's descriptors into its message. Raises Denied, OSError (EBADF, EMFILE).

        A number is the sender's: sent as it stands, it would be that of one of our own descriptors. What is looked at
        is the copy that is sent, so a task that changes its table meanwhile wins nothing.
        """
        if message.address is not None or brokered.domain != AF_UNIX:
            brokered.address = parsed(message.address) if message.address else None
            reason = "hands over a descriptor other than on a connected unix socket"
            raise Denied(reason, address=brokered.address, final=True)
        if not isinstance(brokered.source, Duplicates):
            raise Denied("hands over a descriptor, which the supervisor cannot duplicate here", final=True)
        target, copies = Target(None), {}
        try:
            for at, number in numbers.items():
                copies[at] = brokered.task.duplicate(number)
                target.pinned.append(copies[at])
                if never := never_handed_over(copies[at]):
                    raise Denied(f"hands over {never}", final=True)
            if not brokered.listener.is_valid(brokered.call.id):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))  # its answer reaches nobody
        except (OSError, Denied):
            target.close()
            raise
        message.control = messages.with_numbers(message.control, copies)
        return target


def _send(brokered: Brokered, message: Message, flags: int, target: Target) -> Answer:
    answer = sockets.send(brokered.fd, message.data, flags | MSG_NOSIGNAL, target.address, message.control)
    if answer[1] == errno.EPIPE and brokered.socket_type == SOCK_STREAM and not flags & MSG_NOSIGNAL:
        brokered.task.raise_pipe()
    return answer


def never_handed_over(fd: int) -> str:
    """What a descriptor of ours stands for where it gives power over a process; '' for anything else.

    By the kernel's name for it (man 5 proc, /proc/PID/fd; fs/pidfs.c, kernel/seccomp.c).
    """
    name = link(b"/proc/self/fd/%d" % fd)
    if name.startswith((b"anon_inode:[pidfd]", b"pidfd:")):
        return "a pidfd"
    if name.startswith(b"anon_inode:seccomp notify"):
        return "a seccomp listener"
    if name.startswith(b"/proc/") and name.endswith(b"/mem"):
        return "a process's memory"
    return "a descriptor that has no name" if name == b"?" else ""
