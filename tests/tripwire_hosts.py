"""Hosts that refuse seccomp(2) and Landlock, starts with a tripwire there, and the ways of tests/targets/ways.

Bare each way has its effect.
"""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from child_processes import Ended, ended_on_host
from guests import LOADING, profile
from users_and_folders import HOME, TARGETS

from sandbox import launcher
from sandbox.kernel import abi
from sandbox.policy import build

WAYS = TARGETS / "ways"
SOCKETS = (
    "socket AF_INET SOCK_STREAM", "socket AF_INET SOCK_DGRAM", "socketpair AF_UNIX SOCK_STREAM", "connect", "sendmsg",
    "sendto addressed", "poll", "epoll_create1", "epoll_ctl", "epoll_wait", "setsockopt", "ioctl",
)  # fmt: skip
FILES = ("openat write", "openat create", "mkdir", "rename", "symlink", "unlink")
PASSES = {"a syscall instruction of its own", "ctypes: an instruction of the C library's",
          "ctypes: a symbol's address in the C library's file"}  # fmt: skip
"""They make system calls themselves."""
REFUSED: Mapping[str, int] = MappingProxyType({"seccomp": errno.EPERM, "landlock_create_ruleset": errno.ENOSYS})
"""Landlock, too: alone it would be in force, and refuse part of the ways."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclasses.dataclass
class Tried:
    """What a program's ways got, by their names, the marks that were left, and the lines of the log."""

    outcomes: dict[str, str]
    marks: set[str]
    lines: list[dict[str, Any]]

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of a kind."""
        return [line for line in self.lines if line["event"] == event]


class Host:
    """A bundle, a folder that it opens and one that it does not, and starts where seccomp(2) is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("open", "closed"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        folder.chmod(0o755)
        writes = frozenset({f"{folder}/open/**"})
        some = profile(*LOADING, *SOCKETS, *FILES, "clone thread", network=("tcp://127.0.0.2:9",))
        self.make("bundle", dataclasses.replace(some, writes=writes, reads=frozenset({"/**"})))
        self.many = [folder / "open" / f"many-{number:03}" for number in range(150)]
        asks = dataclasses.replace(
            profile(*LOADING, *SOCKETS, *FILES, network=("known.example:443",)),
            writes=frozenset(f"{one}/**" for one in self.many),
        )  # fmt: skip
        self.make("asks", asks)
        execs = profile(
            *LOADING, *SOCKETS, *FILES, "clone process", "vfork", "execve", "wait4", "bind", "getdents64", "rmdir",
            listen=("udp://127.0.0.1:9",),
        )  # fmt: skip
        self.make(
            "execs", dataclasses.replace(execs, writes=writes, processes=frozenset({"/bin/sh", f"{folder}/static"}))
        )
        self.make("still", profile(*LOADING, "pause"))
        reads = frozenset({"/usr/**", "/lib/**", "/lib64/**", "/etc/**"})
        self.make("walled", dataclasses.replace(profile(*LOADING), reads=reads))
        self.starters = {
            "bootstrap": str(HOME / "bootstrap"), "launcher": str(launcher.path(abi.MACHINE)),
        }  # fmt: skip

    def make(self, name: str, found: Any) -> None:
        """A bundle in the folder."""
        build.write(build.build(found, (abi.MACHINE,)), str(self.folder / name))

    def start(
        self, which: str, *command: str, refuses: Mapping[str, int] = REFUSED, uid: int | None = None,
        more: Mapping[str, str] = NOTHING,
    ) -> Ended:  # fmt: skip
        """Start a command; its output and errors together."""
        known = {
            "PATH": "/usr/bin:/bin", "SANDBOX_POLICY": str(self.folder / "bundle"), "SANDBOX_SUPERVISE": "0",
            "SANDBOX_ON_UNAVAILABLE": "detect", "LAMBDA_TASK_ROOT": str(WAYS), **more,
        }  # fmt: skip
        return ended_on_host(refuses, uid, self.folder, [self.starters[which], *command], known)

    def tried(self, output: bytes) -> Tried:
        """What ways said, and what they left; the folders are empty afterwards."""
        parts = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
        marks = {path.name for path in (self.folder / "closed").iterdir()}
        for name in ("open", "closed"):
            for path in (self.folder / name).iterdir():
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        (outcomes,) = [part for part in parts if "event" not in part]
        return Tried(outcomes, marks, [part for part in parts if "event" in part])
