"""The look at files: what the path calls that wait ask for, and what of it the rules on files refuse.

It refuses nothing. Where Landlock is in force the wall decides, and in audit there is none. A path is what the
function's memory says at this moment: a hostile thread can hide a line, or forge one.
"""

from __future__ import annotations

import errno
import os
import stat

from sandbox.behaviour import spelling
from sandbox.behaviour.arguments import LOW
from sandbox.behaviour.permissions import Need, PathNeeds, Permissions, Verdict, allows
from sandbox.confine import landlock_rules
from sandbox.kernel import abi, landlock, path_walk, tables
from sandbox.kernel.notification import CallTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.bundle import Policy
    from sandbox.confine import Command
    from sandbox.kernel.path_walk import Walked
    from sandbox.kernel.task import Task

O_TMPFILE = 0x400000  # its own bit; glibc adds O_DIRECTORY (asm-generic/fcntl.h)
AT_REMOVEDIR, AT_SYMLINK_FOLLOW = 0x200, 0x400  # linux/fcntl.h
RENAME_EXCHANGE = 2  # linux/fs.h
OPEN_FLAGS = {"open": 1, "openat": 2}
MAKES = {"mkdir": 0, "mkdirat": 0, "mknod": 1, "mknodat": 2}
"""The argument with the mode of what is made; a folder needs none."""
REMOVES = ("unlink", "unlinkat", "rmdir")
OF_TYPE = {
    stat.S_IFLNK: landlock.ACCESS_FS_MAKE_SYM, stat.S_IFDIR: landlock.ACCESS_FS_MAKE_DIR,
    stat.S_IFCHR: landlock.ACCESS_FS_MAKE_CHAR, stat.S_IFBLK: landlock.ACCESS_FS_MAKE_BLOCK,
    stat.S_IFIFO: landlock.ACCESS_FS_MAKE_FIFO, stat.S_IFSOCK: landlock.ACCESS_FS_MAKE_SOCK,
}  # fmt: skip
"""The right to make an entry, by the type of its file; a regular file is the rest."""


class Unread(Exception):
    """What the task names could not be read, or lies where a look might hang."""


class Look:
    """One policy's look. `unread`: something could not be read so far; `tells`: that is still to be said, once."""

    def __init__(self, permissions: Permissions, calls: CallTable, root: str, *, audit: bool) -> None:
        """`calls` are the path calls of the profile after the init phase, `root` the function's folder or ''."""
        self.calls = calls
        self.unread = False
        self.audit = audit
        self.tells = audit
        self._permissions = permissions
        self._root = root

    @staticmethod
    def sees(number: int) -> bool:
        """Whether a call with this number is looked at."""
        return tables.names(abi.MACHINE).get(number) in tables.HELD_BY_PATH

    def ask(self, syscall: str, args: Sequence[int], task: Task) -> Verdict:
        """What the rules on files say to a call that waits; allowed where it cannot work, and where nobody can tell."""
        try:
            return allows(self._permissions, asked(syscall, args, task))
        except Unread:
            self.unread = True
            return Verdict()

    @staticmethod
    def reason(need: Need, verdict: Verdict) -> str:
        """Why, in a few words."""
        if verdict.errno == errno.EXDEV:
            return "a file that may not come to lie in another folder"
        writes = need.rights & ~(landlock_rules.READ | landlock_rules.EXECUTE)
        return "a place that the profile does not write" if writes else "a file that the profile does not read"

    def spelled(self, need: Need) -> str:
        """The text of a profile that allows what was refused: the file that is read, the folder that is written in."""
        writes = need.rights & ~(landlock_rules.READ | landlock_rules.EXECUTE)
        place = need.thing
        if self._root and f"{place}/".startswith(f"{self._root}/"):
            place = "{root}" + place.removeprefix(self._root)
        if writes and need.thing != need.path and place.count("/") > 1:
            place = os.path.dirname(place) + "/*"
        return spelling.of_entry("files.write" if writes else "files.read", place)


def prepare(policy: Policy, command: Command, *, audit: bool) -> Look | None:
    """The look that a policy asks for on this host; None where nothing is held that it could see."""
    version = landlock.abi_version()
    if not policy.files.listed or not version:
        return None
    plan = landlock_rules.plan(policy, version, command)
    try:
        rules = [(os.readlink(f"/proc/self/fd/{fd}"), rights) for fd, rights in plan.beneath]
    finally:
        plan.close()
    root = landlock_rules.root_folder(command.root)
    found = Permissions(plan.handled, rules)
    return Look(found, CallTable(policy.supervision.paths), "" if root == "/" else root, audit=audit)


def asked(syscall: str, args: Sequence[int], task: Task) -> PathNeeds:
    """What a call that waits asks of files; nothing where the file system itself will refuse it. Raises Unread."""
    if syscall in OPEN_FLAGS or syscall == "creat":
        flags = args[OPEN_FLAGS[syscall]] & LOW if syscall != "creat" else os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        return _opens(syscall, args, task, flags)
    if syscall == "truncate":
        (found,) = _walked(syscall, args, task, follow=True)
        right = landlock.ACCESS_FS_TRUNCATE
        return PathNeeds([Need(found.path, right, found.path)] if stat.S_ISREG(found.mode) else ())
    if syscall in REMOVES:
        (found,) = _walked(syscall, args, task)
        folder = syscall == "rmdir" or (syscall == "unlinkat" and bool(args[2] & AT_REMOVEDIR))
        if not found.mode or found.error or stat.S_ISDIR(found.mode) != folder:
            return PathNeeds()
        return PathNeeds([_entry(found, _removal(found))])
    if syscall in MAKES or syscall in ("symlink", "symlinkat"):
        found = _walked(syscall, args, task)[-1]
        if not _is_free(found):
            return PathNeeds()
        kind = stat.S_IFLNK if syscall not in MAKES else args[MAKES[syscall]] if MAKES[syscall] else stat.S_IFDIR
        return PathNeeds([_entry(found, _making(kind))])
    return _moves(syscall, args, task)


