"""Which lines of a profile a library's uses belong to, once things are folded into lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from sandbox.behaviour import destination, listener
from sandbox.behaviour.destination import Entry
from sandbox.behaviour.path import covers
from sandbox.profile.model import Profile, Section, UsedBy

Covering = Callable[[str], Iterable[str]]
"""The lines that allow a thing."""


def placed(uses: Iterable[UsedBy], profile: Profile) -> frozenset[UsedBy]:
    """The uses, each of the lines of the profile that allow what was used: its own, else those that cover it."""
    lines: Mapping[Section, Covering] = {
        "network": _sockets(profile.network, destination.covers, destination.entries),
        "listen": _sockets(profile.listen, listener.covers, listener.entries),
        "processes": _paths(profile.processes),
        "write": _paths(profile.writes),
    }
    return frozenset(
        UsedBy(section, line, distribution)
        for section, entry, distribution in uses for line in lines[section](entry)
    )  # fmt: skip


def _paths(known: frozenset[str]) -> Covering:
    return lambda text: (text,) if text in known else [line for line in known if covers(line, text)]


def _sockets(
    known: frozenset[str], compare: Callable[[Entry, Entry], bool], parsed: Callable[[Iterable[str]], Iterator[Entry]]
) -> Covering:
    entries = [(text, entry) for text in known for entry in parsed([text])]

    def covering(text: str) -> Iterable[str]:
        if text in known:
            return (text,)
        one = next(parsed([text]), None)
        return [line for line, entry in entries if one and compare(entry, one)]

    return covering
