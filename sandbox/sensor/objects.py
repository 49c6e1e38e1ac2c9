"""Whose a mapped object is: what a shared library or a program calls itself, or the package that brought it."""

from __future__ import annotations

import os

from sandbox.plain_json import parse
from sandbox.sensor import files
from sandbox.sensor.distributions import INSTALLED, LONGEST, Distributions, Owner
from sandbox.sensor.elf import Elf
from sandbox.sensor.golang import GoProgram
from sandbox.sensor.offsets import Unreadable
from sandbox.sensor.v8 import V8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

OF_C = (
    "libc.", "libc-", "ld-linux", "ld-musl", "ld.so", "ld-2", "libpthread", "libm.", "libm-", "libdl", "librt.",
    "librt-", "libresolv", "libnss_", "libnsl", "libgcc_s", "libstdc++", "libc++",
)  # fmt: skip
"""How the libraries begin that C and C++ are used through: they are on any stack, and say nothing."""
PYTHON = ("libpython", "python")
NODE, NODE_SHARED = "node", "libnode.so"
"""The program, and how the library begins that holds V8 where a distribution has built it so."""
PACKAGES = "/node_modules/"
MOST_PACKAGE = 1 << 16
"""Bytes of a package.json."""
MOST_HEADER = 1 << 14
LONGEST_SCRIPT = 1 << 20
"""Bytes of a script of which lines are counted."""
MOST_KNOWN = 256


