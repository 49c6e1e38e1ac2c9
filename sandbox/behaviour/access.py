"""What a waiting call asks for: each path that it reaches, as the kernel will resolve it, and the errno that it meets.

    ask(notification, task, arch, "invoke")    # (Access(openat create write /srv/7/new),)

The only reader of this: the recorder learns from it what the supervisor and its lines ask later. It shows the entry of
a call, before anything happened, so the errno is a prediction (sandbox/behaviour/outcome.py). No policy in it.
"""

from __future__ import annotations

import errno
import os
import stat

from sandbox.behaviour import arguments, attributes, outcome
from sandbox.behaviour.call import Call
from sandbox.behaviour.outcome import RENAME_EXCHANGE
from sandbox.behaviour.walker import Walker
from sandbox.kernel import landlock, sockaddr, tables
from sandbox.kernel.memory import socket_address
from sandbox.kernel.path_walk import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.behaviour.walker import KnownIds
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.path_walk import Walked
    from sandbox.kernel.task import Task

READ, WRITE, PROGRAM, NETWORK, LISTEN = "read", "write", "program", "network", "listen"

# What calls do to the entries of folders at their paths, in the order of tables.paths. None is for a path that is not
# looked up (the text of a symbolic link).
_MADE, _REMOVED, _LINKED, _MOVED, _REPLACED = "made", "removed", "linked", "moved", "replaced"
_ENTRIES: dict[str, tuple[str | None, ...]] = {
    "mkdir": (_MADE,), "mkdirat": (_MADE,), "mknod": (_MADE,), "mknodat": (_MADE,), "symlink": (None, _MADE),
    "symlinkat": (None, _MADE), "unlink": (_REMOVED,), "unlinkat": (_REMOVED,), "rmdir": (_REMOVED,),
    "rename": (_MOVED, _REPLACED), "renameat": (_MOVED, _REPLACED), "renameat2": (_MOVED, _REPLACED),
    "link": (_LINKED, _MADE), "linkat": (_LINKED, _MADE),
}  # fmt: skip
CALLS = frozenset({*tables.OPENS, *tables.EXECS, *_ENTRIES, *tables.ATTRIBUTES, "truncate", "bind"})
"""The calls of which `ask` knows the paths: those that Landlock has rights for, exec, and what changes attributes."""

# linux/fcntl.h, linux/fs.h
_AT_REMOVEDIR, _AT_SYMLINK_FOLLOW, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x200, 0x400, 0x100, 0x1000
_FLAGS_AT = {"open": 1, "openat": 2}
_OPENED = (
    landlock.ACCESS_FS_READ_FILE, landlock.ACCESS_FS_WRITE_FILE,
    landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_WRITE_FILE, 0,
)  # fmt: skip
"""The rights of O_RDONLY, O_WRONLY, O_RDWR, and of the fourth, which opens for neither."""
_READING = landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_READ_DIR | landlock.ACCESS_FS_EXECUTE
_MODE_AT = {"mknod": 1, "mknodat": 2}
_OF_TYPE = {
    stat.S_IFLNK: landlock.ACCESS_FS_MAKE_SYM, stat.S_IFDIR: landlock.ACCESS_FS_MAKE_DIR,
    stat.S_IFCHR: landlock.ACCESS_FS_MAKE_CHAR, stat.S_IFBLK: landlock.ACCESS_FS_MAKE_BLOCK,
    stat.S_IFIFO: landlock.ACCESS_FS_MAKE_FIFO, stat.S_IFSOCK: landlock.ACCESS_FS_MAKE_SOCK,
}  # fmt: skip
"""The right to make an entry, by the type of its file; a regular file is the rest."""

_BEHIND = {"clone3": ("clone", 0, "thread"), "openat2": ("access", 2, "read")}
"""Where the flags of these calls lie: struct clone_args and struct open_how both begin with them."""


