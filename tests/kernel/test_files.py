"""Files and programs by Landlock in the running kernel: what was learned works, everything beside it is EACCES."""

from __future__ import annotations

import ast
import dataclasses
import errno
import json
import mmap
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from child_processes import bystander, in_child
from guests import LOADING, profile
from supervised_programs import without_landlock
from users_and_folders import home_for, identity, place

from sandbox.bundle import Policy
from sandbox.confine import Command, landlock_rules
from sandbox.kernel import abi, landlock, seccomp
from sandbox.policy import build
from sandbox.profile.model import Profile


@pytest.fixture(autouse=True)
def _rules(request: pytest.FixtureRequest) -> None:
    """All but one need rules on paths."""
    if landlock.abi_version() < 3 and request.node.originalname != test_programs_without_landlock.__name__:
        pytest.skip("Landlock ABI 3 is needed (Linux 6.2)")


PYTHON = "/usr/bin/python3"
STARTS = (
    *LOADING, "execve", "execveat", "clone process", "vfork process", "wait4", "waitid", "pipe2", "dup2", "dup3",
    "openat write", "openat create", "mkdir", "fcntl F_SETFL",
)  # fmt: skip
"""What a program needs to start others."""

Answers = list[int | str]


@dataclasses.dataclass(frozen=True)
class Area:
    """A folder of a user: `work` was learned as a place to write, the rest was not learned at all."""

    uid: int | None
    folder: Path

    @property
    def work(self) -> Path:
        """Where the function writes."""
        return self.folder / "work"

    @property
    def secret(self) -> Path:
        """What it never read."""
        return self.folder / "secret"


@pytest.fixture
def area(uid: int | None) -> Iterator[Area]:
    """The folder with a secret that the user owns: only Landlock stands before it."""
    with place(uid) as folder:
        found = Area(uid, folder)
        found.work.mkdir()
        (found.work / "inner").mkdir()
        (folder / "other").mkdir()
        found.secret.write_text("secret")
        for path in (found.work, found.work / "inner", folder / "other", found.secret):
            os.chown(path, *(2 * (uid if uid is not None else os.getuid(),)))
        yield found


def learned(*items: str, **more: frozenset[str]) -> Profile:
    """A profile with these items and places."""
    return dataclasses.replace(profile(*items), **more)  # type: ignore[arg-type]


def policy_of(found: Profile) -> Policy:
    """Its policy for this machine."""
    return build.build(found, (abi.MACHINE,)).policy(abi.MACHINE)


def confined(found: Policy, uid: int | None, attempts: Callable[[], Answers], command: str = "/bin/true") -> Answers:
    """What the attempts answer under the files and programs of a policy alone, without any filter."""

    def inside() -> Answers:
        seccomp.set_no_new_privs()
        started = Command(command, [command], {"PATH": "/usr/bin:/bin"})
        plan = landlock_rules.plan(found, landlock.abi_version(), started)
        if plan.handled:
            landlock.restrict(network=0, ports={}, scoped=0, files=plan.handled, beneath=plan.beneath)
        plan.close()
        return attempts()

    return in_child(inside, uid)


def tried(call: Callable[..., object], *args: Any) -> int:
    """0, or the errno of a call."""
    try:
        result = call(*args)
    except OSError as error:
        return error.errno or -1
    if isinstance(result, int) and call is os.open:
        os.close(result)
    return 0


def places(area: Area) -> Policy:
    """The policy of a function that wrote in `work` and read nothing but what every program reads."""
    return policy_of(learned("openat read", writes=frozenset({f"{area.work}/*"})))


def test_what_was_not_learned_is_not_read(area: Area) -> None:
    """The distribution, /proc/self and the own folder can be read, a file of the same user beside it cannot."""

    def attempts() -> Answers:
        return [
            tried(os.open, path, os.O_RDONLY)
            for path in ("/etc/ld.so.cache", "/usr/bin", "/proc/self/status", "/proc/self/environ", "/dev/urandom",
                         area.work, area.secret, area.folder, "/", "/etc", f"/proc/self/root{area.secret}",
                         "/etc/passwd")
        ]  # fmt: skip

    assert confined(places(area), area.uid, attempts) == [*[0] * 6, *[errno.EACCES] * 6]


def test_writing_only_where_training_wrote(area: Area) -> None:
    """Making, writing, renaming and removing work below `work` and nowhere else; what can be read cannot be written."""
    create = os.O_WRONLY | os.O_CREAT
    tmpfile = os.O_RDWR | os.O_TMPFILE
    work, folder = area.work, area.folder

    def attempts() -> Answers:
        return [
            tried(os.open, work / "new", create),
            tried(os.rename, work / "new", work / "inner" / "new"),
            tried(os.truncate, work / "inner" / "new", 0),
            tried(os.symlink, "new", work / "inner" / "link"),
            tried(os.link, work / "inner" / "new", work / "hard"),
            tried(os.mkfifo, work / "fifo"),
            tried(os.mkdir, work / "deep"),
            tried(os.open, work / "deep" / "file", create),
            tried(os.open, work, tmpfile),
            tried(os.unlink, work / "hard"),
            tried(os.open, "/dev/null", create),
            *[
                tried(os.open, folder / "new", create), tried(os.open, folder / "other" / "new", create),
                tried(os.open, area.secret, os.O_WRONLY), tried(os.truncate, area.secret, 0),
                tried(os.unlink, area.secret), tried(os.mkdir, folder / "made"),
                tried(os.symlink, "a", folder / "made"), tried(os.mkfifo, folder / "made"),
                tried(os.open, folder, tmpfile),
            ],
        ]  # fmt: skip

    assert confined(places(area), area.uid, attempts) == [*[0] * 11, *[errno.EACCES] * 9]
    assert area.secret.read_text() == "secret"


