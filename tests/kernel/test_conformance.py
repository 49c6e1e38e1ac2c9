"""One behaviour, two programs: the Python bootstrap and the native launcher, side by side on the real kernel.

Each test starts both with the same bundle and compares what they say, what they start, what it sees and how it ends.
What only one of them does (compiling a profile, learning, auditing) the launcher must hand to the other.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from child_processes import Ended, ended, ended_on_host
from guests import LOADING, notifying, profile
from init_errors import InitErrors
from process_table import READ_OWN_PROC
from users_and_folders import TARGETS, USERS, home_for, identity, place, user_id

from sandbox import bundle, launcher
from sandbox.confine.landlock_rules import chain
from sandbox.kernel import abi, bpf, landlock, seccomp
from sandbox.learn.platforms import LAMBDA
from sandbox.policy import build
from sandbox.profile.model import Profile, Training

LIMIT = 60
PT_LOAD, PT_INTERP = 1, 3  # man 5 elf
ALONE = "alone"
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")
NOTHING: Mapping[str, str] = MappingProxyType({})

SEEN = READ_OWN_PROC + """
print(json.dumps({
    "argv": read("cmdline").split(chr(0)), "environment": sorted(read("environ").split(chr(0))),
    "cwd": os.readlink("/proc/self/cwd"), "fds": fds, "limits": read("limits"),
    "ids": [status[key] for key in ("Uid", "Gid", "Groups", "CapEff", "Umask", "NoNewPrivs", "Seccomp")],
    "signals": [status[key] for key in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")],
}))
"""

ATTEMPTS = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what):
    try:
        return what() and "passed"
    except OSError as error:
        return error.errno
def execve():
    libc.execve(b"/bin/true", None, None)
    raise OSError(ctypes.get_errno(), "")
def parent():
    return open(f"/proc/{os.getppid()}/mem", "rb")
for what in (socket.socket, lambda: os.open("new", os.O_CREAT | os.O_WRONLY), execve, parent,
             lambda: os.kill(os.getpid(), 0) or True, lambda: os.kill(1, 0) or True,
             lambda: open("/etc/hostname"), lambda: open("/etc/shells"), lambda: open("/etc/hostname", "r+")):
    print(attempt(what), end=" ")
"""


def damaged(whole: bytes) -> dict[str, bytes]:
    """Policies that are not one any more: cut, changed, of another version, of other fields under a right digest."""
    size, ends = len(whole), bundle.DIGEST
    found = {f"cut-{length}": whole[:length] for length in (0, 7, 8, 12, 43, 44, size // 2, size - ends, size - 1)}
    for at in (0, 7, 8, 13, size // 3, size - ends - 1, size - 1):
        found[f"turned-{at}"] = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
    exec_at = 12 + 4 + int.from_bytes(whole[12:16], "little") + 1
    other = whole[:exec_at] + b"\x02" + whole[exec_at + 1 : -ends]
    rest = whole[12:-ends] + b"more"
    longer = whole[:8] + (12 + len(rest) + ends).to_bytes(4, "little") + rest
    return found | {
        "unknown-word": other + hashlib.sha256(other).digest(), "longer": longer + hashlib.sha256(longer).digest(),
        "garbage": os.urandom(size), "doubled": whole + whole,
        "older": b"sbxtwin\3" + whole[8:], "json": b'{"format": 3}',
    }  # fmt: skip


class Pair:
    """Both programs for one user, the launcher once more where no Python is beside it, and bundles."""

    def __init__(self, uid: int | None, home: Path, folder: Path) -> None:
        self.uid, self.folder = uid, folder
        built = home / "sandbox" / "launcher" / "built"
        name = f"launcher-{abi.MACHINE}"
        if not (built / name).exists():
            built.mkdir()
            shutil.copy(launcher.path(abi.MACHINE), built / name)
        self.programs = {"bootstrap": str(home / "bootstrap"), "launcher": str(built / name)}
        self.alone = folder / "launcher"
        shutil.copy(built / name, self.alone)
        found = profile(*LOADING, "pause", "dup2")
        self.make("bundle", found)
        self.make("files", dataclasses.replace(found, reads=frozenset({"/etc/hostname", "{root}/**", "{python}/**"})))
        self.make("api", profile(*LOADING, runtime_api=True, network=("runtime-api",)))
        sockets = ("connect", "socket AF_INET SOCK_DGRAM", "socket AF_UNIX SOCK_STREAM")
        self.make("ports", profile(*LOADING, *sockets, runtime_api=True, network=("db.test:5432", "tcp://10.0.0.1:9")))
        training = Training("0123456789ab", kernel="4.14.1", architecture=abi.MACHINE, libc="none", python="2.7.1",
                            handler_digest="00", lock_digest="00")  # fmt: skip
        moved = Training("0123456789ab", kernel="4.14.1", architecture=abi.MACHINE)
        self.make("moved", dataclasses.replace(found, trainings=frozenset({moved})))
        self.make("stale", dataclasses.replace(found, trainings=frozenset({training})))
        self.make("granted", profile(*LOADING, "kill", grants=("execve", "kill")))
        self.make("forks", profile(*LOADING, "clone process"))
        whole = (folder / "bundle" / bundle.FILE).read_bytes()
        for name, data in damaged(whole).items():
            shutil.copytree(folder / "bundle", folder / name)
            (folder / name / bundle.FILE).write_bytes(data)
        shutil.copytree(folder / "bundle", folder / "folder")
        (folder / "folder" / bundle.FILE).unlink()
        (folder / "folder" / bundle.FILE).mkdir()
        (folder / "empty").mkdir()
        for name, text in (("no-interpreter", "#!/nonexistent/sh\n"), ("text", "neither fish nor fowl\n"),
                           ("script", "#!/usr/bin/env -S sh -e\necho ran\n")):  # fmt: skip
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "plain").write_text("x")
        (folder / "plain").chmod(0o644)

    def make(self, name: str, found: Profile) -> None:
        """A bundle in the folder."""
        build.write(build.build(found, (abi.MACHINE,)), str(self.folder / name))

    def run(
        self, which: str, *command: str, more: Mapping[str, str] = NOTHING, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """One of both with a command; empty variables are unset, {folder} is ours."""
        known = {"PATH": "/usr/bin:/bin", "SANDBOX_POLICY": "{folder}/bundle", "SANDBOX_SUPERVISE": "0"} | dict(more)
        environment = {key: self.placed(value) for key, value in known.items() if value or key == "EMPTY"}
        options = {"cwd": self.folder, **options}
        program = self.programs.get(which) or str(self.alone)
        return subprocess.run(
            [program, *map(self.placed, command)], env=environment, capture_output=True, text=True,
            errors="backslashreplace", timeout=LIMIT, check=False, **identity(self.uid), **options,
        )  # fmt: skip

    def placed(self, word: str) -> str:
        """A word with the folder in it."""
        return word.replace("{folder}", str(self.folder))

    def target(self, name: str, *flags: str) -> str:
        """A C program of targets/, compiled."""
        path = self.folder / f"{name}.program"
        if not path.exists():
            subprocess.run(["cc", "-O1", "-static", *flags, "-o", str(path), str(TARGETS / f"{name}.c")], check=True)
            path.chmod(0o755)
        return str(path)

    def both(
        self, *command: str, more: Mapping[str, str] = NOTHING, **options: Any
    ) -> list[subprocess.CompletedProcess[str]]:
        """The ends of both, bootstrap first."""
        return [self.run(which, *command, more=more, **options) for which in self.programs]


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both starters for each user, in a folder of its own."""
    launcher.path(abi.MACHINE)
    with home_for(request.param) as home, place(request.param) as folder:
        folder.chmod(0o755)
        yield Pair(request.param, home, folder)


def status_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The status line, without what only the launcher says: what it could not check."""
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"event": "sandbox"')]
    assert len(lines) == 1, done.stderr
    found: dict[str, Any] = lines[0]
    found.pop("unchecked", None)
    if "stale" in found:
        found["stale"] = [line for line in found["stale"] if not line.startswith("libc")]
    return found


SUPERVISED = pytest.mark.parametrize("supervise", ["0", "1"])


@SUPERVISED
@pytest.mark.parametrize("bundle", ["bundle", "files", "api", "ports", "stale", "granted"])
def test_the_same_status_line(pair: Pair, bundle: str, supervise: str) -> None:
    """Both say the same keys with the same values, and start the same command with the same end."""
    more = {"SANDBOX_POLICY": "{folder}/" + bundle, "SANDBOX_SUPERVISE": supervise, "LAMBDA_TASK_ROOT": "{folder}"}
    if bundle in ("api", "ports"):
        more["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:9"
    for command in (("/bin/sh", "-c", "echo ran; exit 3"), ("{folder}/script",), ("python3", "-c", "print('ran')")):
        ours, theirs = pair.both(*command, more=more)
        assert status_of(ours) == status_of(theirs)
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
        assert ours.stdout == "ran\n" or "script" in command[0], ours.stderr
    assert list(json.loads(theirs.stderr.splitlines()[0])) == [
        key for key in ("event", "mode", "function", "policy", "requested", "enforced", "degraded", "reported",
                        "stale", "unchecked", "filters") if key in theirs.stderr
    ]  # fmt: skip
    assert ('"unchecked": ["libc"]' in theirs.stderr) == (bundle == "stale")


@pytest.mark.parametrize("name", ["pypy3.11", "python3.14t"])
def test_the_library_of_any_python(pair: Pair, name: str) -> None:
    """{python} is what lies beside an interpreter under its own name, and not there for another program."""
    folder = pair.folder / "prefix"
    for directory in (folder / "bin", folder / "lib" / name):
        directory.mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/sh", folder / "bin" / name)
    (folder / "lib" / name / "os.py").touch()
    more = {"SANDBOX_POLICY": "{folder}/files", "SANDBOX_SUPERVISE": "0", "LAMBDA_TASK_ROOT": "{folder}"}
    for program, absent in ((str(folder / "bin" / name), False), ("/bin/sh", True)):
        ours, theirs = pair.both(program, "-c", "echo ran", more=more)
        assert status_of(ours) == status_of(theirs)
        assert (ours.stdout, theirs.stdout) == ("ran\n", "ran\n")
        assert any("{python}" in text for text in status_of(ours)["enforced"]) is absent


@SUPERVISED
@pytest.mark.parametrize("bundle", ["bundle", "files", "granted"])
def test_the_same_verdicts(pair: Pair, bundle: str, supervise: str) -> None:
    """What the handler may do and what it may not is the same, with and without a supervisor."""
    more = {"SANDBOX_POLICY": "{folder}/" + bundle, "SANDBOX_SUPERVISE": supervise, "LAMBDA_TASK_ROOT": "/opt"}
    ours, theirs = pair.both(*PYTHON, ATTEMPTS, more=more)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), theirs.stderr
    assert str(errno.EPERM) in theirs.stdout.split()
    assert (pair.folder / "new").exists() is False


@SUPERVISED
@pytest.mark.parametrize("mode", ["enforce", "off"])
def test_the_handler_sees_the_same(pair: Pair, mode: str, supervise: str) -> None:
    """Arguments, environment, directory, descriptors, limits, signals and identity are the same."""
    odd = {"EMPTY": "", "ODD": "ü\nline", "BYTES": "\udcff", "_HANDLER": "x.y", "LC_ALL": "C.UTF-8"}
    more = odd | {"SANDBOX_MODE": mode, "SANDBOX_SUPERVISE": supervise}
    theirs, ours = os.pipe()
    try:
        seen = [
            json.loads(done.stdout)
            for done in pair.both(*PYTHON, SEEN, "", "a b", "ü", "\udcfe", more=more, pass_fds=(ours,), umask=0o027)
        ]
    finally:
        os.close(theirs)
        os.close(ours)
    assert seen[0] == seen[1]
    assert not [entry for entry in seen[1]["environment"] if entry.startswith("SANDBOX_")]


CASES: dict[str, tuple[dict[str, str], tuple[str, ...], int]] = {
    "no such policy": ({"SANDBOX_POLICY": "/nonexistent"}, ("/bin/true",), 67),
    "no policy named": ({"SANDBOX_POLICY": ""}, ("/bin/true",), 67),
    "an unknown function": ({"SANDBOX_POLICY": "", "AWS_LAMBDA_FUNCTION_NAME": "x", "LAMBDA_TASK_ROOT": "/opt"},
                            ("/bin/true",), 67),
    "an empty bundle": ({"SANDBOX_POLICY": "{folder}/empty"}, ("/bin/true",), 66),
    "a damaged policy": ({"SANDBOX_POLICY": "{folder}/cut-44"}, ("/bin/true",), 66),
    "no such command": ({}, ("/nonexistent/handler",), 73),
    "no such name": ({}, ("no-such-command",), 73),
    "a name that is no text": ({}, ("\udcff",), 73),
    "not executable": ({}, ("{folder}/plain",), 73),
    "a folder": ({}, ("{folder}/empty",), 73),
    "no interpreter": ({}, ("{folder}/no-interpreter",), 73),
    "no interpreter, supervised": ({"SANDBOX_SUPERVISE": "1"}, ("{folder}/no-interpreter",), 73),
    "no interpreter, off": ({"SANDBOX_MODE": "off"}, ("{folder}/no-interpreter",), 73),
    "no program at all": ({}, ("{folder}/text",), 73),
    "no such mode": ({"SANDBOX_MODE": "of"}, ("/bin/true",), 64),
    "no such setting": ({"SANDBOX_MOD": "audit"}, ("/bin/true",), 64),
    "no such word": ({"SANDBOX_ON_UNAVAILABLE": "maybe"}, ("/bin/true",), 64),
    "no such start": ({"SANDBOX_SUPERVISE": "yes"}, ("/bin/true",), 64),
    "a relay of nobody": ({"SANDBOX_REQUEST_ID": "relay"}, ("/bin/true",), 64),
    "activity that nobody sees": ({"SANDBOX_ACTIVITY": "full"}, ("/bin/true",), 64),
    "nothing to do": ({}, (), 64),
    "no such root": ({"_HANDLER": "a.b", "LAMBDA_TASK_ROOT": "/nonexistent"}, (), 73),
    "a path as name": ({"SANDBOX_POLICY": "", "AWS_LAMBDA_FUNCTION_NAME": "../x"}, ("/bin/true",), 64),
    "another kernel": ({"SANDBOX_POLICY": "{folder}/moved", "SANDBOX_STALE": "refuse"}, ("/bin/true",), 78),
    "no such wrapper": ({"SANDBOX_NEXT_WRAPPER": "/nonexistent"}, ("/bin/true",), 73),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_same_errors(pair: Pair, api: InitErrors, case: str) -> None:
    """Each failure has the same code, the same words, and the same report to the Runtime API; nothing is started."""
    more, command, code = CASES[case]
    told = {"AWS_LAMBDA_RUNTIME_API": api.name, "SANDBOX_POLICY": "{folder}/api"}
    if not command or "relay" in case or "root" in case:
        told["SANDBOX_POLICY"] = "{folder}/bundle"
    seen = []
    for which in pair.programs:
        done = pair.run(which, *command, more=told | more)
        ((path, header, body),) = api.requests
        api.requests.clear()
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith('{"event"')]
        seen.append((done.stdout, lines, path, header, body))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("case", CASES)
def test_the_same_errors_without_python(pair: Pair, api: InitErrors, case: str) -> None:
    """Where no Python is beside it the launcher ends with the same code and type, and says in short what to do."""
    more, command, code = CASES[case]
    told = {"AWS_LAMBDA_RUNTIME_API": api.name, "SANDBOX_POLICY": "{folder}/api"} | more
    if not command or "relay" in case or "root" in case:
        told["SANDBOX_POLICY"] = "{folder}/bundle"
    done = pair.run(ALONE, *command, more=told)
    ((_, header, body),) = api.requests
    api.requests.clear()
    assert (done.returncode, done.stdout) == (code, "")
    ours = pair.run("bootstrap", *command, more=told)
    assert (ours.returncode, api.requests[0][1]) == (code, header)
    assert header == body["errorType"]
    assert f"sandbox: {header}: " in done.stderr
    assert "what to do: " in body["errorMessage"]


def test_a_bundle_of_another_package_starts_nothing(pair: Pair) -> None:
    """Where a manifest lies above the bundle and does not list it, neither starts: exit code 79."""
    package = pair.folder / "package"
    if not package.exists():
        shutil.copytree(pair.folder / "bundle", package / "policy")
        digest = hashlib.sha256((package / "policy" / bundle.FILE).read_bytes()).hexdigest()
        files = {f"policy/{bundle.FILE}": {"sha256": digest, "mode": "644"}}
        (package / "manifest.json").write_text(json.dumps({"format": 1, "function": "x", "files": files}))
    more = {"SANDBOX_POLICY": "{folder}/package/policy"}
    for which in (*pair.programs, ALONE):
        assert pair.run(which, "/bin/echo", "ran", more=more).stdout == "ran\n"
    other = pair.folder / "other"
    if not other.exists():
        shutil.copytree(pair.folder / "files", other / "policy")
        shutil.copy(package / "manifest.json", other)
    for which in (*pair.programs, ALONE):
        done = pair.run(which, "/bin/echo", "ran", more={"SANDBOX_POLICY": "{folder}/other/policy"})
        assert (done.returncode, done.stdout) == (79, "")
        assert "is not the policy that manifest.json lists" in done.stderr


def test_another_bundle_of_the_same_package_starts_nothing(pair: Pair) -> None:
    """Two bundles in each other's place, or a link to one elsewhere: neither program takes one for the other."""
    package = pair.folder / "two"
    if not package.exists():
        files = {}
        for name, source in (("one", "files"), ("other", "bundle")):
            shutil.copytree(pair.folder / source, package / name)
            wrong = pair.folder / ("bundle" if source == "files" else "files")
            digest = hashlib.sha256((wrong / bundle.FILE).read_bytes()).hexdigest()
            files[f"{name}/{bundle.FILE}"] = {"sha256": digest, "mode": "644"}
        text = json.dumps({"format": 1, "function": "x", "files": files}, indent=1)
        (package / "manifest.json").write_text(text)
        (package / "linked").symlink_to(pair.folder / "bundle")
    for name in ("one", "other", "linked"):
        for which in (*pair.programs, ALONE):
            done = pair.run(which, "/bin/echo", "ran", more={"SANDBOX_POLICY": "{folder}/two/" + name})
            assert (done.returncode, done.stdout) == (79, ""), (which, name, done.stderr)


def test_folders_are_no_programs(pair: Pair) -> None:
    """Neither env's -C nor a listed folder gives the right to execute, or read, what lies below a folder."""
    if os.access("/root/.bashrc", os.R_OK) != (pair.uid is None) or not landlock.abi_version():
        pytest.skip("needs Landlock, and a file that only root may read")
    tool = pair.folder / "below" / "tool"
    if not tool.parent.exists():
        tool.parent.mkdir()
        shutil.copy("/bin/true", tool)
        script = pair.folder / "elsewhere"
        script.write_text(
            f"#!/usr/bin/env -S -C / /bin/sh -c 'echo started; {tool} && echo ran; exec < /etc/shells && echo read'\n"
        )
        script.chmod(0o755)
        found = profile(*LOADING, "execve", "chdir", "wait4", "clone process", "vfork process", "dup2")
        reads = frozenset({"/usr/**", "/lib/**", "/lib64/**", "/bin/**"})
        listed = frozenset({"/bin/true", "/bin/sh", str(tool.parent)})
        pair.make("folders", dataclasses.replace(found, reads=reads, processes=listed))
    for supervise in ("0", "1"):
        more = {"SANDBOX_POLICY": "{folder}/folders", "SANDBOX_SUPERVISE": supervise}
        ours, theirs = pair.both("{folder}/elsewhere", more=more)
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
        assert theirs.stdout == "started\n"
        assert status_of(ours) == status_of(theirs)
        assert f"not here: {tool.parent}" in theirs.stderr


def test_programs_of_the_interpreter(pair: Pair) -> None:
    """{python} is what the start runs under, wherever that is, and {venv} its environment: no other program starts."""
    if not landlock.abi_version():
        pytest.skip("needs Landlock")
    tools = pair.folder / "environment" / "bin"
    if not tools.exists():
        tools.mkdir(parents=True)
        (tools.parent / "pyvenv.cfg").touch()
        for name, source in (("python", "/bin/sh"), ("tool", "/bin/echo"), ("other", "/bin/echo")):
            shutil.copy(source, tools / name)
        found = profile(*LOADING, "execve", "wait4", "clone process", "vfork process", "dup2")
        listed = frozenset({"{python}", "{venv}/bin/tool", "{venv}/bin/absent"})
        reads = frozenset({"/usr/**", "/lib/**", "/lib64/**", "/bin/**"})
        pair.make("interpreter", dataclasses.replace(found, reads=reads, processes=listed))
    text = f"{tools}/python -c 'echo itself'; {tools}/tool ran; {tools}/other ran; {tools}/../bin/other ran"
    for supervise in ("0", "1"):
        more = {"SANDBOX_POLICY": "{folder}/interpreter", "SANDBOX_SUPERVISE": supervise}
        ours, theirs = pair.both(f"{tools}/python", "-c", text, more=more)
        assert (ours.stdout, theirs.stdout) == ("itself\nran\n",) * 2, ours.stderr + theirs.stderr
        assert status_of(ours) == status_of(theirs)
        assert f"not here: {tools}/absent" in theirs.stderr


def test_a_folder_of_devices_is_named(pair: Pair) -> None:
    """/dev/shm is a place to write like others: the line names it, and no program may lie there."""
    if not landlock.abi_version() or not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs Landlock and /dev/shm")
    if not (pair.folder / "shm").exists():
        found = dataclasses.replace(profile(*LOADING, "execve"), writes=frozenset({"/dev/shm/**"}))
        pair.make("shm", dataclasses.replace(found, processes=frozenset({"/dev/shm/tool"})))
    for done in pair.both("/bin/echo", "ran", more={"SANDBOX_POLICY": "{folder}/shm"}):
        assert "write /dev/shm, by" in done.stderr
        assert "programs: /dev/shm/tool lies where the function writes" in status_of(done)["degraded"]


PATHS = """
import json, os, sys
def attempt(call, *args):
    try:
        found = call(*args)
    except OSError as error:
        return error.errno
    if call is os.open:
        os.close(found)
    return 0
def native():
    words = open(f"/proc/{os.getppid()}/cmdline", "rb").read().split(b"\\0")
    return b"decide" not in words and b"start" not in words
import xml.dom.minidom, argparse
w = os.O_CREAT | os.O_WRONLY
os.chdir("work")
quiet = [
    attempt(os.open, "new", w), attempt(os.rename, "new", "inner/new"), attempt(os.unlink, "inner/new"),
    attempt(os.mkdir, "made"), attempt(os.listdir, "made"), attempt(os.rmdir, "made"), attempt(os.open, "/no/x", w),
    attempt(os.open, "/etc/hostname", 0), attempt(os.open, "/proc/self/status", 0), attempt(os.open, "/dev/null", 2),
    attempt(os.open, "/proc/thread-self/comm", 1), attempt(os.listdir, "/proc/self/fd"), attempt(os.open, "own", 0),
    attempt(os.open, "inner/../../script", 0), attempt(os.truncate, "nothing", 0), attempt(os.open, "../none", 0),
]
alone = native()
loud = [
    attempt(os.open, "../work-secret", 0), attempt(os.open, "leads", 0), attempt(os.open, "../other/new", w),
    attempt(os.rename, "kept", "../other/kept"), attempt(os.mkdir, "../other/made"), attempt(os.unlink, "../other/old"),
    attempt(os.open, "/proc/self/fd/../root/../etc/shells", 0), attempt(os.listdir, ".."),
]
print(json.dumps([quiet, alone, loud]))
"""


def test_refused_paths_have_the_same_lines(pair: Pair) -> None:
    """A read, a create, a rename, an unlink: the same lines; until the first of them the launcher has no Python."""
    if landlock.abi_version() < 3:
        pytest.skip("needs Landlock, where truncate(2) and renames can be held")
    work, other = pair.folder / "work", pair.folder / "other"
    for path in (work, work / "inner", other):
        path.mkdir(exist_ok=True)
    for path in (work / "kept", other / "old", pair.folder / "work-secret"):
        path.write_text("x")
    for name, to in (("leads", "../work-secret"), ("own", "../script")):
        if not (work / name).is_symlink():
            (work / name).symlink_to(to)
    if pair.uid is not None:
        for path in (work, work / "inner", other, work / "kept", other / "old", pair.folder / "work-secret"):
            os.chown(path, pair.uid, pair.uid)
    items = ("openat create", "openat write", "mkdir", "rmdir", "unlink", "rename", "truncate", "chdir", "readlink")
    reads = frozenset({"/etc/hostname", "{python}/**", f"{pair.folder}/script", "/proc/**"})
    found = dataclasses.replace(profile(*LOADING, *items), reads=reads, writes=frozenset({f"{work}/**"}))
    told = []
    with place(None) as shelf:  # who renames could put another bundle in the place of one in its own folder
        shelf.chmod(0o755)
        build.write(build.build(found, (abi.MACHINE,)), str(shelf / "paths"))
        ends = pair.both(*PYTHON, PATHS, more={"SANDBOX_POLICY": str(shelf / "paths"), "SANDBOX_SUPERVISE": "1"})
    for done in ends:
        assert done.returncode == 0, done.stderr
        quiet, alone, loud = json.loads(done.stdout)
        missing, no = errno.ENOENT, errno.EACCES
        assert quiet == [*[0] * 6, missing, 0, 0, 0, no, 0, 0, 0, missing, missing], done.stderr
        assert loud == [no] * 8
        lines = [json.loads(line) for line in done.stderr.splitlines() if '"event": "violation"' in line]
        keys = ("syscall", "class", "target", "allow", "errno", "reason", "verdict")
        told.append([{key: line.get(key) for key in keys} for line in lines])
    assert alone  # of the launcher, which is the second
    assert told[0] == told[1]
    folder = str(pair.folder)
    assert [line["target"] for line in told[0]] == [
        f"{folder}/work-secret", f"{folder}/work-secret", f"{other}/new", f"{other}/kept", f"{other}/made",
        f"{other}/old", "/etc/shells", folder,
    ]  # fmt: skip


def before_linux_5_19() -> None:
    """Refuse the flag by which waiting calls are not interrupted, as kernels do that do not know it."""
    seccomp.set_no_new_privs()
    flag = seccomp.FLAG_WAIT_KILLABLE_RECV
    refused = bpf.returning(abi.number("seccomp"), (((1, flag, flag),),), bpf.ERRNO | errno.EINVAL)
    seccomp.install(bpf.pack((*bpf.before(refused, abi.AUDIT_ARCH), (bpf.RET_K, 0, 0, bpf.ALLOW))))


def test_nobody_looks_where_that_could_end_a_call(pair: Pair) -> None:
    """Where any signal ends a call that waits, a refused file has a line on request alone, and the status says so."""
    if not landlock.abi_version():
        pytest.skip("needs Landlock")
    code = "import os\ntry:\n    os.open('/etc/shells', 0)\nexcept OSError as error:\n    print(error.errno)"
    more = {"SANDBOX_POLICY": "{folder}/files", "SANDBOX_SUPERVISE": "1"}
    for files, seen in (("", False), ("look", True), ("off", False)):
        ends = pair.both(*PYTHON, code, more={**more, "SANDBOX_FILES": files}, preexec_fn=before_linux_5_19)
        ours, theirs = map(status_of, ends)
        assert ours == theirs
        assert any("what Landlock refuses has no line" in text for text in ours["degraded"]) == (not files)
        assert ours.get("reported") == (["files: what Landlock refuses"] if seen else None)
        for done in ends:
            assert done.stdout.split() == [str(errno.EACCES)], done.stderr
            assert ('"target": "/etc/shells"' in done.stderr) == seen


@SUPERVISED
def test_a_program_is_told_by_its_content(pair: Pair, supervise: str) -> None:
    """Where the function writes the listed content starts, and without a supervisor another, which is degraded."""
    if not landlock.abi_version():
        pytest.skip("needs Landlock")
    work = pair.folder / "content-work"
    work.mkdir(exist_ok=True)
    tool, listed, other = str(work / "tool"), Path("/bin/true"), Path("/bin/echo")
    found = profile(*LOADING, "execve", "clone process", "wait4", "pipe2", "dup2", "fcntl F_DUPFD")
    digests = frozenset({(tool, hashlib.sha256(listed.read_bytes()).hexdigest())})
    pair.make("content", dataclasses.replace(
        found, writes=frozenset({f"{work}/*"}), processes=frozenset({tool}), digests=digests,
        interpreters=frozenset((tool, path) for path, is_loader in chain("/bin/true", "") if is_loader),
    ))  # fmt: skip
    policy = {"SANDBOX_POLICY": "{folder}/content", "SANDBOX_SUPERVISE": supervise}
    for source, starts in ((listed, True), (other, supervise == "0")):
        shutil.copy(source, tool)
        ours, theirs = pair.both("/bin/sh", "-c", f"{tool}; echo $?; :", more=policy)
        for done in (ours, theirs):
            assert done.stdout.splitlines()[-1:] == ["0" if starts else "126"], done.stderr
        assert status_of(ours) == status_of(theirs)
        opened = f"programs: whatever is put into {work} can be started"
        assert (opened in status_of(ours)["degraded"]) == (supervise == "0")


def test_standard_output_as_a_place_to_write(pair: Pair) -> None:
    """A program that opened /dev/stdout in training starts where that is a pipe, and writes to it."""
    if not landlock.abi_version() or pair.uid is not None:
        pytest.skip("needs Landlock, and a pipe of the same user")
    if not (pair.folder / "stdout").exists():
        found = profile(*LOADING, "openat write", "openat create", "dup2", "fcntl F_DUPFD")
        names = frozenset({"/dev/stdout", "/proc/self/fd/1"})
        pair.make("stdout", dataclasses.replace(found, reads=names | {"/usr/**", "/lib/**"}, writes=names))
    for supervise in ("0", "1"):
        more = {"SANDBOX_POLICY": "{folder}/stdout", "SANDBOX_SUPERVISE": supervise}
        for done in pair.both("/bin/sh", "-c", "echo ran > /dev/stdout; echo lost > /tmp/of-nobody", more=more):
            assert done.stdout == "ran\n", done.stderr
            assert "Permission denied" in done.stderr


def test_no_orphan_escapes(pair: Pair) -> None:
    """A grandchild whose parent ends at once is the supervisor's, however long that takes to load."""
    pair.make("forks", profile(*LOADING, "clone process", "vfork process", "wait4", "getppid"))
    more = {"SANDBOX_POLICY": "{folder}/forks", "SANDBOX_SUPERVISE": "1"}
    for done in pair.both(pair.target("orphan"), more=more):
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 1


def test_a_caller_that_ignores_its_children(pair: Pair) -> None:
    """Where SIGCHLD comes ignored both hear the handler's end, and the handler finds it ignored."""
    ignored = functools.partial(signal.signal, signal.SIGCHLD, signal.SIG_IGN)
    code = "import signal, sys; sys.exit(signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN)"
    for supervise in ("0", "1"):
        for done in pair.both(*PYTHON, code, more={"SANDBOX_SUPERVISE": supervise}, preexec_fn=ignored):
            assert done.returncode == 1, done.stderr


def test_a_supervisor_that_does_not_run_ends_the_function(pair: Pair) -> None:
    """An interpreter that ends at once leaves nobody to answer: the handler ends with it, in the call that needed it.

    One that cannot be started is an error before there is a handler.
    """
    more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_PYTHON": "/bin/true"}
    refused = "import os\nprint('ran', flush=True)\nos.fork()\nprint('alone')"
    done = pair.run("launcher", *PYTHON, refused, more=more)
    assert done.stdout == "ran\n"
    done = pair.run("launcher", "/bin/echo", "ran", more=more | {"SANDBOX_PYTHON": "{folder}/plain"})
    assert (done.returncode, done.stdout) == (69, "")


def test_a_user_with_many_groups(pair: Pair) -> None:
    """/proc/self/status is read to its end, however long it is."""
    if pair.uid is not None:
        pytest.skip("only root may have groups")
    for done in pair.both("/bin/echo", "ran", preexec_fn=lambda: os.setgroups(range(5000, 6500))):
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_long_variables_arrive_or_are_refused(pair: Pair) -> None:
    """What does not fit into the way to the supervisor stops the start; nothing is cut off."""
    more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_EVENT_KEY": "00" * 40000}
    done = pair.run("launcher", "/bin/echo", "ran", more=more)
    assert (done.returncode, done.stdout) == (69, "")
    assert "does not take all our variables" in done.stderr


def test_an_error_steers_no_terminal(pair: Pair) -> None:
    """What a path holds that a terminal would obey or hide is written out in the error, by both starters."""
    path = "/none\x1b]0;x\x07\x7f\u202e\x9b\udcff\U000e0041ü\t\r"
    for which in (*pair.programs, ALONE):
        done = pair.run(which, "/bin/echo", more={"SANDBOX_POLICY": path})
        assert done.returncode == 67
        assert "/none\\x1b]0;x\\x07\\x7f\\u202e\\x9b\\xff\\U000e0041ü\\x09\\x0d" in done.stderr
        assert all(line.isprintable() for line in done.stderr.split("\n"))


def test_a_pipe_in_place_of_the_policy(pair: Pair) -> None:
    """A FIFO that nobody writes to stops no start for ever."""
    folder = pair.folder / "pipe"
    if not folder.exists():
        shutil.copytree(pair.folder / "bundle", folder)
        (folder / bundle.FILE).unlink()
        os.mkfifo(folder / bundle.FILE)
        (folder / bundle.FILE).chmod(0o444)
    for supervise in ("0", "1"):
        more = {"SANDBOX_POLICY": str(folder), "SANDBOX_SUPERVISE": supervise}
        for which in (*pair.programs, ALONE):
            assert pair.run(which, "/bin/echo", more=more).returncode == 66


def test_nothing_of_a_starting_supervisor_helps(pair: Pair) -> None:
    """From its first instruction on the handler finds no variable of ours in its parent, even where it is root's."""
    more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_EVENT_KEY": "the-key"}
    crowded = functools.partial(os.sched_setaffinity, 0, {min(os.sched_getaffinity(0))})
    look = pair.target("look", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-builtin")
    for _ in range(20):
        for done in pair.both(look, more=more, preexec_fn=crowded):
            assert (done.returncode, "the-key" in done.stdout) == (0, False), done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1.9", "127.0.0.1.zz", "127.0.0"])
def test_an_address_that_is_none_is_not_told(pair: Pair, api: InitErrors, host: str) -> None:
    """The report of an error goes to the platform's address, and not to what begins like one."""
    more = {"AWS_LAMBDA_RUNTIME_API": f"{host}:{api.name.rpartition(':')[2]}", "SANDBOX_POLICY": "/nonexistent"}
    assert pair.run(ALONE, "/bin/true", more=more).returncode == 67
    assert api.requests == []


def test_more_places_than_descriptors(pair: Pair) -> None:
    """The launcher holds a hundred files to read where a process may have half as many descriptors."""
    data = pair.folder / "data"
    if not data.exists():
        data.mkdir()
        places = [data / str(number) for number in range(100)]
        for place in places:
            place.write_text("x")
            place.chmod(0o644)
        found = dataclasses.replace(profile(*LOADING, "pause", "dup2"), reads=frozenset(map(str, places)))
        pair.make("many", found)
    (data / "other").write_text("x")
    code = f"""
import os
for number in range(100):
    open(f"{data}/{{number}}").close()
try:
    open("{data}/other")
except PermissionError:
    print(sorted(os.listdir("/proc/self/fd")))
"""
    for supervise in ("0", "1"):
        more = {"SANDBOX_POLICY": "{folder}/many", "SANDBOX_SUPERVISE": supervise}
        few = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (52, 52))
        done = pair.run("launcher", *PYTHON, code, more=more, preexec_fn=few)
        assert (done.returncode, done.stdout) == (0, "['0', '1', '2', '3']\n"), done.stderr


@pytest.mark.parametrize("supervise", ["0", "1"])
def test_damage_of_any_kind_starts_nothing(pair: Pair, supervise: str) -> None:
    """A policy that is cut, changed or not one is exit code 66 and PolicyInvalid, whoever reads it."""
    names = [*damaged((pair.folder / "bundle" / bundle.FILE).read_bytes()), "folder"]
    for name in names:
        more = {"SANDBOX_POLICY": "{folder}/" + name, "SANDBOX_SUPERVISE": supervise}
        for which in (*pair.programs, ALONE):
            done = pair.run(which, "/bin/echo", "started", more=more)
            assert (done.returncode, done.stdout) == (66, ""), (name, which, done.stderr)
            assert "sandbox: Runtime.SandboxPolicyInvalid: " in done.stderr
            assert "what to do: compile the profile again" in done.stderr


def test_the_policy_of_the_status_line_is_that_of_the_file(pair: Pair) -> None:
    """What `sha256sum policy.bin` says, both programs say."""
    digest = hashlib.sha256((pair.folder / "bundle" / bundle.FILE).read_bytes()).hexdigest()
    for which in (*pair.programs, ALONE):
        assert status_of(pair.run(which, "/bin/echo", "ran"))["policy"] == f"sha256:{digest}"


def lines_of(output: bytes) -> list[Any]:
    """What was printed, with JSON as what it says."""
    return [json.loads(line) if line.startswith(b"{") else line for line in output.splitlines()]


def below(pair: Pair, which: str, refused: Mapping[str, int], *command: str, **more: str) -> Ended:
    """One of both on a host that refuses calls; its output and errors together."""
    known = {"PATH": "/usr/bin:/bin", "SANDBOX_POLICY": str(pair.folder / "bundle"), "SANDBOX_SUPERVISE": "0"} | more
    return ended_on_host(refused, pair.uid, pair.folder, [pair.programs[which], *command], known)


@pytest.mark.parametrize("warn", ["fail", "warn"])
@pytest.mark.parametrize(
    "refused",
    [{"seccomp": errno.EPERM}, {"seccomp": errno.ENOSYS}, {"seccomp": errno.EBUSY}, {"seccomp": 0},
     {"landlock_create_ruleset": errno.ENOSYS}, {"landlock_restrict_self": errno.E2BIG}, {"prctl": errno.EPERM}],
    ids=str,
)  # fmt: skip
def test_the_same_on_a_host_that_refuses(pair: Pair, refused: Mapping[str, int], warn: str) -> None:
    """Where a step of the installation is refused, both end with the same code and say the same."""
    ours, theirs = (
        below(pair, which, refused, "/bin/echo", "started", SANDBOX_ON_UNAVAILABLE=warn) for which in pair.programs
    )
    assert ours.code == theirs.code
    assert lines_of(ours.output) == lines_of(theirs.output)
    assert (b"started" in theirs.output) == (theirs.code == 0)


@pytest.mark.parametrize(
    "refused",
    [{"landlock_create_ruleset": errno.ENOSYS}, {"clone": errno.EAGAIN}, {"prctl": errno.EPERM},
     {"pidfd_getfd": errno.EPERM}, LAMBDA.refuses],
    ids=lambda refused: next(iter(refused)) if len(refused) < 9 else LAMBDA.name,
)  # fmt: skip
def test_a_supervised_start_on_a_host_that_refuses(pair: Pair, refused: Mapping[str, int]) -> None:
    """What is in force, and what is not, both say alike; without a new process neither starts anything."""
    ours, theirs = (below(pair, which, refused, "/bin/echo", "ran", SANDBOX_SUPERVISE="1") for which in pair.programs)
    assert (ours.code, ours.output) == (theirs.code, theirs.output)
    assert (theirs.code == 0) == ("clone" not in refused)


def below_a_listener(
    pair: Pair, which: str, *command: str, before: Callable[[], None] = lambda: None, **more: str
) -> Ended:  # fmt: skip
    """A start where another filter's listener stands above, which nobody answers."""

    def start(write: int) -> None:
        before()
        seccomp.set_no_new_privs()
        os.set_inheritable(seccomp.install(notifying("getitimer"), seccomp.FLAG_NEW_LISTENER), True)
        os.dup2(write, 1)
        os.dup2(write, 2)
        known = {"PATH": "/usr/bin:/bin", "SANDBOX_POLICY": str(pair.folder / "granted"), **more}
        os.execve(pair.programs[which], [pair.programs[which], *command], known)

    return ended(start, pair.uid)


@pytest.mark.parametrize("command", ["exit 5", "kill -9 $$", "kill -TERM $$"])
def test_the_same_below_another_listener(pair: Pair, command: str) -> None:
    """Where a listener stands above, both say so, enforce by themselves, wait beside the handler and end as it."""

    ours, theirs = (below_a_listener(pair, which, "/bin/sh", "-c", command) for which in pair.programs)
    assert (ours.status, ours.output) == (theirs.status, theirs.output)
    assert b"supervision: a listener stands above" in theirs.output
    assert theirs.status == (5 << 8 if command == "exit 5" else theirs.signal)
    assert command == "exit 5" or theirs.signal in (signal.SIGTERM, signal.SIGKILL)


def test_nothing_is_left_behind_below_another_listener(pair: Pair) -> None:
    """Without a supervisor, too, the start ends with the function, and what the function left behind with the start."""
    code = (
        "import os, time\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os.close(1); os.close(2)\n"
        "    time.sleep(60)\n"
        "print(pid, flush=True)\n"
        "os._exit(5)\n"
    )
    for which in pair.programs:
        found = below_a_listener(pair, which, *PYTHON, code, SANDBOX_POLICY=str(pair.folder / "forks"))
        assert os.waitstatus_to_exitcode(found.status) == 5, found.output
        left = int(found.output.split()[-1])
        assert not os.path.exists(f"/proc/{left}/exe"), which


def test_below_another_listener_the_function_ends_with_the_start(pair: Pair) -> None:
    """What was started is killed: the function ends within seconds, though nobody supervises it."""

    def kill_starter() -> None:
        starter = os.getpid()
        if not os.fork():
            time.sleep(1)
            os.kill(starter, signal.SIGKILL)
            os._exit(0)

    before = time.monotonic()
    for which in pair.programs:
        found = below_a_listener(pair, which, *PYTHON, "import time\ntime.sleep(60)", before=kill_starter)
        assert found.signal == signal.SIGKILL, found.output
    assert time.monotonic() - before < 30


def test_a_fake_needs_a_supervisor_that_leads_to_it(pair: Pair) -> None:
    """Below another listener nobody could lead a connect to it, and production would be reached: nothing starts."""
    fake = "db.test:5432=127.0.0.1:15432"
    for which in pair.programs:
        found = below_a_listener(pair, which, "/bin/echo", "started", SANDBOX_STANDS_FOR=fake)
        assert os.waitstatus_to_exitcode(found.status) == 69, found.output
        assert b"SANDBOX_STANDS_FOR: is set, but nothing here could redirect a connect to a fake" in found.output
        assert b"started" not in found.output.splitlines()


@SUPERVISED
def test_ends_are_the_handlers(pair: Pair, supervise: str) -> None:
    """Exit codes and signals of the handler are those of the program that was started."""
    for code in (0, 1, 64, 127, 255):
        for done in pair.both("/bin/sh", "-c", f"exit {code}", more={"SANDBOX_SUPERVISE": supervise}):
            assert done.returncode == code
    for done in pair.both(*PYTHON, "import os; os.abort()", more={"SANDBOX_SUPERVISE": supervise}):
        assert done.returncode == -signal.SIGABRT


@SUPERVISED
@pytest.mark.parametrize("which", ["bootstrap", "launcher"])
def test_a_request_to_end_reaches_the_handler(pair: Pair, which: str, supervise: str) -> None:
    """SIGTERM to what was started ends the handler by its own means, whenever it comes."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('up', flush=True)\n"
    policy = str(pair.folder / "bundle")
    environment = {"PATH": "/usr/bin:/bin", "SANDBOX_POLICY": policy, "SANDBOX_SUPERVISE": supervise}
    process = subprocess.Popen(
        [pair.programs[which], *PYTHON, code + "signal.pause()"], env=environment, cwd=pair.folder,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **identity(pair.uid),
    )  # fmt: skip
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(LIMIT) == 7
    finally:
        process.kill()
        process.communicate()


def test_the_event_key_stays_with_the_supervisor(pair: Pair) -> None:
    """No process of a supervised start shows our variables, and the supervisor has them."""
    code = (
        "import os\n"
        "def environ(pid):\n"
        "    try:\n"
        "        return open(f'/proc/{pid}/environ', 'rb').read()\n"
        "    except OSError as error:\n"
        "        return str(error.errno).encode()\n"
        "command = open(f'/proc/{os.getppid()}/cmdline', 'rb').read()\n"
        # in two parts: a supervisor that has not been executed yet shows this very text as its command line
        "print(b'SANDBOX' + b'_' in environ('self') + environ(os.getppid()) + command)"
    )
    more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_EVENT_KEY": "00" * 32}
    done = pair.run("launcher", *PYTHON, code, more=more)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    refused = pair.run("launcher", *PYTHON, "import os\ntry: os.fork()\nexcept OSError: print(1)", more=more)
    assert (refused.returncode, refused.stdout) == (0, "1\n"), refused.stderr
    lines = [line for line in refused.stderr.splitlines() if '"supervisor"' in line]
    assert all("hmac" in json.loads(line) for line in lines)
    assert [line for line in lines if '"fork"' in line or '"clone"' in line]


@pytest.mark.parametrize("which", ["bootstrap", "launcher"])
def test_events_that_cannot_be_written_end_the_start(pair: Pair, which: str) -> None:
    """A sink that is none is an error with its own code; the function does not go on unreported."""
    more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_EVENTS": "pigeon:x"}
    done = pair.run(which, *PYTHON, "import signal; signal.pause()", more=more)
    assert done.returncode == 64, done.stderr
    assert "SANDBOX_EVENTS" in done.stderr


def test_what_goes_unchecked_is_not_claimed(pair: Pair) -> None:
    """The launcher does not know the C library: it says so, and where a difference stops the start, Python looks."""
    more = {"SANDBOX_POLICY": "{folder}/libc"}
    if not (pair.folder / "libc").exists():
        training = Training("0123456789ab", libc="none")
        found = dataclasses.replace(profile(*LOADING, "pause", "dup2"), trainings=frozenset({training}))
        pair.make("libc", found)
    done = pair.run("launcher", "/bin/echo", "ran", more=more)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert '"unchecked": ["libc"]' in done.stderr
    ours, theirs = pair.both("/bin/echo", "ran", more=more | {"SANDBOX_STALE": "refuse"})
    assert (theirs.returncode, theirs.stdout, theirs.stderr) == (78, "", ours.stderr)


def test_a_wrapper_between(pair: Pair) -> None:
    """With SANDBOX_NEXT_WRAPPER both exec the wrapper with themselves first, which execs them: innermost, last."""
    wrapper = pair.folder / "wrapper"
    if not wrapper.exists():
        wrapper.write_text('#!/bin/sh\nexport WRAPPED="${SANDBOX_NEXT_WRAPPER-gone} $#"\nexec "$@"\n')
        wrapper.chmod(0o755)
    for mode in ("enforce", "off"):
        more = {"SANDBOX_NEXT_WRAPPER": str(wrapper), "SANDBOX_MODE": mode}
        for done in pair.both("/bin/sh", "-c", 'echo "$WRAPPED"', more=more):
            assert (done.returncode, done.stdout) == (0, "gone 4\n"), done.stderr
            assert status_of(done)["mode"] == mode


def test_what_the_launcher_leaves_to_python(pair: Pair) -> None:
    """Audit mode and a profile that must be compiled come to the same end; without Python each is an error."""
    audit = {"SANDBOX_MODE": "audit", "SANDBOX_SUPERVISE": "1"}
    ours, theirs = pair.both("/bin/echo", "ran", more=audit)
    assert status_of(ours) == status_of(theirs)
    assert ours.stdout == theirs.stdout == "ran\n"
    assert pair.run(ALONE, "/bin/echo", more=audit).returncode == 70
    assert pair.run(ALONE, "/bin/echo", more={"SANDBOX_MODE": "learn"}).returncode == 64
    status = {"SANDBOX_STATUS": "fd:1"}
    ours, theirs = pair.both("/bin/echo", "ran", more=status)
    assert ours.stdout == theirs.stdout
    assert ours.stdout.startswith('{"event": "sandbox", ')
    assert ours.stderr == theirs.stderr == ""
    assert pair.run(ALONE, "/bin/echo", more=status).returncode == 64
    assert all(done.returncode == 64 for done in pair.both("/bin/echo", more={"SANDBOX_STATUS": "standard error"}))
    fake = {"SANDBOX_STANDS_FOR": "a.test:1=127.0.0.1:2", "SANDBOX_SUPERVISE": "1"}
    ours, theirs = pair.both("/bin/echo", "ran", more=fake)
    assert status_of(ours) == status_of(theirs)
    assert "network: a.test:1=127.0.0.1:2 (SANDBOX_STANDS_FOR)" in status_of(theirs)["degraded"]
    assert pair.run(ALONE, "/bin/echo", more=fake).returncode == 64
    done = pair.run(ALONE, "/bin/echo", "ran", more={"SANDBOX_SUPERVISE": "1"})
    assert done.stdout == "ran\n"
    said = status_of(done)
    assert "supervision" in said["requested"]
    assert "supervision" not in said["enforced"]
    assert any(line.startswith("supervision: no Python supervisor") for line in said["degraded"])


def test_the_launcher_is_small_and_static() -> None:
    """At most 72 KiB, two thirds the attendant's, with no interpreter of its own and no word of libc's headers."""
    program = launcher.binary(abi.MACHINE)
    assert len(program) <= launcher.LARGEST
    assert program[:4] == b"\x7fELF"
    start, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    kinds = {struct.unpack_from("<I", program, start + size * i)[0] for i in range(count)}
    assert PT_LOAD in kinds
    assert PT_INTERP not in kinds
    for source in {*launcher.HERE.glob("*.[ch]")} - {*launcher.HERE.glob("fuzz*.c")}:
        included = [line for line in source.read_text().splitlines() if line.startswith("#include <")]
        assert set(included) <= {
            "#include <stdarg.h>", "#include <stddef.h>", "#include <stdint.h>",
        }  # fmt: skip
