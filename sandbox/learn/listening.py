"""What a function listens on, learned from bind(2) and listen(2), and which loopback ports are its own.

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
from sandbox.kernel.task import Task, socket_name

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

    def is_own(self, task: Task, protocol: str, port: int) -> bool:
        """Whether the kernel chose this port for a socket of the function's."""
        if self._chosen:
            self._look(task)
        return (protocol, port) in self._own

    def _look(self, task: Task) -> None:
        """Find the ports of the sockets whose ports were not known when they were bound."""
        for protocol, names in TABLES.items():
            for name in names:
                for inode, port in _ports(f"/proc/{task.tid}/net/{name}"):
                    if self._chosen.get(inode) in (protocol, "") and port:
                        self._own.add((protocol, port))
                        del self._chosen[inode]


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