def test_no_way_around_by_names(area: Area) -> None:
    """Neither a symbolic nor a hard link nor a rename brings a secret into reach, and nothing leaves by them."""
    work = area.work

    def attempts() -> Answers:
        os.symlink(area.secret, work / "symlink")
        os.symlink(area.folder, work / "folder")
        opened = [tried(os.open, path, os.O_RDONLY) for path in (work / "symlink", work / "folder" / "secret",
                                                                 work / ".." / "secret")]  # fmt: skip
        os.chdir(work)
        at = os.open(".", os.O_PATH)
        opened.append(tried(lambda: os.open("../secret", os.O_RDONLY, dir_fd=at)))
        os.close(os.open(work / "own", os.O_WRONLY | os.O_CREAT))
        return [
            *opened,
            int(tried(os.link, area.secret, work / "hard") in (errno.EXDEV, errno.EACCES)),
            int(tried(os.rename, area.secret, work / "moved") in (errno.EXDEV, errno.EACCES)),
            int(tried(os.rename, work / "own", area.folder / "left") in (errno.EXDEV, errno.EACCES)),
        ]

    assert confined(places(area), area.uid, attempts) == [*[errno.EACCES] * 4, 1, 1, 1]


def test_secrets_of_other_processes(area: Area) -> None:
    """Memory and descriptors of a process outside stay closed; environment and maps, too, or the report says so."""

    def attempts(other: int) -> Answers:
        closed = [tried(os.open, f"/proc/{other}/{name}", os.O_RDONLY) for name in ("mem", "fd/0", "root/etc/passwd")]
        told = landlock_rules.others_readable()
        shown = [tried(os.open, f"/proc/{other}/{name}", os.O_RDONLY) for name in ("environ", "maps", "auxv")]
        return [*closed, int(told), *shown, tried(os.open, "/proc/self/environ", os.O_RDONLY)]

    with bystander(area.uid) as other:
        answers = confined(places(area), area.uid, lambda: attempts(other))
    assert answers[:3] == [errno.EACCES] * 3
    assert answers[4:] == [*[0 if answers[3] else errno.EACCES] * 3, 0]
    if area.uid is not None:
        assert not answers[3]


def test_a_single_file_is_not_its_folder(area: Area) -> None:
    """A learned file can be written and is no way to its neighbours; a folder that was listed can be listed only."""
    found = policy_of(
        learned("openat read", writes=frozenset({str(area.secret)}), reads=frozenset({str(area.folder / "other")}))
    )
    (area.folder / "other" / "file").touch(0o666)

    def attempts() -> Answers:
        return [
            tried(os.open, area.secret, os.O_RDWR | os.O_TRUNC), tried(os.listdir, area.folder / "other"),
            tried(os.unlink, area.secret), tried(os.open, area.folder / "beside", os.O_WRONLY | os.O_CREAT),
            tried(os.open, area.folder / "other" / "file", os.O_RDONLY), tried(os.listdir, area.folder),
        ]  # fmt: skip

    assert confined(found, area.uid, attempts) == [0, 0, *[errno.EACCES] * 4]


def test_what_is_not_there_yet(area: Area) -> None:
    """In place of what is missing nothing above it is opened: it is named as absent, but for devices."""
    writes = {f"{area.folder}/missing/deeper/*", "/missing/*", "/dev/missing", str(area.folder / "work")}
    found = policy_of(learned("openat read", writes=frozenset(writes)))
    plan = landlock_rules.plan(found, landlock.abi_version(), Command("/bin/true", [], {}))
    plan.close()
    assert sorted(plan.absent) == sorted(["/missing", f"{area.folder}/missing/deeper"])
    assert plan.write == [str(area.work)]

    def attempts() -> Answers:
        create = os.O_WRONLY | os.O_CREAT
        return [
            tried(os.open, area.work / "new", create), tried(os.mkdir, area.folder / "missing"),
            tried(os.open, area.folder / "new", create),
        ]  # fmt: skip

    assert confined(found, area.uid, attempts) == [0, errno.EACCES, errno.EACCES]


