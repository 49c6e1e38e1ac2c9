"""Guests: the uid, files, limits, capabilities and filter that a platform gives a process, made by root for a child.

What is known of each platform, and from where, is in docs/platforms.md.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import resource
import select
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import prctl
from refusing_filters import deciding, notifying

from guests.filters import containers, without_listeners
from sandbox.confine.child import spawn
from sandbox.kernel import bpf, seccomp
from sandbox.learn.platforms import LAMBDA

CLONE_NEWNS = 0x20000  # linux/sched.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
KERNELS_OWN = ("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "securityfs", "tracefs", "debugfs")

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Guest:
    """`refused` are the calls that it answers with an errno; `foreign` is what happens to another architecture's.

    `filter(fatal)` is the program that stands above; what is refused ends the process for the calls in `fatal`.
    """

    name: str
    uid: int
    filter: Callable[[Collection[str]], bytes]
    refused: Mapping[str, int] = field(default_factory=dict)
    no_new_privs: bool = False
    read_only: bool = False
    shared_memory: bool = True
    limits: Mapping[int, int] = field(default_factory=dict)
    capabilities: tuple[str, ...] | None = None
    """Those that root keeps; None where the uid decides."""
    holds_listener: bool = False


def _plain(refused: Mapping[str, int], foreign: int | None = None) -> Callable[[Collection[str]], bytes]:
    def program(fatal: Collection[str]) -> bytes:
        actions = {
            name: bpf.KILL_PROCESS if name in fatal else bpf.ERRNO | number for name, number in refused.items()
        }
        return deciding(actions, foreign=foreign)

    return program


def _gvisor(_: Collection[str]) -> bytes:
    return without_listeners(bpf.ERRNO | errno.EINVAL)


def _containers(_: Collection[str]) -> bytes:
    return containers()


LANDLOCK = dict.fromkeys(("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"), errno.ENOSYS)
DOCKER = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
"""Docker's default capabilities (Docker documentation, Runtime privilege and Linux capabilities)."""
OUTSIDE = {"pidfd_getfd": errno.EPERM, "kcmp": errno.EPERM, "unshare": errno.EPERM, "mount": errno.EPERM,
           "bpf": errno.EPERM, "io_uring_setup": errno.EPERM, "userfaultfd": errno.EPERM, "keyctl": errno.EPERM,
           "clone3": errno.ENOSYS}  # fmt: skip
"""Some of what moby-default.json does not allow."""


def _lambda(name: str, more: Mapping[str, int] = MappingProxyType({})) -> Guest:
    refused = {**LAMBDA.refuses, **more}
    assert LAMBDA.user
    return Guest(
        name, LAMBDA.user.uid, _plain(refused, bpf.KILL_PROCESS), refused, no_new_privs=True,
        read_only=LAMBDA.read_only, shared_memory=LAMBDA.shared_memory, limits=LAMBDA.limits,
    )  # fmt: skip


GUESTS = {
    guest.name: guest
    for guest in (
        _lambda("lambda-like"),
        _lambda("lambda-like without seccomp", {"seccomp": errno.EPERM}),
        Guest("gvisor-like", 65534, _gvisor, {}),
        Guest("listener-busy", 65534, lambda _: notifying("acct"), {}, no_new_privs=True, holds_listener=True),
        Guest("docker-like", 0, _containers, OUTSIDE, capabilities=DOCKER),
        Guest("kubernetes-like", 1000, _containers, OUTSIDE, no_new_privs=True, read_only=True, capabilities=()),
        Guest("without landlock", 65534, _plain(LANDLOCK), LANDLOCK),
    )
}


def inside(name: str, *, fatal: Collection[str] = ()) -> tuple[str, ...]:
    """What to put before a command (a path first), to start it in the guest."""
    script = str(Path(__file__).with_name("start.py"))
    return (sys.executable, "-I", script, name, ",".join(fatal))


