"""Walks of a task's paths with the task's own ids, so that the kernel's answer about rights is the task's.

Who looks is often another user than who asks: root over a function that gave its rights up. faccessat2(2) answers for
the ids of whoever calls it, and for nobody else's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from sandbox.kernel import abi
from sandbox.kernel.path_walk import Walked, walk

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2  # linux/prctl.h
FOWNER = 1 << 3
OVER_FILES = 0b11111
"""CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER and FSETID: what setfsuid(2) gives up with the user 0."""


class Walker:
    """The walks of one call by a thread. Without `foresee` no rights are asked for, which is quick."""

    def __init__(self, tid: int, *, foresee: bool = True, known: KnownIds | None = None) -> None:
        """`known` are ids that need not be read again."""
        self._tid = tid
        self.foresee = foresee
        self._its: Ids | None = None
        self._known = False
        self._of = known.of if known else _read_ids

    def walk(
        self, dirfd: int | None, path: bytes, *, follow: bool = True, wanted: int = 0, entry: bool = False,
        keep: bool = False,
    ) -> Walked:  # fmt: skip
        """A walk that asks for rights with the task's ids, or not at all, and without its folders if need be."""
        tid = self._tid
        if not (wanted and self.foresee):
            walked = walk(tid, dirfd, path, follow=follow, entry=entry, keep=keep)
        else:
            mine, its = _mine(), self._ids()
            alike = its is not None and mine is not None and mine.are(its)
            with Borrowed(mine, None if alike else its) as borrowed:
                known = alike or borrowed.worn
                wanted = wanted if known else 0
                walked = walk(tid, dirfd, path, follow=follow, wanted=wanted, entry=entry, keep=keep)
                if not known and walked.unsure and walked.error in (errno.EACCES, errno.EPERM):
                    walked.error = 0  # this process may not look; the task may
        if walked.blind:
            walked.error = 0
            if path.startswith(b"/"):
                walked = self._from_here(path, follow=follow, entry=entry, keep=keep)
        return walked

    def _from_here(self, path: bytes, *, follow: bool, entry: bool, keep: bool) -> Walked:
        """A walk from the root of this process: made undumpable, a task shows its root and folders to nobody.

        Its root is ours: chroot(2) needs rights that such an observer lacks.
        """
        for own in (b"/proc/self/", b"/proc/thread-self/"):
            if path.startswith(own):
                path = b"/proc/%d/" % self._tid + path.removeprefix(own)
        return walk(os.getpid(), None, path, follow=follow, entry=entry, keep=keep)

    def _ids(self) -> Ids | None:
        if not self._known:
            self._known = True
            self._its = self._of(self._tid)
        return self._its

    def ids(self) -> Ids | None:
        """The task's ids, where they mean here what they mean to it; None where that is not known."""
        its, mine = self._ids(), _mine()
        return its if its and mine and its.namespace == mine.namespace else None

    def user(self) -> int:
        """The user whose entries in a sticky folder the task may remove; 0 for any, or where that is not known."""
        its = self._ids() if self.foresee else None
        return 0 if its is None or its.capabilities & FOWNER else its.user


class Ids:
    """What the kernel asks of a task before it lets it at a file: ids of files, groups and rights."""

    __slots__ = ("capabilities", "group", "groups", "namespace", "rights", "user")

    def __init__(self, tid: int) -> None:
        """Raises OSError."""
        with open(f"/proc/{tid}/status", "rb", buffering=0) as file:
            status = file.readall()
        self.user = int(_field(status, b"\nUid:").split()[3])
        self.group = int(_field(status, b"\nGid:").split()[3])
        self.groups = tuple(map(int, _field(status, b"\nGroups:").split()))
        self.rights = int(_field(status, b"\nCapEff:") or b"0", 16)
        self.capabilities = self.rights & OVER_FILES
        self.namespace = os.readlink(f"/proc/{tid}/ns/user")

    def are(self, other: Ids) -> bool:
        """Whether both may do the same to every file."""
        mine, its = (
            (ids.user, ids.group, ids.groups, ids.capabilities, ids.namespace) for ids in (self, other)
        )  # fmt: skip
        return mine == its


