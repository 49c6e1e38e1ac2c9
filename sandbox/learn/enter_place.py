"""Enter a mount namespace with a fresh /tmp, then exec: the child's half of learn/place.py, a program of its own.

On the way it becomes what the platform's processes are: their user, with their limits, in a /dev like theirs.

    python3 -I -S enter_place.py JSON COMMAND...

JSON is a Layout. Whoever may mount does it as he is; another user makes a user namespace first, in which he keeps his
uid and the exec takes his capabilities away again (man 7 user_namespaces). Nothing reaches the host: propagation is
private before the first mount, and the kernel unmounts all when the last process of the namespace has ended.

What is refused goes to standard error as one line, `STEP: reason`, with exit status 69. The steps of what can be left
out begin with the name of a field of Layout: `user: setresuid(993)`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from sandbox.confine import started_with
from sandbox.errors import InstallRefused, printable
from sandbox.kernel import abi

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000  # linux/sched.h
# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MS_RELATIME = 1 << 21
SAME = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME
"""Flags of statvfs(3) that mount(2) has under the same numbers; ST_RELATIME is the one that has another."""

KERNELS_OWN = ("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "securityfs", "tracefs", "debugfs")
PASSWD = "/etc/passwd"


class Layout(NamedTuple):
    """How the place looks. `fresh` are folders to cover with an empty tmpfs, `kept` paths below them to show as before.

    Without a `desk` nothing is mounted.

    `empty` are folders below them that are made again, with the owner and the mode that they have. `closed` is a folder
    to make read-only, '' for none. `scratch` is a folder of ours to show at `desk`, wherever it was. `lasting` is the
    name of one below it, from which the fresh folders come where they outlast a process, '' where they do not.

    `devices` are those of a /dev without shared memory, none for the host's. `read_only`: nothing else can be written
    to. `user` are a uid and a gid, nothing for the caller's; `passwd` is a file to show in place of the host's.
    `limits` are numbers of setrlimit(2) with their values.
    """

    fresh: Sequence[str]
    kept: Sequence[str]
    empty: Sequence[str]
    closed: str
    scratch: str
    desk: str
    lasting: str = ""
    devices: Sequence[str] = ()
    read_only: bool = False
    user: Sequence[int] = ()
    passwd: str = ""
    limits: Sequence[tuple[int, int]] = ()


def enter(layout: Layout) -> None:
    """Make the place around this process, which must have no second thread. Raises InstallRefused with the step."""
    here = os.getcwd()
    if layout.desk:
        _mount_all(layout)
    step = ""
    try:
        for limit, value in layout.limits:
            step = f"limits: setrlimit({limit})"
            hard = resource.getrlimit(limit)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (value, value))
        if layout.user:
            uid, gid = layout.user
            step = f"user: setresuid({uid})"
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        step = f"{'user: ' if layout.user else ''}chdir({here})"
        os.chdir(here)  # the working folder was that below the mounts
    except (OSError, ValueError) as error:
        raise InstallRefused(getattr(error, "strerror", None) or str(error), where=step) from error


def _mount_all(layout: Layout) -> None:
    step = "unshare(CLONE_NEWNS)"
    try:
        try:
            abi.syscall(abi.number("unshare"), CLONE_NEWNS)
        except OSError as error:
            if error.errno != errno.EPERM or os.geteuid() == 0:
                raise
            step = "unshare(CLONE_NEWUSER)"
            _own_namespace()
        step = "mount(MS_PRIVATE)"
        _mount("none", "/", flags=MS_REC | MS_PRIVATE)
        # Opened before anything covers them; a descriptor of the folder leads there all the same.
        held = {path: os.open(path, os.O_PATH) for path in (layout.scratch, *layout.kept)}
        made = {path: os.stat(path) for path in layout.empty}
        covered = any(_below(layout.closed, folder) for folder in layout.fresh)
        if layout.closed and not covered:
            step = f"mount(MS_RDONLY) of {layout.closed}"
            _close(layout.closed)
        for folder in layout.fresh:
            step = f"mount(tmpfs) on {folder}"
            if layout.lasting:
                _mount(_lasting(held[layout.scratch], layout.lasting, folder), folder, flags=MS_BIND)
            else:
                _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
        for path, was in sorted(made.items()):
            step = f"mkdir({path})"
            _make_again(path, was)
        for path in sorted(layout.kept, key=len):
            step = f"mount(MS_BIND) of {path}"
            _show(held[path], path)
        if layout.closed and covered:
            step = f"mount(MS_RDONLY) of {layout.closed}"
            _close(layout.closed)
        step = f"mount(MS_BIND) on {layout.desk}"
        _mount(f"/proc/self/fd/{held[layout.scratch]}", layout.desk, flags=MS_BIND)
        for fd in held.values():
            os.close(fd)
        if layout.devices:
            step = "devices: mount(tmpfs) on /dev"
            _make_devices(layout.devices)
        if layout.passwd:
            step = f"passwd: mount(MS_BIND) on {PASSWD}"
            _mount(layout.desk + layout.passwd.removeprefix(layout.scratch), PASSWD, flags=MS_BIND)
        if layout.read_only:
            for path in _others((*layout.fresh, *layout.kept, layout.desk)):
                step = f"read_only: mount(MS_RDONLY) of {path}"
                try:
                    _remount(path)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # a mount that another covers is out of reach
                        raise
    except OSError as error:
        raise InstallRefused(error.strerror or str(error), where=step) from error


def _own_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    abi.syscall(abi.number("unshare"), CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _lasting(scratch: int, name: str, folder: str) -> str:
    """The folder below scratch that stands for a fresh one, as the processes before left it."""
    source = f"/proc/self/fd/{scratch}/{name}{folder}"
    if not os.path.isdir(source):
        os.makedirs(source)
        os.chmod(source, 0o1777)
    return source


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _mount(source: str, target: str, kind: str = "none", flags: int = 0, options: str = "") -> None:
    texts = [os.fsencode(text) for text in (source, target, kind)]
    abi.syscall(abi.number("mount"), *texts, flags, options.encode() or None)


def _make_again(path: str, was: os.stat_result) -> None:
    os.makedirs(path)
    with contextlib.suppress(OSError):  # an owner whom this user namespace does not know
        os.chown(path, was.st_uid, was.st_gid)
    os.chmod(path, stat.S_IMODE(was.st_mode))


def _show(fd: int, path: str) -> None:
    """Show what `fd` is at `path`, where only an empty file system is now."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    source = f"/proc/self/fd/{fd}"
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    _mount(source, path, flags=MS_BIND | MS_REC)


