"""Which program an execve starts: asked where exec is granted, and answered so that nobody can change it.

With Landlock's execute right the kernel itself holds the list, but for what its rules must let more start than the list
has: loaders, interpreters of scripts, a folder in which the function puts programs itself. So what really started is
compared (sandbox/supervise/seized.py). Where neither can be, the supervisor lets a call go on only while nobody could
change the path between the look and the exec (sandbox/supervise/unshared.py).
"""

from __future__ import annotations

import errno
import os

from sandbox.behaviour import access, spelling
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import OWN_INTERPRETER, PROGRAM_BASES, below, covers, rule_of
from sandbox.behaviour.walker import Walker
from sandbox.bundle import ANY, nonblocking_opener
from sandbox.confine.landlock_rules import chain, located, named, root_folder
from sandbox.kernel import landlock, tables
from sandbox.kernel.memory import Memory
from sandbox.supervise import seized, unshared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.behaviour.access import Access
    from sandbox.behaviour.content import Digests, Opened
    from sandbox.bundle import Policy
    from sandbox.confine import Command
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.task import Task

AT_EXECFN = 31  # linux/auxvec.h
MOST_SHAPES = 64
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


class Shape:
    """What a program consists of: whether it is a script, the physical paths of its interpreters and loaders, and the
    (st_dev, st_ino) of the interpreter that runs in its place.
    """

    __slots__ = ("interpreter", "others", "script")

    def __init__(self, path: str, task: Task) -> None:
        walker = Walker(task.tid)
        # Without a PATH the chain ends at env, which starts the rest by another exec.
        walks = [(walker.walk(None, os.fsencode(other)), is_loader) for other, is_loader in chain(path, "")]
        self.script = is_script(path)
        self.others = [walked.path for walked, _ in walks[1:]]
        self.interpreter = (0, 0)
        if self.script:
            self.interpreter = next(walked.identity for walked, is_loader in reversed(walks) if not is_loader)


class Expected:
    """What an exec must start that was looked at: a file, for a script its interpreter with the script as its name."""

    __slots__ = ("_identity", "_interpreter", "others", "path", "script")
    by_content = False

    def __init__(self, asked: Access, shape: Shape) -> None:
        self.path = asked.thing
        self._identity = asked.identity
        self.script = shape.script
        self._interpreter = shape.interpreter
        self.others = shape.others

    def runs_in(self, pid: int) -> bool:
        """Whether it is what a process that stands in its exec is about to run."""
        try:
            exe = os.stat(f"/proc/{pid}/exe")
            if (exe.st_dev, exe.st_ino) != (self._interpreter if self.script else self._identity):
                return False
            return not self.script or Walker(pid).walk(None, _executed(pid)).identity == self._identity
        except PermissionError:
            # A program that may be executed and not be read shows itself to nobody (man 2 prctl: PR_SET_DUMPABLE).
            return not os.access(self.path, os.R_OK)
        except OSError:
            return False

    def close(self) -> None:
        """Nothing is open."""


class ExpectedContent(Expected):
    """The same where the function writes. The file stays open, and held where it can be, until its program runs."""

    __slots__ = ("_file", "_is_listed")
    by_content = True

    def __init__(self, asked: Access, shape: Shape, file: Opened, is_listed: Callable[[str, Opened], bool]) -> None:
        """`is_listed` says whether a profile has the content of a file at a physical path; it raises OSError."""
        super().__init__(asked, shape)
        self._identity = file.identity  # what lay there first may be replaced by now: the content decides
        self._file = file
        self._is_listed = is_listed

    def runs_in(self, pid: int) -> bool:
        """By what runs now, which nobody writes to any more (ETXTBSY): another file with a listed content may do so."""
        if self.script or (self._file.held and super().runs_in(pid)):
            return super().runs_in(pid)
        from sandbox.behaviour.content import Opened

        place = f"/proc/{pid}/exe"
        try:
            with Opened(place, follow=True) as file:
                return self._is_listed(os.readlink(place).removesuffix(" (deleted)"), file)
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_script(path: str) -> bool:
    """Whether a file begins with `#!`; False where it cannot be read."""
    try:
        with open(path, "rb", buffering=0, opener=nonblocking_opener) as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _executed(pid: int) -> bytes:
    """The path that a process was started by: the kernel's copy, which nobody else can reach. Raises OSError."""
    memory = Memory(pid)
    try:
        return memory.string(seized.auxiliary(pid, AT_EXECFN))
    finally:
        memory.close()


