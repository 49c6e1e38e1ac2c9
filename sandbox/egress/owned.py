"""The sockets that the supervisor made for the function, where it cannot duplicate those that the function has.

Lambda-like guests refuse pidfd_open(2), containers' default filters pidfd_getfd(2). There socket(2) is notified as
well: the supervisor makes the socket, keeps a descriptor, and hands it in (SECCOMP_IOCTL_NOTIF_ADDFD). Which one a
number of the task stands for is read from the link /proc/TID/fd/N, `socket:[inode]`.

A racing dup2(2) changes what the number stands for, before the look or after it; either way the call is made on the one
socket that was found, which is ours, as if the two calls had come in that order. It cannot bring in a socket that we
did not make: what has no inode of ours is refused, and never left to the kernel, which would look at the number anew.
An inode's number that comes round again (after 2**32) still leads to our own socket.

Our descriptor keeps a socket open that the function has closed, and its peer waits for the end. So we give it up as
soon as nothing is left to decide: a connected stream goes nowhere else, but for a connect that dissolves it first
(AF_UNSPEC), and that connect finds no socket of ours any more (EISCONN). The states of a socket:

    made -> unconnected --connect(2) returns--> connected: our descriptor is closed, the inode remembered (released)
                |    ^                             ^       or, where the profile has sendmsg(2), which can name another
      in progress    failed (POLLHUP)              |       destination in memory: kept until the function closes it
                v    |                             |
              connecting (watched by epoll) -------+

A datagram or raw socket may go to another destination with each call: it stays unconnected for us, and is kept until
the function has closed it. While the broker makes a call on any of them it has a duplicate of its own (in use).
"""

from __future__ import annotations

import errno
import os
import resource
import select
import time

from sandbox.confine import parent
from sandbox.egress import sockets
from sandbox.egress.destinations import Denied
from sandbox.kernel.sockaddr import AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from sandbox.kernel.task import socket_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.kernel.notification import CallTable, Listener, Notification
    from sandbox.kernel.task import Task

LOW = 0xFFFFFFFF
SOCK_TYPE = 0xF  # linux/net.h, SOCK_TYPE_MASK
CAP_NET_RAW = 1 << 13  # linux/capability.h
O_PATH = 0o10000000
RESERVED = 128
"""Descriptors of the limit that the supervisor needs for everything else."""
LOOKS = 8
"""Sockets that are looked at whenever another one is made, whether the function has closed them."""
MOST_RELEASED = 4096
"""Sockets that are remembered as connected after they were released."""
SOONEST, LATEST = 0.005, 1.0
"""Seconds between looks whether the function has closed a connection, at first and after a while."""


class OwnedSocket:
    """A socket, and where it was put: `link` is that of its number in /proc, until the function moves it."""

    __slots__ = ("connected", "connecting", "connection_oriented", "fd", "inode", "link")

    def __init__(self, fd: int, inode: int, link: str, *, connection_oriented: bool) -> None:
        self.fd = fd
        self.inode = inode
        self.link = link
        self.connection_oriented = connection_oriented
        """It goes to one destination only, and to no other once it is connected."""
        self.connected = False
        self.connecting = False


