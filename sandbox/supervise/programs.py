"""Which program an execve starts: asked where exec is granted, and answered so that nobody can change it.

With Landlock's execute right the kernel itself holds the list, so that going on is sound whatever the caller's memory
says by then. Without it the supervisor lets a call go on only while no other thread or process could change the path
between the look and the exec.
"""

from __future__ import annotations

import errno
import os

from sandbox.behaviour import access, spelling
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import below, covers
from sandbox.confine import parent
from sandbox.confine.landlock_rules import located, root_folder
from sandbox.kernel import abi, landlock, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.behaviour.access import Access
    from sandbox.behaviour.content import Digests
    from sandbox.bundle import Policy
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.task import Task

KCMP_VM = 1  # linux/kcmp.h
VFORKS = ("vfork", "clone")
OWN_FILE = ("/proc/self/exe", "/proc/thread-self/exe")


class ExecRefused(Exception):
    """An exec that may not go on: the errno for the task, a reason when it is a violation (else ''), and the path.

    `sha256` is the digest of its content, where a profile needs that to allow it.
    """

    def __init__(self, number: int, reason: str = "", path: str = "", sha256: str = "") -> None:
        super().__init__(reason)
        self.errno = number
        self.reason = reason
        self.path = path
        self.sha256 = sha256


class Programs:
    """The programs that one policy grants. `held` is whether Landlock holds them for the process."""

    def __init__(
        self, listed: Sequence[str] | None, *, held: bool, names: Sequence[tuple[str, str]] = (),
        contents: Mapping[str, Sequence[str]] | None = None, writes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`listed` are absolute paths, looked up once, at the start; None where any program may be started.

        `names` are (folder, name) of what a profile calls by a name. `contents` are the digests of programs that lie
        where the function writes, by physical path with a `*` for random parts; `writes` are the patterns of these
        places.
        """
        self.names = names
        self._contents = contents or {}
        self._writes = writes
        self._any = listed is None
        self._held = held
        self._known: dict[tuple[int, int], str] = {}
        self._paths: dict[str, tuple[int, int]] = {}
        self._digests: Digests | None = None
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
        if any(covers(pattern, asked.thing) for pattern in self._writes):
            self._compare(asked, path)
            return
        if identity not in self._known:
            raise ExecRefused(errno.EPERM, "a program that the profile does not list", path)
        if self._held:
            return
        # What is written through `..` has no name: a link on the way could lead elsewhere the next moment. A process's
        # own link to what it runs leads nowhere else before its exec.
        stays = asked.name in OWN_FILE or self._paths.get(asked.name) == identity
        if asked.unsure or not stays:
            reason = "a listed program by another path, and no Landlock here that could hold it"
            raise ExecRefused(errno.EPERM, reason, path)
        if sharer:
            raise ExecRefused(errno.EPERM, f"{sharer}, and no Landlock here that could hold the program")


    def _compare(self, asked: Access, path: str) -> None:
        """For a program that lies where the function writes: by its content. Raises ExecRefused for another one."""
        digest = self._digest(asked)
        patterns = [pattern for pattern in self._contents if covers(pattern, asked.thing)]
        if digest and any(digest in self._contents[pattern] for pattern in patterns):
            return
        if not digest:
            reason = "a program where the function writes, whose content cannot be read"
        elif patterns:
            reason = "a program where the function writes, with another content than the profile has"
        elif self._paths.get(asked.thing):
            reason = "a program where the function writes, of which the profile does not have the content"
        else:
            reason = "a program that the profile does not list, and that lies where the function writes"
        raise ExecRefused(errno.EPERM, reason, path, digest)

    def _digest(self, asked: Access) -> str:
        """The digest of a program, '' where it cannot be read."""
        if asked.unsure:
            return ""
        from sandbox.behaviour.content import Digests, Opened  # few functions have such programs

        if self._digests is None:
            self._digests = Digests()
        try:
            with Opened(asked.thing, asked.identity) as file:
                return self._digests.of(file)
        except OSError:
            return ""

    def spelled(self, refused: ExecRefused) -> str:
        """The text of a profile that allows what was refused; '' where none can."""
        path = spelling.below_named(refused.path, self.names)
        return spelling.of_program(path, refused.sha256) if path else ""


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
    files, supervision = policy.files, policy.supervision
    held = not files.memfd and landlock.abi_version() > 0
    root = root_folder(task_root)
    real = os.path.realpath(root)
    folders = {root, real} - {"/"}
    names = [(folder, "{root}") for folder in sorted(folders)]
    if not files.limited:
        return Programs(None, held=held, names=names)
    free = {path.replace("{root}", root, 1) for path in supervision.interpreters}
    listed = [located(rule, task_root) for rule in files.programs if not rule[2]]
    contents = {path.replace("{root}", real, 1): digests for path, digests in supervision.contents.items()}
    writes = [below(os.path.realpath(located(rule, task_root))) for rule in files.write]
    return Programs(
        [path for path in listed if path not in free], held=held, names=names, contents=contents, writes=writes
    )  # fmt: skip
