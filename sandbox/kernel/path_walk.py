"""Where a path of another task leads: an own walk, component by component, as the kernel's (man 7 path_resolution).

    walk(tid, AT_FDCWD, b"link/../data.txt").path        # '/srv/releases/data.txt', where link leads to /srv/releases/7

Opening the path below /proc/TID/root would not do: an absolute link would restart at the supervisor's root, and
/proc/self would be the supervisor. So each component is opened with O_PATH and O_NOFOLLOW from a descriptor of the
task's root or folder, links are read and followed here, and `self` becomes the task. Folders on a way without links are
passed in one step, where openat2(2) is there to say so. Nothing is decided on the result where the task could change
the file system meanwhile: it is what the call means now.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct

from sandbox.kernel import abi

AT_FDCWD = 0xFFFFFF9C
MOST_LINKS = 40  # linux/namei.h: MAXSYMLINKS
MOST_BYTES = 4096  # linux/limits.h: PATH_MAX, with the NUL
HANGING = ("fuse", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "autofs", "afs", "virtiofs", "lustre", "gfs2", "ocfs2")
"""Types of file systems (and fuse.sshfs and the like) whose server may never answer: the walk stops before them."""

_PROC_ROOT = 1  # linux/proc_fs.h: PROC_ROOT_INO
_OPEN = os.O_PATH | os.O_CLOEXEC

_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08  # linux/openat2.h
_LEAP = struct.pack(
    "<QQQ", _OPEN | os.O_DIRECTORY, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
)
_OPENAT2 = abi.number("openat2")
_openat2 = abi.LIBC["syscall"]  # a function object of its own, as in kernel/task.py
_openat2.restype = ctypes.c_long
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)


class Walked:
    """Where a walk ended. `path` is physical, as the kernel names it to this process, whether it is there or not.

    `error` is the errno of the walk: ENOENT with `parent` where only the last name is missing, so that a create would
    make it; ENOENT without where a folder on the way is missing; ENOTDIR, ELOOP, EACCES, ENAMETOOLONG. `mode` is the
    file's st_mode, 0 where there is none. `magic`: a link of /proc that leads by no path (fd/3, exe) was followed.
    `unsure`: the rest was joined as text, behind a file system that may hang or a folder that could not be opened.
    `refused`: EACCES or EROFS where this process may not do what the walk was to ask for. `identity` is the file's
    (st_dev, st_ino). Of a walk that keeps them, `fd` and `above` are descriptors (O_PATH) of the file and of the folder
    of an entry, -1 where there is none; `close` gives them back. `blind`: the task's root or folder is shown to nobody.
    """

    __slots__ = ("above", "blind", "error", "fd", "identity", "magic", "mode", "parent", "path", "refused", "unsure")

    def __init__(
        self, path: str, error: int = 0, *, mode: int = 0, parent: bool = True, magic: bool = False,
        unsure: bool = False, refused: int = 0,
    ) -> None:  # fmt: skip
        self.path = path
        self.error = error
        self.mode = mode
        self.parent = parent
        self.magic = magic
        self.unsure = unsure
        self.refused = refused
        self.blind = False
        self.identity = (0, 0)
        self.fd = self.above = -1

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self.fd, self.above):
            if fd >= 0:
                os.close(fd)
        self.fd = self.above = -1

    def as_named(self) -> Walked:
        """With the name that the kernel has for the file of `fd`: a rename during the walk can make the text lie.

        Raises OSError where it is too long; the descriptors are given back.
        """
        if self.fd >= 0:
            try:
                self.path = os.readlink(f"/proc/self/fd/{self.fd}")
            except OSError:
                self.close()
                raise
        return self


def walk(
    tid: int, dirfd: int | None, path: bytes, *, follow: bool = True, wanted: int = 0, entry: bool = False,
    keep: bool = False,
) -> Walked:  # fmt: skip
    """Walk a path of the thread `tid` from its descriptor `dirfd` (None or AT_FDCWD: its working folder).

    Without `follow` a link as the last component is itself the end (O_NOFOLLOW, and what names entries: unlink, rename,
    mkdir). An empty path is the descriptor itself (AT_EMPTY_PATH). Never raises for what the task or its files are.

    `wanted` (os.R_OK, W_OK, X_OK; 0: nothing) is asked for at the end of the walk. For an `entry`, and for a last name
    that is missing, it is writing in the folder above. Who asks is this process: see faccessat2(2). With `keep` the
    descriptors of what was walked to stay open.
    """
    if len(path) >= MOST_BYTES:
        return Walked(os.fsdecode(path), errno.ENAMETOOLONG, unsure=True)
    try:
        found = _Walk(tid, keep=keep)
    except OSError as error:
        return _unseen(path, error)
    try:
        return found.end(dirfd, path, follow=follow, wanted=wanted, entry=entry)
    finally:
        found.close()


def _unseen(path: bytes, error: OSError, number: int = 0) -> Walked:
    found = Walked(os.fsdecode(path), number or error.errno or errno.EACCES, unsure=True)
    found.blind = error.errno in (errno.EACCES, errno.EPERM)
    return found


class _Walk:
    """One walk: the task's root, and where it stands (a descriptor and its text)."""

    def __init__(self, tid: int, *, keep: bool) -> None:
        self._tid = tid
        self._keep = keep
        self._above = -1
        self._base = f"/proc/{tid}"
        self._here = -1
        self._text = ""
        self._magic = False
        self._root_text = os.readlink(f"{self._base}/root")
        self._mounts = _mounts(self._base)
        self._root = os.open(f"{self._base}/root", _OPEN)

    def close(self) -> None:
        for fd in (self._root, self._here, self._above):
            if fd >= 0:
                os.close(fd)

    def end(self, dirfd: int | None, path: bytes, *, follow: bool, wanted: int, entry: bool) -> Walked:
        try:
            self._begin(dirfd, path)
        except OSError as error:
            return _unseen(path, error, errno.EBADF if error.errno == errno.ENOENT else 0)
        names = os.fsdecode(path).split("/")
        folder = names[-1] in ("", ".", "..") and len(names) > 1  # the last name must be a folder, and is followed
        todo = [name for name in reversed(names) if name not in ("", ".")]
        links = refused = 0
        self._leap(todo)
        while todo:
            name = todo.pop()
            if name == "..":
                try:
                    self._up()
                except OSError as error:  # from a descriptor of something else than a folder, or one not to be searched
                    number = error.errno or errno.EACCES
                    return self._joined([*todo, name], number, unsure=number != errno.ENOTDIR)
                continue
            if f"{self._text.rstrip('/')}/{name}" in self._mounts.hanging:
                return self._joined([*todo, name], 0, unsure=True)
            try:
                fd = os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=self._here)
                mode = os.fstat(fd).st_mode
            except OSError as error:
                missing = error.errno == errno.ENOENT and not todo
                found = self._joined(
                    [*todo, name], error.errno or errno.EACCES, parent=missing, unsure=error.errno != errno.ENOENT
                )
                if missing and wanted:
                    found.refused = _refusal(self._here, os.W_OK | os.X_OK)
                if missing and self._keep:
                    found.above = os.dup(self._here)
                return found
            if stat.S_ISLNK(mode) and (todo or follow or folder):
                links += 1
                if links > MOST_LINKS:
                    os.close(fd)
                    return self._joined([*todo, name], errno.ELOOP)
                try:
                    target = self._target(fd, name)
                except OSError as error:
                    return self._joined([*todo, name], error.errno or errno.EACCES, unsure=True)
                finally:
                    os.close(fd)
                if target is None:  # followed by the kernel
                    mode = os.fstat(self._here).st_mode
                    if todo and not stat.S_ISDIR(mode):
                        return self._joined(todo, errno.ENOTDIR)
                    continue
                if target.startswith("/"):
                    self._go(os.dup(self._root), self._root_text)
                todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
                self._leap(todo)
                continue
            if entry and not todo:
                refused = _refusal(self._here, os.W_OK | os.X_OK) if wanted else 0
                self._above = os.dup(self._here) if self._keep else -1
            self._go(fd, f"{self._text.rstrip('/')}/{name}")
            if (todo or folder) and not stat.S_ISDIR(mode):
                return self._joined(todo, errno.ENOTDIR)
        if wanted and not entry:
            refused = _refusal(self._here, wanted)
        status = os.fstat(self._here)
        ended = Walked(self._text, mode=status.st_mode, magic=self._magic, refused=refused)
        ended.identity = status.st_dev, status.st_ino
        if self._keep:
            ended.fd, self._here = self._here, -1
            ended.above, self._above = self._above, -1
        return ended

    def _begin(self, dirfd: int | None, path: bytes) -> None:
        if path.startswith(b"/"):
            self._go(os.dup(self._root), self._root_text)
            return
        start = "cwd" if dirfd is None or dirfd == AT_FDCWD else f"fd/{dirfd}"
        self._enter(os.open(f"{self._base}/{start}", _OPEN))

    def _leap(self, todo: list[str]) -> None:
        """Go to the folder of the last name in one step where no link and no `..` is on the way; else stay."""
        if len(todo) < 3 or ".." in todo:
            return
        way = "/".join(todo[:0:-1])
        text = f"{self._text.rstrip('/')}/{way}"
        if any(text == place or text.startswith(f"{place}/") for place in self._mounts.hanging):
            return
        fd = _openat2(_OPENAT2, self._here, os.fsencode(way), _LEAP, len(_LEAP))
        if fd >= 0:
            del todo[1:]
            self._go(fd, text)

    def _enter(self, fd: int) -> None:
        """Go to the file of a descriptor, by the kernel's name for it. Raises OSError, also where that is too long."""
        try:
            text = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            os.close(fd)
            raise
        self._go(fd, text)

    def _go(self, fd: int, text: str) -> None:
        if self._here >= 0:
            os.close(self._here)
        self._here = fd
        self._text = text

    def _up(self) -> None:
        """`..` of the task's root is the root itself."""
        mine, top = os.fstat(self._here), os.fstat(self._root)
        if (mine.st_dev, mine.st_ino) == (top.st_dev, top.st_ino) and self._text == self._root_text:
            return
        self._go(os.open("..", _OPEN, dir_fd=self._here), os.path.dirname(self._text) or "/")

    def _target(self, fd: int, name: str) -> str | None:
        """What a link says; None where only the kernel can follow it and has: it leads by no path."""
        device = os.fstat(fd).st_dev
        if device in self._mounts.procs:
            if name in ("self", "thread-self"):
                process, thread = _numbers(self._tid, device)
                return str(process) if name == "self" else f"{process}/task/{thread}"
            if os.fstat(self._here).st_ino != _PROC_ROOT:  # mounts and net in there are texts like any other
                self._enter(os.open(name, _OPEN, dir_fd=self._here))
                self._magic = True
                return None
        return os.readlink("", dir_fd=fd)

    def _joined(self, names: list[str], error: int, *, parent: bool = False, unsure: bool = False) -> Walked:
        """What could not be walked, as text behind where the walk stands; `names` are reversed."""
        path = self._text
        for name in reversed(names):
            path = os.path.dirname(path) if name == ".." else f"{path.rstrip('/')}/{name}"
        return Walked(path or "/", error, parent=parent, magic=self._magic, unsure=unsure)


