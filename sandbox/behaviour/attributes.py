"""What calls change of a file by its path, beside its content: mode, owner, times, extended attributes; and its length.

    read("fchmodat", args, task)    # Change(mode=0o600)

Read once, so that who decides about a call can make it with what was read. Foretells the errno, too: fs/attr.c
(setattr_prepare), fs/open.c, fs/utimes.c, fs/xattr.c.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from sandbox.behaviour.walker import FOWNER
from sandbox.kernel import abi, memory, tables
from sandbox.kernel.path_walk import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.behaviour.walker import Ids
    from sandbox.kernel.path_walk import Walked
    from sandbox.kernel.task import Task

# linux/fcntl.h
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
_FLAGS_AT = {"fchmodat2": 3, "fchownat": 4, "utimensat": 3, "setxattrat": 2, "removexattrat": 2}
_OF_LINKS = ("lchown", "lsetxattr", "lremovexattr")

CHOWN, SETFCAP, SYS_ADMIN = 1 << 0, 1 << 31, 1 << 21  # linux/capability.h
_LOW = 0xFFFFFFFF
_NOBODY = -1
"""The owner or group that stays."""

# linux/stat.h, linux/limits.h, linux/xattr.h
UTIME_NOW, UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
_LONGEST_NAME, _LARGEST_VALUE = 255, 65536
_XATTR_ARGS = struct.Struct("<QII")  # struct xattr_args: value, size, flags


def at_flags(syscall: str, args: Sequence[int]) -> int:
    """The AT_* of a call, 0 where it has none."""
    at = _FLAGS_AT.get(syscall)
    flags = args[at] & _LOW if at is not None else 0
    return flags | AT_SYMLINK_NOFOLLOW if syscall in _OF_LINKS else flags


def by_descriptor(syscall: str, args: Sequence[int]) -> bool:
    """Whether its registers say that a call names no path: futimens(3)."""
    return syscall in ("utimensat", "futimesat") and not args[1]


class Change:
    """What a call changes of the file that its path leads to. All but one part is None.

    `times` are two struct timespec, b"" for now; `kept` is whether both stay. `attribute` is a name, with `value` None
    where it is removed.
    """

    __slots__ = ("attribute", "flags", "length", "mode", "owner", "times", "value")

    def __init__(self) -> None:
        self.mode: int | None = None
        self.owner: tuple[int, int] | None = None
        self.times: bytes | None = None
        self.attribute: bytes | None = None
        self.value: bytes | None = None
        self.flags = 0
        self.length: int | None = None

    @property
    def kept(self) -> bool:
        """Whether it says of both times that they stay: then the path is not even looked up."""
        return bool(self.times) and _stamps(self.times or b"") == (UTIME_OMIT, UTIME_OMIT)

    def make(self, fd: int) -> None:
        """Make it on the file of a descriptor (O_PATH), which may be a link. Raises OSError."""
        # By a link of /proc that leads to the very file, whatever its type, without a look-up (man 5 proc_pid_fd).
        place = f"/proc/self/fd/{fd}"
        if self.mode is not None:
            os.chmod(place, self.mode)
        elif self.owner is not None:
            os.chown(place, *self.owner)
        elif self.times is not None:
            number = tables.numbers(abi.MACHINE)["utimensat"]
            abi.syscall(number, AT_FDCWD, os.fsencode(place), self.times or None, 0)
        elif self.length is not None:
            _truncate(fd, place, self.length)
        elif self.attribute is not None and self.value is not None:
            os.setxattr(place, self.attribute, self.value, self.flags)
        elif self.attribute is not None:
            os.removexattr(place, self.attribute)


def _truncate(fd: int, place: str, length: int) -> None:
    """As truncate(2), which waits for whoever has a lease on the file; here that is EAGAIN."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "truncate")
    opened = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.ftruncate(opened, length)
    finally:
        os.close(opened)


def read(syscall: str, args: Sequence[int], task: Task) -> Change:
    """The change that a call of tables.ATTRIBUTES, or truncate, asks for. Raises OSError with what the kernel says."""
    found = Change()
    if syscall in _YOUNG:
        _require(syscall)
    at = tables.paths(syscall)[0][1] + 1  # behind the path
    if syscall in ("chmod", "fchmodat", "fchmodat2"):
        found.mode = args[at] & 0o7777
    elif "chown" in syscall:
        user, group = args[at] & _LOW, args[at + 1] & _LOW
        found.owner = (_NOBODY if user == _LOW else user, _NOBODY if group == _LOW else group)
    elif syscall == "truncate":
        found.length = args[at] - (1 << 64) if args[at] >> 63 else args[at]
        if found.length < 0:
            raise OSError(errno.EINVAL, "length")
    elif "time" in syscall:
        found.times = _times(syscall, args[at], task)
    elif syscall == "setxattrat":
        size = args[5]
        if size < _XATTR_ARGS.size:
            raise OSError(errno.EINVAL, "size")
        data = memory.copy(task, args[4], min(size, memory.PAGE))
        if any(data[_XATTR_ARGS.size :]) or size > memory.PAGE:
            raise OSError(errno.E2BIG, "newer fields")
        value, length, found.flags = _XATTR_ARGS.unpack_from(data)
        _extended(found, args[3], task, value, length)
    elif syscall == "removexattrat":
        _extended(found, args[3], task)
    elif "set" in syscall:
        found.flags = args[4] & _LOW
        _extended(found, args[1], task, args[2], args[3])
    else:
        _extended(found, args[1], task)
    known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH
    if at_flags(syscall, args) & ~known:
        raise OSError(errno.EINVAL, "flags")
    return found


