"""What stands below a process at one moment: its processes, their threads, their TCP listeners and connections.

    now = standing(os.getpid(), before)
    now.since(before)    # {"threads": ("worker 712",), ...}

From /proc (man 5 proc_pid_task, proc_pid_net): whoever is gone meanwhile is left out. A socket is its inode; where a
process changes nothing about its set of sockets, their states are taken as they were.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROCESSES, THREADS, LISTENERS, CONNECTIONS = SORTS = ("processes", "threads", "listeners", "connections")
MOST_READ = 1 << 20
"""Bytes of a table of sockets: it is the host's where the function has no network of its own."""
_ESTABLISHED, _LISTENS = b"01", b"0A"  # include/net/tcp_states.h


class Standing:
    """By sort, {what tells a thing from others: its name for people}. `sockets` are the inodes of all sockets."""

    __slots__ = ("sockets", "things")

    def __init__(self, things: Mapping[str, Mapping[int, str]], sockets: frozenset[int]) -> None:
        self.things = things
        self.sockets = sockets

    def since(self, before: Standing) -> dict[str, tuple[str, ...]]:
        """By sort, the names of what was not there before."""
        return {
            sort: tuple(name for key, name in found.items() if key not in before.things[sort])
            for sort, found in self.things.items()
        }


    def grown(self, before: Standing) -> dict[str, int]:
        """By sort, how many more there are than before: what was replaced (a connection made anew) is none more."""
        return {sort: max(0, len(found) - len(before.things[sort])) for sort, found in self.things.items()}


def standing(top: int, before: Standing | None = None) -> Standing:
    """What stands below the process `top`, itself left out. `before` saves reading what cannot have changed."""
    processes: dict[int, str] = {}
    threads: dict[int, str] = {}
    sockets: set[int] = set()
    for pid in _below(top):
        processes[pid] = ""
        for tid in _numbers(f"/proc/{pid}/task"):
            if tid != pid:
                threads[tid] = ""
        sockets.update(_sockets(pid))
    known = before.things if before else {}
    for sort, found in ((PROCESSES, processes), (THREADS, threads)):
        for number in found:
            found[number] = known.get(sort, {}).get(number) or f"{_comm(number)} {number}"
    inodes = frozenset(sockets)
    if before and before.sockets == inodes:
        listeners, connections = before.things[LISTENERS], before.things[CONNECTIONS]
    else:
        listeners, connections = _tcp(next(iter(processes), top), inodes)
    things = {PROCESSES: processes, THREADS: threads, LISTENERS: listeners, CONNECTIONS: connections}
    return Standing(things, inodes)


def _below(top: int) -> Iterator[int]:
    waiting = [top]
    while waiting:
        above = waiting.pop()
        for thread in _numbers(f"/proc/{above}/task"):
            for child in map(int, _text(f"/proc/{above}/task/{thread}/children").split()):
                waiting.append(child)
                yield child


def _numbers(folder: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder)]
    except OSError:
        return []


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MOST_READ)
    except OSError:
        return b""


def _comm(tid: int) -> str:
    return _text(f"/proc/{tid}/comm").decode(errors="replace").strip()


def _sockets(pid: int) -> Iterator[int]:
    for number in _numbers(f"/proc/{pid}/fd"):
        try:
            led = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        if led.startswith("socket:["):
            yield int(led[8:-1])


def _tcp(pid: int, inodes: frozenset[int]) -> tuple[dict[int, str], dict[int, str]]:
    """The listeners and the connections among some sockets of a process's network."""
    listeners: dict[int, str] = {}
    connections: dict[int, str] = {}
    if not inodes:
        return listeners, connections
    for table in ("tcp", "tcp6"):
        for line in _text(f"/proc/{pid}/net/{table}").split(b"\n")[1:]:
            words = line.split()
            if len(words) < 10 or int(words[9]) not in inodes:
                continue
            if words[3] == _LISTENS:
                listeners[int(words[9])] = f"listener at {_address(words[1])}"
            elif words[3] == _ESTABLISHED:
                connections[int(words[9])] = f"connection to {_address(words[2])}"
    return listeners, connections


def _address(hexadecimal: bytes) -> str:
    """An address as these tables have it, in words of the host's byte order, as tcp://ADDRESS:PORT."""
    from sandbox.kernel import sockaddr

    host, _, port = hexadecimal.partition(b":")
    words = bytes.fromhex(host.decode())
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    family, text = ("AF_INET", sockaddr.ipv4(packed)) if len(packed) == 4 else ("AF_INET6", sockaddr.ipv6(packed))
    return f"tcp://{sockaddr.endpoint(family, text, int(port, 16))}"
