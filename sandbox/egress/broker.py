"""The egress broker: makes connects and addressed sends itself, on a duplicate of the task's socket.

The address is copied once, decided on, and used: what the task's memory holds afterwards no longer matters. Nothing
here is ever answered with "go on" (man 2 seccomp_unotify: a check of what a pointer names can be raced).

What may sleep does so in a thread of its own, for its task alone.
"""

from __future__ import annotations

import _thread
import errno
import os
import struct

from sandbox.behaviour import access
from sandbox.behaviour.destination import RUNTIME_API
from sandbox.egress import messages, sockets
from sandbox.egress.destinations import Denied
from sandbox.egress.messages import Message
from sandbox.egress.sockets import MSG_DONTWAIT, MSG_FASTOPEN
from sandbox.kernel import sockaddr
from sandbox.kernel.memory import MMSGHDR, MOST_PIECES, MSGHDR
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, AF_UNSPEC, SOCK_DGRAM, SOCK_STREAM
from sandbox.kernel.task import socket_kind
from sandbox.memo import bounded_memo
from sandbox.names import DNS_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol

    from sandbox.egress.destinations import Destinations
    from sandbox.egress.relay import Relay
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task
    from sandbox.names.forwarder import Forwarder

    class SocketSource(Protocol):
        """Where descriptors of the tasks' sockets come from: Duplicates, or sandbox/egress/owned.py.

        `duplicate` raises OSError, or Denied for a socket of which it has none.
        """

        def duplicate(self, task: Task, number: int) -> int: ...
        def release(self, fd: int) -> None: ...

    Answer = tuple[int, int]  # the call's value, and an errno that is 0 where there is a value

LOW = 0xFFFFFFFF
NOWHERE = bytes(4)  # 0.0.0.0
MSG_NOSIGNAL = 0x4000
STACK = 128 << 10  # bytes for a thread that only sleeps in one system call
MOST_ASKED = 256
"""Names of no entry that were asked for in audit, and not yet connected to."""
SUN_PATH = 110  # sizeof(struct sockaddr_un)


class Duplicates:
    """The tasks' sockets by pidfd_getfd(2)."""

    @staticmethod
    def duplicate(task: Task, number: int) -> int:
        """A descriptor of our own for a number of the task. Raises OSError."""
        return task.duplicate(number)

    @staticmethod
    def release(fd: int) -> None:
        """The call is made, and its task has no answer yet."""
        os.close(fd)


class Target:
    """The address that is really used, None to go where the socket is connected to.

    `pinned` are descriptors of ours that the call needs: of the unix socket that the address names, or those that the
    message hands over. `mute`: the socket may be connected, and sends nothing afterwards.
    """

    __slots__ = ("address", "mute", "pinned")

    def __init__(self, address: bytes | None, pinned: Iterable[int] = (), *, mute: bool = False) -> None:
        self.address = address
        self.mute = mute
        self.pinned = list(pinned)

    def close(self) -> None:
        """Let go of what it names."""
        while self.pinned:
            os.close(self.pinned.pop())


class Brokered:
    """One call that the broker answers, with the descriptor of its socket.

    `address` is the one that the call, or the message of it that is under work, names; as it was read and parsed.
    """

    __slots__ = ("address", "call", "domain", "fd", "in_thread", "listener", "socket_type", "syscall", "task")

    def __init__(self, listener: Listener, call: Notification, syscall: str, task: Task, fd: int) -> None:
        self.listener = listener
        self.call = call
        self.syscall = syscall
        self.task = task
        self.fd = fd
        self.in_thread = False
        """A thread answers, and releases the descriptor."""
        self.domain = self.socket_type = 0
        self.address: SocketAddress | None = None

    def answer(self, value: int, number: int) -> None:
        """A value, or an errno that is not 0."""
        if number:
            self.listener.refuse(self.call.id, number)
        else:
            self.listener.answer(self.call.id, value)


