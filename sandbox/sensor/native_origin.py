"""Whose call it is where no Python tells: by the mapped objects on the thread's native stack.

A library says its soname or the package that brought it, a program of Go its modules, and Node its scripts and their
packages. What has nothing but a program and the library of C mapped is asked once, until it maps more.
"""

from __future__ import annotations

import os

from sandbox.kernel.memory import Memory
from sandbox.sensor import golang, native, objects, starters
from sandbox.sensor.objects import NativeObject, Objects, may_tell
from sandbox.sensor.offsets import Unreadable
from sandbox.sensor.processes import Sizes
from sandbox.violations.origin import Frame, Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandbox.sensor.distributions import Distributions
    from sandbox.sensor.native import Executable, Spot
    from sandbox.sensor.v8 import ScriptFrame

MOST = 8
"""Processes that are remembered."""
MOST_LIBRARIES = 512
MOST_NAMED = 16
"""Addresses in one library of which the first in a function that it exports is looked for."""
ANONYMOUS = "<anonymous>"
GO = "go"
"""Stands for the distribution of its own packages; the version is Go's."""
UNDER = ("runtime", "syscall", "internal/")
"""Packages of Go through which every call goes."""


class _Process:
    """What one process has mapped, as long as its sizes stay."""

    __slots__ = (
        "_libraries", "_objects", "_pid", "_version", "code", "mappings", "memory", "program", "sizes", "tells",
    )  # fmt: skip

    def __init__(self, pid: int, objects: Objects, version: tuple[int, int, int], deadline: float) -> None:
        """Raises Unreadable."""
        self._pid = pid
        self._objects = objects
        self._version = version
        self._libraries: dict[str, NativeObject] = {}
        self.sizes = Sizes(pid)
        self.memory = self.code = Memory(pid)
        self.program: NativeObject | None = None
        try:
            self.mappings: Sequence[Executable] = native.executables(pid, deadline)
            path = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
            self.program = objects.program(pid, path, [one.path for one in self.mappings])
        except OSError as error:
            self.close()
            raise Unreadable("it has ended") from error
        except BaseException:
            self.close()
            raise
        program = self.program
        others = (may_tell(one.path) for one in self.mappings if one.path != program.path)
        self.tells = bool(program.go or program.owner) or any(others)
        """Whether anything that is mapped can say more than which program this is."""
        if program.v8:
            self._take_from_parent(starters.parent(pid), deadline)

    def library(self, path: str, deadline: float) -> NativeObject | None:
        """Whose a mapped file is, looked up when it is met; None for memory that no file has, and for the program.

        Node's own are those that no package brought: distributions link it with libuv and others.
        """
        if not path or (self.program and path == self.program.path):
            return None
        if self.program and self.program.owner and not objects.is_package(path):
            return None
        found = self._libraries.get(path)
        if found is None and len(self._libraries) < MOST_LIBRARIES:
            found = self._objects.library(self._pid, path, self._version, deadline)
            self._libraries[path] = found
        return found

    def _take_from_parent(self, above: int, deadline: float) -> None:
        """A child that has not begun to run for itself has the stack of its parent, whose heap Node does not fork."""
        if above in (0, os.getpid()):
            return
        try:
            mappings = native.executables(above, deadline)
        except Unreadable:
            return
        # Behind an exec nothing lies where it did (ASLR).
        if {(one.start, one.end) for one in self.mappings} <= {(one.start, one.end) for one in mappings}:
            self.mappings, self.code = mappings, Memory(above)

    def spots(self, pid: int, tid: int, deadline: float) -> Iterator[Spot]:
        """Those of a thread, the innermost first. Raises Unreadable."""
        return native.spots(pid, tid, self.memory, self.mappings, deadline, self.code)

    def close(self) -> None:
        self.sizes.close()
        self.code.close()
        self.memory.close()
        if self.program:
            self.program.close()


