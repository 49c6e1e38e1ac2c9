"""What a waiting call asks for: each path that it reaches, as the kernel will resolve it, and the errno that it meets.

    ask(notification, task, arch, "invoke")    # (Access(openat create write /srv/7/new),)

The only reader of this: the recorder learns from it what the supervisor and its lines ask later. It shows the entry of
a call, before anything happened, so the errno is a prediction. The order of checks is the kernel's (fs/namei.c): what
is predicted here fails before a Landlock rule is asked. No policy in it.
"""

from __future__ import annotations

import errno
import os
import stat

from sandbox.behaviour import arguments
from sandbox.behaviour.call import Call
from sandbox.kernel import sockaddr, tables
from sandbox.kernel.path_walk import Walked, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.kernel.notification import Notification
    from sandbox.kernel.task import Task

READ, WRITE, PROGRAM = "read", "write", "program"

# What calls do to the entries of folders at their paths, in the order of tables.paths. None is for a path that is not
# looked up (the text of a symbolic link).
_MADE, _REMOVED, _LINKED, _MOVED, _REPLACED = "made", "removed", "linked", "moved", "replaced"
_ENTRIES: dict[str, tuple[str | None, ...]] = {
    "mkdir": (_MADE,), "mkdirat": (_MADE,), "mknod": (_MADE,), "mknodat": (_MADE,), "symlink": (None, _MADE),
    "symlinkat": (None, _MADE), "unlink": (_REMOVED,), "unlinkat": (_REMOVED,), "rmdir": (_REMOVED,),
    "rename": (_MOVED, _REPLACED), "renameat": (_MOVED, _REPLACED), "renameat2": (_MOVED, _REPLACED),
    "link": (_LINKED, _MADE), "linkat": (_LINKED, _MADE),
}  # fmt: skip
CALLS = frozenset({*tables.OPENS, *tables.EXECS, *_ENTRIES, "truncate", "bind"})
"""The calls of which `ask` knows the paths: those that Landlock has rights for, and exec."""

# linux/fcntl.h, linux/fs.h
_AT_REMOVEDIR, _AT_SYMLINK_FOLLOW, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x200, 0x400, 0x100, 0x1000
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_FLAGS_AT = {"open": 1, "openat": 2}
_ACCMODE = 3

_BEHIND = {"clone3": ("clone", 0, "thread"), "openat2": ("access", 2, "read")}
"""Where the flags of these calls lie: struct clone_args and struct open_how both begin with them."""