CHANGES = (
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
    "capset", "unshare", "setns", "execve", "execveat",
)  # fmt: skip
"""The calls by which a thread changes its own ids; no call changes another's (man 7 credentials)."""
MOST_KNOWN = 64


class KnownIds:
    """The ids of threads, for who hears of every call of theirs: they are read once, and again behind a change.

    A thread with the number of one that is gone has another file in /proc.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[int, int, int], Ids | None]] = {}

    def of(self, tid: int) -> Ids | None:
        """A thread's ids; None where they cannot be read."""
        try:
            file = os.stat(f"/proc/{tid}")
        except OSError:
            return None
        key = (file.st_ino, file.st_uid, file.st_gid)
        found = self._known.get(tid)
        if found is None or found[0] != key:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[tid] = key, _read_ids(tid)
        return found[1]

    def hear(self, syscall: str, tid: int) -> None:
        """A call of this thread waits, which may change its ids."""
        if syscall in CHANGES:
            self._known.pop(tid, None)


def _field(status: bytes, name: bytes) -> bytes:
    """What a line of /proc/TID/status says. It is read for each path while learning, so no other line is touched."""
    return status.partition(name)[2].partition(b"\n")[0]


class Borrowed:
    """The ids of a task, put on by this thread for a walk and given back at the end of the block: `with Borrowed(...)`.

    Only the file system's ids change, of this thread alone (setfsuid(2), and setgroups as a bare system call). Signals
    and ptrace ask for others. `worn` says whether they are on: it takes root, and a task without rights over files.
    The kernel makes the process undumpable and forgets its parent-death signal (kernel/cred.c: commit_creds): the
    latter is set again.
    """

    def __init__(self, mine: Ids | None, its: Ids | None) -> None:
        self._mine = mine
        self._its = its
        self._death = ctypes.c_int()
        alike = mine is not None and its is not None and mine.namespace == its.namespace
        self.worn = bool(alike and mine and mine.user == 0 and its and its.user and not its.capabilities)

    def __enter__(self) -> Borrowed:
        if self.worn and self._its:
            abi.LIBC.prctl(_PR_GET_PDEATHSIG, ctypes.byref(self._death))
            if not _put_on(self._its):
                self.__exit__()
        return self

    def __exit__(self, *failure: object) -> None:
        if self.worn and self._mine:
            _put_on(self._mine)
            if self._death.value:
                abi.LIBC.prctl(_PR_SET_PDEATHSIG, self._death.value)
            self.worn = False


class Acting:
    """For a call that is made in a task's place: its ids on this thread, as far as it has others.

        with Acting(tid) as acting:
            if acting.may: ...

    `may` says whether this process can do what the task can do to files, and no more; `fully` whether also with its
    rights beyond those over files, which some extended attributes ask for.
    """

    def __init__(self, tid: int) -> None:
        mine, its = _mine(), _read_ids(tid)
        self._alike = mine is not None and its is not None and mine.are(its)
        self._borrowed = Borrowed(mine, None if self._alike else its)
        self.fully = bool(self._alike and mine and its and mine.rights == its.rights)

    @property
    def may(self) -> bool:
        return self._alike or self._borrowed.worn

    def __enter__(self) -> Acting:
        self._borrowed.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._borrowed.__exit__()


def _put_on(ids: Ids) -> bool:
    try:
        if ids.user == 0:  # first: the rights to the others come back with it
            abi.syscall(abi.number("setfsuid"), 0)
        abi.syscall(abi.number("setgroups"), len(ids.groups), struct.pack(f"<{len(ids.groups)}I", *ids.groups))
        abi.syscall(abi.number("setfsgid"), ids.group)
        abi.syscall(abi.number("setfsuid"), ids.user)
    except OSError:
        return False
    return abi.syscall(abi.number("setfsuid"), 0xFFFFFFFF) == ids.user


_own: tuple[tuple[int, ...], Ids | None] = ((), None)


def _mine() -> Ids | None:
    """The ids of this process, read again when it is another or became another user's."""
    global _own
    key = (os.getpid(), os.geteuid(), os.getegid())
    if _own[0] != key:
        _own = key, _read_ids(key[0])
    return _own[1]


def _read_ids(tid: int) -> Ids | None:
    try:
        return Ids(tid)
    except OSError:
        return None
