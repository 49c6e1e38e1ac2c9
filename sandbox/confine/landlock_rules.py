"""From a policy's places to Landlock rules on this host: what `{root}` is, what is there, which loader a program has.

Reading a place never gives the right to execute what lies there; that goes to single programs and their interpreters.
The dynamic loader is one of these, and a loader that is started by itself runs any file that may be read: the right to
execute tells programs apart for who plays by the rules, and the supervisor reports who does not.
"""

from __future__ import annotations

import os
import struct

from sandbox.bundle import nonblocking_opener
from sandbox.errors import shortage
from sandbox.kernel import landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandbox.bundle import PathRule, Policy
    from sandbox.confine import Command

READ = landlock.ACCESS_FS_READ_FILE | landlock.ACCESS_FS_READ_DIR
EXECUTE = landlock.ACCESS_FS_EXECUTE
PROGRAM = EXECUTE | landlock.ACCESS_FS_READ_FILE
WRITE = (
    landlock.ACCESS_FS_WRITE_FILE | landlock.ACCESS_FS_REMOVE_DIR | landlock.ACCESS_FS_REMOVE_FILE
    | landlock.ACCESS_FS_MAKE_DIR | landlock.ACCESS_FS_MAKE_REG | landlock.ACCESS_FS_MAKE_SOCK
    | landlock.ACCESS_FS_MAKE_FIFO | landlock.ACCESS_FS_MAKE_SYM | landlock.ACCESS_FS_REFER
    | landlock.ACCESS_FS_TRUNCATE
)  # fmt: skip
DEVICES = landlock.ACCESS_FS_MAKE_CHAR | landlock.ACCESS_FS_MAKE_BLOCK
"""Handled and given to nobody."""
OF_FILES = (
    landlock.ACCESS_FS_EXECUTE | landlock.ACCESS_FS_WRITE_FILE | landlock.ACCESS_FS_READ_FILE
    | landlock.ACCESS_FS_TRUNCATE
)  # fmt: skip
"""What a rule on a file may hold (security/landlock/fs.c: ACCESS_FILE)."""

FIRST_REFER, FIRST_TRUNCATE = 2, 3
SINCE = ((FIRST_REFER, landlock.ACCESS_FS_REFER), (FIRST_TRUNCATE, landlock.ACCESS_FS_TRUNCATE))
"""The ABI from which on a right can be handled."""

SHOWN = 4
"""Places that the status line names."""
_FORMAT, _FOLDER = 0o170000, 0o040000  # man 7 inode
_PT_INTERP = 3
LONGEST_CHAIN = 5
"""Scripts whose interpreters are scripts (fs/exec.c follows five)."""


