"""Which distribution a file belongs to, by what lies beside it: RECORD, METADATA and top_level.txt, and only these.

importlib.metadata reads all distributions, in a tenth of a second; here a file is looked up when it stands on a stack.
A line of RECORD decides. Without one, as in Debian's packages and in stripped layers, the name of its folder does.
"""

from __future__ import annotations

import os
import time

from sandbox.sensor import files, offsets
from sandbox.violations.origin import STANDARD_LIBRARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

INSTALLED = ("site-packages", "dist-packages")
"""Folders in which everything is a library."""
MOST_LEVELS = 8
"""Folders above a file in which its distribution may be recorded: deeper modules are rare outside of INSTALLED."""
MOST_NAMES = 8192
"""Names in a folder of libraries; one with more is not searched."""
MOST_RECORD = 1 << 20
"""Bytes of a RECORD that are read; those of the largest distributions have some 300 KiB."""
MOST_METADATA = 4096
"""Bytes of METADATA: name and version stand at its beginning."""
MOST_KNOWN = 512
LONGEST = 128
"""Characters of a name or version that are shown."""
FROZEN = "<frozen "
"""How code that is built into the interpreter names its file: `<frozen importlib._bootstrap>`."""
SUFFIXES = (".dist-info", ".egg-info")


class Owner:
    """Whose a file is: a distribution with its version, either '' where nobody knows, and the file's path in it.

    `installed` is False for the function's own files; STANDARD_LIBRARY stands for Python's.
    """

    __slots__ = ("distribution", "installed", "module", "version")

    def __init__(self, distribution: str, version: str, module: str, *, installed: bool) -> None:
        self.distribution: Final = distribution
        self.version: Final = version
        self.module: Final = module
        self.installed: Final = installed


