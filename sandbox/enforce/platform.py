"""What this process already is and may do, as far as the installation has to know: /proc, Landlock, pidfd."""

from __future__ import annotations

import os

from sandbox.kernel import abi, landlock, status


class Platform:
    """Facts before the installation. `proc` is False where /proc cannot be read; then filter counts are unknown."""

    __slots__ = ("filters", "kernel", "landlock", "no_new_privs", "proc", "threads")

    def __init__(self, fields: dict[str, str] | None, landlock_abi: int) -> None:
        self.proc = fields is not None
        fields = fields or {}
        self.no_new_privs = fields.get("NoNewPrivs") == "1"
        self.threads = int(fields.get("Threads", "1"))
        # Seccomp_filters is there from Linux 5.9 on.
        self.filters = int(fields["Seccomp_filters"]) if "Seccomp_filters" in fields else None
        self.landlock = landlock_abi
        self.kernel = os.uname().release


def look() -> Platform:
    """Facts about the calling process."""
    try:
        fields = status.read()
    except OSError:
        fields = None
    return Platform(fields, landlock.abi_version())


def refuses_duplicates() -> str:
    """Why a supervisor cannot duplicate another process's descriptors here; '' where it can.

    Asked of this very process, which nothing but the kernel's age and the filters above it can refuse (man 2
    pidfd_getfd): containers' default filters refuse pidfd_getfd, Lambda-like guests pidfd_open.
    """
    step = "pidfd_open"
    try:
        pidfd = abi.syscall(abi.number("pidfd_open"), os.getpid(), 0)
        step = "pidfd_getfd"
        try:
            os.close(abi.syscall(abi.number("pidfd_getfd"), pidfd, pidfd, 0))
        finally:
            os.close(pidfd)
    except OSError as error:
        return f"{step}: {error.strerror}"
    return ""
