"""What a profile lists of what was reached: paths by place, the folders of what was made, destinations, and so on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from sandbox.behaviour import destination, listener
from sandbox.behaviour.destination import ANY_PORT, LOOKED_UP, Entry
from sandbox.behaviour.path import OWN_INTERPRETER, PROGRAM_BASES, below, literal
from sandbox.behaviour.spelling import below_named
from sandbox.kernel import tables
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.host import TOOL
from sandbox.learn.records import FORMAT, Connect, Fact, FileAccess, Listen
from sandbox.profile.folding import folder_of, named
from sandbox.profile.random_names import TERMINALS, sockets


class Thing(NamedTuple):
    """One thing as a profile would list it by itself, before anything is folded."""

    reach: Literal["read", "write", "network", "listen", "exec"]
    text: str


MULTIPLEXERS = ("/dev/ptmx", "/dev/pts/ptmx")
"""Who opens one for writing makes a pair of pseudo-terminals (man 4 ptmx)."""


def things(cold_start: ColdStart, listen: frozenset[str]) -> Iterator[tuple[Fact, Thing]]:
    """Each fact of a cold start with what a profile that has these listeners lists of it.

    What it never lists, such as our own files, is left out.
    """
    made = frozenset(cold_start.entries)
    for path in cold_start.reads:
        if not _holds_the_function(path, cold_start):
            yield from _files(FileAccess(path, "read"), literal(path), cold_start)
    for path in cold_start.writes:
        yield from _files(FileAccess(path, "write"), literal(path), cold_start)
        if path in MULTIPLEXERS:
            # ioctl TIOCGPTPEER opens the other end, of a number that the kernel chooses, and names no path.
            yield FileAccess(path, "write"), Thing("write", TERMINALS)
    for path in made:
        if path.startswith("/"):
            yield from _files(FileAccess(path, "entry"), literal(folder_of(path, made)), cold_start)
    for program in cold_start.processes:
        if program.path.startswith("/"):
            yield program, Thing("exec", program_named(program.path, cold_start))
    for text, entry in _connects(cold_start, listen):
        yield Connect(text), Thing("network", entry)
    for text in cold_start.listen:
        yield Listen(text), Thing("listen", text)


def network(cold_starts: Sequence[ColdStart], listen: frozenset[str]) -> frozenset[str]:
    """The destinations of all, with random parts of the paths of unix sockets."""
    found = sockets(entry for cold_start in cold_starts for _, entry in _connects(cold_start, listen))
    reached = _reached(found)
    return frozenset(entry for entry in found if not _only_asked(entry, reached))


def _reached(network: Iterable[str]) -> frozenset[str | bytes]:
    """The names of destinations."""
    entries = destination.entries(network)
    return frozenset(entry.value for entry in entries if entry.kind == "name" and entry.protocol != LOOKED_UP)


def _only_asked(text: str, reached: frozenset[str | bytes]) -> bool:
    """Whether an entry is a question for a name that another entry holds anyway."""
    return any(entry.protocol == LOOKED_UP and entry.value in reached for entry in destination.entries([text]))


def listeners(cold_starts: Sequence[ColdStart]) -> frozenset[str]:
    """The listeners; any port of an address where each of two events, or starts, has a port that the other has not."""
    ports: dict[tuple[str, str | bytes], list[set[int]]] = {}
    for cold_start in cold_starts:
        for addresses in (cold_start.listen, *_of_events(cold_start)):
            found: dict[tuple[str, str | bytes], set[int]] = {}
            for entry in listener.entries(addresses):
                if entry.kind == "address":
                    found.setdefault((entry.protocol, entry.value), set()).add(entry.port)
            for place, numbers in found.items():
                ports.setdefault(place, []).append(numbers)
    differing = {
        Entry(protocol, "address", value, ANY_PORT)
        for (protocol, value), several in ports.items()
        if ANY_PORT in set().union(*several) or any(one - other and other - one for one in several for other in several)
    }
    texts = {text for cold_start in cold_starts for text in cold_start.listen}
    if any(cold_start.start.format != FORMAT and _listens(cold_start) for cold_start in cold_starts):
        differing.add(listener.parse(listener.ANY))  # an older observer noted no addresses
    wide = list(differing)
    kept = {
        text for text in texts
        if not any(listener.covers(entry, one) for one in listener.entries([text]) for entry in wide)
    }  # fmt: skip
    return sockets(kept) | {entry.text for entry in wide}


def _of_events(cold_start: ColdStart) -> Iterator[frozenset[str]]:
    """Where each event listened, of what counts of the start."""
    for sample in cold_start.samples:
        if sample.kind == "invocation":
            heard = (fact.address for fact in sample.facts if isinstance(fact, Listen))
            yield cold_start.listen.intersection(heard)


def _listens(cold_start: ColdStart) -> bool:
    return any(syscall in tables.LISTENS for _, syscall, _ in cold_start.items)


def _connects(cold_start: ColdStart, listen: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The destinations with how they are listed: `own` for a port of the function's own, another at each start."""
    own = {
        (entry.protocol, entry.port) for entry in listener.entries(cold_start.listen)
        if entry.kind == "address" and entry.text not in listen and entry.port > 0
    }  # fmt: skip
    reached = _reached(cold_start.network)
    for text in cold_start.network:
        if _only_asked(text, reached):
            continue
        found = next(destination.entries([text]), None)
        loopback = found and isinstance(found.value, bytes) and destination.is_loopback(found.value)
        yield text, destination.OWN if found and loopback and (found.protocol, found.port) in own else text


def _files(fact: FileAccess, pattern: str, cold_start: ColdStart) -> Iterator[tuple[Fact, Thing]]:
    for path in named([pattern], cold_start.start.places):
        if path != below(TOOL):
            yield fact, Thing("read" if fact.mode == "read" else "write", path)


def _holds_the_function(path: str, cold_start: ColdStart) -> bool:
    """Whether it is the folder of a volume that holds the function or its interpreter itself."""
    return path.endswith("/**") and any(
        f"{place}/".startswith(path[:-2]) for place in cold_start.start.places.values()
    )


def program_named(path: str, cold_start: ColdStart) -> str:
    """The path of a program: {python} for the function's own interpreter, under {root} or {venv} what lies there."""
    path, start = "/" + path.lstrip("/"), cold_start.start
    if start.interpreter and path in (start.interpreter, os.path.realpath(start.interpreter)):
        return OWN_INTERPRETER
    places = [(folder, name) for name, folder in start.places.items() if name in PROGRAM_BASES and folder != "/"]
    return below_named(path, sorted(places, reverse=True))