class OwnedSockets:
    """Makes the function's sockets, and lends a descriptor of each until it can do nothing that has to be decided."""

    def __init__(self, allowed: CallTable, early: CallTable, *, messages: bool) -> None:
        """`allowed` are the socket calls of the profile, `early` those of the init phase.

        `messages`: the profile has sendmsg, which names its destination in memory, so that connections are kept, too.
        """
        self._allowed = allowed
        self._early = early
        self._messages = messages
        self._most = max(LOOKS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED)
        self._sockets: dict[int, OwnedSocket] = {}
        self._in_use: dict[int, OwnedSocket] = {}
        self._released: dict[int, None] = {}
        self._epoll = select.epoll()
        self._pause = SOONEST
        self._due: float | None = None

    def allows(self, call: Notification, phase: str) -> bool:
        """Whether the filter alone would let a socket(2) pass."""
        return self._allowed.allows(call) or (phase == "init" and self._early.allows(call))

    def make(self, listener: Listener, call: Notification, task: Task, *, privileged: bool = True) -> None:
        """Answer a socket(2) with a socket of ours; not `privileged` for netlink that only reads (netlink.py)."""
        domain, kind, protocol = (argument & LOW for argument in call.args[:3])
        if privileged and _differs(task, kind & SOCK_TYPE):
            listener.let_through(call.id)  # the registers say it all; the kernel asks the task's own rights
            return
        self._sweep()
        try:
            if len(self._sockets) >= self._most:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            fd = sockets.make(domain, kind, protocol) if privileged else _without_privilege(kind, protocol)
            try:
                cloexec = bool(kind & os.O_CLOEXEC)  # SOCK_CLOEXEC is the same bit
                number = listener.answer_with_descriptor(call.id, fd, cloexec=cloexec)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            if error.errno != errno.ENOENT:
                listener.refuse(call.id, error.errno or errno.EPERM)
            return
        self._keep(fd, domain, kind & SOCK_TYPE, f"/proc/{task.tid}/fd/{number}")

    def _keep(self, fd: int, domain: int, kind: int, link: str) -> OwnedSocket:
        oriented = kind not in (SOCK_DGRAM, SOCK_RAW) and (kind == SOCK_STREAM or domain == AF_UNIX)
        inode = os.fstat(fd).st_ino
        found = self._sockets[inode] = OwnedSocket(fd, inode, link, connection_oriented=oriented)
        return found

    def adopt(self, fd: int, tid: int, number: int) -> None:
        """Own a socket that the attendant made, from the first call on that it leaves to us; `number` is the task's."""
        self._sweep()
        self._keep(fd, *socket_kind(fd), f"/proc/{tid}/fd/{number & LOW}")

    def note_released(self, inode: int) -> None:
        """The attendant made a socket, which was connected, and let it go."""
        self._released[inode] = None
        if len(self._released) > MOST_RELEASED:
            self._released.pop(next(iter(self._released)), None)

    def duplicate(self, task: Task, number: int) -> int:
        """A descriptor of our own for a number of the task; give it back with `release`.

        Raises Denied, and OSError: EBADF, ENOTSOCK, EISCONN.
        """
        inode = _inode(task, number)
        owned = self._sockets.get(inode)
        if owned is None:
            if inode in self._released:
                raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
            raise _not_ours()
        fd = os.dup(owned.fd)
        self._in_use[fd] = owned
        return fd

    def copy(self, task: Task, number: int) -> int:
        """A duplicate of one of the sockets that were made, which its owner closes; -1 for any other descriptor."""
        try:
            owned = self._sockets.get(_inode(task, number))
        except (OSError, Denied):
            return -1
        return os.dup(owned.fd) if owned else -1

    def release(self, fd: int) -> None:
        """The call with a descriptor of `duplicate` is made, and its task has no answer yet."""
        owned = self._in_use.pop(fd)
        os.close(fd)
        if owned.connection_oriented and not owned.connected and owned.inode in self._sockets:
            self._update(owned)

    def descriptor(self) -> int:
        """To poll for: readable when a connect that went on without its task has come to an end."""
        return self._epoll.fileno()

    def handle(self) -> None:
        """Look at the connects that have come to an end."""
        by_fd = {owned.fd: owned for owned in self._sockets.values() if owned.connecting}
        for fd, _ in self._epoll.poll(0):
            if fd in by_fd:
                self._update(by_fd[fd])

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def tick(self) -> None:
        """Let connections go that the function has closed: their peers wait to hear of it."""
        if self._due is None or time.monotonic() < self._due:
            return
        connections = [owned for owned in self._sockets.values() if owned.connected]
        self._close_orphans(connections)
        self._pause = min(2 * self._pause, LATEST)
        self._due = time.monotonic() + self._pause if connections else None

    def _update(self, owned: OwnedSocket) -> None:
        """What a call, or the time since, has made of a socket that goes to one destination only.

        One that is connected is released before the task hears of it: when the function closes it, it is closed, and
        its peer hears that.
        """
        events = sockets.state(owned.fd)
        if events & select.POLLHUP:
            self._set_connecting(owned, connecting=False)  # not connected, or no more
        elif not events & select.POLLOUT:
            self._set_connecting(owned, connecting=True)
        elif self._messages:
            self._set_connecting(owned, connecting=False)
            owned.connected = True
            self._pause = SOONEST
            self._due = time.monotonic() + SOONEST
        else:
            self.note_released(owned.inode)
            self._close(owned)

    def _set_connecting(self, owned: OwnedSocket, *, connecting: bool) -> None:
        if connecting == owned.connecting:
            return
        owned.connecting = connecting
        if connecting:
            self._epoll.register(owned.fd, select.EPOLLOUT)
        else:
            # By hand: the kernel does it when the last descriptor is closed, and the function has one.
            self._epoll.unregister(owned.fd)

    def _close(self, owned: OwnedSocket) -> None:
        if self._sockets.pop(owned.inode, None) is owned:
            self._set_connecting(owned, connecting=False)
            os.close(owned.fd)

    def _sweep(self) -> None:
        """Let some go that the function has closed: what they are bound to becomes free, as it would without us."""
        few = list(self._sockets.values())[:LOOKS]
        self._close_orphans(few)
        for owned in few:
            if self._sockets.pop(owned.inode, None) is owned:
                self._sockets[owned.inode] = owned  # behind all others
        if len(self._sockets) >= self._most:
            self._close_orphans(list(self._sockets.values()))

    def _close_orphans(self, those: list[OwnedSocket]) -> None:
        away = [owned for owned in those if _leads_to(owned.link) != owned.inode]
        if away:
            tasks = _tasks()
            for _ in range(1 if sum(tasks.values()) == 1 else 2):  # others may move a descriptor during the look
                held = _inodes(tasks, {owned.inode for owned in away})
                away = [owned for owned in away if owned.inode not in held]
        for owned in away:
            self._close(owned)