class Plan:
    """The rules for landlock.restrict: `handled` accesses, `beneath` {descriptor: accesses}, and what to say of them.

    `read` counts places, `write` and `programs` name them, `absent` names what is not here, `exposed` programs that the
    function could rewrite and that do not start. Close it.
    """

    __slots__ = ("absent", "beneath", "exposed", "handled", "programs", "read", "write")

    def __init__(self) -> None:
        self.handled = 0
        self.beneath: list[tuple[int, int]] = []
        self.read = 0
        self.write: list[str] = []
        self.programs: list[str] = []
        self.absent: list[str] = []
        self.exposed: list[str] = []

    def close(self) -> None:
        """Give the descriptors back."""
        for fd, _ in self.beneath:
            os.close(fd)
        self.beneath = []

    def allow(self, path: str, access: int, *, entries: bool = True) -> bool:
        """A rule on a path; without `entries` a folder can only be listed. False if the path does not exist."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            if lacking := shortage(error):  # the path may exist
                raise lacking from error
            return False
        if os.fstat(fd).st_mode & _FORMAT != _FOLDER:
            access &= OF_FILES
        elif not entries:
            access &= landlock.ACCESS_FS_READ_DIR
        access &= self.handled
        if access:
            self.beneath.append((fd, access))
        else:
            os.close(fd)
        return True


def bare_domain(abi: int) -> Plan:
    """Rules that refuse no more than making a block device, for the domain alone: from inside none is left to trace.

    Nothing before ABI 2, where every domain with rules on files refuses renames between folders.
    """
    found = Plan()
    if abi >= FIRST_REFER:
        # Refused in every such domain, unless it is given (man 7 landlock).
        found.handled = landlock.ACCESS_FS_MAKE_BLOCK | landlock.ACCESS_FS_REFER
        found.allow("/", landlock.ACCESS_FS_REFER)
    return found


def plan(policy: Policy, abi: int, command: Command) -> Plan:
    """Look at this host and open what the rules need. `abi` is the kernel's Landlock ABI, 1 at least."""
    found, files = Plan(), policy.files
    if files.listed:
        found.handled |= READ | WRITE | DEVICES
    if files.limited:
        found.handled |= EXECUTE
    for since, access in SINCE:
        if abi < since:
            found.handled &= ~access
    if not found.handled:
        return found
    folders: dict[str, Sequence[str]] = {}
    if files.listed:
        for rule in files.read:
            for path, whole in _paths(rule, command, folders, found.absent):
                found.read += found.allow(path, READ, entries=whole)
        for rule in files.write:
            for path, _ in _paths(rule, command, folders, found.absent):
                _write(found, path)
    # The kernel opens what it executes for reading, too (fs/exec.c: do_open_execat).
    for path, _ in chain(command.path, command.search):
        found.allow(path, PROGRAM, entries=False)  # a folder is not a program
    if files.limited:
        _programs(found, files.programs, command)
    return found


def _paths(
    rule: PathRule, command: Command, folders: dict[str, Sequence[str]], absent: list[str]
) -> Iterator[tuple[str, bool]]:
    """The paths that a rule means here, and whether it means what lies below."""
    name, path, whole = rule
    if not name:
        yield path, whole
        return
    if name not in folders:
        folders[name] = _FOLDERS[name](command) if name in _FOLDERS else ()
        if not folders[name]:
            absent.append(name)
    for folder in folders[name]:
        yield folder + path, whole


def _root(command: Command) -> Sequence[str]:
    found = root_folder(command.root)
    # Started from / without a root of its own, a function has none: all files are not its own.
    return (found,) if os.path.realpath(found) != "/" else ()


def root_folder(root: str) -> str:
    """The function's folder: its task root, else the working folder."""
    return os.path.normpath(root or os.getcwd())


def _python(command: Command) -> Sequence[str]:
    """The standard library of the interpreter that the command starts (lib64 on Amazon Linux and Fedora)."""
    program = os.path.realpath(command.path)
    prefix, name = os.path.dirname(os.path.dirname(program)), os.path.basename(program)
    if not name.startswith("py"):  # python3.12, pypy3.11
        return ()
    found = []
    for library in (f"{prefix}/lib", f"{prefix}/lib64"):
        names = [name] if "." in name else _listed(library)
        found += [f"{library}/{one}" for one in names if os.path.exists(f"{library}/{one}/os.py")]
    return found


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith(("python3.", "pypy3."))]
    except OSError:
        return []


def _venv(command: Command) -> Sequence[str]:
    folder = os.path.dirname(os.path.dirname(os.path.abspath(command.path)))
    return (folder,) if os.path.exists(f"{folder}/pyvenv.cfg") else ()


_FOLDERS = {"{root}": _root, "{python}": _python, "{venv}": _venv}


def named(command: Command) -> tuple[tuple[str, str], ...]:
    """(folder, name) of what a profile calls by a name on this host, `{root}` and others, the innermost first.

    A folder that a link leads to stands there by both paths.
    """
    found = {
        place: name for name, folders in _FOLDERS.items() for folder in folders(command)
        for place in (folder, os.path.realpath(folder)) if place != "/"
    }  # fmt: skip
    return tuple(sorted(found.items(), key=lambda place: -len(place[0])))