_AT_EMPTY_PATH, _AT_EACCESS = 0x1000, 0x200  # linux/fcntl.h


def _refusal(fd: int, wanted: int) -> int:
    """EACCES or EROFS where this process may not do to a file what `wanted` says; 0 also where the kernel is older."""
    try:
        abi.syscall(abi.number("faccessat2"), fd, b"", wanted, _AT_EMPTY_PATH | _AT_EACCESS)
    except OSError as error:
        return error.errno if error.errno in (errno.EACCES, errno.EROFS) else 0
    return 0


class _Mounts:
    """The mounts of one mount namespace, read again when the kernel says that they changed (man 5 proc_pid_mountinfo).

    `hanging` are the mount points before which a walk stops, `procs` the devices of its /proc file systems.
    """

    def __init__(self, base: str) -> None:
        self._file = os.open(f"{base}/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)
        self._read()

    def refresh(self) -> None:
        if self._poll.poll(0):
            self._read()

    def close(self) -> None:
        os.close(self._file)

    def _read(self) -> None:
        self._poll.poll(0)  # the change before this reading is this reading's
        hanging, procs = set(), set()
        with open(os.dup(self._file), "rb") as file:
            file.seek(0)
            for line in file:
                before, _, behind = line.partition(b" - ")
                fields = before.split(b" ")
                type_ = behind.partition(b" ")[0].decode()
                if type_ == "proc":
                    major, _, minor = fields[2].partition(b":")
                    procs.add(os.makedev(int(major), int(minor)))
                elif type_.partition(".")[0] in HANGING:
                    hanging.add(os.fsdecode(fields[4].decode("unicode_escape").encode("latin-1")))
        self.hanging = frozenset(hanging)
        self.procs = frozenset(procs)


MOST_NAMESPACES = 8
_known: dict[str, _Mounts] = {}


def _mounts(base: str) -> _Mounts:
    """The mounts that a task sees. Raises OSError."""
    namespace = os.readlink(f"{base}/ns/mnt")
    found = _known.get(namespace)
    if found is None:
        if len(_known) >= MOST_NAMESPACES:
            _known.pop(next(iter(_known))).close()
        found = _known[namespace] = _Mounts(base)
    else:
        found.refresh()
    return found


def _numbers(tid: int, device: int) -> tuple[int, int]:
    """(process, thread) as a /proc with this device numbers them: those of its PID namespace (man 5 proc: NStgid)."""
    groups, threads = [tid], [tid]
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NStgid:"):
                    groups = [int(word) for word in line.split()[1:]]
                elif line.startswith(b"NSpid:"):
                    threads = [int(word) for word in line.split()[1:]]
    except OSError:
        pass
    at = 0 if os.stat("/proc").st_dev == device else -1
    return groups[at], threads[at]
