"""Who made a call, as a line says it: the function and line of a library, and the function's own that led to it.

    {"distribution": "PyYAML", "version": "6.0.1", "module": "yaml/constructor.py", "function": "construct_object",
     "line": 100, "handler": {"file": "/var/task/app.py", "function": "handler", "line": 12}}
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeGuard

STANDARD_LIBRARY = "standard library"
"""Stands for a distribution where the code is Python's own; the version is Python's."""


class Frame:
    """One Python function on a stack: its file as the code names it, its qualified name, and the line; 0 if unknown."""

    __slots__ = ("file", "function", "line")

    def __init__(self, file: str, function: str, line: int) -> None:
        self.file: Final = file
        self.function: Final = function
        self.line: Final = line

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self.file, self.function, self.line) == (
            other.file, other.function, other.line,
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash((self.file, self.function, self.line))

    def __repr__(self) -> str:
        return f"Frame({self.file!r}, {self.function!r}, {self.line})"


class Origin:
    """The innermost frame of a library, and the innermost of the function's own around it; one may be missing.

    `distribution` is '' where no library was on the way, `version` '' where it is not known. The file of `library`
    is relative to the folder that libraries were installed in. `started`: not they made the call, but a program that
    they have started, or one that this has started.
    """

    __slots__ = ("distribution", "handler", "library", "started", "version")

    def __init__(
        self, distribution: str, version: str, library: Frame | None, handler: Frame | None, *, started: bool = False
    ) -> None:  # fmt: skip
        self.started: Final = started
        self.distribution: Final = distribution
        self.version: Final = version
        self.library: Final = library
        self.handler: Final = handler

    def starting(self) -> Origin:
        """Of the program that these start."""
        return Origin(self.distribution, self.version, self.library, self.handler, started=True)

    def fields(self) -> dict[str, object]:
        """As it stands in a line, under `by`."""
        found: dict[str, object] = {}
        if self.library:
            found = {
                "distribution": self.distribution, "version": self.version, "module": self.library.file,
                "function": self.library.function, "line": self.library.line,
            }  # fmt: skip
        if self.handler:
            handler = self.handler
            found["handler"] = {"file": handler.file, "function": handler.function, "line": handler.line}
        return {**found, "started": True} if self.started else found

    def __str__(self) -> str:
        """`urllib3 2.2.1 util/connection.py create_connection line 85, from app.py handler line 12`."""
        parts = []
        if self.library:
            parts.append(_shown(*self._names(), self.library))
        if self.handler:
            parts.append(_shown(self.handler.file.rpartition("/")[2], self.handler))
        return "a program started by " * self.started + ", from ".join(parts)

    def function(self) -> tuple[str, ...]:
        """The words for the library's function in whatever line: `urllib3`, `2.2.1`, `util/connection.py`, its name."""
        return (*self._names(), self.library.function) if self.library else ()

    def _names(self) -> tuple[str, str, str]:
        module = self.library.file if self.library else ""
        folder, _, rest = module.partition("/")
        if rest and folder.replace("_", "-").lower() == self.distribution.replace("_", "-").lower():
            module = rest
        return self.distribution, self.version, module


def _shown(*words: str | Frame) -> str:
    return " ".join(filter(None, (_place(word) if isinstance(word, Frame) else word for word in words)))


def _place(frame: Frame) -> str:
    """Its function and line; what is not of a script has no line."""
    known = frame.line or frame.file.endswith((".py", ">"))
    return f"{frame.function} line {frame.line or '?'}" if known else frame.function


def parse(value: object) -> Origin | None:
    """What `fields` made, out of a log that anybody may have written to; None for anything else."""
    if not isinstance(value, dict):
        return None
    texts = [value.get(key, "") for key in ("distribution", "version", "module", "function")]
    line = value.get("line", 0)
    if not all(isinstance(text, str) for text in texts) or not _is_line(line):
        return None
    distribution, version, module, function = texts
    library = Frame(module, function, line) if module else None
    own = value.get("handler")
    handler = None
    if isinstance(own, dict):
        file, name, at = own.get("file", ""), own.get("function", ""), own.get("line", 0)
        if isinstance(file, str) and isinstance(name, str) and _is_line(at):
            handler = Frame(file, name, at)
    started = value.get("started") is True
    return Origin(distribution, version, library, handler, started=started) if library or handler else None


def _is_line(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
