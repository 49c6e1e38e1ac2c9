"""The rights of this thread beyond those of its user (man 7 capabilities): given up for one call, or for good."""

from __future__ import annotations

import ctypes
import struct

from sandbox.kernel import abi

VERSION = 0x20080522  # linux/capability.h: _LINUX_CAPABILITY_VERSION_3
NET_ADMIN = 1 << 12
_SETS = struct.Struct("<6I")
"""Effective, permitted and inheritable, of the lower 32 and of the upper."""


class Rights:
    """The sets of this thread as they were read. Raises OSError."""

    __slots__ = ("_sets",)

    def __init__(self) -> None:
        data = ctypes.create_string_buffer(_SETS.size)
        abi.syscall(abi.number("capget"), _header(), data)
        self._sets = _SETS.unpack(data.raw)

    @property
    def effective(self) -> int:
        """Those of the lower 32 that are in force."""
        return int(self._sets[0])

    @property
    def permitted(self) -> int:
        """Those of the lower 32 that can be put in force."""
        return int(self._sets[1])

    def put_on(self, *, without: int = 0, for_good: bool = False) -> None:
        """Let these be the thread's, but for some of the lower 32; with `for_good` they cannot be had again.

        Nor by an exec of root's, where NoNewPrivs is set (security/commoncap.c: cap_bprm_creds_from_file). Raises
        OSError.
        """
        effective, permitted, inheritable, *upper = self._sets
        if for_good:
            permitted, inheritable = permitted & ~without, inheritable & ~without
        abi.syscall(abi.number("capset"), _header(), _SETS.pack(effective & ~without, permitted, inheritable, *upper))


def _header() -> bytes:
    return struct.pack("<Ii", VERSION, 0)
