"""The errno that a path call will meet from the file system, foretold at its entry in the order of the kernel's checks.

Written after fs/namei.c. Rights are not computed here: the walk has asked the kernel (sandbox/behaviour/walker.py).
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.kernel.path_walk import Walked

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # linux/fs.h

_NO_NAMES = {b"": errno.EBUSY, b".": errno.EINVAL, b"..": errno.ENOTEMPTY}
"""Last components that name no entry, and the errno of rmdir(2) for them."""


def of_walk(walked: Walked) -> int:
    """The errno of reaching a file and of what is asked for there."""
    return walked.error or walked.refused


def of_opening(walked: Walked, path: bytes, flags: int) -> tuple[int, bool]:
    """The errno of an open, and whether it makes an entry; the walk has asked for reading and writing (do_open)."""
    temporary = flags & os.O_TMPFILE == os.O_TMPFILE
    create = bool(flags & os.O_CREAT) and not temporary
    changes = bool(flags & (os.O_ACCMODE | os.O_TRUNC)) or temporary
    if create and path.endswith(b"/"):
        return errno.EISDIR, False
    if walked.error == errno.ENOENT and walked.parent and create:
        return walked.refused, True
    if not walked.mode:  # behind a server that may hang it may be there or not: both rights are asked for
        return of_walk(walked), create and walked.unsure and not walked.error
    folder = stat.S_ISDIR(walked.mode)
    if create and flags & os.O_EXCL:
        return errno.EEXIST, False
    if folder and (changes or create) and not temporary:
        return errno.EISDIR, False
    if (flags & os.O_DIRECTORY or temporary) and not folder:
        return errno.ENOTDIR, False
    if stat.S_ISLNK(walked.mode):
        return errno.ELOOP, False
    return errno.ENXIO if stat.S_ISSOCK(walked.mode) else of_walk(walked), False


def of_making(walked: Walked, path: bytes = b"", *, folder: bool = False) -> int:
    """The errno of making an entry (filename_create)."""
    if not walked.error:
        return 0 if walked.unsure else errno.EEXIST
    if walked.error == errno.ENOENT and walked.parent:
        return errno.ENOENT if path.endswith(b"/") and not folder else walked.refused
    return walked.error


def of_removing(walked: Walked, path: bytes, user: int, *, folder: bool) -> int:
    """The errno of removing an entry, a folder's or another's (do_rmdir, do_unlinkat, may_delete).

    `user` is who may remove only his own from a sticky folder; 0 for whoever may remove any.
    """
    if walked.error or walked.unsure:
        return walked.error
    if (last := _last(path)) in _NO_NAMES:
        return _NO_NAMES[last] if folder else errno.EISDIR
    is_folder = stat.S_ISDIR(walked.mode)
    if path.endswith(b"/") and not folder:
        return errno.EISDIR if is_folder else errno.ENOTDIR
    number = walked.refused or _sticky(walked, user)
    if not number and folder != is_folder:
        number = errno.EISDIR if is_folder else errno.ENOTDIR
    if not number and is_mount(walked):
        number = errno.EBUSY
    return errno.ENOTEMPTY if not number and folder and not _is_empty(walked.fd) else number


def of_linking(old: Walked, new: Walked, path: bytes) -> int:
    """The errno of giving a file a further name (do_linkat, vfs_link)."""
    error = old.error or of_making(new, path)
    if not error and are_apart(old.fd, new.above):
        error = errno.EXDEV
    return errno.EPERM if not error and stat.S_ISDIR(old.mode) else error


def of_moving(old: Walked, path: bytes, user: int) -> int:
    """The errno that the old name of a rename gives cause for (do_renameat2)."""
    if old.unsure:
        return old.error
    if not old.error and _last(path) in _NO_NAMES:
        return errno.EBUSY
    if not old.error and path.endswith(b"/") and not stat.S_ISDIR(old.mode):
        return errno.ENOTDIR
    return of_walk(old) or _sticky(old, user) or (errno.EBUSY if is_mount(old) else 0)


def of_replacing(old: Walked, new: Walked, path: bytes, flags: int, user: int) -> int:
    """The errno that the new name of a rename gives cause for, at which there may be an entry already."""
    if old.unsure or new.unsure:
        return new.error if new.unsure or not new.parent else 0
    exchange = flags & RENAME_EXCHANGE
    if path.endswith(b"/") and not stat.S_ISDIR(old.mode) and not exchange:
        return errno.ENOTDIR
    if new.error == errno.ENOENT and new.parent:
        if f"{new.path}/".startswith(f"{old.path}/"):
            return errno.EINVAL
        return errno.ENOENT if exchange else new.refused
    if new.error:
        return new.error
    if flags & RENAME_NOREPLACE:
        return errno.EEXIST
    if _last(path) in _NO_NAMES:
        return errno.EBUSY
    if new.path.startswith(f"{old.path}/"):
        return errno.EINVAL
    if old.path.startswith(f"{new.path}/"):
        return errno.EINVAL if exchange else errno.ENOTEMPTY
    if old.identity == new.identity and old.path == new.path:
        return 0
    number = new.refused or _sticky(new, user)
    if number or exchange:
        return number
    folder = stat.S_ISDIR(new.mode)
    if folder != stat.S_ISDIR(old.mode):
        return errno.EISDIR if folder else errno.ENOTDIR
    if is_mount(new):
        return errno.EBUSY
    return errno.ENOTEMPTY if folder and not _is_empty(new.fd) else 0


def are_apart(old: int, new: int) -> bool:
    """Whether two descriptors lie in different mounts, between which no name moves (EXDEV, also of one file system)."""
    if old < 0 or new < 0:
        return False
    one, other = _mount(old), _mount(new)
    return 0 <= one != other >= 0


def is_mount(walked: Walked) -> bool:
    """Whether an entry is the root of a mount, so that it cannot be removed or renamed."""
    return are_apart(walked.fd, walked.above)


def _mount(fd: int) -> int:
    """The mount id of a descriptor (man 5 proc_pid_fdinfo); -1 where it is not told."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            for line in file:
                if line.startswith(b"mnt_id:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return -1


def _sticky(walked: Walked, user: int) -> int:
    """EPERM where a sticky folder holds another user's entry (man 7 inode: S_ISVTX)."""
    if not user or walked.fd < 0 or walked.above < 0:
        return 0
    folder = os.fstat(walked.above)
    if not folder.st_mode & stat.S_ISVTX or folder.st_uid == user:
        return 0
    return errno.EPERM if os.fstat(walked.fd).st_uid != user else 0


def _is_empty(fd: int) -> bool:
    """Whether a folder has no entries; one that may not be listed counts as empty."""
    try:
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        with os.scandir(opened) as entries:
            return next(iter(entries), None) is None
    except OSError:
        return True
    finally:
        os.close(opened)


def _last(path: bytes) -> bytes:
    return path.rstrip(b"/").rpartition(b"/")[2]