def running(pid: int) -> str:
    """What a process runs, for people: its file, and the path that it was started by where that is another."""
    try:
        exe = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return "one that shows itself to nobody"
    try:
        name = os.fsdecode(_executed(pid))
    except OSError:
        name = ""
    return exe if name in ("", exe) else f"{exe} as {name}"


class Programs:
    """The programs that one policy grants. `held` is whether Landlock holds them for the process.

    `learned` are the texts of the signals that the policy allows.
    """

    def __init__(
        self, listed: Sequence[str] | None, *, held: bool, names: Sequence[tuple[str, str]] = (),
        contents: Mapping[str, Sequence[str]] | None = None, writes: Sequence[str] = (), free: Sequence[str] = (),
        interpreters: Sequence[str] = (), learned: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`listed` are absolute paths, looked up once, at the start; None where any program may be started.

        `names` are (folder, name) of what a profile calls by a name. `contents` are the digests of programs that lie
        where the function writes, by physical path with a `*` for random parts; `writes` are the patterns of these
        places. `free` are the interpreters of listed scripts that are listed themselves, `interpreters` the others:
        where env(1) is among these, it starts the rest.
        """
        self.names = names
        self.free = free
        self._contents = contents or {}
        self._writes = writes
        self._any = listed is None
        self.held = held
        self.learned = learned
        self._shapes: dict[tuple[str, tuple[int, int], int], Shape] = {}
        self._known: dict[tuple[int, int], str] = {}
        self._paths: dict[str, tuple[int, int]] = {}
        self._digests: Digests | None = None
        for path in listed or ():
            found = _identity(path)
            if found:
                self._known[found] = path
                self._paths[path] = found
        own = {path: found for path in interpreters if (found := _identity(path))}
        self._env = {found for path, found in own.items() if os.path.basename(path) == "env"}
        self._by_env = {*own.values()} - self._env if self._env else set()

    def check(self, call: Notification, syscall: str, task: Task, *, compared: bool = False) -> Expected | None:
        """Returns when the call may go on: with what must start then; None where that is not to be told.

        `compared`: what starts is stopped and compared. Without that, and where Landlock does not hold the list, nobody
        may be able to change the path. Raises ExecRefused.
        """
        if self._any:
            return None
        # Before the path is read: what could have changed it since would be gone by now.
        fixed = self.held or compared
        sharer = "" if fixed else unshared.sharer(task)
        ((_, at),) = tables.paths(syscall)
        accesses = access.of_call(Call(syscall), call.args, task, "")
        if not accesses:  # no path: what the kernel says to none
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
        path = asked.thing if fixed else asked.name or asked.thing
        expected = None
        by_env = identity in self._by_env and _identity(f"/proc/{task.tid}/exe") in self._env
        if self._is_written(asked.thing):
            expected = self._compared(asked, path, task)
        elif identity not in self._known and not by_env:
            raise ExecRefused(errno.EPERM, "a program that the profile does not list", path)
        elif not asked.unsure:
            expected = Expected(asked, self._shape(asked, task))
        if expected and any(self._is_written(other) for other in expected.others):
            expected.close()
            raise ExecRefused(errno.EPERM, "a program whose interpreter or loader lies where the function writes", path)
        readable = self.held or not expected or os.access(expected.path, os.R_OK)
        if readable and (self.held or (compared and expected)):
            return expected
        # What is written through `..` has no name: a link on the way could lead elsewhere the next moment. A process's
        # own link to what it runs leads nowhere else before its exec.
        own = asked.name in OWN_FILE or (expected and expected.by_content)
        if not readable:
            reason = "a program that may not be read, and Landlock does not hold it here"
        elif asked.unsure or not (own or by_env or self._paths.get(asked.name) == identity):
            reason = "a listed program by another path, and Landlock does not hold it here"
        elif changer := sharer or unshared.changeable(task, call.args[at]):
            reason = f"{changer}, and Landlock does not hold the program here"
        else:
            return expected
        if expected:
            expected.close()
        raise ExecRefused(errno.EPERM, reason, path)

    @staticmethod
    def named(call: Notification, syscall: str, task: Task) -> str:
        """The physical path of the program that an exec asks for; '' where it cannot be read."""
        accesses = access.of_call(Call(syscall), call.args, task, "", foresee=False)
        return accesses[-1].thing if accesses else ""

    def _shape(self, asked: Access, task: Task) -> Shape:
        """Read once where the function cannot write: what lies there stays the same until somebody else changes it."""
        try:
            changed = os.stat(asked.thing).st_mtime_ns
        except OSError:
            return Shape(asked.thing, task)
        key = (asked.thing, asked.identity, changed)
        found = self._shapes.get(key)
        if found is None:
            found = Shape(asked.thing, task)
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.pop(next(iter(self._shapes)))
            self._shapes[key] = found
        return found

    def _is_written(self, path: str) -> bool:
        """Whether a physical path lies where the function writes."""
        return any(covers(pattern, path) for pattern in self._writes)

    def _compared(self, asked: Access, path: str, task: Task) -> Expected:
        """For a program that lies where the function writes: by its content. Raises ExecRefused for another one."""
        from sandbox.behaviour.content import Opened  # few functions have such programs

        file, digest = None, ""
        try:
            if not asked.unsure:
                file = Opened(asked.thing)
                digest = self._digest(file)
                if self._lists(asked.thing, digest):
                    return ExpectedContent(asked, Shape(asked.thing, task), file, self._is_listed)
        except OSError:
            digest = ""
        if file:
            file.close()
        if not digest:
            reason = "a program where the function writes, whose content cannot be read"
        elif any(covers(pattern, asked.thing) for pattern in self._contents):
            reason = "a program where the function writes, with another content than the profile has"
        elif self._paths.get(asked.thing):
            reason = "a program where the function writes, of which the profile does not have the content"
        else:
            reason = "a program that the profile does not list, and that lies where the function writes"
        raise ExecRefused(errno.EPERM, reason, path, digest)

    def _digest(self, file: Opened) -> str:
        from sandbox.behaviour.content import Digests

        if self._digests is None:
            self._digests = Digests()
        return self._digests.of(file)

    def _is_listed(self, path: str, file: Opened) -> bool:
        """Whether the profile has what a file holds, or any content, for a program at this path. Raises OSError."""
        return self._lists(path, self._digest(file))

    def _lists(self, path: str, digest: str) -> bool:
        known = (digests for pattern, digests in self._contents.items() if covers(pattern, path))
        return bool(digest) and any(digest in digests or ANY in digests for digests in known)

    def spelled(self, refused: ExecRefused) -> str:
        """The text of a profile that allows what was refused; '' where none can."""
        path = spelling.below_named(refused.path, self.names)
        return spelling.of_program(path, refused.sha256) if path else ""


def granted(policy: Policy, command: Command) -> Programs | None:
    """The programs of a policy; None where it grants no exec at all, so that the class of the call decides.

    In audit Landlock holds none, but what it will hold under enforcement is not worth a line.
    """
    if policy.exec != "granted":
        return None
    files, supervision = policy.files, policy.supervision
    held = not files.memfd and landlock.abi_version() > 0
    real = os.path.realpath(root_folder(command.root))
    own = (os.path.abspath(command.path), os.path.realpath(command.path))
    names = [*((path, OWN_INTERPRETER) for path in own if os.path.basename(own[1]).startswith(("python", "pypy"))),
             *((folder, name) for folder, name in named(command) if name in PROGRAM_BASES)]  # fmt: skip
    if not files.limited:
        return Programs(None, held=held, names=names)
    needed = {located(rule_of(path), command) for path in supervision.interpreters}
    if OWN_INTERPRETER in needed:
        needed = needed - {OWN_INTERPRETER} | {*own}
    listed = [located(rule, command) for rule in files.programs if not rule[2]]
    listed += own if supervision.own_interpreter else ()
    contents = {path.replace("{root}", real, 1): digests for path, digests in supervision.contents.items()}
    writes = [below(os.path.realpath(located(rule, command))) for rule in files.write]
    return Programs(
        [path for path in listed if path not in needed], held=held, names=names, contents=contents, writes=writes,
        free=supervision.free_interpreters, interpreters=sorted(needed), learned=supervision.brokered,
    )  # fmt: skip