class NativeOrigins:
    """Reads them. Not for several threads."""

    __slots__ = ("_objects", "_processes")

    def __init__(self, distributions: Distributions) -> None:
        self._objects = Objects(distributions)
        self._processes: dict[int, _Process] = {}

    def of(self, tid: int, pid: int, version: tuple[int, int, int], deadline: float) -> Origin | None:
        """Of the call in which a thread waits; None where nothing on its stack says more than which program it is.

        `version` is that of the Python that the process runs, (0, 0, 0) for none.
        """
        try:
            process = self._process(pid, version, deadline)
            if not process.tells:
                return None
            return self._read(process, pid, tid, deadline)
        except Unreadable:
            return None

    def close(self) -> None:
        """Give the descriptors back."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _process(self, pid: int, version: tuple[int, int, int], deadline: float) -> _Process:
        known = self._processes.get(pid)
        if known:
            if known.sizes.hold():
                return known
            self._processes.pop(pid).close()
        process = _Process(pid, self._objects, version, deadline)
        if len(self._processes) >= MOST:
            self._processes.pop(next(iter(self._processes))).close()
        self._processes[pid] = process
        return process

    def _read(self, process: _Process, pid: int, tid: int, deadline: float) -> Origin | None:
        """The innermost library, of the objects that stand between the call and the innermost script."""
        program = process.program
        if program and program.go:
            return self._of_go(process, program, pid, tid, deadline)
        scripts = self._scripts(process, pid, tid, deadline)
        inside: NativeObject | None = None
        offsets: list[int] = []
        for number, spot in enumerate(process.spots(pid, tid, deadline)):
            if scripts and spot.at > scripts[0].at:
                break
            found = process.library(spot.mapping.path, deadline)
            if found is None or not found.owner:
                continue
            if inside and (found is not inside or len(offsets) >= MOST_NAMED):
                break
            inside = found
            offsets.append(spot.offset - (number > 0))
        library: Origin | None = None
        if inside and inside.owner:
            made = Frame(inside.owner.module, inside.function(offsets), 0)
            library = Origin(inside.owner.distribution, inside.owner.version, made, None)
        handler: Frame | None = None
        for script in scripts:
            package = self._objects.package(tid, script.file)
            name = script.function or ANONYMOUS
            line = self._objects.line(tid, script.file, script.begin)
            frame = Frame(package.module if package else script.file, name, line)
            if package is None:
                handler = frame
                break
            library = library or Origin(package.distribution, package.version, frame, None)
        if library:
            return Origin(library.distribution, library.version, library.library, handler)
        if handler:
            return Origin("", "", None, handler)
        runtime = program.owner if program else None
        if runtime is None:
            return None
        return Origin(runtime.distribution, runtime.version, Frame(runtime.module, "", 0), None)

    @staticmethod
    def _scripts(process: _Process, pid: int, tid: int, deadline: float) -> list[ScriptFrame]:
        """The functions of files on the stack, the innermost first; what is Node's own or from a string is nobody's."""
        program = process.program
        if program is None or program.v8 is None:
            return []
        pointer, _ = native.registers(pid, tid)
        mappings = process.mappings
        found = []

        def is_code(address: int) -> bool:
            return native.executable_at(mappings, address) is not None

        for frame in program.v8.frames(process.memory, process.code, pointer, is_code, deadline):
            frame.file = frame.file.removeprefix("file://")
            if frame.file.startswith("/"):
                found.append(frame)
                if not objects.is_package(frame.file):
                    break
        return found

    @staticmethod
    def _of_go(process: _Process, program: NativeObject, pid: int, tid: int, deadline: float) -> Origin | None:
        """The innermost module that is not Go's, and the innermost function of the program's own around it."""
        go = program.go
        assert go
        library: Origin | None = None
        standard: Origin | None = None
        handler: Frame | None = None
        for number, spot in enumerate(process.spots(pid, tid, deadline)):
            if spot.mapping.path != program.path:
                continue
            function = go.function(spot.offset - (number > 0))
            if not function:
                continue
            module = go.module(function)
            package = golang.package_of(function)
            here = Frame(package, function.rpartition("/")[2].partition(".")[2], 0)
            if module is None:
                if not standard and not package.startswith(UNDER):
                    standard = Origin(GO, go.version.removeprefix(GO), here, None)
            elif module[1]:
                library = library or Origin(module[0], module[1], here, None)
            else:
                handler = Frame(program.path, function, 0)
                break
        made = library or standard
        if made is None:
            return Origin("", "", None, handler) if handler else None
        return Origin(made.distribution, made.version, made.library, handler)
