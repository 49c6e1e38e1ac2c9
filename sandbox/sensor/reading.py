"""One reading of a Python stack: whose call it is, and each frame with its owner, for detectors.

    reading.origin               # the innermost library and the innermost frame of the function's own
    reading.frames[0].owner      # "urllib3", "" for the function's own, FROM_STRING for code from a string

The walk ends where `origin` is known; `frames` goes on from there to the outermost frame. Names and lines are read when
they are asked for: before the call is answered, and before the sensor reads the next stack.
"""

from __future__ import annotations

from sandbox.sensor.offsets import Unreadable
from sandbox.violations.origin import STANDARD_LIBRARY, Frame, Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.sensor.distributions import Owner
    from sandbox.sensor.stack import Activation

FROM_STRING = "<string>"
"""Stands for the owner of code that no file has: its own name of a file is `<string>`, `<stdin>`, or what it chose."""


class StackFrame:
    """One Python function on a stack. `file` is as the code names it."""

    __slots__ = ("_activation", "_frame", "_whose", "file")

    def __init__(self, activation: Activation, whose: Owner | None) -> None:
        self._activation = activation
        self._whose = whose
        self._frame: Frame | None = None
        self.file = activation.file

    @property
    def owner(self) -> str:
        """Its distribution, STANDARD_LIBRARY, '' for the function's own, or FROM_STRING."""
        return FROM_STRING if self._whose is None else self._whose.distribution

    @property
    def version(self) -> str:
        """That of its distribution; '' where it is not known."""
        return self._whose.version if self._whose else ""

    @property
    def module(self) -> str:
        """The file from the folder on that libraries are installed in: `urllib3/connection.py`."""
        return self._whose.module if self._whose else self.file

    @property
    def function(self) -> str:
        """Its qualified name; '' where it cannot be read."""
        return self._read().function

    @property
    def line(self) -> int:
        """0 where it is not known."""
        return self._read().line

    @property
    def c_function(self) -> str:
        """The function in C that it calls at the moment, `_pickle.loads`; '' where it calls none, or none is known."""
        return self._activation.c_function()

    def _read(self) -> Frame:
        if self._frame is None:
            try:
                self._frame = self._activation.frame()
            except Unreadable:
                self._frame = Frame(self.file, "", 0)
        return self._frame


class Reading:
    """What one stack says. `origin` is None where only code from a string is on it."""

    __slots__ = ("_frames", "_owner", "_rest", "_walked", "origin", "whole")

    def __init__(self, activations: Iterator[Activation], owner: Callable[[str], Owner | None]) -> None:
        """`activations` come from the innermost on; `owner` says whose a file is.

        Raises Unreadable where not one frame with an owner can be read.
        """
        self._rest = activations
        self._owner = owner
        self._walked: list[tuple[Activation, Owner | None]] = []
        self._frames: tuple[StackFrame, ...] | None = None
        self.whole = True
        """Whether `frames`, once asked for, reach the outermost frame."""
        self.origin = self._find_origin()

    @classmethod
    def native(cls, origin: Origin) -> Reading:
        """Of a stack without Python, of which nobody can tell more."""
        made = cls(iter(()), lambda file: None)
        made.origin, made.whole = origin, False
        return made

    @property
    def frames(self) -> tuple[StackFrame, ...]:
        """From the innermost on; those that can be read."""
        if self._frames is None:
            file, whose = (self._walked[-1][0].file, self._walked[-1][1]) if self._walked else ("", None)
            try:
                for activation in self._rest:
                    if activation.file is not file or not file:
                        file = activation.file
                        whose = self._owner(file)
                    self._walked.append((activation, whose))
            except Unreadable:
                self.whole = False
            self._frames = tuple(StackFrame(activation, whose) for activation, whose in self._walked)
        return self._frames

    def _find_origin(self) -> Origin | None:
        """The innermost library, up to the innermost frame of the function's own."""
        library: tuple[Owner, Activation] | None = None
        standard: tuple[Owner, Activation] | None = None
        handler: Frame | None = None
        walked = self._walked
        file = ""
        owner: Owner | None = None
        while True:
            try:
                activation = next(self._rest, None)
            except Unreadable:
                if library is None and standard is None:
                    raise
                self.whole = False
                break
            if activation is None:
                break
            if activation.file is file:  # of the same library as the call inside of it
                walked.append((activation, owner))
                continue
            file = activation.file
            owner = self._owner(file)
            walked.append((activation, owner))
            if owner is None:
                continue  # code from a string is nobody's: who runs it is further out
            if owner.distribution == STANDARD_LIBRARY:
                standard = standard or (owner, activation)
            elif owner.installed:
                library = library or (owner, activation)
            else:
                handler = activation.frame()
                break
        made = library or standard
        if made is None:
            return Origin("", "", None, handler) if handler else None
        owner, activation = made
        frame = activation.frame()
        return Origin(owner.distribution, owner.version, Frame(owner.module, frame.function, frame.line), handler)
