"""Which program an execve starts: asked where exec is granted, and answered so that nobody can change it.

With Landlock's execute right the kernel itself holds the list, so that going on is sound whatever the caller's memory
says by then. Without it the supervisor lets a call go on only while no other thread or process could change the path
between the look and the exec.
"""

from __future__ import annotations

import errno
import os

from sandbox.behaviour import access
from sandbox.behaviour.call import Call
from sandbox.confine import parent
from sandbox.confine.landlock_rules import located, root_folder
from sandbox.kernel import abi, landlock, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.bundle import Policy
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.task import Task

KCMP_VM = 1  # linux/kcmp.h
VFORKS = ("vfork", "clone")


class ExecRefused(Exception):
    """An exec that may not go on: the errno for the task, a reason when it is a violation (else ''), and the path."""

    def __init__(self, number: int, reason: str = "", path: str = "") -> None:
        super().__init__(reason)
        self.errno = number
        self.reason = reason
        self.path = path


class Programs:
    """The programs that one policy grants. `held` is whether Landlock holds them for the process."""

    def __init__(
        self, listed: Sequence[str] | None, *, held: bool, names: Sequence[tuple[str, str]] = ()
    ) -> None:  # fmt: skip
        """`listed` are absolute paths, looked up once, at the start; None where any program may be started.

        `names` are (folder, name) of what a profile calls by a name.
        """
        self.names = names
        self._any = listed is None
        self._held = held
        self._known: dict[tuple[int, int], str] = {}
        self._paths: dict[str, tuple[int, int]] = {}
        for path in listed or ():
            try:
                found = os.stat(path)
            except OSError:
                continue
            self._known[found.st_dev, found.st_ino] = path
            self._paths[path] = found.st_dev, found.st_ino

    def check(self, call: Notification, syscall: str, task: Task) -> None:
        """Returns when the call may go on. Raises ExecRefused."""
        if self._any:
            return
        # Before the path is read: what could have changed it since would be gone by now.
        sharer = "" if self._held else _shares_memory(task)
        accesses = access.of_call(Call(syscall), call.args, task, "")
        if not accesses:  # no path: what the kernel says to none
            ((_, at),) = tables.paths(syscall)
            raise ExecRefused(errno.ENOENT if task.read(call.args[at], 1) else errno.EFAULT)
        (asked,) = accesses
        if asked.error:
            # A search along PATH tries what is not there: the caller hears what the kernel would say.
            raise ExecRefused(asked.error)
        if not asked.thing:
            raise ExecRefused(errno.EPERM, "a program whose path could not be read")
        if asked.magic and not asked.name:
            raise ExecRefused(errno.EPERM, "a program by its descriptor, not by its path")
        # Behind a file system that may hang nothing is opened: there the path says which file it is.
        identity = self._paths.get(asked.thing) if asked.unsure else asked.identity
        path = asked.thing if self._held else asked.name or asked.thing
        if identity not in self._known:
            raise ExecRefused(errno.EPERM, "a program that the profile does not list", path)
        if self._held:
            return
        # What is written through `..` has no name: a link on the way could lead elsewhere the next moment.
        if asked.unsure or self._paths.get(asked.name) != identity:
            reason = "a listed program by another path, and no Landlock here that could hold it"
            raise ExecRefused(errno.EPERM, reason, path)
        if sharer:
            raise ExecRefused(errno.EPERM, f"{sharer}, and no Landlock here that could hold the program")


def _shares_memory(task: Task) -> str:
    """Who could change the path after the look, in words; '' where nobody can.

    The maker of a vfork child shares its memory and sleeps until the child's exec (man 2 vfork): it may, if it has no
    second thread. kcmp(2) tells the others. A process that could write into /proc/PID/mem needs the profile to let it
    open files for writing, and this one to be dumpable: it is not looked for.
    """
    pid = task.process()
    if _threads(pid) != 1:
        return "another thread shares the caller's memory"
    for other in parent.descendants(os.getpid()):
        if other == pid:
            continue
        try:
            shared = abi.syscall(abi.number("kcmp"), pid, other, KCMP_VM, 0, 0) == 0
        except ProcessLookupError:
            continue
        except OSError as error:
            return f"who shares the caller's memory cannot be told ({error.strerror})"
        if shared and (_threads(other) != 1 or not _waits_for_exec(other)):
            return "another process shares the caller's memory"
    return ""


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _waits_for_exec(pid: int) -> bool:
    """Whether a process sleeps in the call that made a child with its memory."""
    try:
        with open(f"/proc/{pid}/syscall", "rb") as file:
            number = file.read().split()[0]
    except (OSError, IndexError):
        return False
    numbers = tables.numbers(abi.MACHINE)
    return number.isdigit() and int(number) in [numbers[name] for name in VFORKS if name in numbers]


def granted(policy: Policy, task_root: str) -> Programs | None:
    """The programs of a policy; None where it grants no exec at all, so that the class of the call decides.

    In audit Landlock holds none, but what it will hold under enforcement is not worth a line.
    """
    if policy.exec != "granted":
        return None
    files = policy.files
    held = not files.memfd and landlock.abi_version() > 0
    listed = [located(rule, task_root) for rule in files.programs] if files.limited else None
    root = root_folder(task_root)
    folders = {root, os.path.realpath(root)} - {"/"}
    return Programs(listed, held=held, names=[(folder, "{root}") for folder in sorted(folders)])