def others_readable() -> bool:
    """Whether, under the rules, /proc still shows the environment of a process outside: the parent's stands for all.

    Landlock refuses to trace a process outside its domain, and the kernel asks that before it opens environ, maps and
    mem; kernels since 2025 then ask for CAP_PERFMON, too, and with it let environ and maps be read all the same
    (kernel/fork.c: may_access_mm). A rule for the own folder alone would not last: the kernel makes /proc/PID anew
    when memory is short, and a rule belongs to an inode.
    """
    try:
        os.close(os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _write(found: Plan, path: str) -> None:
    """A place to write, if it is there.

    Nothing above it is opened in its place: where the function itself made the folder, training has learned the one
    above as a place of its own (sandbox/profile/folding.py: changed), and any other one it never wrote in.
    """
    device = path.startswith("/dev/") and not os.path.isdir(path)
    there = found.allow(path, READ | WRITE)
    if not device:
        (found.write if there else found.absent).append(path)


def _programs(found: Plan, listed: Sequence[PathRule], command: Command) -> None:
    """Programs as they lie here; a rule for all below a place is for what the function puts there itself.

    Which program that is, a supervisor tells by its content; a rule cannot.
    """
    writable = [os.path.realpath(place) for place in found.write]
    for rule in listed:
        path = located(rule, command)
        if rule[2]:
            found.allow(path, PROGRAM)
            continue
        real = os.path.realpath(path)
        if any(real == place or real.startswith(place + "/") for place in writable):
            found.exposed.append(path)
            continue
        if not os.path.isfile(path):
            found.absent.append(path)
            continue
        found.programs.append(path)
        for other, _ in chain(path, command.search):
            found.allow(other, PROGRAM, entries=False)


def located(rule: PathRule, command: Command) -> str:
    """The path of a listed program, or of a place to write, on this host.

    Under {venv} it lies beside the interpreter where that has no environment, as in images.
    """
    base, path, _ = rule
    if base == "{venv}":
        return os.path.dirname(os.path.dirname(os.path.abspath(command.path))).rstrip("/") + path
    return (root_folder(command.root) if base == "{root}" else base) + path


def chain(path: str, search: str) -> Iterator[tuple[str, bool]]:
    """A program, the interpreters of its `#!` lines, and their dynamic loaders (man 2 execve, man 5 elf).

    Each with whether it is a loader. `search` is the PATH in which env looks for what it starts.
    """
    for _ in range(LONGEST_CHAIN):
        yield path, False
        head = _head(path)
        if head[:4] == b"\x7fELF":
            loader = _loader(path, head)
            if loader:
                yield loader, True
            return
        if head[:2] != b"#!":
            return
        words = os.fsdecode(head[2:256].split(b"\n")[0]).split()
        if not words:
            return
        if os.path.basename(words[0]) == "env":
            yield words[0], False
            loader = _loader(words[0], _head(words[0]))
            if loader:
                yield loader, True
            name = _named(words[1:])
            path = _searched(name, search) if name else ""
        else:
            path = words[0]
        if not path:
            return


def _named(words: Sequence[str]) -> str:
    """The program among the arguments of env, '' where there is none; -C and -u have an operand (man 1 env)."""
    operand = False
    for word in words:
        if not (operand or word.startswith("-") or "=" in word):
            return word
        operand = word in ("-C", "-u")
    return ""


def _searched(name: str, search: str) -> str:
    tried = [name] if "/" in name else [os.path.join(folder or ".", name) for folder in search.split(":")]
    return next((path for path in tried if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0, opener=nonblocking_opener) as file:
            return file.read(4096)
    except OSError:
        return b""


def _loader(path: str, head: bytes) -> str:
    """The dynamic loader that a 64-bit little-endian ELF file names, or ''."""
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return ""
    at, size, count = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
    for number in range(count):
        start = at + number * size
        if start + 56 > len(head) or struct.unpack_from("<I", head, start)[0] != _PT_INTERP:
            continue
        offset, length = struct.unpack_from("<Q", head, start + 8)[0], struct.unpack_from("<Q", head, start + 32)[0]
        text = head[offset : offset + length]
        if offset + length > len(head):
            try:
                with open(path, "rb", buffering=0) as file:
                    file.seek(offset)
                    text = file.read(min(length, 4096))
            except (OSError, OverflowError):
                return ""
        return os.fsdecode(text.rstrip(b"\0"))
    return ""
