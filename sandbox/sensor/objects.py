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
    from collections.abc import Sequence
    from typing import Final

OF_C = (
    "libc.", "libc-", "ld-linux", "ld-musl", "ld.so", "ld-2", "libpthread", "libm.", "libm-", "libdl", "librt.",
    "librt-", "libresolv", "libnss_", "libnsl", "libgcc_s", "libstdc++", "libc++",
)  # fmt: skip
"""How the libraries begin that C and C++ are used through: they are on any stack, and say nothing."""
PYTHON = ("libpython", "python")
NODE = "node"
PACKAGES = "/node_modules/"
MOST_PACKAGE = 1 << 16
"""Bytes of a package.json."""
MOST_HEADER = 1 << 14
MOST_KNOWN = 256


class NativeObject:
    """A file that is mapped as code. `owner` is None for what says nothing: the library of C, a program of its own."""

    __slots__ = ("_fd", "go", "owner", "runtime", "v8")

    def __init__(
        self, owner: Owner | None, fd: int, go: GoProgram | None = None, v8: V8 | None = None, *, runtime: bool = False
    ) -> None:  # fmt: skip
        self.owner: Final = owner
        self.go: Final = go
        self.runtime: Final = runtime
        """Whether it runs code in another language, whose owner is not known by this."""
        self.v8: Final = v8
        self._fd = fd

    def function(self, offsets: Sequence[int]) -> str:
        """The first function at one of some offsets in the file that has a name for others; '' for none."""
        try:
            return Elf(self._fd).function(offsets) if self._fd >= 0 else ""
        except (Unreadable, OSError):
            return ""

    def close(self) -> None:
        """Give the descriptor back; the object can be closed twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Objects:
    """Looks files up, and remembers: what is mapped is taken to stay."""

    __slots__ = ("_distributions",)

    def __init__(self, distributions: Distributions) -> None:
        self._distributions = distributions

    def of(
        self, tid: int, path: str, version: tuple[int, int, int], deadline: float, *, program: bool
    ) -> NativeObject:  # fmt: skip
        """Whose the file at a path is to a task; `version` is that of the Python that it runs, if any.

        `program`: it is what the task runs.
        """
        name = path.rpartition("/")[2]
        if not path or name.startswith((*OF_C, *PYTHON)):
            return NativeObject(None, -1)
        if PACKAGES in path:
            return NativeObject(self.package(tid, path), _opened(tid, path))
        if not program:
            found = self._distributions.owner(tid, path, version, deadline) if _is_pythons(path, version) else None
            if found and found.installed:
                return NativeObject(found, _opened(tid, path))
        fd = _opened(tid, path)
        if program and name == NODE:
            owner = Owner(NODE, _node_version(tid, path), path, installed=True)
            return NativeObject(owner, fd, v8=_v8(fd), runtime=True)
        if not program:
            return NativeObject(Owner(_soname(fd) or name, "", path, installed=True), fd)
        try:
            if fd >= 0:
                return NativeObject(None, fd, GoProgram(fd))
        except (Unreadable, OSError):
            os.close(fd)
        return NativeObject(None, -1)

    @staticmethod
    def package(tid: int, path: str) -> Owner | None:
        """The package of Node that a file below node_modules is of, the innermost; None for any other file."""
        folder, found, rest = path.rpartition(PACKAGES)
        if not found:
            return None
        parts = rest.split("/")
        count = 2 if rest.startswith("@") and len(parts) > 1 else 1
        name, version = "/".join(parts[:count]), ""
        data = files.content(tid, f"{folder}{PACKAGES}{name}/package.json", MOST_PACKAGE)
        try:
            about = parse(data.decode()) if data else None
        except ValueError:
            about = None
        if isinstance(about, dict):
            said = about.get("name"), about.get("version")
            name, version = (text[:LONGEST] if isinstance(text, str) else "" for text in said)
            name = name or "/".join(parts[:count])
        return Owner(name, version, rest, installed=True)


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


def _soname(fd: int) -> str:
    try:
        return Elf(fd).soname()[:LONGEST] if fd >= 0 else ""
    except Unreadable:
        return ""


def _v8(fd: int) -> V8 | None:
    try:
        return V8.of(fd) if fd >= 0 else None
    except Unreadable:
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