def _opens(syscall: str, args: Sequence[int], task: Task, flags: int) -> PathNeeds:
    if flags & os.O_PATH:
        return PathNeeds()
    creates = flags & os.O_CREAT
    follow = not (flags & os.O_NOFOLLOW or (creates and flags & os.O_EXCL))
    (found,) = _walked(syscall, args, task, follow=follow)
    if not found.path.startswith("/") or found.path.startswith("/memfd:"):
        return PathNeeds()  # a pipe or the like: Landlock has no rule on what lies in no folder
    mode = flags & os.O_ACCMODE
    rights = 0
    if mode in (os.O_RDONLY, os.O_RDWR):
        rights |= landlock.ACCESS_FS_READ_FILE
    if mode in (os.O_WRONLY, os.O_RDWR):
        rights |= landlock.ACCESS_FS_WRITE_FILE
    if found.mode:
        folder = stat.S_ISDIR(found.mode)
        if flags & O_TMPFILE:
            return PathNeeds([Need(found.path, rights, f"{found.path.rstrip('/')}/#unnamed")] if folder else ())
        if (
            stat.S_ISLNK(found.mode) or stat.S_ISSOCK(found.mode) or (creates and (flags & os.O_EXCL or folder))
            or (folder and mode != os.O_RDONLY) or (flags & os.O_DIRECTORY and not folder)
        ):  # fmt: skip
            return PathNeeds()
        if folder:
            rights = landlock.ACCESS_FS_READ_DIR
        elif flags & os.O_TRUNC and stat.S_ISREG(found.mode):
            rights |= landlock.ACCESS_FS_TRUNCATE
        return PathNeeds([Need(found.path, rights, found.path)])
    if not creates or not _is_free(found):
        return PathNeeds()
    return PathNeeds([_entry(found, landlock.ACCESS_FS_MAKE_REG | rights)])


def _moves(syscall: str, args: Sequence[int], task: Task) -> PathNeeds:
    """A rename or link: of the old entry and of the new."""
    links = syscall in ("link", "linkat")
    follow = syscall == "linkat" and bool(args[4] & AT_SYMLINK_FOLLOW)
    exchanges = syscall == "renameat2" and bool(args[4] & RENAME_EXCHANGE)
    old, new = _walked(syscall, args, task, follow=follow, last=False)
    if not old.mode or (exchanges and not new.mode) or not (new.mode or _is_free(new)):
        return PathNeeds()
    here, there = os.path.dirname(old.path), os.path.dirname(new.path)
    if (links and (new.mode or stat.S_ISDIR(old.mode))) or _device(here) != _device(there):
        return PathNeeds()
    gone = 0 if links else _removal(old)
    made = _making(old.mode)
    if new.mode and not links:
        made |= _removal(new)
    if exchanges:
        gone |= _making(new.mode)
    if here == there:
        return PathNeeds([_entry(old, gone | made if exchanges else gone), _entry(new, made)])
    needs = [_entry(old, gone | landlock.ACCESS_FS_REFER), _entry(new, made | landlock.ACCESS_FS_REFER)]
    return PathNeeds(needs, _kind(old), _kind(new) if exchanges else "")


def _walked(
    syscall: str, args: Sequence[int], task: Task, *, follow: bool = False, last: bool | None = None
) -> list[Walked]:
    """Where the paths of a call lead; `follow` is for links at their end, and `last` for the second path's."""
    found = []
    named = tables.paths(syscall)
    if syscall.startswith("symlink"):
        named = named[-1:]  # the text of a link leads nowhere yet
    for number, (dirfd, at) in enumerate(named):
        text = task.string(args[at])
        if not text:
            raise Unread
        descriptor = None if dirfd is None else args[dirfd] & LOW
        through = last if number and last is not None else follow
        one = path_walk.walk(task.tid, descriptor, text, follow=through)
        if one.unsure:
            raise Unread
        found.append(one)
    return found


def _is_free(found: Walked) -> bool:
    """Whether a walk ended at a name that a folder does not have, and could."""
    return not found.mode and found.parent and bool(found.error)


def _entry(found: Walked, rights: int) -> Need:
    return Need(os.path.dirname(found.path), rights, found.path)


def _removal(found: Walked) -> int:
    return landlock.ACCESS_FS_REMOVE_DIR if stat.S_ISDIR(found.mode) else landlock.ACCESS_FS_REMOVE_FILE


def _making(mode: int) -> int:
    return OF_TYPE.get(stat.S_IFMT(mode & 0xFFFF), landlock.ACCESS_FS_MAKE_REG)


def _kind(found: Walked) -> str:
    return "folder" if stat.S_ISDIR(found.mode) else "file"


def _device(folder: str) -> int:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return -1
