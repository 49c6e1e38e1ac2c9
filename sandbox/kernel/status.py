"""/proc/self/status: what the kernel says about privileges and filters of a task (man 5 proc)."""

from __future__ import annotations

import os


def read(pid: int | str = "self") -> dict[str, str]:
    """All fields as text. Raises OSError when the task is gone or /proc is not mounted."""
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return parse(os.read(fd, 1 << 16))
    finally:
        os.close(fd)


def parse(data: bytes) -> dict[str, str]:
    """Fields of the text of a status file."""
    fields = {}
    for line in data.decode("ascii", "replace").splitlines():
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    return fields