_YOUNG = ("fchmodat2", "setxattrat", "removexattrat")
"""Of Linux 6.6 and 6.13: made for a task by an older call, they would be there where the kernel has none."""
_there: dict[str, int] = {}


def _require(syscall: str) -> None:
    """Raises OSError (ENOSYS, or what a filter above says) where the kernel does not make a call."""
    if syscall not in _there:
        try:  # refused for its flags before anything is looked at
            abi.syscall(tables.numbers(abi.MACHINE)[syscall], -1, -1, -1, -1, -1, -1)
        except OSError as error:
            _there[syscall] = error.errno if error.errno in (errno.ENOSYS, errno.EPERM) else 0
    if number := _there.get(syscall):
        raise OSError(number, syscall)


def _times(syscall: str, address: int, task: Task) -> bytes:
    """Two struct timespec; b"" where both are now."""
    if not address:
        return b""
    if syscall == "utime":
        seen, changed = struct.unpack("<qq", memory.copy(task, address, 16))
        return struct.pack("<qqqq", seen, 0, changed, 0)
    data = memory.copy(task, address, 32)
    if syscall == "utimensat":
        stamps = _stamps(data)
        if any(not 0 <= one < 10**9 and one not in (UTIME_NOW, UTIME_OMIT) for one in stamps):
            raise OSError(errno.EINVAL, "tv_nsec")
        return data
    seen, micro, changed, other = struct.unpack("<qqqq", data)
    if not (0 <= micro < 10**6 and 0 <= other < 10**6):
        raise OSError(errno.EINVAL, "tv_usec")
    return struct.pack("<qqqq", seen, micro * 1000, changed, other * 1000)


def _stamps(times: bytes) -> tuple[int, int]:
    """The nanoseconds of two struct timespec, which may be UTIME_NOW and UTIME_OMIT."""
    _, seen, _, changed = struct.unpack("<qqqq", times)
    return seen, changed


def _extended(found: Change, name: int, task: Task, value: int | None = None, length: int = 0) -> None:
    """The attribute that is set, with a value at an address of the task, or removed."""
    if found.flags & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
        raise OSError(errno.EINVAL, "flags")
    text, ended = memory.string(task, name, _LONGEST_NAME + 1)
    if not ended and len(text) <= _LONGEST_NAME:
        raise OSError(errno.EFAULT, "name")
    if not text or not ended:
        raise OSError(errno.ERANGE, "name")
    found.attribute = text
    if value is not None:
        if length > _LARGEST_VALUE:
            raise OSError(errno.E2BIG, "value")
        found.value = memory.copy(task, value, length)


def outcome(change: Change, walked: Walked, ids: Ids | None) -> int:
    """The errno that a change of the file at the end of a walk will meet, for whoever has these ids; 0 if unknown.

    The walk has kept its descriptor, and asked for writing.
    """
    if walked.error or walked.fd < 0:
        return walked.error
    file = os.fstat(walked.fd)
    if change.length is not None:
        if stat.S_ISDIR(file.st_mode):
            return errno.EISDIR
        return walked.refused if stat.S_ISREG(file.st_mode) else errno.EINVAL
    if os.fstatvfs(walked.fd).f_flag & os.ST_RDONLY:
        return errno.EROFS
    if change.mode is not None and stat.S_ISLNK(file.st_mode):
        return errno.EOPNOTSUPP  # before Linux 6.6 some file systems take it
    if ids is None:
        return 0
    owns = ids.user == file.st_uid or bool(ids.capabilities & FOWNER)
    if change.owner is not None:
        return 0 if ids.capabilities & CHOWN or _keeps(change.owner, file, ids) else errno.EPERM
    if change.times is not None:
        now = not change.times or _stamps(change.times) == (UTIME_NOW, UTIME_NOW)
        return 0 if owns else walked.refused if now else errno.EPERM
    if change.attribute is not None:
        return _extending(change, change.attribute, file, walked, owns=owns, ids=ids)
    return 0 if owns else errno.EPERM


def _keeps(owner: tuple[int, int], file: os.stat_result, ids: Ids) -> bool:
    """Whether who has no right over owners may set these: he keeps his file, and gives it to a group of his."""
    user, group = owner
    mine = file.st_uid == ids.user
    keeps = user == _NOBODY or (mine and user == file.st_uid)
    return keeps and (group == _NOBODY or (mine and group in (file.st_gid, ids.group, *ids.groups)))


def _extending(
    change: Change, name: bytes, file: os.stat_result, walked: Walked, *, owns: bool, ids: Ids
) -> int:  # fmt: skip
    space = name.partition(b".")[0]
    if space == b"user":
        folder = stat.S_ISDIR(file.st_mode)
        if not folder and not stat.S_ISREG(file.st_mode):
            return errno.EPERM
        if folder and file.st_mode & stat.S_ISVTX and not owns:
            return errno.EPERM
        if walked.refused:
            return walked.refused
    elif space == b"trusted":
        if not ids.rights & SYS_ADMIN:
            return errno.EPERM
    elif space == b"security":
        if not ids.rights & (SETFCAP if name == b"security.capability" else SYS_ADMIN):
            return errno.EPERM
    elif walked.refused and space != b"system":
        return walked.refused
    try:
        os.getxattr(f"/proc/self/fd/{walked.fd}", name)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return errno.ENOTSUP
        if error.errno == errno.ENODATA and (change.value is None or change.flags & os.XATTR_REPLACE):
            return errno.ENODATA
        return 0
    return errno.EEXIST if change.flags & os.XATTR_CREATE else 0
