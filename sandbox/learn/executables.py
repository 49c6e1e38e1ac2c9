"""Which programs a profile lists of those that training started, and what it says of them.

A program is listed by the path that was used: on another host a link leads elsewhere. Where the function writes it is
listed by its physical path and the digest of its content, since the function puts there whatever it likes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sandbox.behaviour.path import check, covers
from sandbox.errors import ProfileError
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.records import Program
from sandbox.learn.rights import program_named
from sandbox.profile.executables import merged_names, written_place
from sandbox.profile.random_names import EVERY_NUMBER, generalised


class Executables(NamedTuple):
    """Lines of `processes`: the paths, and pairs of one with a digest of its content, or with what interprets it."""

    paths: frozenset[str]
    digests: frozenset[tuple[str, str]]
    interpreters: frozenset[tuple[str, str]]


def learned(cold_starts: Sequence[ColdStart], writes: frozenset[str]) -> Executables:
    """The programs of all cold starts; `writes` are the places that the profile writes."""
    paths: set[str] = set()
    by_content: dict[str, set[str]] = {}
    interpreters: set[tuple[str, str]] = set()
    for program, path, real in _placed(cold_starts):
        if not written_place(real, writes):
            path = real if written_place(path, writes) else path
            interpreters.update((path, other) for other in _listable(program.interpreters, writes))
        elif program.sha256:
            by_content.setdefault(program.sha256, set()).add(real)
            continue
        else:
            path = real
        paths.add(path)
    digests = {
        (path, digest) for digest, places in by_content.items()
        for path in merged_names(generalised(places, numbers=EVERY_NUMBER))
    }  # fmt: skip
    for program, _, real in _placed(cold_starts):
        for path, digest in digests:
            if digest == program.sha256 and covers(path, real):
                others = (*program.interpreters, program.loader)
                interpreters.update((path, other) for other in _listable(others, writes))
    return Executables(frozenset(paths | {path for path, _ in digests}), frozenset(digests), frozenset(interpreters))


def _listable(paths: Iterable[str], writes: frozenset[str]) -> Iterator[str]:
    """Those that a profile can hold: an interpreter may be named by a path from the working folder on.

    Nor are those that lie where the function writes: nobody could tell what is interpreted by them.
    """
    for path in paths:
        with contextlib.suppress(ProfileError):
            if not written_place(check(path, "", program=True), writes):
                yield path


def _placed(cold_starts: Sequence[ColdStart]) -> Iterator[tuple[Program, str, str]]:
    """The programs, each with the path that was used and the physical one as a profile writes them."""
    for cold_start in cold_starts:
        for program in cold_start.processes:
            if program.path.startswith("/"):
                path, real = program_named(program.path, cold_start), program.real
                others = tuple(
                    program_named(other, cold_start) for other in program.interpreters if other.startswith("/")
                )
                real = program_named(real, cold_start) if real.startswith("/") else path
                yield program._replace(interpreters=others), path, real