def test_names_for_folders(area: Area) -> None:
    """{root} is LAMBDA_TASK_ROOT, {venv} the folder of a pyvenv.cfg, {python} the library of the real interpreter."""
    (area.folder / "bin").mkdir()
    (area.folder / "bin" / "python").symlink_to(PYTHON)
    (area.folder / "pyvenv.cfg").touch()
    reads = frozenset({"{root}/**", "{venv}/**", "{python}/**", "{python}/missing.py"})
    found = policy_of(learned("openat read", reads=reads))
    command = Command(str(area.folder / "bin" / "python"), [], {}, root=str(area.work))
    symbols: dict[str, Any] = {}
    absent: list[str] = []
    expanded = {path for rule in found.files.read for path, _ in landlock_rules._paths(rule, command, symbols, absent)}
    library = os.path.dirname(os.__file__)
    assert expanded >= {str(area.work), str(area.folder), library} or not library.startswith("/usr")
    assert not absent
    plan = landlock_rules.plan(found, landlock.abi_version(), Command("/bin/true", [], {}, root="/"))
    plan.close()
    assert sorted(plan.absent) == ["{python}", "{root}", "{venv}"]


def programs(area: Area, *listed: str | Path) -> Policy:
    """A policy that lists these programs."""
    return policy_of(learned(*STARTS, reads=frozenset({f"{area.folder}/**"}), processes=frozenset(map(str, listed))))


def ran(path: str | Path, *arguments: str) -> int:
    """The exit code of a program, or minus the errno of its exec."""
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, [str(path), *arguments])
        except OSError as error:
            os._exit(100 + (error.errno or 0))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return -(code - 100) if code > 100 else code


def script(path: Path, first: str, text: str = "exit 7\n") -> Path:
    """An executable script."""
    path.write_text(f"{first}\n{text}")
    path.chmod(0o755)
    return path


def test_programs_and_their_interpreters(area: Area) -> None:
    """Listed programs start with loader and script chain, others are EACCES, a library can be mapped to run."""
    one = script(area.folder / "one", "#!/bin/sh")
    two = script(area.folder / "two", f"#!{one}")
    by_env = script(area.folder / "by-env", "#!/usr/bin/env sh")
    unlisted = script(area.folder / "unlisted", "#!/bin/sh")
    found = programs(area, "/bin/true", two, by_env)

    def attempts() -> Answers:
        with open("/usr/bin/gzip", "rb") as file:
            mapped = tried(lambda: mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close())
        return [mapped, ran("/bin/true"), ran(two), ran(one), ran(by_env), ran("/usr/bin/gzip"), ran(unlisted)]

    assert confined(found, area.uid, attempts) == [0, 0, 7, 7, 7, -errno.EACCES, -errno.EACCES]


def test_a_program_where_the_function_writes(area: Area) -> None:
    """A listed program that the function could rewrite is not started, and is told."""
    mine = area.work / "mine"
    shutil.copy("/bin/true", mine)
    both = frozenset({str(mine), "/bin/true"})
    found = policy_of(learned(*STARTS, writes=frozenset({f"{area.work}/*"}), processes=both))
    assert confined(found, area.uid, lambda: [ran(mine), ran("/bin/true")]) == [-errno.EACCES, 0]
    plan = landlock_rules.plan(found, landlock.abi_version(), Command("/bin/true", [], {}))
    plan.close()
    assert (plan.absent, plan.exposed) == ([], [str(mine)])


def test_what_landlock_does_not_tell_apart(area: Area) -> None:
    """The two ways around that the documentation admits: the loader as a program, and files that lie in no folder.

    Both stay under filter and rules, as code that the caller maps itself does; `memfd` tells of the second.
    """
    found = programs(area, "/bin/true")

    def attempts() -> Answers:
        loader = landlock_rules._loader("/bin/true", landlock_rules._head("/bin/true"))
        fd = os.memfd_create("made")
        with open("/bin/true", "rb") as file:
            os.write(fd, file.read())
        return [ran(loader, "/usr/bin/gzip", "--version") if loader else 0, ran(f"/proc/self/fd/{fd}")]

    assert confined(found, area.uid, attempts) == [0, 0]
    assert not found.files.memfd
    more = learned(*STARTS, "memfd_create", reads=frozenset({"/x"}), processes=frozenset({"/bin/true"}))
    assert policy_of(more).files.memfd


def test_exec_granted_without_a_list(area: Area) -> None:
    """A profile that names no program, as imported ones do, leaves programs and, naming no file, files alone."""
    found = policy_of(learned(*STARTS))
    assert (found.files.limited, found.files.listed) == (False, False)
    assert confined(found, area.uid, lambda: [ran("/bin/true"), tried(os.open, area.secret, os.O_RDWR)]) == [0, 0]


# Through the real bootstrap.


@dataclasses.dataclass(frozen=True)
class Done:
    """How a run ended: its output, its status line and the violations."""

    code: int
    stdout: str
    status: Mapping[str, Any]
    violations: list[dict[str, Any]]


