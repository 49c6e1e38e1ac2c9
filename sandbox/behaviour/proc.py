"""What /proc shows of others: files of processes that are not the function's, and the tables of the network.

One Landlock rule holds all of /proc, since the kernel makes its files anew whenever memory is short. So these are told
apart by their path, and a profile lists them as `/proc/*/cmdline` and `/proc/net/tcp`.
"""

from __future__ import annotations

from sandbox.behaviour import aim
from sandbox.behaviour.path import covers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.kernel.task import Task

ANY_PROCESS = "/proc/*"
NET = "/proc/net"
_OWN_NET = "/proc/self/net"


def of_others(path: str, task: Task, root: int, attendant: int = 0) -> str:
    """How a profile lists a physical path that shows something of others, '' for any other path.

    `root` and `attendant` are the processes below which the function's tree stands, themselves no part of it.
    """
    if not path.startswith("/proc/"):
        return ""
    process, *names = path.split("/")[2:]
    if not process.isdigit():
        return ""
    if names[:1] == ["task"] and len(names) > 2:
        names = names[2:]
    if not names:
        return ""
    if names[0] == "net":
        return "/".join([NET, *names[1:]]) if names[1:] else ""
    own = aim.whom(int(process), task, root, attendant=attendant) != aim.OTHER
    return "" if own else "/".join([ANY_PROCESS, *names])


def allowing(patterns: Iterable[str]) -> list[str]:
    """Those of a profile's patterns that may stand for something of others, with the own network as NET, sorted."""
    found = {pattern.replace(_OWN_NET, NET, 1) if pattern.startswith(_OWN_NET) else pattern for pattern in patterns}
    return sorted(
        pattern for pattern in found
        if pattern in ("/*", "/**") or (pattern.startswith("/proc/") and not pattern.startswith("/proc/self/"))
    )


def is_open(patterns: Iterable[str]) -> bool:
    """Whether a profile's patterns allow all that is of others."""
    return any(covers(pattern, "/proc/**") for pattern in patterns)


def is_listed(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns allows what `of_others` said."""
    return any(covers(pattern, path) for pattern in patterns)
