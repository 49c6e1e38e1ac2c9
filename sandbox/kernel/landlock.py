"""Landlock: create a ruleset, add network rules, restrict the calling thread (man 7 landlock, linux/landlock.h)."""

from __future__ import annotations

import os
import struct

from sandbox.kernel import abi

CREATE_RULESET_VERSION = 1 << 0
RULE_NET_PORT = 2
ACCESS_NET_BIND_TCP = 1 << 0  # ABI 4
ACCESS_NET_CONNECT_TCP = 1 << 1  # ABI 4
SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6
SCOPE_SIGNAL = 1 << 1  # ABI 6


def abi_version() -> int:
    """The kernel's Landlock ABI; 0 where it is missing or switched off (ENOSYS, EOPNOTSUPP, or a filter's EPERM)."""
    try:
        return abi.syscall(abi.number("landlock_create_ruleset"), None, 0, CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(*, network: int, ports: dict[int, int], scoped: int) -> None:
    """Handle the `network` accesses and allow `ports` {port: accesses} of them; add `scoped` (0 before ABI 6).

    Needs NoNewPrivs. Raises OSError.
    """
    attributes = struct.pack("<QQQ", 0, network, scoped) if scoped else struct.pack("<QQ", 0, network)
    ruleset = abi.syscall(abi.number("landlock_create_ruleset"), attributes, len(attributes), 0)
    try:
        for port, access in ports.items():
            abi.syscall(abi.number("landlock_add_rule"), ruleset, RULE_NET_PORT, struct.pack("<QQ", access, port), 0)
        abi.syscall(abi.number("landlock_restrict_self"), ruleset, 0)
    finally:
        os.close(ruleset)
