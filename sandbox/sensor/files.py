"""Files that a task's memory names, opened so that nothing hangs: regular ones, and none behind FUSE or NFS."""

from __future__ import annotations

import errno
import os
import stat

from sandbox.kernel import path_walk


def opened(tid: int, path: str) -> int:
    """A descriptor to read the regular file that `path` is to a task. Raises OSError, also where a walk stops.

    A pipe would block, a device act, and a file system of the function's own may never answer.
    """
    found = path_walk.walk(tid, None, _spelled(path), keep=True)
    try:
        if found.error or found.unsure or found.fd < 0:
            raise OSError(found.error or errno.ENOENT, "is not walked to", path)
        if not stat.S_ISREG(found.mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        return os.open(f"/proc/self/fd/{found.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        found.close()


def _spelled(path: str) -> bytes:
    """As Python names it to the kernel, whatever the locale of this process."""
    return path.encode("utf-8", "surrogateescape")


def content(tid: int, path: str, most: int) -> bytes:
    """The first `most` bytes of such a file; b'' where there is none."""
    if "\0" in path:
        return b""
    try:
        fd = opened(tid, path)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def listing(tid: int, path: str, most: int) -> list[str]:
    """The names in a folder as it is to a task; none where it cannot be listed, or has more than `most`."""
    if "\0" in path:
        return []
    found = path_walk.walk(tid, None, _spelled(path), keep=True)
    try:
        if found.error or found.unsure or found.fd < 0 or not stat.S_ISDIR(found.mode):
            return []
        names = []
        with os.scandir(f"/proc/self/fd/{found.fd}") as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > most:
                    return []
        return names
    except OSError:
        return []
    finally:
        found.close()