class NativeObject:
    """A file that is mapped as code. `owner` is None for what says nothing: the library of C, a program of its own."""

    __slots__ = ("_tid", "go", "owner", "path", "v8")

    def __init__(
        self, tid: int, path: str, owner: Owner | None, go: GoProgram | None = None, v8: V8 | None = None
    ) -> None:  # fmt: skip
        self._tid = tid
        self.path: Final = path
        self.owner: Final = owner
        self.go: Final = go
        self.v8: Final = v8

    def function(self, offsets: Sequence[int]) -> str:
        """The first function at one of some offsets in the file that has a name for others; '' for none."""
        fd = _opened(self._tid, self.path)
        try:
            return Elf(fd).function(offsets) if fd >= 0 else ""
        except Unreadable:
            return ""
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Give its descriptor back; only a program of Go has one."""
        if self.go:
            self.go.close()


class Objects:
    """Looks files up, and remembers packages and lines: what is on disk is taken to stay, as in a deployed package."""

    __slots__ = ("_distributions", "_lines", "_packages")

    def __init__(self, distributions: Distributions) -> None:
        self._distributions = distributions
        self._packages: dict[str, tuple[str, str]] = {}
        self._lines: dict[tuple[str, int], int] = {}

    def program(self, tid: int, path: str, mapped: Iterable[str]) -> NativeObject:
        """What a task runs: Node, a program of Go, or one that says nothing. `mapped` are the files of its code."""
        fd = _opened(tid, path)
        try:
            if fd >= 0 and is_node(path):
                owner = Owner(NODE, _node_version(tid, path), path, installed=True)
                return NativeObject(tid, path, owner, v8=_v8(tid, path, mapped))
            return NativeObject(tid, path, None, GoProgram(os.dup(fd)) if fd >= 0 else None)
        except (Unreadable, OSError):
            return NativeObject(tid, path, None)
        finally:
            if fd >= 0:
                os.close(fd)

    def library(
        self, tid: int, path: str, version: tuple[int, int, int], deadline: float
    ) -> NativeObject:  # fmt: skip
        """Whose a library that a task has mapped is; `version` is that of the Python that it runs, if any."""
        if not may_tell(path):
            return NativeObject(tid, path, None)
        if is_package(path):
            return NativeObject(tid, path, self.package(tid, path))
        found = self._distributions.owner(tid, path, version, deadline) if _is_pythons(path, version) else None
        if found and found.installed:
            return NativeObject(tid, path, found)
        return NativeObject(tid, path, Owner(_soname(tid, path), "", path, installed=True))

    def package(self, tid: int, path: str) -> Owner | None:
        """The package of Node that a file below node_modules is of, the innermost; None for any other file."""
        folder, found, rest = path.rpartition(PACKAGES)
        if not found:
            return None
        parts = rest.split("/")
        top = "/".join(parts[: 2 if rest.startswith("@") else 1])
        home = f"{folder}{PACKAGES}{top}"
        known = self._packages.get(home)
        if known is None:
            if len(self._packages) >= MOST_KNOWN:
                self._packages.clear()
            known = self._packages[home] = _said(files.content(tid, f"{home}/package.json", MOST_PACKAGE))
        return Owner(known[0] or top[:LONGEST], known[1], rest, installed=True)

    def line(self, tid: int, path: str, begin: int) -> int:
        """The line of a script that a character is in; 0 where nobody knows."""
        if begin < 0:
            return 0
        known = self._lines.get((path, begin))
        if known is None:
            text = files.content(tid, path, LONGEST_SCRIPT).decode("utf-8", "replace")
            if len(self._lines) >= MOST_KNOWN:
                self._lines.clear()
            known = self._lines[path, begin] = text.count("\n", 0, begin) + 1 if begin < len(text) else 0
        return known


def _said(data: bytes) -> tuple[str, str]:
    """(name, version) of a package.json, '' where it does not say."""
    try:
        about = parse(data.decode()) if data else None
    except ValueError:
        about = None
    found = (about.get("name"), about.get("version")) if isinstance(about, dict) else ("", "")
    name, version = (text[:LONGEST] if isinstance(text, str) else "" for text in found)
    return name, version


def is_node(path: str) -> bool:
    """Whether a program is Node, by its name."""
    return path.rpartition("/")[2] == NODE


def may_tell(path: str) -> bool:
    """Whether a mapped file can say whose a call is: the libraries of C and of Python are on any stack."""
    return bool(path) and not path.rpartition("/")[2].startswith((*OF_C, *PYTHON))


def is_package(path: str) -> bool:
    """Whether a script is of a package of Node."""
    return PACKAGES in path


def _is_pythons(path: str, version: tuple[int, int, int]) -> bool:
    """Whether a library can be one of Python: in a folder for these, or the process runs Python."""
    return version > (0, 0, 0) or any(f"/{folder}/" in path for folder in INSTALLED)


def _opened(tid: int, path: str) -> int:
    try:
        return files.opened(tid, path)
    except OSError:
        return -1


def _soname(tid: int, path: str) -> str:
    """What a library calls itself, else its file's name."""
    fd = _opened(tid, path)
    try:
        return (Elf(fd).soname() if fd >= 0 else "")[:LONGEST] or path.rpartition("/")[2]
    except Unreadable:
        return path.rpartition("/")[2]
    finally:
        if fd >= 0:
            os.close(fd)


def _v8(tid: int, path: str, mapped: Iterable[str]) -> V8 | None:
    """What Node says of V8, or the library does that a distribution's Node leaves it to."""
    shared = next((one for one in mapped if one.rpartition("/")[2].startswith(NODE_SHARED)), "")
    for place in (path, shared):
        if (fd := _opened(tid, place)) < 0:
            continue
        try:
            return V8.of(fd)
        except Unreadable:
            continue
        finally:
            os.close(fd)
    return None


def _node_version(tid: int, path: str) -> str:
    """As the header beside an installed Node says; '' without."""
    prefix = path.rpartition("/bin/")[0]
    words = files.content(tid, f"{prefix}/include/node/node_version.h", MOST_HEADER).split()
    numbers = []
    for name in (b"NODE_MAJOR_VERSION", b"NODE_MINOR_VERSION", b"NODE_PATCH_VERSION"):
        at = words.index(name) + 1 if name in words else len(words)
        numbers.append(words[at].decode() if at < len(words) and words[at].isdigit() else "")
    return ".".join(numbers) if all(numbers) else ""
