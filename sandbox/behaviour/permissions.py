"""Whether the rules on files let a call through: one pure function, which says what Landlock will say.

    allows(permissions, ask(notification, task, arch, "invoke")).errno

Landlock asks each right of a path from the rules on the path and on every folder above it (man 7 landlock). Making,
removing and renaming are rights of the folder. A rename or link into another folder needs REFER on both sides, and must
not give the file rights that it lacked where it was; what is missing there is EXDEV and not EACCES
(security/landlock/fs.c: current_check_refer_path). Pure: paths are physical, and nothing is looked up.
"""

from __future__ import annotations

import errno
import os

from sandbox.kernel import landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandbox.behaviour.access import Access

OF_FILES = (
    landlock.ACCESS_FS_EXECUTE | landlock.ACCESS_FS_WRITE_FILE | landlock.ACCESS_FS_READ_FILE
    | landlock.ACCESS_FS_TRUNCATE
)  # fmt: skip
REFER = landlock.ACCESS_FS_REFER


class Permissions:
    """The rights that are `handled`, and the rules: (physical path, rights) for a file, or a folder with all below.

    `files` are the (st_dev, st_ino) of the rules on files: a rule belongs to the file that was there, and not to one
    that is put in its place.
    """

    __slots__ = ("_files", "_rules", "handled")

    def __init__(
        self, handled: int, rules: Iterable[tuple[str, int]], files: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        self.handled = handled
        self._files = files or {}
        self._rules: dict[str, int] = {}
        for path, rights in rules:
            self._rules[path] = self._rules.get(path, 0) | rights

    def missing(self, path: str, rights: int, identity: tuple[int, int] = (0, 0)) -> int:
        """Those of the rights that no rule gives on a path; `identity` is that of its file, where it is known."""
        left = rights & self.handled
        if left and self.is_stale(path, identity):
            path = os.path.dirname(path)
        while left:
            left &= ~self._rules.get(path, 0)
            if path in ("/", ""):
                break
            path = os.path.dirname(path)
        return left

    def is_stale(self, path: str, identity: tuple[int, int]) -> bool:
        """Whether there is a rule on the path, but for the file that another one has replaced since."""
        return self._files.get(path, identity) != identity != (0, 0)


class Verdict:
    """`errno` is 0 where all is allowed; `refused` are the accesses that no rule serves, each told by its own thing.

    `by_look`, where no wall stands behind this, is how a profile lists what was refused.
    """

    __slots__ = ("by_look", "errno", "refused")

    def __init__(self, number: int = 0, refused: Sequence[Access] = (), *, by_look: str = "") -> None:
        self.errno = number
        self.by_look = by_look
        self.refused = tuple(refused)


def allows(permissions: Permissions, accesses: Sequence[Access]) -> Verdict:
    """What Landlock answers to what one call asks for; what the file system refuses by itself is not asked.

    A rename or link between two folders has two accesses, of the old entry and of the new.
    """
    if any(one.error for one in accesses):
        return Verdict()
    refused = [one for one in accesses if _missing(permissions, one, one.rights & ~REFER)]
    if len(accesses) < 2 or not accesses[0].moves:
        return Verdict(errno.EACCES if refused else 0, refused)
    old, new = accesses
    if not permissions.handled & REFER:
        return Verdict(errno.EXDEV, accesses)  # before ABI 2, whatever the rules say
    if refused:
        # The errno is EACCES, and the other side may lack the right to be moved from or to.
        refused = [one for one in accesses if _missing(permissions, one, one.rights)]
        return Verdict(errno.EACCES, refused)
    refused = [one for one in accesses if permissions.missing(one.place, REFER)]
    if refused:
        return Verdict(errno.EXDEV, refused)
    if _gains(permissions, old, new.place, old.moves):
        return Verdict(errno.EXDEV, [old])
    if new.moves and _gains(permissions, new, old.place, new.moves):
        return Verdict(errno.EXDEV, [new])
    return Verdict()


def _missing(permissions: Permissions, access: Access, rights: int) -> int:
    return permissions.missing(access.place, rights, (0, 0) if access.entry else access.identity)


def _gains(permissions: Permissions, access: Access, folder: str, kind: str) -> bool:
    """Whether a file would have rights in the folder that it lacks where it is."""
    rights = permissions.handled if kind == "folder" else permissions.handled & OF_FILES
    lacks = permissions.missing(access.thing, rights, access.identity)
    return bool(lacks & ~permissions.missing(folder, rights))
