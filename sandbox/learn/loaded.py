"""Which library a file belongs to that the function opens: code of a distribution that training loads.

An import opens one file after another, so what lies in a folder of libraries is read once: which names each of its
distributions has there. Only names that several have, or none, are looked up by file.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sandbox.violations.library import LONGEST, named

if TYPE_CHECKING:
    from sandbox.sensor.distributions import Distributions

CODE = (".py", ".pyc", ".so")
CACHE = "__pycache__"
INFO = ".dist-info"
SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")
"""Where no distribution lies but in a folder that is called so."""
PATIENCE = 0.1
"""Seconds that an open waits at most for the name of its library."""
MOST_LEVELS = 8
"""Folders above a file among which there is the one that libraries were installed in."""
MOST_KNOWN = 10_000
"""Folders and names of which the library is remembered."""

Library = tuple[str, str]
"""Name and version."""


class Libraries:
    """The libraries of one environment, whose Python is of `version` (3.11.2), '' for a program that runs none."""

    def __init__(self, version: str, standard: str) -> None:
        """`standard` is the folder of Python's own library, '' for none."""
        words = version.split(".")[:3]
        self._version = tuple(map(int, words)) if len(words) == 3 and all(word.isdecimal() for word in words) else ()
        self._elsewhere = (*SYSTEM, *((f"{os.path.realpath(standard)}/",) if standard else ()))
        self._distributions: Distributions | None = None
        self._homes: dict[str, str] = {}
        self._names: dict[str, dict[str, list[Library]]] = {}
        self._known: dict[str, Library | None] = {}

    def library(self, tid: int, path: str) -> Library | None:
        """That of a file, by the path to which a task's open leads; None for any that is not a library's code."""
        if not self._version or (not path.endswith(CODE) and ".so." not in path):
            return None
        if path.startswith(self._elsewhere) and "-packages/" not in path:
            return None
        folder, name = os.path.split(path)
        if os.path.basename(folder) == CACHE:
            folder, name = os.path.dirname(folder), f"{name.partition('.')[0]}.py"
        deadline = time.monotonic() + PATIENCE
        home = self._home(tid, folder, deadline)
        if not home:
            return None
        file = f"{folder}/{name}"
        top = file[len(home) + 1 :].partition("/")[0]
        owners = self._names.get(home, {}).get(top, ())
        if len(owners) == 1:
            return owners[0]
        key = f"{home}/{top}" if not owners else file
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._owner(tid, file, deadline)
        return self._known[key]

    def _home(self, tid: int, folder: str, deadline: float) -> str:
        """The folder of libraries that a folder lies in: one with their metadata, or that is called so; '' for none."""
        if folder not in self._homes:
            if len(self._homes) >= MOST_KNOWN:
                self._homes.clear()
            self._homes[folder] = self._found_home(tid, folder, deadline)
        return self._homes[folder]

    def _found_home(self, tid: int, folder: str, deadline: float) -> str:
        from sandbox.sensor.distributions import INSTALLED

        parts = folder.split("/")
        called = next((at for at in range(len(parts), 1, -1) if parts[at - 1] in INSTALLED), 0)
        ways = [parts[:called]] if called else [parts[:at] for at in range(len(parts), 1, -1)][:MOST_LEVELS]
        for home in ("/".join(way) for way in ways):
            if home not in self._names:
                if len(self._names) >= MOST_KNOWN:
                    self._names.clear()
                self._names[home] = self._names_in(tid, home, deadline)
            if self._names[home] or called:
                return home
        return ""

    @staticmethod
    def _names_in(tid: int, folder: str, deadline: float) -> dict[str, list[Library]]:
        """{name in a folder of libraries: the distributions that have files under it}."""
        from sandbox.sensor import files
        from sandbox.sensor.distributions import MOST_NAMES, MOST_RECORD

        found: dict[str, list[Library]] = {}
        for info in files.listing(tid, folder, MOST_NAMES):
            name, _, version = info.removesuffix(INFO).partition("-")
            if not info.endswith(INFO) or not named(name) or time.monotonic() > deadline:
                continue
            record = files.content(tid, f"{folder}/{info}/RECORD", MOST_RECORD)
            for top in {line.partition(b"/")[0].partition(b",")[0] for line in record.split(b"\n")}:
                found.setdefault(os.fsdecode(top), []).append((named(name), version[:LONGEST]))
        return found

    def _owner(self, tid: int, file: str, deadline: float) -> Library | None:
        if self._distributions is None:
            from sandbox.sensor.distributions import Distributions

            self._distributions = Distributions()
        major, minor, micro = self._version
        owner = self._distributions.owner(tid, file, (major, minor, micro), deadline)
        name = named(owner.distribution) if owner and owner.installed else ""
        return (name, owner.version[:LONGEST]) if owner and name else None
