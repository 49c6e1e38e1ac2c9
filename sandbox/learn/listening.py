"""What a function listens on, learned from bind(2) and listen(2), its own ports, and datagram sockets that send none.

A bind to a port of the function's choice is a listener, as it is decided (sandbox/egress/listen.py). Where the kernel
chooses the port, a listen is one, with `*` for the port; a datagram socket that is bound so is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sandbox.behaviour import listener
from sandbox.behaviour.access import Access
from sandbox.behaviour.destination import Entry
from sandbox.kernel import sockaddr
from sandbox.kernel.sockaddr import SOCK_RAW, SocketAddress
from sandbox.kernel.task import Task, Tasks, socket_name

_T = TypeVar("_T")

MOST = 256
"""Sockets that are remembered, by the inode of each."""
TABLES = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}
"""Where the kernel lists the ports of sockets: files of /proc/TID/net (man 5 proc_pid_net)."""


class Listening:
    """The listeners of one environment. Not for several threads."""

    def __init__(self) -> None:
        self._bound: dict[int, SocketAddress] = {}
        self._chosen: dict[int, str] = {}
        """The protocols of sockets whose ports the kernel chose and nobody asked yet; '' where that is not known."""
        self._own: set[tuple[str, int]] = set()

    def bind(self, task: Task, fd: int, address: SocketAddress | None, asked: Sequence[Access]) -> Iterator[str]:
        """The entries that a bind(2) needs; `address` is what it names, `asked` what its path asks for."""
        if address is None:
            return
        if not isinstance(address.value, bytes):
            if address.host.startswith("@"):
                yield Entry("unix", "abstract", address.host).text
            for one in asked:
                if not one.error:
                    yield Entry("unix", "path", os.fsencode(one.thing).decode(errors="replace")).text
            return
        protocol = task.socket_protocol(fd)
        if protocol == sockaddr.protocol(SOCK_RAW):
            return
        if address.port:  # of a socket that cannot be looked at, either
            for which in (protocol,) if protocol else TABLES:
                yield listener.of_socket(which, address.value, address.port).text
        inode = _inode(task, fd)
        _remember(self._bound, inode, address)
        if protocol != "tcp" and not address.port:
            _remember(self._chosen, inode, protocol)

    def listen(self, task: Task, fd: int) -> Iterator[str]:
        """The entry that a listen(2) needs, beyond that of the bind before it."""
        inode = _inode(task, fd)
        address = self._bound.get(inode) or _name(task, fd)
        if address is None or not isinstance(address.value, bytes) or (inode in self._bound and address.port):
            return
        protocol = task.socket_protocol(fd) or "tcp"
        yield listener.of_socket(protocol, address.value, listener.CHOSEN).text
        _remember(self._chosen, inode, protocol)

    def is_own(self, task: Task, fd: int, protocol: str, port: int) -> bool:
        """Whether the kernel chose this port for a socket of the function's, to which `fd` connects or sends."""
        if self._chosen:
            self._look(task)
        own = (protocol, port) in self._own
        if own and protocol == "udp" and (inode := _inode(task, fd)) not in self._bound:
            _remember(self._chosen, inode, "udp")  # given a port now, to which the answer goes
        return own

    def _look(self, task: Task) -> None:
        """Find the ports of the sockets whose ports were not known when they were bound."""
        for protocol, names in TABLES.items():
            for name in names:
                for inode, port in _ports(f"/proc/{task.tid}/net/{name}"):
                    if self._chosen.get(inode) in (protocol, "") and port:
                        self._own.add((protocol, port))
                        del self._chosen[inode]


class Unsent:
    """Datagram sockets that were connected and have sent nothing: with a route they have an address, and no more."""

    def __init__(self) -> None:
        self._connected: dict[tuple[int, int], SocketAddress] = {}

    def connects(self, task: Task, fd: int, address: SocketAddress) -> list[SocketAddress]:
        """A descriptor is connected; what it was connected to before, without a send."""
        key = (task.process(), fd)
        before = self._connected.pop(key, None)
        if address.is_ip:  # AF_UNSPEC dissolves it
            self._connected[key] = address
        return [before] if before else []

    def sends(self, task: Task, fd: int) -> SocketAddress | None:
        """A descriptor sends; what it is connected to, if this is the first time."""
        address = self._connected.pop((task.process(), fd), None) if self._connected else None
        # Closing is not notified: the number may stand for another socket or a file by now.
        return address if address and task.datagram_peer(fd) == address else None

    def gone(self, tasks: Tasks) -> Iterator[SocketAddress]:
        """What those were connected to that are closed by now, each once."""
        for (process, fd), address in list(self._connected.items()):
            task = tasks.take(process)
            if task.datagram_peer(fd) != address:
                del self._connected[process, fd]
                yield address
            tasks.done(task)


def _remember(where: dict[int, _T], inode: int, what: _T) -> None:
    if inode:
        where[inode] = what
        if len(where) > MOST:
            del where[next(iter(where))]


def _inode(task: Task, fd: int) -> int:
    """That of a descriptor's socket; 0 where it cannot be seen."""
    try:
        return os.stat(f"/proc/{task.tid}/fd/{fd}").st_ino
    except OSError:
        return 0


def _name(task: Task, fd: int) -> SocketAddress | None:
    """What a socket is bound to; None where the kernel gives no duplicates."""
    try:
        copy = task.duplicate(fd)
    except OSError:
        return None
    try:
        return sockaddr.parse(socket_name(copy))
    except OSError:
        return None
    finally:
        os.close(copy)


def _ports(path: str) -> Iterator[tuple[int, int]]:
    """(inode, local port) of each line of a table of sockets."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 9:
            yield int(fields[9]), int(fields[1].rpartition(b":")[2], 16)
