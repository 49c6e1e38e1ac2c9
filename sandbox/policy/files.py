"""What a policy says of files and programs: the profile's places and profiles/base/files.yaml, without overlap.

`{root}`, `{python}` and `{venv}` stay names: the launcher knows what they are on its host.
"""

from __future__ import annotations

from sandbox.behaviour import arguments
from sandbox.behaviour.path import check, outermost
from sandbox.policy.rules import exec_granted
from sandbox.profile import base
from sandbox.profile.model import Profile

MAKES_PROGRAMS = "memfd_create"
"""Makes files outside every folder, on which Landlock has no rule (security/landlock/fs.c: MNT_INTERNAL)."""

RENAMES = ("rename", "renameat", "renameat2")


def description(profile: Profile) -> dict[str, object]:
    """What a policy says of files, by the names of FileRules.

    Raises ProfileError for a pattern that no rule can express.

    `listed` is False for a profile that names no file at all (an imported one): then nothing is known, and nothing is
    limited. `limited` is False where no program is to be told from another: exec is closed whole, or the profile lists
    none. `memfd` is whether the function can start a program that lies in no folder, `renames` whether it can put one
    folder in the place of another.
    """
    where = profile.function.name
    reads = [check(pattern, where) for pattern in profile.reads]
    writes = [check(pattern, where) for pattern in profile.writes]
    programs = sorted(check(path, where, program=True) for path in profile.processes)
    listed = bool(reads or writes)
    write = outermost([*writes, *(place.path for place in base.writable())])
    limited = exec_granted(profile) and bool(programs)
    syscalls = _syscalls(profile)
    function = profile.function.runtime_api
    starts = any(arguments.classification(use.syscall) == "clone" for use in profile.uses) or exec_granted(profile)
    groups = {"connected": function or profile.network or "socket" in syscalls, "runtime": function or starts}
    added = base.readable(*(group for group, wanted in groups.items() if wanted))
    read = outermost([*reads, *(place.path for place in added)]) - write
    return {
        "listed": listed,
        "read": sorted(read) if listed else [],
        "write": sorted(write) if listed else [],
        "limited": limited,
        "programs": programs if limited else [],
        "memfd": MAKES_PROGRAMS in syscalls,
        "renames": any(syscall in RENAMES for syscall in syscalls),
    }


def _syscalls(profile: Profile) -> set[str]:
    return {use.syscall for use in profile.uses} | {grant.syscall for grant in profile.grants}
