"""What stands below a process at one moment: its processes, their threads, their TCP listeners and connections.

    now = standing(os.getpid(), before)
    now.since(before)    # {"threads": ("worker 712",), ...}

From /proc (man 5 proc_pid_task, proc_pid_fd): whoever is gone meanwhile is left out. A socket is its inode, and is
asked what it is once.
"""

from __future__ import annotations

import os

from sandbox.kernel import sockaddr
from sandbox.kernel.task import Task, socket_kind, socket_listens, socket_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROCESSES, THREADS, LISTENERS, CONNECTIONS = SORTS = ("processes", "threads", "listeners", "connections")
MOST_READ = 1 << 20
"""Bytes of a list of children."""


class Standing:
    """By sort, {what tells a thing from others: its name for people}. `others` are inodes of sockets of no sort."""

    __slots__ = ("others", "things")

    def __init__(self, things: Mapping[str, Mapping[int, str]], others: frozenset[int]) -> None:
        self.things = things
        self.others = others

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
    """What stands below the process `top`, itself left out. `before` saves asking again what cannot have changed."""
    things: dict[str, dict[int, str]] = {sort: {} for sort in SORTS}
    others: set[int] = set()
    known = before.things if before else things
    for pid, threads in _below(top):
        things[PROCESSES][pid] = known[PROCESSES].get(pid) or f"{_comm(pid)} {pid}"
        for tid in threads:
            if tid != pid:
                things[THREADS][tid] = known[THREADS].get(tid) or f"{_comm(tid)} {tid}"
        new = {}
        for number, inode in _sockets(pid):
            for sort in (LISTENERS, CONNECTIONS):
                if inode in known[sort]:
                    things[sort][inode] = known[sort][inode]
                    break
            else:
                if before and inode in before.others:
                    others.add(inode)
                else:
                    new[inode] = number
        if new:
            others.update(_ask(pid, new, things))
    return Standing(things, frozenset(others))


def _below(top: int) -> Iterator[tuple[int, Sequence[int]]]:
    """Each process with its threads."""
    waiting: list[tuple[int, Sequence[int]]] = [(top, _numbers(f"/proc/{top}/task"))]
    while waiting:
        above, threads = waiting.pop()
        for thread in threads:
            for child in map(int, _text(f"/proc/{above}/task/{thread}/children").split()):
                found = child, _numbers(f"/proc/{child}/task")
                waiting.append(found)
                yield found


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


def _sockets(pid: int) -> Iterator[tuple[int, int]]:
    """(descriptor, inode) of each."""
    for number in _numbers(f"/proc/{pid}/fd"):
        try:
            led = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        if led.startswith("socket:["):
            yield number, int(led[8:-1])


def _ask(pid: int, numbers: Mapping[int, int], things: Mapping[str, dict[int, str]]) -> Iterator[int]:
    """Ask a process's sockets, by inode, what they are. Those that can be neither a listener nor a connection.

    By a duplicate: the tables in /proc/net take milliseconds on a large host. One that cannot be had says nothing.
    """
    task = Task(pid)
    try:
        for inode, number in numbers.items():
            try:
                copy = task.duplicate(number)
            except OSError:
                continue
            try:
                domain, kind = socket_kind(copy)
                if domain not in (sockaddr.AF_INET, sockaddr.AF_INET6) or kind != sockaddr.SOCK_STREAM:
                    yield inode
                elif socket_listens(copy):
                    things[LISTENERS][inode] = f"listener at {_named(socket_name(copy))}"
                elif name := socket_name(copy, peer=True):
                    things[CONNECTIONS][inode] = f"connection to {_named(name)}"
            except OSError:
                continue
            finally:
                os.close(copy)
    finally:
        task.close()


def _named(address: bytes) -> str:
    found = sockaddr.parse(address)
    return f"tcp://{found.endpoint()}" if found else "an unknown address"