def run(
    area: Area, found: Profile, code: str, *, supervised: bool, before: Callable[[], object] | None = None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Done:  # fmt: skip
    """Python code under ./bootstrap."""
    bundle = area.folder / "bundle"
    build.write(build.build(found, (abi.MACHINE,)), str(bundle))
    subprocess.run(["chmod", "-R", "a+rX", str(bundle)], check=True)
    with home_for(area.uid) as home:
        ours = {"SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": str(int(supervised)), **more}
        environment = {"PATH": "/usr/bin:/bin", **ours}
        done = subprocess.run(
            [str(home / "bootstrap"), PYTHON, "-I", "-S", "-c", code], env=environment, cwd=area.work, text=True,
            capture_output=True, timeout=60, check=False, preexec_fn=before, **identity(area.uid),
        )  # fmt: skip
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    status: Mapping[str, Any] = next((line for line in lines if line["event"] == "sandbox"), {})
    assert status, done.stderr
    return Done(done.returncode, done.stdout, status, [line for line in lines if line["event"] == "violation"])


MODES = pytest.mark.parametrize("supervised", [False, True], ids=["alone", "supervised"])


@MODES
def test_the_bootstrap_holds_files(area: Area, supervised: bool) -> None:
    """Enforced with and without a supervisor, told in the status line, and left out in audit mode."""
    found = learned(*LOADING, "openat create", writes=frozenset({f"{area.work}/*"}), reads=frozenset({"{root}/**"}))
    code = (
        "import os\n"
        f"for path, flags in (('new', os.O_CREAT | os.O_WRONLY), ({str(area.secret)!r}, 0)):\n"
        "    try:\n"
        "        os.open(path, flags); print('passed', end=' ')\n"
        "    except OSError as error:\n"
        "        print(error.errno, end=' ')\n"
    )
    done = run(area, found, code, supervised=supervised)
    assert done.stdout.split() == ["passed", str(errno.EACCES)]
    version = landlock.abi_version()
    (told,) = [line for line in done.status["enforced"] if line.startswith("files: read ")]
    assert told.endswith(f" places, write {area.work}, by Landlock ABI {version}")
    assert all(line.startswith("files: /proc shows ") for line in done.status["degraded"] if "files" in line)
    if supervised:
        audited = run(area, found, code, supervised=True, more={"SANDBOX_MODE": "audit"})
        assert audited.stdout.split() == ["passed", "passed"]
        assert "files" in audited.status["reported"]


START = """
import os
def start(path, *more, spawn=False):
    try:
        if spawn:
            pid = os.posix_spawn(path, [path, *more], {})
        else:
            pid = os.fork()
            if pid == 0:
                os.execv(path, [path, *more])
    except OSError as error:
        if not spawn and pid == 0:
            os._exit(100 + error.errno)
        return -error.errno
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return -(code - 100) if code > 100 else code
"""


@MODES
def test_the_bootstrap_holds_programs(area: Area, supervised: bool) -> None:
    """The listed program starts by fork and by vfork, another does not, what is not there is ENOENT."""
    found = learned(*STARTS, reads=frozenset({"{root}/**"}), processes=frozenset({"/usr/bin/true"}))
    code = START + (
        "print(start('/usr/bin/true'), start('/usr/bin/true', spawn=True), start('/usr/bin/id'),"
        " start('/usr/bin/id', spawn=True), start('/nowhere/true'))\n"
    )
    done = run(area, found, code, supervised=supervised)
    refused = -errno.EPERM if supervised else -errno.EACCES
    assert done.stdout.split() == ["0", "0", str(refused), str(refused), str(-errno.ENOENT)]
    assert f"programs: /usr/bin/true, by Landlock ABI {landlock.abi_version()}" in done.status["enforced"]
    seen = [(line["syscall"], line["target"], line["allow"]) for line in done.violations]
    assert seen == [("execve", "/usr/bin/id", "processes: [/usr/bin/id]")] * (2 * supervised)


def test_a_program_of_the_functions_own(area: Area) -> None:
    """The line of one that is not listed has its physical path, and what to write has {root} as a profile has it."""
    shutil.copy("/usr/bin/true", area.work / "tool")
    (area.work / "tool").chmod(0o755)
    (area.work / "alias").symlink_to("tool")
    found = learned(*STARTS, reads=frozenset({"{root}/**"}), processes=frozenset({"/usr/bin/true"}))
    done = run(area, found, START + "print(start('./alias'))\n", supervised=True)
    assert done.stdout.split() == [str(-errno.EPERM)]
    seen = [(line["target"], line["allow"]) for line in done.violations]
    assert seen == [(str(area.work / "tool"), 'processes: ["{root}/tool"]')]
    listed = learned(*STARTS, reads=frozenset({"{root}/**"}), processes=frozenset({"{root}/tool"}))
    done = run(area, listed, START + "print(start('./alias'))\n", supervised=True)
    assert (done.stdout.split(), done.violations) == (["0"], [])


def test_a_program_by_its_descriptor(area: Area) -> None:
    """execveat with a path is decided as execve is; with an empty path it is refused, for the listed program, too."""
    found = learned(*STARTS, reads=frozenset({"{root}/**"}), processes=frozenset({"/usr/bin/true"}))
    number = {"x86_64": 322, "aarch64": 281}[abi.MACHINE]
    code = (
        "import os, ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "empty = (ctypes.c_char_p * 1)(None)\n"
        "folder, fd = os.open('/usr/bin', os.O_PATH), os.open('/usr/bin/true', os.O_PATH)\n"
        "for at, name, flags in ((folder, b'true', 0), (folder, b'id', 0), (fd, b'', 0x1000)):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        f"        libc.syscall({number}, at, name, empty, empty, flags)\n"
        "        os._exit(ctypes.get_errno())\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), end=' ')\n"
    )
    done = run(area, found, code, supervised=True)
    assert done.stdout.split() == ["0", str(errno.EPERM), str(errno.EPERM)]
    assert [line["target"] for line in done.violations] == ["/usr/bin/id", ""]


def test_a_path_that_changes_between_look_and_exec(area: Area) -> None:
    """Another process flips the path 500 times over: the listed program starts sometimes, the other never."""
    marker = area.work / "marker"
    found = learned(
        *STARTS, reads=frozenset({"{root}/**"}), writes=frozenset({f"{area.work}/*"}),
        processes=frozenset({"/usr/bin/true"}),
    )  # fmt: skip
    code = (
        "import os, mmap, ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "page = mmap.mmap(-1, 4096)\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "paths = (b'/usr/bin/true\\0\\0', b'/usr/bin/touch\\0')\n"
        f"argv = (ctypes.c_char_p * 3)(b'x', {os.fsencode(marker)!r}, None)\n"
        "flipper = os.fork()\n"
        "while flipper == 0 and os.getppid() != 1:\n"
        "    for path in paths * 500:\n"
        "        page[:15] = path\n"
        "    if page[100]:\n"
        "        os._exit(0)\n"
        "ended = {}\n"
        "for _ in range(500):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        libc.execve(ctypes.c_void_p(at), argv, (ctypes.c_char_p * 1)(None))\n"
        "        os._exit(9)\n"
        "    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "    ended[code] = ended.get(code, 0) + 1\n"
        "page[100] = 1\n"
        "os.waitpid(flipper, 0)\n"
        "print(ended)\n"
    )
    done = run(area, found, code, supervised=True)
    ended = eval(done.stdout)
    assert not marker.exists()
    assert set(ended) == {0, 9}
    assert sum(ended.values()) == 500


def test_programs_without_landlock(area: Area) -> None:
    """The status line says what the kernel does not hold; the supervisor compares what starts, also among threads.

    By its own link a process starts what it runs.
    """
    found = learned(
        *STARTS, "clone thread", reads=frozenset({"{root}/**"}), processes=frozenset({"/usr/bin/true", PYTHON}),
    )  # fmt: skip
    code = START + (
        "import threading\n"
        "print(start('/usr/bin/true'), start('/usr/bin/true', spawn=True), start('/usr/bin/../bin/true'),"
        " start('/usr/bin/id'), start('/nowhere'), start('/proc/self/exe', '-I', '-S', '-c', ''))\n"
        "gate = threading.Lock(); gate.acquire()\n"
        "other = threading.Thread(target=gate.acquire); other.start()\n"
        "print(start('/usr/bin/true'), start('/usr/bin/true', spawn=True))\n"
        "gate.release(); other.join()\n"
        "print(start('/usr/bin/true', spawn=True))\n"
    )
    done = run(area, found, code, supervised=True, before=without_landlock)
    no = str(-errno.EPERM)
    assert done.stdout.splitlines() == [f"0 0 0 {no} {-errno.ENOENT} 0", "0 0", "0"]
    release = os.uname().release
    missing = {f"{what}: not enforced (no Landlock on Linux {release})" for what in ("files", "programs")}
    assert missing <= set(done.status["degraded"])
    assert [line["reason"] for line in done.violations] == ["a program that the profile does not list"]


LOOKS = pytest.mark.parametrize("mode", ["audit", "look"])


def looked(area: Area, found: Profile, code: str, mode: str) -> Done:
    """Code under audit, or enforced, which looks unless told not to."""
    more = {"SANDBOX_MODE": "audit"} if mode == "audit" else {}
    return run(area, found, code, supervised=True, more=more)


@LOOKS
def test_what_the_rules_refuse_is_reported(area: Area, mode: str) -> None:
    """A read, a create, an unlink and a rename each have a line with the physical path and its text; the rest has none.

    Audit lets all of them happen; enforced with a look, Landlock refuses them as it does without.
    """
    (area.folder / "other" / "old").write_text("old")
    os.chown(area.folder / "other" / "old", *(2 * (area.uid if area.uid is not None else os.getuid(),)))
    (area.work / "link").symlink_to(area.secret)
    items = ("openat create", "openat write", "mkdir", "unlink", "rename", "access")
    found = learned(*LOADING, *items, writes=frozenset({f"{area.work}/*"}), reads=frozenset({"{root}/**"}))
    other = area.folder / "other"
    code = (
        "import os\n"
        "def tried(call, *args):\n"
        "    try:\n"
        "        call(*args); return 0\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        "w = os.O_CREAT | os.O_WRONLY\n"
        "print(tried(os.open, 'fine', w), tried(os.rename, 'fine', 'inner/fine'), tried(os.mkdir, 'made'),\n"
        f"  tried(os.stat, {str(area.secret)!r}), tried(os.open, '/nowhere/x', w), tried(os.open, 'link', 0),\n"
        f"  tried(os.open, '../other/new', w), tried(os.rename, 'inner/fine', '../other/fine'),\n"
        f"  tried(os.unlink, {str(other / 'old')!r}))\n"
    )
    done = looked(area, found, code, mode)
    no = 0 if mode == "audit" else errno.EACCES
    assert done.stdout.split() == [str(n) for n in (0, 0, 0, 0, errno.ENOENT, no, no, no, no)], done.status
    verdict, code_name = ("reported", "") if mode == "audit" else ("denied", "EACCES")
    write = f'files.write: ["{other}/*"]'
    assert [(v["syscall"], v["target"], v["allow"]) for v in done.violations] == [
        ("openat", str(area.secret), f"files.read: [{area.secret}]"), ("openat", str(other / "new"), write),
        ("rename", str(other / "fine"), write), ("unlink", str(other / "old"), write),
    ]  # fmt: skip
    assert {(v["verdict"], v["errno"]) for v in done.violations} == {(verdict, code_name)}
    assert any(line.startswith("files") for line in done.status["reported"])


@LOOKS
def test_what_the_file_system_refuses_has_no_line(area: Area, mode: str) -> None:
    """Each of these fails whatever the profile holds, outside its places; only the last, which would work, is told."""
    other = area.folder / "other"
    (other / "full" / "inner").mkdir(parents=True)
    (other / "loop").symlink_to("loop")
    (other / "file").write_text("x")
    (other / "closed").mkdir(mode=0o700)
    owner = area.uid if area.uid is not None else os.getuid()
    for path in (other / "full", other / "full" / "inner", other / "file"):
        os.chown(path, owner, owner)
    items = ("openat create", "openat write", "mkdir", "unlink", "rmdir", "rename", "link", "symlink", "truncate")
    found = learned(*LOADING, *items, writes=frozenset({f"{area.work}/*"}), reads=frozenset({"{root}/**"}))
    code = (
        "import errno, os\n"
        "def tried(call, *args):\n"
        "    try:\n"
        "        call(*args); return 'done'\n"
        "    except OSError as error:\n"
        "        return errno.errorcode[error.errno]\n"
        f"o = {str(other)!r} + '/'\n"
        "w, x = os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_EXCL | os.O_WRONLY\n"
        "print(tried(os.mkdir, o + 'file'), tried(os.open, o + 'file', x), tried(os.rmdir, o + 'full'),\n"
        "  tried(os.rmdir, o + 'file'), tried(os.unlink, o + 'missing'), tried(os.open, o + 'missing/new', w),\n"
        "  tried(os.open, o + 'full', os.O_RDWR), tried(os.open, o + 'loop', w), tried(os.open, o + 'file/', 0),\n"
        "  tried(os.rename, o + 'file', o + 'full'), tried(os.rename, o + 'full', o + 'full/inner/x'),\n"
        "  tried(os.rename, o + 'file', '/dev/shm/file'), tried(os.link, o + 'full', o + 'new'),\n"
        "  tried(os.symlink, 'x', o + 'file'), tried(os.truncate, o + 'full', 0),\n"
        "  tried(os.open, o + 'closed/secret', 0) if os.getuid() else 'EACCES', tried(os.unlink, o + 'file'))\n"
    )
    done = looked(area, found, code, mode)
    answers = done.stdout.split()
    assert answers.count("done") == (mode == "audit"), done.status
    if mode == "audit":
        assert answers == [
            "EEXIST", "EEXIST", "ENOTEMPTY", "ENOTDIR", "ENOENT", "ENOENT", "EISDIR", "ELOOP", "ENOTDIR", "EISDIR",
            "EINVAL", "EXDEV", "EPERM", "EEXIST", "EISDIR", "EACCES", "done",
        ]  # fmt: skip
    assert [(v["syscall"], v["target"]) for v in done.violations] == [("unlink", str(other / "file"))]


@LOOKS
def test_a_file_that_another_replaces(area: Area, mode: str) -> None:
    """A rule ends with its file, and the line says so and names the folder; under that the new one is readable."""
    folder = area.folder / "settings"
    folder.mkdir()
    folder.chmod(0o755)
    place, beside = folder / "app.conf", folder / "other.conf"
    no = 0 if mode == "audit" else errno.EACCES
    code = (
        "import os, time\n"
        "def tried(path):\n"
        "    try:\n"
        "        os.open(path, 0); return 0\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        f"place = {str(place)!r}\n"
        "before = tried(place)\n"
        "os.close(os.open('ready', os.O_CREAT | os.O_WRONLY))\n"
        "while os.stat(place).st_size == 3:\n"
        "    time.sleep(0.01)\n"
        f"print(before, tried(place), tried({str(beside)!r}))\n"
    )

    def served(*reads: str) -> Done:
        place.write_text("old")
        beside.write_text("old")
        (folder / "next").write_text("newer")
        for path in folder.iterdir():
            path.chmod(0o644)
        ready = area.work / "ready"
        ready.unlink(missing_ok=True)

        def replace() -> None:
            while not ready.exists():
                time.sleep(0.01)
            (folder / "next").rename(place)

        replaces = threading.Thread(target=replace, daemon=True)
        replaces.start()
        found = learned(
            *LOADING, "clock_nanosleep", "nanosleep", "openat create", reads=frozenset({"{root}/**", *reads}),
            writes=frozenset({f"{area.work}/*"}),
        )  # fmt: skip
        return looked(area, found, code, mode)

    done = served(str(place))
    assert done.stdout.split() == ["0", str(no), str(no)], done.status
    assert [(v["target"], v["allow"]) for v in done.violations] == [
        (str(place), f'files.read: ["{folder}/**"]'), (str(beside), f"files.read: [{beside}]"),
    ]  # fmt: skip
    assert "put in the place" in done.violations[0]["reason"]
    done = served(f"{folder}/**")
    assert (done.stdout.split(), done.violations) == (["0", "0", "0"], [])


@LOOKS
def test_audit_looks_at_calls_that_the_profile_does_not_have(area: Area, mode: str) -> None:
    """What the profile does not hold is refused as ever; audit lets it go on and reports its file, too."""
    found = learned(*LOADING, reads=frozenset({"{root}/**"}))
    code = (
        "import os\n"
        f"try:\n    os.mkdir({str(area.folder / 'new')!r})\nexcept OSError as error:\n    print(error.errno)\n"
    )
    done = looked(area, found, code, mode)
    if mode == "look":
        assert done.stdout.split() == [str(errno.EPERM)]
        assert [v["allow"] for v in done.violations] == ["syscalls.run.mkdir: {count: 1, because: <your reason>}"]
    else:
        assert done.stdout == ""
        assert [v["allow"] for v in done.violations][1:] == [f'files.write: ["{area.folder}/*"]']


@LOOKS
def test_what_runtimes_set_of_themselves_has_no_line(area: Area, mode: str) -> None:
    """HotSpot writes to its coredump_filter, and names of threads go to comm; of any other file there is a line."""
    found = learned(*LOADING, "openat write", reads=frozenset({"{root}/**"}))
    code = (
        "import os\n"
        "def tried(path):\n"
        "    try:\n"
        "        os.close(os.open(path, os.O_WRONLY)); return 0\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        "me = os.getpid()\n"
        "print(*map(tried, ('/proc/self/coredump_filter', f'/proc/{me}/task/{me}/comm', '/proc/self/clear_refs')))\n"
    )
    done = looked(area, found, code, mode)
    assert done.stdout.split() == [str(0 if mode == "audit" else errno.EACCES)] * 3
    assert [line["target"].rpartition("/")[2] for line in done.violations] == ["clear_refs"]


TIMER = """
import errno, importlib, os, sys, _signal as signal
import json, email.message, xml.dom, concurrent.futures
def imports():
    for name in [name for name in sys.modules if name.startswith(("json", "email", "xml", "concurrent"))]:
        del sys.modules[name]
    importlib.invalidate_caches()
    import json, email.message, xml.dom, concurrent.futures
def made():
    os.mkdir("x")
def removed():
    os.rmdir("x")
def opened():
    os.close(os.open("y", os.O_CREAT | os.O_RDWR))
def unlinked():
    os.unlink("y")
def looked():
    os.stat("/usr")
def exists():
    assert os.path.exists("/usr"), "a file is not there"
beats, failed = [], {}
signal.signal(signal.SIGALRM, lambda *_: beats.append(1))
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def attempt(step):
    try:
        step()
    except FileExistsError:
        pass  # the removal before it was interrupted
    except FileNotFoundError:
        if step not in (removed, unlinked): raise
    except Exception as error:
        number = getattr(error, "errno", None) or str(error)
        failed.setdefault(step.__name__, set()).add(errno.errorcode.get(number, number))
for i in range(600):
    for step in (looked, exists, made, removed, opened, unlinked):
        attempt(step)
    if i % 20 == 0:
        attempt(imports)
signal.setitimer(signal.ITIMER_REAL, 0)
print({name: sorted(errors) for name, errors in failed.items()}, len(beats) > 10, sep="; ")
"""


def beating(area: Area, more: Mapping[str, str]) -> tuple[dict[str, list[str]], Done]:
    """What failed, and how, of a program under a timer of 1 ms without SA_RESTART."""
    found = learned(
        *LOADING, "openat create", "mkdir", "rmdir", "setitimer", "unlink", "readlink", "getcwd", "poll",
        "epoll_create1",
        writes=frozenset({f"{area.work}/*"}), reads=frozenset({"{root}/**"}),
    )  # fmt: skip
    done = run(area, found, TIMER, supervised=True, more=more)
    failed, beats = done.stdout.strip().split("; ")
    assert beats == "True"
    return ast.literal_eval(failed), done


def test_nothing_is_notified_without_a_look(area: Area) -> None:
    """With SANDBOX_FILES=off path calls of the profile stay in the kernel: no timer without SA_RESTART ends one."""
    failed, done = beating(area, {"SANDBOX_FILES": "off"})
    assert failed == {}
    assert [(line["syscall"], line["class"], line["target"]) for line in done.violations] == []


def test_a_look_may_interrupt_what_it_looks_at(area: Area) -> None:
    """Under a look a call that waits may end with EINTR, and with nothing else; stat and exists are not looked at."""
    failed, done = beating(area, {})
    assert {error for errors in failed.values() for error in errors} <= {"EINTR"}
    assert not {"looked", "exists"} & failed.keys()
    assert [(line["syscall"], line["class"], line["target"]) for line in done.violations] == []


def test_moves_between_folders_below_further_layers(area: Area) -> None:
    """Files move and are linked between places to write; below a layer of the function's own that is EXDEV."""
    found = policy_of(learned("rename", "link", writes=frozenset({f"{area.work}/**", f"{area.folder}/other/**"})))
    (area.folder / "other" / "file").write_text("x")
    (area.folder / "other" / "second").write_text("x")
    for name in ("file", "second"):
        os.chown(area.folder / "other" / name, *(2 * (area.uid if area.uid is not None else os.getuid(),)))

    def attempts() -> Answers:
        other, inner = area.folder / "other", area.work / "inner"
        moved = tried(os.rename, other / "file", inner / "file")
        answers: Answers = [moved, tried(os.link, inner / "file", other / "l")]
        landlock.restrict(network=landlock.ACCESS_NET_CONNECT_TCP, ports={}, scoped=0)
        return [
            *answers, tried(os.rename, inner / "file", other / "file"), tried(os.link, other / "l", inner / "l"),
            tried(os.rename, other / "l", other / "m"),
        ]  # fmt: skip

    if landlock.abi_version() >= 4:
        assert confined(found, area.uid, attempts) == [0, 0, errno.EXDEV, errno.EXDEV, 0]


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket", "deleted", "memory", "links", "mount"])
def test_each_sort_of_file_as_a_learned_path(area: Area, kind: str) -> None:
    """A rule on it hinders no start and hangs none: what it means is open, and the file beside it is not."""
    place = area.work / "inner" / kind
    before: list[int] = []
    reads, name = {str(place)}, str(place)
    if kind == "pipe":
        before += os.pipe()
        reads, name = {"/dev/stdout", f"/proc/self/fd/{before[0]}", f"/dev/fd/{before[1]}"}, "/dev/null"
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place))
    elif kind == "deleted":
        reads, name = {f"{place} (deleted)"}, "/dev/null"
    elif kind == "memory":
        before.append(os.memfd_create("some"))
        reads, name = {f"/proc/self/fd/{before[0]}"}, "/dev/null"
    elif kind == "links":
        store = area.folder / "store"
        store.mkdir()
        (store / "file").write_text("x")
        place.symlink_to(store / "file")
    else:
        reads, name = {"/proc/**", "/sys/**"}, "/proc/self/status"
    found = policy_of(learned("openat read", reads=frozenset(reads)))
    opened = confined(
        found, None, lambda: [tried(os.open, name, os.O_RDONLY | os.O_NONBLOCK), tried(os.open, area.secret, 0)]
    )
    assert opened == [errno.ENXIO if kind == "socket" else 0, errno.EACCES]
    for fd in before:
        os.close(fd)


