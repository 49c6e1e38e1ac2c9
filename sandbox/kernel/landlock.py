"""Landlock: one ruleset of files, ports and scopes for the calling thread (man 7 landlock, linux/landlock.h)."""

from __future__ import annotations

import errno
import os
import struct

from sandbox.kernel import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CREATE_RULESET_VERSION = 1 << 0
RULE_PATH_BENEATH = 1
RULE_NET_PORT = 2

ACCESS_FS_EXECUTE = 1 << 0
ACCESS_FS_WRITE_FILE = 1 << 1
ACCESS_FS_READ_FILE = 1 << 2
ACCESS_FS_READ_DIR = 1 << 3
ACCESS_FS_REMOVE_DIR = 1 << 4
ACCESS_FS_REMOVE_FILE = 1 << 5
ACCESS_FS_MAKE_CHAR = 1 << 6
ACCESS_FS_MAKE_DIR = 1 << 7
ACCESS_FS_MAKE_REG = 1 << 8
ACCESS_FS_MAKE_SOCK = 1 << 9
ACCESS_FS_MAKE_FIFO = 1 << 10
ACCESS_FS_MAKE_BLOCK = 1 << 11
ACCESS_FS_MAKE_SYM = 1 << 12
ACCESS_FS_REFER = 1 << 13  # ABI 2; before it, Linux refuses every rename and link between folders
ACCESS_FS_TRUNCATE = 1 << 14  # ABI 3

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


def restrict(
    *, network: int, ports: dict[int, int], scoped: int, files: int = 0, beneath: Iterable[tuple[int, int]] = ()
) -> None:
    """Handle the `network` accesses and allow `ports` {port: accesses} of them; add `scoped` (0 before ABI 6).

    Handle the `files` accesses and allow those of `beneath`, pairs (descriptor of a file or folder, accesses); a file
    takes only EXECUTE, WRITE_FILE, READ_FILE and TRUNCATE. What lies in no folder, such as the pipe behind /dev/stdout,
    takes no rule and is held by none (EBADFD). Needs NoNewPrivs. Raises OSError.
    """
    attributes = struct.pack("<QQQ", files, network, scoped)[: 24 if scoped else 16 if network else 8]
    ruleset = abi.syscall(abi.number("landlock_create_ruleset"), attributes, len(attributes), 0)
    add_rule = abi.number("landlock_add_rule")
    try:
        for port, access in ports.items():
            abi.syscall(add_rule, ruleset, RULE_NET_PORT, struct.pack("<QQ", access, port), 0)
        for fd, access in beneath:
            try:
                abi.syscall(add_rule, ruleset, RULE_PATH_BENEATH, struct.pack("<Qi", access, fd), 0)
            except OSError as error:
                if error.errno != errno.EBADFD:
                    raise
        abi.syscall(abi.number("landlock_restrict_self"), ruleset, 0)
    finally:
        os.close(ruleset)