class Egress:
    """Decides and makes the calls of tables.WITH_DESTINATION.

    `connected_to_api` is called when the Runtime API is connected to. `report(call, task, syscall, denied)` hears
    of every destination that is not allowed, while the call still waits, and says whether it goes through all the same.
    """

    def __init__(
        self, destinations: Destinations, connected_to_api: Callable[[], None],
        report: Callable[[Notification, Task, str, Denied], bool], source: SocketSource | None = None,
    ) -> None:  # fmt: skip
        self._source = source or Duplicates()
        self._destinations = destinations
        self._match = bounded_memo(destinations.decide, 256)
        self.forwarder: Forwarder | None = None
        self.relay: Relay | None = None
        self._connected_to_api = connected_to_api
        self._report = report
        self._asked: dict[str, None] = {}
        _thread.stack_size(STACK)

    def note_question(self, name: str) -> None:
        """In audit a name was asked for that no entry holds: the next connect to it is reported, with its port."""
        self._asked[name] = None
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]

    def allows_family(self, name: str) -> bool:
        """Whether an entry allows all that sockets of a family can do."""
        return self._match("family", name, 0, frozenset()).allowed

    def take(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        """Answer one call of tables.WITH_DESTINATION."""
        try:
            fd = self._source.duplicate(task, call.args[0] & LOW)
        except OSError as error:
            listener.refuse(call.id, error.errno or errno.EPERM)
            return
        except Denied as denied:
            # Let through by a report only: the kernel looks at the number anew, and at the address.
            if self._report(call, task, syscall, denied):
                listener.let_through(call.id)
            else:
                listener.refuse(call.id, errno.EPERM)
            return
        brokered = Brokered(listener, call, syscall, task, fd)
        answer: Answer | None
        try:
            brokered.domain, brokered.socket_type = socket_kind(fd)
            if syscall == "connect":
                answer = self._connect(brokered)
            elif syscall == "sendmmsg":
                answer = self._send_many(brokered)
            else:
                answer = self._send_one(brokered)
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

    def _connect(self, brokered: Brokered) -> Answer | None:
        call, fd = brokered.call, brokered.fd
        address = messages.read_address(brokered.task, call.args[1], call.args[2] & LOW)
        if not brokered.listener.is_valid(call.id):
            return None
        target = self._decide(brokered, address)
        try:
            if target.mute:
                return 0, sockets.connect_mute(fd, target.address)
            if brokered.socket_type == SOCK_DGRAM or not sockets.is_blocking(fd):
                return 0, sockets.connect(fd, target.address)
            number = sockets.connect_without_sleep(fd, target.address)
            if number in sockets.SLEEPS:
                return self._sleep(brokered, lambda: (0, _connected(brokered, target, number)), target)
            return 0, number
        finally:
            if not brokered.in_thread:
                target.close()

    def _sleep(self, brokered: Brokered, perform: Callable[[], Answer], target: Target) -> Answer | None:
        """Answer with what `perform` returns, in a thread: it may take as long as the task waits."""

        def run() -> None:
            try:
                answer = perform()
            finally:
                self._source.release(brokered.fd)
                target.close()
            brokered.answer(*answer)

        brokered.in_thread = True
        try:
            _thread.start_new_thread(run, ())
        except RuntimeError:  # no more threads
            brokered.in_thread = False
            return 0, errno.ENOBUFS
        return None

    def _decide(self, brokered: Brokered, address: bytes, *, sending: bool = False) -> Target:
        """The target for an address that was read: itself, or the forwarder's. Raises Denied, OSError."""
        domain = brokered.domain
        brokered.address = _parse(address)
        if domain == AF_UNIX:
            return self._decide_unix(brokered, address)
        if domain not in (AF_INET, AF_INET6):
            if sending or int.from_bytes(address[:2], "little") != AF_UNSPEC:
                self._judge(brokered, "family", _family(domain), 0, frozenset())
            return Target(address)
        decided = address
        if sending and len(address) >= 2 and int.from_bytes(address[:2], "little") == AF_UNSPEC:
            # Senders of datagrams take AF_UNSPEC for the socket's own family (net/ipv4/udp.c, net/ipv6/raw.c).
            decided = domain.to_bytes(2, "little") + address[2:]
        if domain == AF_INET6 or decided[4:8] == NOWHERE:
            # The kernel puts another address for this one behind our decision: we put it before.
            decided = sockets.specified(brokered.fd, decided)
            address = address[:2] + decided[2:]
        destination = brokered.address if decided is address else _parse(decided)
        if destination is None or not destination.is_ip:
            return Target(address)  # the kernel refuses it; AF_UNSPEC to connect dissolves an association
        brokered.address = brokered.address or destination
        port = destination.port
        protocol = sockaddr.protocol(brokered.socket_type)
        forwarder = self.forwarder
        if port == DNS_PORT and forwarder and protocol in ("tcp", "udp"):
            if sending:
                # The answer would come from the forwarder's address, which such a client does not take.
                reason = "a DNS question without connect; the resolver must connect its socket (musl and c-ares do not)"
                denied = Denied(reason, address=brokered.address)
                if not self._report(brokered.call, brokered.task, brokered.syscall, denied):
                    raise denied
                return Target(address)
            return Target(forwarder.address(protocol, int.from_bytes(address[:2], "little")))
        names = forwarder.names_of(destination.value) if forwarder else frozenset()
        sorts = protocol == "udp" and names and not sending
        if sorts and not self._match(protocol, destination.value, port, names).allowed:
            # getaddrinfo(3) connects to each address that it was given for a name, to sort them, and sends nothing.
            return Target(address, mute=True)
        if self._asked and protocol == "tcp" and not sending:
            names = self._report_asked(brokered, destination.value, port, names)
        entry = self._judge(brokered, protocol, destination.value, port, names)
        if entry == RUNTIME_API and self.relay and not sending:
            return Target(self.relay.address(destination.host, port, domain))
        return Target(address)

    def _report_asked(
        self, brokered: Brokered, value: str | bytes, port: int, names: frozenset[str]
    ) -> frozenset[str]:  # fmt: skip
        """Report a connect to an address that was asked for by a name of no entry; the names to decide it by.

        Another name of the same address may allow it in audit, and does not help under enforcement.
        """
        asked = names & self._asked.keys()
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
        walked = access.socket_path(brokered.task, path)
        try:
            if walked.error:
                raise OSError(walked.error, os.strerror(walked.error))
            pin = os.open(_seen_from_here(brokered.task.tid, walked.path), os.O_PATH | os.O_CLOEXEC)
        except OSError:
            self._judge(brokered, "unix", access.socket_text(walked), 0, frozenset())
            raise
        target = Target(struct.pack("<H", AF_UNIX) + b"/proc/self/fd/%d\0" % pin, (pin,))
        try:
            real = _link(b"/proc/self/fd/%d" % pin)
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
        text = self._destinations.text_to_allow(protocol, host, port, names)
        denied = Denied(match.reason, text, brokered.address)
        if not self._report(brokered.call, brokered.task, brokered.syscall, denied):
            raise denied
        return ""

    def _send_one(self, brokered: Brokered) -> Answer | None:
        call, memory, stream = brokered.call, brokered.task, brokered.socket_type == SOCK_STREAM
        if brokered.syscall == "sendto":
            address = messages.read_address(memory, call.args[4], call.args[5] & LOW) if call.args[4] else None
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
            return self._sleep(brokered, lambda: _send(brokered, message, flags, target), target)
        finally:
            if not brokered.in_thread:
                target.close()

    def _send_many(self, brokered: Brokered) -> Answer | None:
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
                        return self._sleep(brokered, last, target)
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
            brokered.address = _parse(message.address) if message.address else None
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
        return self._decide(brokered, message.address, sending=True)

    def _hand_over(self, brokered: Brokered, message: Message, numbers: Mapping[int, int]) -> Target:
        """Put our copies of the sender's descriptors into its message. Raises Denied, OSError (EBADF, EMFILE).

        A number is the sender's: sent as it stands, it would be that of one of our own descriptors. What is looked at
        is the copy that is sent, so a task that changes its table meanwhile wins nothing.
        """
        if message.address is not None or brokered.domain != AF_UNIX:
            brokered.address = _parse(message.address) if message.address else None
            reason = "hands over a descriptor other than on a connected unix socket"
            raise Denied(reason, address=brokered.address, final=True)
        if not isinstance(self._source, Duplicates):
            raise Denied("hands over a descriptor, which the supervisor cannot duplicate here", final=True)
        target, copies = Target(None), {}
        try:
            for at, number in numbers.items():
                copies[at] = brokered.task.duplicate(number)
                target.pinned.append(copies[at])
                if never := _never_handed_over(copies[at]):
                    raise Denied(f"hands over {never}", final=True)
            if not brokered.listener.is_valid(brokered.call.id):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))  # its answer reaches nobody
        except (OSError, Denied):
            target.close()
            raise
        message.control = messages.with_numbers(message.control, copies)
        return target


