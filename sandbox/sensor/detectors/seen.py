"""What detectors judge by: the stack and the code of a call that waits, and what training knows of the access."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from sandbox.sensor.maps import Mapped
    from sandbox.sensor.reading import StackFrame


class Seen:
    """What was read while a call waits.

    `frames` is its Python stack, the innermost first; empty where there is none or none could be read. `users` are the
    libraries on it as a profile lists them (sandbox/sensor/users.py). `code` is the mapping that its system call
    instruction lies in; None where that could not be read.
    """

    __slots__ = ("code", "frames", "users")

    def __init__(
        self, frames: Sequence[StackFrame] = (), code: Mapped | None = None, users: Sequence[str] = ()
    ) -> None:
        self.frames: Final = frames
        self.code: Final = code
        self.users: Final = users


class Known:
    """What training knows of an access: who made it, as a profile lists it under `by`.

    The distributions, and by which marks of `detectors.marks` it was made below. None where nothing is known of that.
    `libraries` are the names of all that it loaded; none where that is not known.
    """

    __slots__ = ("by", "libraries")

    def __init__(self, by: frozenset[str] | None = None, libraries: frozenset[str] = frozenset()) -> None:
        self.by: Final = by
        self.libraries: Final = libraries

    def has(self, name: str) -> bool:
        """Whether training has this name for the access."""
        return self.by is not None and name in self.by