class Distributions:
    """Looks files up, and remembers: what is on disk is taken to stay, as in a deployed package."""

    __slots__ = ("_folders", "_homes", "_owners")

    def __init__(self) -> None:
        self._owners: dict[tuple[str, tuple[int, int, int]], Owner] = {}
        self._homes: dict[str, bool] = {}
        self._folders: dict[str, dict[str, list[str]]] = {}

    def owner(self, tid: int, file: str, version: tuple[int, int, int], deadline: float) -> Owner | None:
        """Of a file as code under a Python of this version names it to a task; None for code from a string.

        After `deadline` (a time.monotonic()) nothing is opened.
        """
        known = self._owners.get((file, version))
        if known or (file.startswith("<") and not file.startswith(FROZEN)):
            return known
        path = _absolute(tid, file)
        found = self._owners.get((path, version)) or self._find(tid, path, version, deadline)
        if time.monotonic() <= deadline:
            if len(self._owners) >= MOST_KNOWN:
                self._owners.clear()
            self._owners[path, version] = found
        return found

    def _find(self, tid: int, path: str, version: tuple[int, int, int], deadline: float) -> Owner:
        module = path if path.startswith(FROZEN) else self._standard(tid, path, version)
        if module:
            return Owner(STANDARD_LIBRARY, offsets.text(version), module, installed=True)
        parts = path.split("/")
        for index in range(len(parts) - 2, 0, -1):
            if parts[index] in INSTALLED:
                folder, module = "/".join(parts[: index + 1]), "/".join(parts[index + 1 :])
                found = self._recorded(tid, folder, module, deadline)
                top = parts[index + 1].removesuffix(".py")
                return found or self._by_name(tid, folder, module, top, deadline)
        # Libraries may lie right beside the function, or in a folder of any name that is on sys.path.
        for index in range(len(parts) - 1, max(0, len(parts) - 1 - MOST_LEVELS), -1):
            found = self._recorded(tid, "/".join(parts[:index]) or "/", "/".join(parts[index:]), deadline)
            if found:
                return found
        return Owner("", "", path, installed=False)

    def _standard(self, tid: int, path: str, version: tuple[int, int, int]) -> str:
        """The module of Python's own library that a file is: its path there; '' for any other file."""
        for lib in ("lib", "lib64"):
            folder, found, module = path.partition(f"/{lib}/python{version[0]}.{version[1]}/")
            if not found or module.partition("/")[0] in INSTALLED:
                continue
            home = folder + found.rstrip("/")
            if home not in self._homes:
                if len(self._homes) >= MOST_KNOWN:
                    self._homes.clear()
                self._homes[home] = bool(files.content(tid, f"{home}/os.py", 1))  # by which Python knows it, too
            if self._homes[home]:
                return module
        return ""

    def _recorded(self, tid: int, folder: str, module: str, deadline: float) -> Owner | None:
        """The distribution in a folder whose RECORD has the module."""
        known = self._installed(tid, folder, deadline)
        if not known:
            return None
        line = f"\n{module},".encode("utf-8", "surrogateescape")
        for name in _likely_first(known, module):
            for info in known[name]:
                if time.monotonic() > deadline:
                    return None
                if info.endswith(SUFFIXES[0]):
                    record = files.content(tid, f"{folder}/{info}/RECORD", MOST_RECORD)
                    if line in b"\n" + record:
                        return self._named(tid, folder, info, module)
        return None

    def _by_name(self, tid: int, folder: str, module: str, top: str, deadline: float) -> Owner:
        """Of a file in a folder of libraries that no RECORD has: by what its folder is called, or says to have."""
        known = self._installed(tid, folder, deadline)
        for info in known.get(_normal(top), ()):
            return self._named(tid, folder, info, module)
        for infos in known.values():
            for info in infos:
                if time.monotonic() > deadline:
                    break
                tops = files.content(tid, f"{folder}/{info}/top_level.txt", MOST_METADATA)
                if top.encode("utf-8", "surrogateescape") in tops.split():
                    return self._named(tid, folder, info, module)
        return Owner(top, "", module, installed=True)

    @staticmethod
    def _named(tid: int, folder: str, info: str, module: str) -> Owner:
        """By METADATA, or PKG-INFO of an egg, which may be the very file; else by the name of their folder."""
        name, _, version = info.rpartition(".")[0].partition("-")
        places = ("METADATA",) if info.endswith(SUFFIXES[0]) else ("PKG-INFO", "")
        for place in places:
            data = files.content(tid, f"{folder}/{info}/{place}".rstrip("/"), MOST_METADATA)
            for line in data.partition(b"\n\n")[0].split(b"\n"):
                key, _, value = line.partition(b": ")
                if key == b"Name":
                    name = value.strip().decode("utf-8", "replace")
                elif key == b"Version":
                    version = value.strip().decode("utf-8", "replace")
            if data:
                break
        return Owner(name[:LONGEST], version[:LONGEST], module, installed=True)

    def _installed(self, tid: int, folder: str, deadline: float) -> dict[str, list[str]]:
        """{normalised name: folders or files of metadata} of what is installed in a folder."""
        known = self._folders.get(folder)
        if known is None:
            if time.monotonic() > deadline:
                return {}
            known = {}
            for entry in files.listing(tid, folder, MOST_NAMES):
                if entry.endswith(SUFFIXES):
                    known.setdefault(_normal(entry.partition("-")[0].removesuffix(".egg-info")), []).append(entry)
            if len(self._folders) >= MOST_KNOWN:
                self._folders.clear()
            self._folders[folder] = known
        return known


def _likely_first(known: dict[str, list[str]], module: str) -> list[str]:
    """The names of distributions, those first that the module's folders suggest: google/cloud/x is google-cloud-..."""
    parts = [_normal(part) for part in module.removesuffix(".py").split("/")]
    suggested = ["-".join(parts[:count]) for count in range(len(parts), 0, -1)]
    first = [name for name in suggested if name in known]
    return first + [name for name in known if name not in first]


def _normal(name: str) -> str:
    """A distribution's name as names are compared (PEP 503)."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))


def _absolute(tid: int, path: str) -> str:
    """A file's path from the root, where code names it from the task's working folder."""
    if path.startswith("/") or path.startswith("<"):
        return path
    try:
        return os.path.normpath(f"{os.readlink(f'/proc/{tid}/cwd')}/{path}")
    except OSError:
        return path
