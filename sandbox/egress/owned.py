"""The sockets that the supervisor made for the function, where it cannot duplicate those that the function has.

Lambda-like guests refuse pidfd_open(2), containers' default filters pidfd_getfd(2). There socket(2) is notified as
well: the supervisor makes the socket, keeps a descriptor, and hands it in (SECCOMP_IOCTL_NOTIF_ADDFD). Which one a
number of the caller stands for is read from the link /proc/TID/fd/N, `socket:[inode]`.

A racing dup2(2) changes what the number stands for, before the look or after it; either way the call is made on the one
socket that was found, which is ours, as if the two calls had come in that order. It cannot bring in a socket that we
did not make: what has no inode of ours is refused, and never left to the kernel, which would look at the number anew.
An inode's number that comes round again (after 2**32) still leads to our own socket.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import time

from sandbox.confine import parent
from sandbox.egress import sockets
from sandbox.egress.broker import Denied
from sandbox.kernel.sockaddr import AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM

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
"""Kept sockets that are looked after whenever another one is made."""
SETTLED = 4096
"""Sockets that are remembered as connected after they were let go."""
SOONEST, LATEST = 0.005, 1.0
"""Seconds between looks whether the function has closed a connection, at first and after a while."""


class Kept:
    """A socket, and where it was put: `place` is its link in /proc as long as the function has not moved it."""

    __slots__ = ("connected", "fd", "inode", "once", "place", "watched")

    def __init__(self, fd: int, inode: int, place: str, *, once: bool) -> None:
        self.fd = fd
        self.inode = inode
        self.place = place
        self.once = once
        """It goes to one destination only, and to no other once it is connected."""
        self.connected = False
        self.watched = False


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
        self._kept: dict[int, Kept] = {}
        self._lent: dict[int, Kept] = {}
        self._settled: dict[int, None] = {}
        self._epoll = select.epoll()
        self._pause = SOONEST
        self._due: float | None = None

    def allows(self, call: Notification, phase: str) -> bool:
        """Whether the filter alone would let a socket(2) pass."""
        return self._allowed.allows(call) or (phase == "init" and self._early.allows(call))

    def make(self, listener: Listener, call: Notification, task: Task) -> None:
        """Answer a socket(2) with a socket of ours."""
        domain, kind, protocol = (argument & LOW for argument in call.args[:3])
        if _differs(task, kind & SOCK_TYPE):
            listener.let_through(call.id)  # the registers say it all; the kernel asks the caller's own rights
            return
        self._look_after()
        if len(self._kept) >= self._most:
            self._let_closed_go(list(self._kept.values()))
        try:
            if len(self._kept) >= self._most:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            fd = sockets.make(domain, kind, protocol)
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
        once = kind & SOCK_TYPE not in (SOCK_DGRAM, SOCK_RAW) and (
            kind & SOCK_TYPE == SOCK_STREAM or domain == AF_UNIX
        )
        inode = os.fstat(fd).st_ino
        self._kept[inode] = Kept(fd, inode, f"/proc/{task.tid}/fd/{number}", once=once)

    def duplicate(self, task: Task, number: int) -> int:
        """A descriptor of our own for a number of the caller; give it back with `release`.

        Raises Denied, and OSError: EBADF, ENOTSOCK, EISCONN.
        """
        inode = _inode(task, number)
        kept = self._kept.get(inode)
        if kept is None:
            if inode in self._settled:
                raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
            raise _not_ours()
        fd = os.dup(kept.fd)
        self._lent[fd] = kept
        return fd

    def release(self, fd: int) -> None:
        """The call with a descriptor of `duplicate` is made, and its caller has no answer yet."""
        kept = self._lent.pop(fd)
        os.close(fd)
        if kept.once and not kept.connected and kept.inode in self._kept:
            self._settle(kept)

    def descriptor(self) -> int:
        """To poll for: readable when a connect that went on without its caller has come to an end."""
        return self._epoll.fileno()

    def handle(self) -> None:
        """Look at the connects that have come to an end."""
        by_fd = {kept.fd: kept for kept in self._kept.values() if kept.watched}
        for fd, _ in self._epoll.poll(0):
            if fd in by_fd:
                self._settle(by_fd[fd])

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to do."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def tick(self) -> None:
        """Let connections go that the function has closed: their peers wait to hear of it."""
        if self._due is None or time.monotonic() < self._due:
            return
        connections = [kept for kept in self._kept.values() if kept.connected]
        self._let_closed_go(connections)
        self._pause = min(2 * self._pause, LATEST)
        self._due = time.monotonic() + self._pause if connections else None

    def _settle(self, kept: Kept) -> None:
        """What a call, or the time since, has made of a socket that goes to one destination only.

        One that is connected goes nowhere else, unless it is dissolved first, which is a connect, too. So it is let go
        before the caller hears of it: when the function closes it, it is closed, and its peer hears that.
        """
        events = sockets.state(kept.fd)
        if events & select.POLLHUP:
            self._watch(kept, watched=False)  # not connected, or no more
        elif not events & select.POLLOUT:
            self._watch(kept, watched=True)
        elif self._messages:
            self._watch(kept, watched=False)
            kept.connected = True
            self._pause = SOONEST
            self._due = time.monotonic() + SOONEST
        else:
            self._settled[kept.inode] = None
            if len(self._settled) > SETTLED:
                self._settled.pop(next(iter(self._settled)), None)
            self._let_go(kept)

    def _watch(self, kept: Kept, *, watched: bool) -> None:
        if watched == kept.watched:
            return
        kept.watched = watched
        if watched:
            self._epoll.register(kept.fd, select.EPOLLOUT)
        else:
            # By hand: the kernel does it when the last descriptor is closed, and the function has one.
            self._epoll.unregister(kept.fd)

    def _let_go(self, kept: Kept) -> None:
        if self._kept.pop(kept.inode, None) is kept:
            self._watch(kept, watched=False)
            os.close(kept.fd)

    def _look_after(self) -> None:
        """Let some go that the function has closed: what they are bound to becomes free, as it would without us."""
        few = list(self._kept.values())[:LOOKS]
        self._let_closed_go(few)
        for kept in few:
            if self._kept.pop(kept.inode, None) is kept:
                self._kept[kept.inode] = kept  # behind all others

    def _let_closed_go(self, those: list[Kept]) -> None:
        away = [kept for kept in those if _leads_to(kept.place) != kept.inode]
        if away:
            tasks = _tasks()
            for _ in range(1 if sum(tasks.values()) == 1 else 2):  # others may move a descriptor during the look
                held = _inodes(tasks, {kept.inode for kept in away})
                away = [kept for kept in away if kept.inode not in held]
        for kept in away:
            self._let_go(kept)


def _not_ours() -> Denied:
    reason = "on a socket that the supervisor did not make (it was open before, or came with a message)"
    return Denied("", reason, "")


def _differs(task: Task, kind: int) -> bool:
    """Whether a caller's rights to a socket are not the supervisor's: it has changed its user, or given up raw ones."""
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
