"""What a platform has and lacks, as far as training can imitate it: the one owner of these facts.

Where each fact about AWS Lambda is from, docs/platforms.md says. What is not known is left as this host has it.
"""

from __future__ import annotations

import errno
import functools
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sandbox.behaviour.path import below, covers
from sandbox.errors import UsageError
from sandbox.kernel import tables
from sandbox.profile import base
from sandbox.profile.model import Profile

SHARED_MEMORY = "/dev/shm"
LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")


@dataclass(frozen=True)
class User:
    """An unprivileged user as passwd(5) has it."""

    name: str
    uid: int
    gid: int
    home: str

    @property
    def line(self) -> str:
        """Of /etc/passwd."""
        return f"{self.name}:x:{self.uid}:{self.gid}::{self.home}:/sbin/nologin\n"


@dataclass(frozen=True)
class DeploymentPlatform:
    """A platform that functions are deployed to.

    `refuses` are calls with the errnos that they get there. `shared_memory`: there is a /dev/shm, else only `devices`
    are in /dev. `read_only`: nothing but /tmp can be written to. `user` runs functions, None for any; `limits` are
    those of getrlimit(2); `unset` are variables that an interactive host has and the platform has not.
    """

    name: str
    refuses: Mapping[str, int] = field(default_factory=dict)
    shared_memory: bool = True
    devices: tuple[str, ...] = ()
    read_only: bool = False
    user: User | None = None
    limits: Mapping[int, int] = field(default_factory=dict)
    unset: tuple[str, ...] = ()

    @functools.cached_property
    def imitated(self) -> Mapping[str, int]:
        """Of `refuses` what the hard deny does not refuse in training already."""
        denied = {entry.syscall for entry in base.hard_deny() if not entry.classes}
        return {name: number for name, number in self.refuses.items() if name not in denied}

    @property
    def refusals(self) -> str:
        """The names of `imitated`, those of Landlock as one."""
        return ", ".join(dict.fromkeys("landlock_*" if name in LANDLOCK else name for name in self.imitated))

    @property
    def variable(self) -> str:
        """`imitated` as the starter reads it: `157:1,434:38`, numbers of syscalls on this machine with errnos."""
        numbers = tables.numbers(tables.machine())
        return ",".join(f"{numbers[name]}:{number}" for name, number in self.imitated.items() if name in numbers)

    def differs_for(self, profile: Profile) -> Iterator[str]:
        """What a profile allows that the platform does not have, in words."""
        syscalls = {use.syscall for use in profile.uses}
        if refused := [name for name in self.imitated if name in syscalls]:
            yield f"it refuses {', '.join(refused)}"
        if not self.shared_memory and any(map(_in_shared_memory, (*profile.writes, *profile.reads))):
            yield f"it has no {SHARED_MEMORY}"


def _in_shared_memory(pattern: str) -> bool:
    return pattern == SHARED_MEMORY or covers(below(SHARED_MEMORY), pattern)


LAMBDA = DeploymentPlatform(
    "lambda",
    refuses={
        **dict.fromkeys(("prctl", "ptrace", "bpf", "perf_event_open", "unshare", "mount", "chroot"), errno.EPERM),
        **dict.fromkeys(
            ("clone3", "pidfd_open", "pidfd_getfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
             "epoll_pwait2", *LANDLOCK), errno.ENOSYS,
        ),
    },
    shared_memory=False,
    devices=("null", "zero", "full", "random", "urandom", "tty"),
    read_only=True,
    user=User("sbx_user1051", 993, 990, "/home/sbx_user1051"),
    limits={resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_NPROC: 1024},
    unset=("HOME",),
)  # fmt: skip

CONTAINER = DeploymentPlatform(
    "container",
    # What engines' default filters refuse without CAP_SYS_NICE; the rest of what they refuse is hard-denied.
    refuses=dict.fromkeys(("get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind"), errno.EPERM),
)  # fmt: skip

HOST = DeploymentPlatform("host")
"""This host as it is, in a clean place."""

PLATFORMS = {platform.name: platform for platform in (LAMBDA, CONTAINER, HOST)}


def of(name: str) -> DeploymentPlatform:
    """The platform of a name. Raises UsageError."""
    if name not in PLATFORMS:
        raise UsageError(f"is {name!r}", where="--platform", todo=f"choose {', '.join(PLATFORMS)}")
    return PLATFORMS[name]