def _without_privilege(kind: int, protocol: int) -> int:
    from sandbox.egress import netlink  # few functions have such a socket

    return netlink.make(kind, protocol)


def _not_ours() -> Denied:
    reason = "on a socket that the supervisor did not make (it was open before, or came with a message)"
    return Denied(reason)


def _differs(task: Task, kind: int) -> bool:
    """Whether a task's rights to a socket are not the supervisor's: it has changed its user, or given up raw ones."""
    try:
        if os.stat(f"/proc/{task.tid}").st_uid != os.geteuid():
            return True
        if kind != SOCK_RAW:
            return False
        mine, its = (_effective(of) & CAP_NET_RAW for of in ("self", str(task.tid)))
    except OSError:
        return True
    return mine != its


def _effective(of: str) -> int:
    with open(f"/proc/{of}/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _leads_to(place: str) -> int:
    """The inode of the socket that a descriptor in /proc stands for; 0 for none, and for no socket."""
    try:
        link = os.readlink(place)
    except OSError:
        return 0
    return int(link[8:-1]) if link.startswith("socket:[") else 0


def _inode(task: Task, number: int) -> int:
    place = f"/proc/{task.tid}/fd/{number}"
    try:
        link = os.readlink(place)
    except FileNotFoundError as error:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from error
    except OSError as error:
        raise _not_ours() from error
    if link.startswith("socket:["):
        return int(link[8:-1])
    wrong = errno.ENOTSOCK
    try:
        with open(f"/proc/{task.tid}/fdinfo/{number}", "rb") as file:
            for line in file:
                if line.startswith(b"flags:") and int(line.split()[1], 8) & O_PATH:
                    wrong = errno.EBADF
    except OSError:
        pass  # closed since
    raise OSError(wrong, os.strerror(wrong))


def _tasks() -> dict[int, int]:
    """{process of the function: its threads}."""
    try:
        return parent.tasks_below(os.getpid())
    except FileNotFoundError:
        return dict.fromkeys(parent.descendants(os.getpid()), 2)  # as many as may be


def _inodes(processes: Iterable[int], wanted: set[int]) -> set[int]:
    """Those of the inodes that some process of the function holds."""
    found: set[int] = set()
    for pid in processes:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            inode = _leads_to(f"/proc/{pid}/fd/{number}")
            if inode in wanted:
                found.add(inode)
                if found == wanted:
                    return found
    return found