def _close(folder: str) -> None:
    """Make a folder read-only, as its mount is otherwise: in a user namespace no other flag may go (man 7)."""
    _mount(folder, folder, flags=MS_BIND | MS_REC)
    _remount(folder)


def _remount(folder: str) -> None:
    flags = os.statvfs(folder).f_flag
    more = MS_RELATIME if flags & os.ST_RELATIME else 0
    _mount("none", folder, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | flags & SAME | more)


def _make_devices(names: Sequence[str]) -> None:
    """A /dev of these devices and the links that every /dev has, to which nothing can be added."""
    held = {f"/dev/{name}": os.open(f"/dev/{name}", os.O_PATH) for name in names}
    _mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755")
    for path, fd in held.items():
        _show(fd, path)
        os.close(fd)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")


def _others(kept: Sequence[str]) -> Iterator[str]:
    """What is mounted, but for the kernel's own file systems and what lies at or below `kept`, each path once."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.partition(" - ") for line in file]
    for path, kind in {_unescaped(fields.split()[4]): rest.split()[0] for fields, _, rest in lines}.items():
        inside = any(path == folder or _below(path, folder) for folder in (*kept, "/proc", "/sys"))
        if not (inside or kind in KERNELS_OWN) and os.path.lexists(path):
            yield path


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which blanks are octal (man 5 proc)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def main() -> None:
    """See the module."""
    layout, command = Layout(*json.loads(sys.argv[1])), sys.argv[2:]
    environ = started_with(os.environ)  # which another user may not read
    try:
        enter(layout)
    except InstallRefused as error:
        os.write(2, f"{printable(f'{error.where}: {error.what}')}\n".encode())
        sys.exit(error.exit_code)
    try:
        os.execve(command[0], command, environ)
    except OSError as error:
        said = f"{'user: ' * bool(layout.user)}execv({command[0]}): {error.strerror}"
        os.write(2, f"{printable(said)}\n".encode())
        sys.exit(InstallRefused.exit_code)


if __name__ == "__main__":
    main()
