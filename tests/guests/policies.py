"""Profiles and policies for tests, from `syscall class` items."""

from __future__ import annotations

import functools

from sandbox.bundle import Policy
from sandbox.kernel import abi, tables
from sandbox.profile.model import Grant, Phase, Profile, ProfiledFunction, Use

LOADING = (
    "mmap exec-file", "openat read", "access", "readlink", "readlinkat", "getdents64", "getcwd", "sysinfo", "uname",
    "dup", "fcntl F_DUPFD", "fcntl F_DUPFD_CLOEXEC", *(["arch_prctl ARCH_SET_FS"] if abi.MACHINE == "x86_64" else []),
)  # fmt: skip
"""What a dynamic loader, a shell and an interpreter need on top of the floor to start."""


def profile(
    *items: str, runtime_api: bool = False, network: tuple[str, ...] = (), grants: tuple[str, ...] = (),
    listen: tuple[str, ...] = (),
) -> Profile:  # fmt: skip
    """A profile that uses these `syscall class` items."""
    phase: Phase = "invoke" if runtime_api else "run"
    pairs = [(syscall, kind) for syscall, _, kind in (item.partition(" ") for item in items)]
    known = tables.numbers(abi.MACHINE)
    because = frozenset({"a test needs it"})
    uses = {Use(phase, syscall, kind, 0, because) for syscall, kind in pairs if syscall in known}
    granted = frozenset(Grant(grant, frozenset(), "a test needs it") for grant in grants)
    function = ProfiledFunction("some", runtime_api=runtime_api)
    return Profile(
        function, frozenset(uses), network=frozenset(network), grants=granted, listen=frozenset(listen)
    )


@functools.cache
def policy(
    *items: str, runtime_api: bool = False, network: tuple[str, ...] = (), grants: tuple[str, ...] = ()
) -> Policy:
    """The compiled policy of such a profile for this machine."""
    # The filters of hosts are also used where the compiler's libraries are not: under other kernels (tools/kernels).
    from sandbox.policy.build import build

    found = profile(*items, runtime_api=runtime_api, network=network, grants=grants)
    return build(found, (abi.MACHINE,)).policy(abi.MACHINE)