_parse = bounded_memo(sockaddr.parse, 64)


def _connected(brokered: Brokered, target: Target, first: int) -> int:
    if brokered.domain == AF_UNIX:  # a full backlog cannot be polled
        return sockets.connect_to_its_end(brokered.fd, target.address, first)
    return sockets.wait_connected(brokered.listener, brokered.call, brokered.fd, target.address, first)


def _send(brokered: Brokered, message: Message, flags: int, target: Target) -> Answer:
    answer = sockets.send(brokered.fd, message.data, flags | MSG_NOSIGNAL, target.address, message.control)
    if answer[1] == errno.EPIPE and brokered.socket_type == SOCK_STREAM and not flags & MSG_NOSIGNAL:
        brokered.task.raise_pipe()
    return answer


def _never_handed_over(fd: int) -> str:
    """What a descriptor of ours stands for where it gives power over a process; '' for anything else.

    By the kernel's name for it (man 5 proc, /proc/PID/fd; fs/pidfs.c, kernel/seccomp.c).
    """
    link = _link(b"/proc/self/fd/%d" % fd)
    if link.startswith((b"anon_inode:[pidfd]", b"pidfd:")):
        return "a pidfd"
    if link.startswith(b"anon_inode:seccomp notify"):
        return "a seccomp listener"
    if link.startswith(b"/proc/") and link.endswith(b"/mem"):
        return "a process's memory"
    return "a descriptor that has no name" if link == b"?" else ""


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


def _link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:
        return b"?"