class Access:
    """One thing that a call asks for.

    `reach` is read, write (create, change, remove, rename) or program, and `thing` the physical path; for those who
    know, network or listen with an address, or '' for nothing. `name` is the
    path as the task wrote it, absolute, where that leads to the same file without `..`; else ''. `error` is the errno
    that the call will get from the file system, 0 if it will work or that cannot be foreseen. `entry`: it makes,
    removes or renames the entry of a folder, a right of the folder. `magic`: a descriptor or a link of /proc to an open
    file led there.
    `unsure`: the path is text, as it could not be walked, or '' where the memory that holds it is shown to nobody.

    `rights` are those of Landlock that the call needs on `place`: the thing, or for an entry the folder that holds it
    (man 7 landlock); 0 for what no rule holds. Of a rename or link between two folders `moves` says for each side
    whether a file or a folder comes to lie at the other ('' for neither). `identity` is the (st_dev, st_ino) of the
    thing, `folder` whether it is one.
    """

    __slots__ = (
        "call", "entry", "error", "folder", "identity", "magic", "moves", "name", "phase", "reach", "rights", "thing",
        "unsure",
    )  # fmt: skip

    def __init__(
        self, call: Call, phase: str, reach: str, thing: str, error: int = 0, *, name: str = "", entry: bool = False,
        magic: bool = False, unsure: bool = False, rights: int = 0, moves: str = "", folder: bool = False,
        identity: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self.call = call
        self.phase = phase
        self.reach = reach
        self.thing = thing
        self.error = error
        self.name = name
        self.entry = entry
        self.magic = magic
        self.unsure = unsure
        self.rights = rights
        self.moves = moves
        self.folder = folder
        self.identity = identity

    @property
    def place(self) -> str:
        """The path on which the rights are needed."""
        return os.path.dirname(self.thing) if self.entry else self.thing

    @property
    def changes(self) -> bool:
        """Whether it needs more than reading: what a place to write gives."""
        return bool(self.rights & ~_READING)

    def __repr__(self) -> str:
        outcome = f" {errno.errorcode.get(self.error, self.error)}" if self.error else ""
        return f"Access({self.call} {self.reach} {self.thing}{outcome})"


def call_of(task: Task, syscall: str, args: Sequence[int], arch: str) -> Call:
    """The call with its argument class, and memory read where the registers do not say it (clone3, openat2)."""
    behind = _BEHIND.get(syscall)
    if behind:
        partition, at, narrowest = behind
        data = task.read(args[at], 8)
        # What cannot be read the kernel cannot read either, in all likelihood: it must not widen the profile.
        if len(data) != 8:
            return Call(syscall, narrowest)
        return Call(syscall, arguments.classify_partition(partition, {"flags": int.from_bytes(data, "little")}))
    call = Call(syscall, arguments.classify(syscall, args, arch))
    target = arguments.target_argument(syscall)
    if target is not None and args[target] & arguments.LOW != task.process():
        call = call.to_others()
    return call


def ask(notification: Notification, task: Task, arch: str, phase: str) -> tuple[Access, ...]:
    """What a waiting call asks for: nothing for a call outside CALLS, two paths for rename and link.

    Reads the task once. Nothing is asked for by a path that is nowhere (EFAULT), is empty (ENOENT) or, of an open,
    only names the file (O_PATH).
    """
    syscall = tables.names(arch).get(notification.nr, "")
    if syscall not in CALLS:
        return ()
    return of_call(call_of(task, syscall, notification.args, arch), notification.args, task, phase)


def of_call(
    call: Call, args: Sequence[int], task: Task, phase: str, *, foresee: bool = True, known: KnownIds | None = None
) -> tuple[Access, ...]:  # fmt: skip
    """As `ask`, for a call of CALLS whose class is known (`call_of`).

    Without `foresee` no errno is looked for that takes more than the walk, and no name: for who rarely needs them.
    `known` are ids of tasks that need not be read again.
    """
    asked = _Asked(call, args, task, Walker(task.tid, foresee=foresee, known=known), phase)
    try:
        if call.syscall in tables.OPENS:
            return asked.opening()
        if call.syscall in tables.EXECS:
            return asked.executing()
        if call.syscall == "truncate" or call.syscall in tables.ATTRIBUTES:
            return asked.changing_itself()[0]
        return asked.binding() if call.syscall == "bind" else asked.changing()
    except _Blind:
        return (Access(call, phase, "", "", unsure=True),)


def of_change(call: Call, args: Sequence[int], task: Task, phase: str) -> tuple[tuple[Access, ...], Walked | None]:
    """As `of_call` for a change of a file itself (tables.ATTRIBUTES, truncate), and the walk, with its descriptor.

    The thing is what the kernel calls the very file of the descriptor, so no rename during the walk can lie. Raises
    OSError (EFAULT, ENOENT) for a path that is nowhere or empty. No walk where the memory that holds it shows nothing.
    """
    asked = _Asked(call, args, task, Walker(task.tid, foresee=False), phase)
    try:
        return asked.changing_itself(keep=True)
    except _Blind:
        return (Access(call, phase, WRITE, "", unsure=True),), None


class _Blind(Exception):
    """The task shows its memory to nobody."""


class _Asked:
    """One call under work."""

    def __init__(self, call: Call, args: Sequence[int], task: Task, walker: Walker, phase: str) -> None:
        self._call = call
        self._args = args
        self._task = task
        self._phase = phase
        self._walker = walker

    def opening(self) -> tuple[Access, ...]:
        syscall = self._call.syscall
        if syscall == "creat":
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        elif syscall == "openat2":
            flags = int.from_bytes(self._task.read(self._args[2], 8), "little")
        else:
            flags = self._args[_FLAGS_AT[syscall]] & arguments.LOW
        ((dirfd, path),) = self._paths()
        if not path or flags & os.O_PATH:
            return ()
        mode = flags & os.O_ACCMODE
        wanted = (os.R_OK if mode != os.O_WRONLY else 0) | (os.W_OK if mode or flags & os.O_TRUNC else 0)
        new = flags & os.O_CREAT and flags & os.O_EXCL
        walked = self._walker.walk(dirfd, path, follow=not (flags & os.O_NOFOLLOW or new), wanted=wanted)
        error, entry = outcome.of_opening(walked, path, flags)
        rights = _OPENED[mode]
        if entry:
            rights |= landlock.ACCESS_FS_MAKE_REG
        elif stat.S_ISDIR(walked.mode) and flags & os.O_TMPFILE != os.O_TMPFILE:
            rights = landlock.ACCESS_FS_READ_DIR
        elif flags & os.O_TRUNC and stat.S_ISREG(walked.mode):
            rights |= landlock.ACCESS_FS_TRUNCATE
        reach = WRITE if mode or flags & (os.O_TRUNC | os.O_CREAT) else READ
        return (self._access(reach, walked, error, dirfd, path, rights, entry=entry),)

    def executing(self) -> tuple[Access, ...]:
        flags = self._args[4] & arguments.LOW if self._call.syscall == "execveat" else 0
        ((dirfd, path),) = self._paths()
        if not path and not flags & _AT_EMPTY_PATH:
            return ()
        walked = self._walker.walk(dirfd, path, follow=not flags & _AT_SYMLINK_NOFOLLOW, wanted=os.X_OK)
        error = outcome.of_walk(walked)
        if walked.mode and not stat.S_ISREG(walked.mode):
            error = errno.ELOOP if stat.S_ISLNK(walked.mode) else errno.EACCES
        # What is executed is opened for reading, too, and Landlock asks for both (fs/exec.c: do_open_execat).
        rights = landlock.ACCESS_FS_EXECUTE | landlock.ACCESS_FS_READ_FILE
        return (self._access(PROGRAM, walked, error, dirfd, path, rights),)

    def changing_itself(self, *, keep: bool = False) -> tuple[tuple[Access, ...], Walked | None]:
        """A file's attributes, or its length: a right to write it, and of no folder."""
        syscall, foresee = self._call.syscall, self._walker.foresee
        flags = attributes.at_flags(syscall, self._args)
        if attributes.by_descriptor(syscall, self._args):
            return (), None
        ((dirfd, path),) = self._paths()
        if not path and not flags & _AT_EMPTY_PATH:
            if keep:
                ((_, at),) = tables.paths(syscall)
                raise OSError(errno.ENOENT if self._task.read(self._args[at], 1) else errno.EFAULT, "path")
            return (), None
        follow = not flags & _AT_SYMLINK_NOFOLLOW
        walked = self._walker.walk(dirfd, path, follow=follow, wanted=os.W_OK, keep=keep or foresee)
        error = 0
        try:
            if foresee:
                error = self._outcome(walked)
            else:
                walked.as_named()
        finally:
            if not keep:
                walked.close()
        rights = landlock.ACCESS_FS_TRUNCATE if syscall == "truncate" else landlock.ACCESS_FS_WRITE_FILE
        return (self._access(WRITE, walked, error, dirfd, path, rights),), walked

    def _outcome(self, walked: Walked) -> int:
        try:
            change = attributes.read(self._call.syscall, self._args, self._task)
        except OSError as error:
            return error.errno or errno.EINVAL
        return attributes.outcome(change, walked, self._walker.ids())

    def binding(self) -> tuple[Access, ...]:
        """The entry that bind(2) makes for the path of a unix socket."""
        try:
            data = socket_address(self._task, self._args[1], self._args[2] & arguments.LOW)
        except OSError:  # the kernel refuses it the same
            if self._task.blind:
                raise _Blind from None
            return ()
        if len(data) <= 2 or int.from_bytes(data[:2], "little") != sockaddr.AF_UNIX or not data[2]:
            return ()  # another family, or abstract
        path = data[2:].split(b"\0")[0]
        walked = self._walker.walk(None, path, follow=False, wanted=os.W_OK, entry=True)
        error = outcome.of_making(walked)
        if error == errno.EEXIST:
            error = errno.EADDRINUSE
        return (self._access(WRITE, walked, error, None, path, landlock.ACCESS_FS_MAKE_SOCK, entry=True),)

    def changing(self) -> tuple[Access, ...]:
        """The entries of folders that a call makes, removes or renames."""
        syscall, flags = self._call.syscall, 0
        if syscall in ("renameat2", "linkat"):
            flags = self._args[4] & arguments.LOW
        elif syscall == "unlinkat":
            flags = self._args[2] & arguments.LOW
        ends: list[_End] = []
        try:
            for (dirfd, path), change in zip(self._paths(), _ENTRIES[syscall], strict=True):
                if change is None:
                    continue
                if not path and not (change == _LINKED and flags & _AT_EMPTY_PATH):
                    return ()
                if change == _LINKED:
                    follow = bool(flags & _AT_SYMLINK_FOLLOW)
                    walked = self._walker.walk(dirfd, path, follow=follow, keep=self._walker.foresee)
                else:
                    # A slash at the end follows no link here (fs/namei.c: filename_parentat).
                    text = path.rstrip(b"/") or b"/"
                    walked = self._walker.walk(
                        dirfd, text, follow=False, wanted=os.W_OK, entry=True, keep=self._walker.foresee
                    )  # fmt: skip
                ends.append(_End(walked, dirfd, path))
            return self._changed(ends, syscall, flags)
        finally:
            for end in ends:
                end.walked.close()

    def _changed(self, ends: Sequence[_End], syscall: str, flags: int) -> tuple[Access, ...]:
        first, last = ends[0], ends[-1]
        old, new = first.walked, last.walked
        if len(ends) == 2:
            links = syscall.startswith("link")
            if links:
                error = outcome.of_linking(old, new, last.path)
            else:
                user = self._walker.user()
                error = errno.EXDEV if outcome.are_apart(old.above, new.above) else 0
                error = error or outcome.of_moving(old, first.path, user)
                error = error or outcome.of_replacing(old, new, last.path, flags, user)
            return self._moving(first, last, error, links=links, exchanges=bool(flags & RENAME_EXCHANGE))
        if _ENTRIES[syscall][-1] == _REMOVED:
            folder = syscall == "rmdir" or (syscall == "unlinkat" and bool(flags & _AT_REMOVEDIR))
            error = outcome.of_removing(new, last.path, self._walker.user(), folder=folder)
            rights = _removal(new.mode)
        else:
            folder = syscall.startswith("mkdir")
            error = outcome.of_making(new, last.path, folder=folder)
            kind = stat.S_IFLNK if syscall.startswith("symlink") else stat.S_IFDIR
            rights = _making(self._args[_MODE_AT[syscall]] if syscall in _MODE_AT else kind)
        return (self._access(WRITE, new, error, last.dirfd, last.path, rights, entry=True),)

    def _moving(self, first: _End, last: _End, error: int, *, links: bool, exchanges: bool) -> tuple[Access, ...]:
        """A rename or link: of the old entry and of the new."""
        old, new = first.walked, last.walked
        gone = 0 if links else _removal(old.mode)
        made = _making(old.mode)
        if new.mode and not links:
            made |= _removal(new.mode)
        if exchanges:
            gone |= _making(new.mode)
        moves = back = ""
        if os.path.dirname(old.path) != os.path.dirname(new.path):
            gone |= landlock.ACCESS_FS_REFER
            made |= landlock.ACCESS_FS_REFER
            moves = "folder" if stat.S_ISDIR(old.mode) else "file"
            back = ("folder" if stat.S_ISDIR(new.mode) else "file") if exchanges else ""
        made_there = self._access(WRITE, new, error, last.dirfd, last.path, made, entry=True, moves=back)
        if links and (old.magic or not first.path):
            made_there.rights &= ~landlock.ACCESS_FS_REFER
            return (made_there,)  # made a name for again: no folder's entry
        return (self._access(WRITE, old, error, first.dirfd, first.path, gone, entry=True, moves=moves), made_there)

    def _access(
        self, reach: str, walked: Walked, error: int, dirfd: int | None, path: bytes, rights: int, *,
        entry: bool = False, moves: str = "",
    ) -> Access:  # fmt: skip
        # A pipe or the like lies in no folder, and no rule can hold it.
        held = walked.path.startswith("/") and not walked.path.startswith("/memfd:")
        name = self._name(walked, dirfd, path) if self._walker.foresee else ""
        return Access(
            self._call, self._phase, reach, walked.path, error, name=name, entry=entry,
            magic=walked.magic or not path, unsure=walked.unsure, rights=rights if held else 0, moves=moves,
            folder=stat.S_ISDIR(walked.mode), identity=walked.identity,
        )  # fmt: skip

    def _name(self, walked: Walked, dirfd: int | None, path: bytes) -> str:
        text = os.fsdecode(path)
        if not text or ".." in text.split("/"):
            return ""
        name = self._absolute(dirfd, text)
        if name == walked.path:
            return name
        try:
            outside = os.readlink(f"/proc/{self._task.tid}/root") != "/"
        except OSError:
            outside = False
        return "" if outside or not name.startswith("/") else f"/{name.lstrip('/')}"

    def _absolute(self, dirfd: int | None, path: str) -> str:
        """A path from a descriptor or the working folder on, without following links; as it is where that is hidden."""
        if path.startswith("/"):
            return os.path.normpath(path)
        folder = "cwd" if dirfd is None or dirfd == AT_FDCWD else f"fd/{dirfd}"
        try:
            return os.path.normpath(os.path.join(os.readlink(f"/proc/{self._task.tid}/{folder}"), path))
        except OSError:
            return path

    def _paths(self) -> list[tuple[int | None, bytes]]:
        found = []
        for dirfd, at in tables.paths(self._call.syscall):
            path = self._task.string(self._args[at])
            if not path and self._task.blind:
                raise _Blind
            found.append((None if dirfd is None else self._args[dirfd] & arguments.LOW, path))
        return found


class _End:
    """One path of a call that changes entries: where it leads, and how it was written."""

    __slots__ = ("dirfd", "path", "walked")

    def __init__(self, walked: Walked, dirfd: int | None, path: bytes) -> None:
        self.walked = walked
        self.dirfd = dirfd
        self.path = path


def _removal(mode: int) -> int:
    return landlock.ACCESS_FS_REMOVE_DIR if stat.S_ISDIR(mode) else landlock.ACCESS_FS_REMOVE_FILE


def _making(mode: int) -> int:
    return _OF_TYPE.get(stat.S_IFMT(mode & 0xFFFF), landlock.ACCESS_FS_MAKE_REG)