def enter(guest: Guest, *, fatal: Collection[str] = ()) -> None:
    """Make this process, which must be root's and have one thread, one of the guest's. Raises OSError."""
    if guest.read_only or not guest.shared_memory:
        _files(guest)
    for limit, value in guest.limits.items():
        resource.setrlimit(limit, (value, value))
    program = guest.filter(fatal)
    if guest.capabilities is not None:
        _bound(guest.capabilities)
    if guest.no_new_privs:
        _become(guest)
        seccomp.set_no_new_privs()
        _install(guest, program)
    else:
        _install(guest, program)
        _become(guest)


def _bound(kept: tuple[str, ...]) -> None:
    wanted = {getattr(prctl, f"CAP_{name}") for name in kept}
    for number in prctl.ALL_CAPS:
        if number not in wanted:
            prctl.capbset_drop(number)


def _become(guest: Guest) -> None:
    if guest.uid:
        assert LAMBDA.user
        group = LAMBDA.user.gid if guest.uid == LAMBDA.user.uid else guest.uid
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(guest.uid, guest.uid, guest.uid)
        # As after the exec of a program that the user may read.
        prctl.set_dumpable(True)
    elif guest.capabilities is not None:
        kept = [getattr(prctl, f"CAP_{name}") for name in guest.capabilities]
        prctl.cap_effective.limit(*kept)
        prctl.cap_permitted.limit(*kept)


def _install(guest: Guest, program: bytes) -> None:
    if not guest.holds_listener:
        seccomp.install(program)
        return
    _holder()
    listener = seccomp.install(program, seccomp.FLAG_NEW_LISTENER)
    assert listener == _RESERVED.fd, "the holder waits for another number"


class _Reserved:
    fd = -1


_RESERVED = _Reserved()


def _holder() -> None:
    """A stranger that keeps the listener open until nobody is left under it, and answers nothing.

    It shares our table of descriptors until our exec parts it, and is nobody's child here.
    """
    probe = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    _RESERVED.fd = probe
    os.close(probe)  # the next descriptor has its number

    def orphan() -> None:
        spawn(lambda: _hold(probe))

    os.waitpid(spawn(orphan), 0)


def _hold(fd: int) -> None:
    for _ in range(10_000):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:seccomp notify":
                break
        except OSError:
            pass
        select.select([], [], [], 0.001)
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll(120_000)  # POLLHUP: the last of them has ended


def _files(guest: Guest) -> None:
    """A mount namespace of its own: everything read-only but /tmp, a /dev without shared memory."""
    _check(_LIBC.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", MS_REC | MS_PRIVATE)
    if not guest.shared_memory:
        _devices()
    if guest.read_only:
        _mount("/tmp", "/tmp", MS_BIND)
        for place, kind, flags in _mounts():
            if kind not in KERNELS_OWN and place != "/tmp" and not place.startswith(("/tmp/", "/dev")):
                _mount("none", place, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def _mounts() -> list[tuple[str, str, int]]:
    known = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, rest = line.split(" - ")
        words = fields.split()
        options = words[5].split(",")
        place = words[4].encode().decode("unicode_escape")
        if os.path.lexists(place):  # one that another covers is out of reach
            found.append((place, rest.split()[0], sum(known.get(option, 0) for option in options)))
    return found


def _devices() -> None:
    kept = {name: os.open(f"/dev/{name}", os.O_PATH) for name in LAMBDA.devices}
    _mount("tmpfs", "/dev", 0, "tmpfs")
    for name, fd in kept.items():
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        _mount(f"/proc/self/fd/{fd}", f"/dev/{name}", MS_BIND)
        os.close(fd)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    _mount("none", "/dev", MS_REMOUNT | MS_RDONLY)


def _mount(source: str, target: str, flags: int, kind: str | None = None) -> None:
    text = kind.encode() if kind else None
    _check(_LIBC.mount(source.encode(), target.encode(), text, ctypes.c_ulong(flags), None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


@functools.cache
def why_not() -> str:
    """Why no guest can be made here; '' where they can."""
    if os.geteuid() != 0:
        return "only root can make a guest"
    pid = os.fork()
    if pid == 0:
        try:
            _files(GUESTS["lambda-like"])
            os._exit(0)
        finally:
            os._exit(1)
    return "" if os.waitpid(pid, 0)[1] == 0 else "mount namespaces are refused here"
