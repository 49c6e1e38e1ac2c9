"""Whether the rules on files let a call through: one pure function, which says what Landlock will say.

    allows(permissions, PathNeeds([Need("/srv/data.txt", landlock.ACCESS_FS_READ_FILE, "/srv/data.txt")]))

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
    from collections.abc import Iterable, Sequence

OF_FILES = (
    landlock.ACCESS_FS_EXECUTE | landlock.ACCESS_FS_WRITE_FILE | landlock.ACCESS_FS_READ_FILE
    | landlock.ACCESS_FS_TRUNCATE
)  # fmt: skip
READING = landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_READ_DIR | landlock.ACCESS_FS_EXECUTE
"""The rights that reading needs; all others are those of a place to write."""
REFER = landlock.ACCESS_FS_REFER


class Permissions:
    """The rights that are `handled`, and the rules: (physical path, rights) for a file, or a folder with all below."""

    __slots__ = ("_rules", "handled")

    def __init__(self, handled: int, rules: Iterable[tuple[str, int]]) -> None:
        self.handled = handled
        self._rules: dict[str, int] = {}
        for path, rights in rules:
            self._rules[path] = self._rules.get(path, 0) | rights

    def missing(self, path: str, rights: int) -> int:
        """Those of the rights that no rule gives on a path."""
        left = rights & self.handled
        while left:
            left &= ~self._rules.get(path, 0)
            if path in ("/", ""):
                break
            path = os.path.dirname(path)
        return left


class Need:
    """Rights that a call needs on `path`; `thing` is what it names, an entry of the folder `path` or the path itself.

    `remove` and the rest of a call's needs are refused with one errno, but each is told by its own thing.
    """

    __slots__ = ("path", "rights", "thing")

    def __init__(self, path: str, rights: int, thing: str) -> None:
        self.path = path
        self.rights = rights
        self.thing = thing

    @property
    def is_entry(self) -> bool:
        """Whether an entry of a folder is made or removed, so that the right is the folder's."""
        return bool(self.rights & ~(OF_FILES | READING))


class PathNeeds:
    """What one call asks of files. A rename or link between two folders has two needs, of the old entry and of the new.

    `moves` is then whether a file or a folder comes to lie elsewhere ('file', 'folder', '' for neither), `back` the
    same of what an exchange brings the other way.
    """

    __slots__ = ("back", "moves", "needs")

    def __init__(self, needs: Sequence[Need] = (), moves: str = "", back: str = "") -> None:
        self.needs = tuple(needs)
        self.moves = moves
        self.back = back


class Verdict:
    """`errno` is 0 where all is allowed; `refused` are the needs that no rule serves."""

    __slots__ = ("errno", "refused")

    def __init__(self, number: int = 0, refused: Sequence[Need] = ()) -> None:
        self.errno = number
        self.refused = tuple(refused)


def allows(permissions: Permissions, access: PathNeeds) -> Verdict:
    """What Landlock answers to a call that would work without it."""
    refused = [need for need in access.needs if permissions.missing(need.path, need.rights & ~REFER)]
    if not access.moves:
        return Verdict(errno.EACCES if refused else 0, refused)
    old, new = access.needs
    if not permissions.handled & REFER:
        return Verdict(errno.EXDEV, access.needs)  # before ABI 2, whatever the rules say
    if refused:
        # The errno is EACCES, and the other side may lack the right to be moved from or to.
        refused = [need for need in access.needs if permissions.missing(need.path, need.rights)]
        return Verdict(errno.EACCES, refused)
    refused = [need for need in access.needs if permissions.missing(need.path, REFER)]
    if refused:
        return Verdict(errno.EXDEV, refused)
    if _gains(permissions, old.thing, new.path, access.moves):
        return Verdict(errno.EXDEV, [old])
    if access.back and _gains(permissions, new.thing, old.path, access.back):
        return Verdict(errno.EXDEV, [new])
    return Verdict()


def _gains(permissions: Permissions, thing: str, folder: str, kind: str) -> bool:
    """Whether a file would have rights in the folder that it lacks where it is."""
    rights = permissions.handled if kind == "folder" else permissions.handled & OF_FILES
    return bool(permissions.missing(thing, rights) & ~permissions.missing(folder, rights))