OF_OTHERS = """
import errno, os
def tried(path):
    try:
        with open(path, "rb") as file:
            file.read(1)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
child = os.fork()
if child == 0:
    os.read(os.pipe()[0], 1)
thread = f"/proc/self/task/{os.getpid()}"
own = ["/proc/self/status", f"/proc/{child}/cmdline", f"{thread}/stat", "/proc/meminfo", "/proc/self/net/nothing"]
others = ["/proc/1/cmdline", f"/proc/{os.getppid()}/task/{os.getppid()}/stat", "/proc/net/dev", f"{thread}/net/dev"]
print(*map(tried, own + others))
os.kill(child, 9)
os.waitpid(child, 0)
"""


@MODES
def test_what_proc_shows_of_others(area: Area, supervised: bool) -> None:
    """Other processes' files and /proc/net are refused by their path, unless listed; the own and a child's are read.

    Without a supervisor, and without a look, they stay open, and the status line says so.
    """
    items = (*LOADING, "clone process", "wait4", "pipe2", "kill SIGKILL")
    told = [f"files.read: [{path}]" for path in ('"/proc/*/cmdline"', '"/proc/*/stat"', "/proc/net/dev")]

    def read(*reads: str) -> Done:
        found = learned(*items, reads=frozenset({"{root}/**", *reads}))
        return run(area, found, OF_OTHERS, supervised=supervised)

    own, allowed, line = ["ok", "ok", "ok", "ok", "ENOENT"], ["ok"] * 4, "/proc shows command lines of other processes"
    done = read()
    assert done.stdout.split() == [*own, *(["EACCES"] * 4 if supervised else allowed)], done.status
    assert [violation["allow"] for violation in done.violations] == [*told, told[-1]] * supervised
    assert (line in str(done.status["degraded"])) == (not supervised)
    assert ("which code can race" in str(done.status["enforced"])) == supervised
    done = read("/proc/1/cmdline", "/proc/*/stat", "/proc/self/net/dev")
    assert (done.stdout.split(), done.violations) == ([*own, *allowed], [])