class Access:
    """One thing that a call asks for.

    `reach` is read, write (create, change, remove, rename) or program, and `thing` the physical path. `name` is the
    path as the task wrote it, absolute, where that leads to the same file without `..`; else ''. `error` is the errno
    that the call will get from the file system, 0 if it will work or that cannot be foreseen. `entry`: it makes,
    removes or renames the entry of a folder, a right of the folder. `magic`: a link of /proc to an open file led there.
    `unsure`: the path is text, as it could not be walked.
    """

    __slots__ = ("call", "entry", "error", "magic", "name", "phase", "reach", "thing", "unsure")

    def __init__(
        self, call: Call, phase: str, reach: str, thing: str, error: int = 0, *, name: str = "", entry: bool = False,
        magic: bool = False, unsure: bool = False,
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

    Reads the task once. Nothing is asked for by a path that cannot be read (EFAULT), is empty (ENOENT) or, of an open,
    only names the file (O_PATH).
    """
    syscall = tables.names(arch).get(notification.nr, "")
    if syscall not in CALLS:
        return ()
    return of_call(call_of(task, syscall, notification.args, arch), notification.args, task, phase)


def of_call(call: Call, args: Sequence[int], task: Task, phase: str) -> tuple[Access, ...]:
    """As `ask`, for a call of CALLS whose class is known (`call_of`)."""
    asked = _Asked(call, args, task, phase)
    if call.syscall in tables.OPENS:
        return asked.opening()
    if call.syscall in tables.EXECS:
        return asked.executing()
    if call.syscall == "truncate":
        return asked.truncating()
    return asked.binding() if call.syscall == "bind" else asked.changing()


def socket_path(task: Task, path: bytes) -> Walked:
    """Where the path of a unix socket that a task connects or sends to leads, up to its NUL (net/unix/af_unix.c)."""
    return _Asked(Call("connect"), (), task, "").walk(None, path.split(b"\0")[0])


def socket_text(walked: Walked) -> str:
    """The path of a unix socket as a destination: what is not UTF-8 could be any other byte."""
    return os.fsencode(walked.path).decode(errors="replace")


class _Asked:
    """One call under work."""

    def __init__(self, call: Call, args: Sequence[int], task: Task, phase: str) -> None:
        self._call = call
        self._args = args
        self._task = task
        self._phase = phase
        self._alike: bool | None = None

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
        temporary = flags & os.O_TMPFILE == os.O_TMPFILE
        create = bool(flags & os.O_CREAT) and not temporary
        new = create and bool(flags & os.O_EXCL)
        changes = bool(flags & (_ACCMODE | os.O_TRUNC)) or temporary
        follow = not (flags & os.O_NOFOLLOW or new)
        walked = self.walk(dirfd, path, follow=follow, wanted=os.W_OK if changes else os.R_OK)
        error, entry = _outcome(walked), False
        if create and path.endswith(b"/"):
            error = errno.EISDIR
        elif walked.error == errno.ENOENT and walked.parent and create:
            error, entry = walked.refused, True
        elif walked.mode:
            folder = stat.S_ISDIR(walked.mode)
            if new:
                error = errno.EEXIST
            elif folder and (changes or create) and not temporary:
                error = errno.EISDIR
            elif flags & os.O_DIRECTORY and not folder:
                error = errno.ENOTDIR
            elif stat.S_ISLNK(walked.mode):
                error = errno.ELOOP
            elif stat.S_ISSOCK(walked.mode):
                error = errno.ENXIO
        reach = WRITE if changes or create else READ
        return (self._access(reach, walked, error, dirfd, path, entry=entry),)

    def executing(self) -> tuple[Access, ...]:
        flags = self._args[4] & arguments.LOW if self._call.syscall == "execveat" else 0
        ((dirfd, path),) = self._paths()
        if not path and not flags & _AT_EMPTY_PATH:
            return ()
        walked = self.walk(dirfd, path, follow=not flags & _AT_SYMLINK_NOFOLLOW, wanted=os.X_OK)
        error = _outcome(walked)
        if walked.mode and not stat.S_ISREG(walked.mode):
            error = errno.ELOOP if stat.S_ISLNK(walked.mode) else errno.EACCES
        return (self._access(PROGRAM, walked, error, dirfd, path),)

    def truncating(self) -> tuple[Access, ...]:
        ((dirfd, path),) = self._paths()
        if not path:
            return ()
        walked = self.walk(dirfd, path, wanted=os.W_OK)
        error = errno.EISDIR if stat.S_ISDIR(walked.mode) else _outcome(walked)
        return (self._access(WRITE, walked, error, dirfd, path),)

    def binding(self) -> tuple[Access, ...]:
        """The entry that bind(2) makes for the path of a unix socket."""
        data = self._task.read(self._args[1], min(self._args[2] & arguments.LOW, sockaddr.LONGEST))
        if len(data) <= 2 or int.from_bytes(data[:2], "little") != sockaddr.AF_UNIX or not data[2]:
            return ()  # another family, or abstract
        path = data[2:].split(b"\0")[0]
        walked = self.walk(None, path, follow=False, wanted=os.W_OK, entry=True)
        error = _made(walked)
        if error == errno.EEXIST:
            error = errno.EADDRINUSE
        return (self._access(WRITE, walked, error, None, path, entry=True),)

    def changing(self) -> tuple[Access, ...]:
        """The entries of folders that a call makes, removes or renames."""
        syscall, flags = self._call.syscall, 0
        if syscall in ("renameat2", "linkat"):
            flags = self._args[4] & arguments.LOW
        elif syscall == "unlinkat":
            flags = self._args[2] & arguments.LOW
        found: list[tuple[Walked, int | None, bytes]] = []
        error = moved = 0
        for (dirfd, path), change in zip(self._paths(), _ENTRIES[syscall], strict=True):
            if change is None:
                continue
            if not path and not (change == _LINKED and flags & _AT_EMPTY_PATH):
                return ()
            if change == _LINKED:
                walked = self.walk(dirfd, path, follow=bool(flags & _AT_SYMLINK_FOLLOW))
                error = errno.EPERM if stat.S_ISDIR(walked.mode) else _outcome(walked)
                if walked.magic or not path:
                    continue  # made a name for again: no folder's entry
            else:
                # A slash at the end follows no link here (fs/namei.c: filename_parentat).
                walked = self.walk(dirfd, path.rstrip(b"/") or b"/", follow=False, wanted=os.W_OK, entry=True)
                if change == _MADE:
                    error = error or _made(walked, path=path, folder=syscall.startswith("mkdir"))
                elif change == _REMOVED:
                    folder = syscall == "rmdir" or (syscall == "unlinkat" and bool(flags & _AT_REMOVEDIR))
                    error = _removed(walked, path, folder=folder)
                elif change == _MOVED:
                    moved = walked.mode
                    error = errno.EBUSY if _last(path) in _NO_NAMES else _outcome(walked)
                    if path.endswith(b"/") and not stat.S_ISDIR(moved):
                        error = error or errno.ENOTDIR
                else:
                    error = error or _replaced(walked, path, flags, moved)
            found.append((walked, dirfd, path))
        return tuple(self._access(WRITE, walked, error, dirfd, path, entry=True) for walked, dirfd, path in found)

    def walk(
        self, dirfd: int | None, path: bytes, *, follow: bool = True, wanted: int = 0, entry: bool = False
    ) -> Walked:
        """A walk that asks for rights only where the task's are this process's, and without its folders if need be."""
        tid = self._task.tid
        wanted = wanted if self._ids_alike() else 0
        walked = walk(tid, dirfd, path, follow=follow, wanted=wanted, entry=entry)
        if walked.unsure and walked.error in (errno.EACCES, errno.EPERM) and not self._ids_alike():
            walked.error = 0  # this process may not look; the task may
        if walked.unsure and path.startswith(b"/") and os.fsencode(walked.path) == path:
            # Made undumpable, a task shows its root and folders to nobody. Its root is ours: chroot(2) needs rights
            # that such an observer lacks.
            for own in (b"/proc/self/", b"/proc/thread-self/"):
                if path.startswith(own):
                    path = b"/proc/%d/" % tid + path.removeprefix(own)
            walked = walk(os.getpid(), None, path, follow=follow, wanted=wanted, entry=entry)
        return walked

    def _access(
        self, reach: str, walked: Walked, error: int, dirfd: int | None, path: bytes, *, entry: bool = False
    ) -> Access:
        return Access(
            self._call, self._phase, reach, walked.path, error, name=self._name(walked, dirfd, path), entry=entry,
            magic=walked.magic, unsure=walked.unsure,
        )  # fmt: skip

    def _name(self, walked: Walked, dirfd: int | None, path: bytes) -> str:
        text = os.fsdecode(path)
        if ".." in text.split("/"):
            return ""
        name = self._task.absolute(dirfd, text)
        if name == walked.path:
            return name
        try:
            outside = os.readlink(f"/proc/{self._task.tid}/root") != "/"
        except OSError:
            outside = False
        return "" if outside or not name.startswith("/") else f"/{name.lstrip('/')}"

    def _paths(self) -> list[tuple[int | None, bytes]]:
        return [
            (None if dirfd is None else self._args[dirfd] & arguments.LOW, self._task.string(self._args[at]))
            for dirfd, at in tables.paths(self._call.syscall)
        ]

    def _ids_alike(self) -> bool:
        if self._alike is None:
            self._alike = _identity(self._task.tid) == _identity(os.getpid())
        return self._alike


def _outcome(walked: Walked) -> int:
    return walked.error or walked.refused


def _made(walked: Walked, path: bytes = b"", *, folder: bool = False) -> int:
    """The errno of making an entry (fs/namei.c: filename_create)."""
    if not walked.error:
        return errno.EEXIST
    if walked.error == errno.ENOENT and walked.parent:
        return errno.ENOENT if path.endswith(b"/") and not folder else walked.refused
    return walked.error


def _removed(walked: Walked, path: bytes, *, folder: bool) -> int:
    """The errno of removing an entry, a folder's or another's."""
    if walked.error:
        return walked.error
    if (last := _last(path)) in _NO_NAMES:
        return _NO_NAMES[last] if folder else errno.EISDIR
    is_folder = stat.S_ISDIR(walked.mode)
    if folder != is_folder:
        return errno.EISDIR if is_folder else errno.ENOTDIR
    return errno.ENOTDIR if path.endswith(b"/") and not folder else walked.refused


def _replaced(walked: Walked, path: bytes, flags: int, moved: int) -> int:
    """The errno of giving an entry a name at which there may be another (fs/namei.c: do_renameat2)."""
    if path.endswith(b"/") and not stat.S_ISDIR(moved) and not flags & _RENAME_EXCHANGE:
        return errno.ENOTDIR
    if walked.error == errno.ENOENT and walked.parent:
        return errno.ENOENT if flags & _RENAME_EXCHANGE else walked.refused
    if walked.error:
        return walked.error
    if flags & _RENAME_NOREPLACE:
        return errno.EEXIST
    if _last(path) in _NO_NAMES:
        return errno.EBUSY
    if not flags & _RENAME_EXCHANGE and stat.S_ISDIR(walked.mode) != stat.S_ISDIR(moved):
        return errno.EISDIR if stat.S_ISDIR(walked.mode) else errno.ENOTDIR
    return walked.refused


_NO_NAMES = {b"": errno.EBUSY, b".": errno.EINVAL, b"..": errno.ENOTEMPTY}
"""Last components that name no entry, and the errno of rmdir(2) for them."""


def _last(path: bytes) -> bytes:
    return path.rstrip(b"/").rpartition(b"/")[2]


def _identity(tid: int) -> tuple[bytes, ...]:
    """What the kernel asks of a task before it lets it at a file: ids of files, groups and rights."""
    found = []
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            for line in file:
                key, _, value = line.partition(b":")
                if key in (b"Uid", b"Gid"):
                    found.append(value.split()[3])
                elif key in (b"Groups", b"CapEff"):
                    found.append(value.strip())
    except OSError:
        return (b"%d" % tid,)
    return tuple(found)
