"""The real ./bootstrap as a child: what it says, what it hands on, and how it ends when it cannot."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from child_processes import Ended, ended_on_host
from guests import LOADING, policy, profile
from init_errors import InitErrors
from process_table import READ_OWN_PROC
from users_and_folders import USERS, home_for, identity, place, user_id

from sandbox import bundle
from sandbox.errors import SandboxError
from sandbox.kernel import abi, landlock
from sandbox.policy import build
from sandbox.profile import document
from sandbox.profile.model import Training

PATH = {"PATH": "/usr/bin:/bin", "SANDBOX_SUPERVISE": "0"}
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")
LIMIT = 60
ITEMS = (*LOADING, "pause", "dup2")

# What a program can see of how it was started; read from the kernel, not from the interpreter's own copy.
SEEN = READ_OWN_PROC + """
print(json.dumps({
    "argv": read("cmdline").split(chr(0)), "environment": sorted(read("environ").split(chr(0))),
    "cwd": os.readlink("/proc/self/cwd"),
    "fds": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in fds}, "limits": read("limits"),
    "ids": [status[key] for key in ("Uid", "Gid", "Groups", "PPid", "CapEff", "Umask")],
    "signals": [status[key] for key in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")],
    "group": read("stat").rpartition(")")[2].split()[2:6], "nice": read("stat").rpartition(")")[2].split()[16],
}))
"""


class Start:
    """A user with a bundle, and ways to start the bootstrap."""

    def __init__(self, uid: int | None, home: Path, folder: Path) -> None:
        self.uid, self.home, self.folder = uid, home, folder
        self.bundle = folder / "bundle"
        found = profile(*ITEMS)
        build.write(build.build(found, (abi.MACHINE,)), str(self.bundle))
        self.yaml = folder / "some.yaml"
        self.yaml.write_text(document.write(found))
        self.yaml.chmod(0o644)

    @property
    def command(self) -> str:
        """The bootstrap."""
        return str(self.home / "bootstrap")

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """The test's variables over those that name the bundle; an empty value unsets."""
        merged = PATH | {"SANDBOX_POLICY": str(self.bundle)} | dict(more)
        return {key: value for key, value in merged.items() if value or key == "EMPTY"}

    def run(
        self, *command: str, cwd: Path | None = None, more: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.CompletedProcess[str]:
        """Start the bootstrap with a command and wait for its end."""
        return subprocess.run(
            [self.command, *command], env=self.environment(more), cwd=cwd or self.folder, capture_output=True,
            text=True, timeout=LIMIT, check=False, **identity(self.uid),
        )  # fmt: skip


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Each user with a bundle in a folder of its own."""
    with home_for(request.param) as home, place(request.param) as folder:
        yield Start(request.param, home, folder)


def status_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one line of status."""
    (line,) = done.stderr.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_one_line_says_what_is_in_force(start: Start) -> None:
    """Standard error holds one JSON line: what was asked for, what is in force, what is not, and the digest."""
    done = start.run("/bin/true")
    assert (done.returncode, done.stdout) == (0, "")
    said = status_of(done)
    assert said["policy"] == "sha256:" + bundle.read(str(start.bundle), abi.MACHINE).digest
    assert (said["event"], said["mode"], said["function"]) == ("sandbox", "enforce", "some")
    assert {"syscalls", "exec: single-use", "signals: self"} <= set(said["requested"]) & set(said["enforced"])
    assert all(line.startswith("network") for line in said["degraded"])
    assert said["filters"] >= 1


def test_the_policy_is_in_force(start: Start) -> None:
    """The handler can do what it learned; what it did not, fails with EPERM; switched off, it does not fail."""
    code = (
        "import os, socket, ctypes\n"
        "print(open('/etc/hostname').read() != '', end=' ')\n"
        "for attempt in (lambda: socket.socket(), lambda: os.open('new', os.O_CREAT | os.O_WRONLY), os.fork):\n"
        "    try:\n"
        "        attempt() or os._exit(0)\n"
        "        print('passed', end=' ')\n"
        "    except OSError as error:\n"
        "        print(error.errno, end=' ')\n"
    )
    done = start.run(*PYTHON, code)
    assert done.stdout.split() == ["True", *[str(errno.EPERM)] * 3]
    assert not (start.folder / "new").exists()
    off = start.run(*PYTHON, code, more={"SANDBOX_MODE": "off"})
    assert off.stdout.split()[:3] == ["True", "passed", "passed"]
    (start.folder / "new").unlink()


@pytest.mark.parametrize("mode", ["enforce", "off"])
def test_the_handler_sees_what_it_would_see_without_us(start: Start, mode: str) -> None:
    """Arguments, environment, directory, descriptors, limits, signals and identity are those of a direct start."""
    theirs, ours = os.pipe()
    more = {"EMPTY": "", "ODD": "ü\nline", "BYTES": "\udcff", "_HANDLER": "x.y"}
    environment = start.environment(more | {"SANDBOX_MODE": mode, "SANDBOX_ON_UNAVAILABLE": "fail"})
    arguments = [*PYTHON, SEEN, "", "a b", "ü", "\udcfe", "--option", "-I"]
    try:
        seen = []
        for command in (arguments, [start.command, *arguments]):
            kept = {key: value for key, value in environment.items() if not key.startswith("SANDBOX_")}
            done = subprocess.run(
                command, env=environment if command[0] == start.command else kept, cwd=start.folder, check=True,
                capture_output=True, timeout=LIMIT, pass_fds=(theirs,), umask=0o027, **identity(start.uid),
            )  # fmt: skip
            seen.append(json.loads(done.stdout))
    finally:
        os.close(theirs)
        os.close(ours)
    direct, through = seen
    for found in seen:
        pipes = {fd: text for fd, text in found["fds"].items() if text.startswith("pipe:")}
        assert str(theirs) in pipes
        found["fds"] = {fd: "pipe" if fd in pipes else text for fd, text in found["fds"].items()}
    assert through == direct


def test_our_variables_are_gone(start: Start) -> None:
    """No variable of ours reaches the handler; one that would be ours, and is not known, starts nothing."""
    more = {"SANDBOX_ON_UNAVAILABLE": "fail", "NOT_SANDBOX_": "stays"}
    for unknown in ("SANDBOX_SECRET", "SANDBOX_"):
        refused = start.run(*PYTHON, "print('ran')", more={**more, unknown: "x"})
        assert (refused.returncode, refused.stdout) == (64, ""), refused.stderr
        assert f"{unknown}: is not a setting" in refused.stderr
    done = start.run(*PYTHON, "import os; print(*sorted(os.environ))", more=more)
    names = done.stdout.split()
    assert "NOT_SANDBOX_" in names
    assert not [name for name in names if name.startswith("SANDBOX_")]


@pytest.mark.parametrize("code", [0, 1, 3, 64, 127, 255])
def test_exit_codes_are_the_handlers(start: Start, code: int) -> None:
    """The exit code is the handler's own, whatever it is."""
    assert start.run("/bin/sh", "-c", f"exit {code}").returncode == code


def test_signals_are_the_handlers(start: Start) -> None:
    """A handler that aborts or crashes ends as it would by itself; the process is the one that was started."""
    assert start.run(*PYTHON, "import os; os.abort()").returncode == -signal.SIGABRT
    crash = "import ctypes; ctypes.string_at(8)"
    assert start.run(*PYTHON, crash).returncode == -signal.SIGSEGV
    process = subprocess.Popen(
        [start.command, *PYTHON, "import os, signal; print(os.getpid(), flush=True); signal.pause()"],
        env=start.environment({}), cwd=start.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        **identity(start.uid),
    )  # fmt: skip
    try:
        assert process.stdout
        assert select.select([process.stdout], [], [], LIMIT)[0]
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_a_closed_pipe_ends_the_handler(start: Start) -> None:
    """SIGPIPE and SIGXFSZ do what they do by default, although the bootstrap's interpreter ignores them."""
    script = 'while read -r key value; do case $key in SigIgn:) echo "$value";; esac; done < /proc/self/status'
    direct = subprocess.run(["/bin/sh", "-c", script], env=PATH, capture_output=True, text=True, check=True).stdout
    assert direct
    for mode in ("enforce", "off"):
        assert start.run("/bin/sh", "-c", script, more={"SANDBOX_MODE": mode}).stdout == direct


def test_off_says_so(start: Start) -> None:
    """SANDBOX_MODE=off execs without a policy, needs none, and says that nothing is in force."""
    done = start.run("/bin/sh", "-c", "echo ran", more={"SANDBOX_MODE": "off", "SANDBOX_POLICY": ""})
    assert (done.returncode, done.stdout) == (0, "ran\n")
    said = status_of(done)
    assert (said["mode"], said["enforced"]) == ("off", [])
    assert said["degraded"] == ["everything: SANDBOX_MODE=off"]


def test_a_profile_is_compiled_on_the_spot(start: Start) -> None:
    """Given a YAML profile it compiles it, says so with the time it took, and enforces what the bundle would."""
    done = start.run("/bin/sh", "-c", "echo ran", more={"SANDBOX_POLICY": str(start.yaml)})
    assert (done.returncode, done.stdout) == (0, "ran\n")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"sandbox: compiled {start.yaml} in ")
    assert "`sandbox compile` does it ahead of time" in first
    said = json.loads(second)
    assert said["policy"] == "sha256:" + bundle.read(str(start.bundle), abi.MACHINE).digest
    assert "syscalls" in said["enforced"]


def test_where_the_policy_is_looked_for(start: Start) -> None:
    """By the function's name in the task root first and then here; a bundle before a profile of the same name."""
    root, here = start.folder / "root", start.folder / "here"
    for folder in (root, here):
        (folder / "profiles").mkdir(parents=True, exist_ok=True)
    shutil.copytree(start.bundle, here / "profiles" / "demo", dirs_exist_ok=True)
    more = {"SANDBOX_POLICY": "", "AWS_LAMBDA_FUNCTION_NAME": "demo", "LAMBDA_TASK_ROOT": str(root)}
    assert status_of(start.run("/bin/true", cwd=here, more=more))["function"] == "some"
    other = profile(*ITEMS, "uname", "times")
    build.write(build.build(other, (abi.MACHINE,)), str(root / "profiles" / "demo"))
    said = status_of(start.run("/bin/true", cwd=here, more=more))
    assert said["policy"] == "sha256:" + bundle.read(str(root / "profiles" / "demo"), abi.MACHINE).digest
    (root / "profiles" / "demo.yaml").write_text("this is no profile")
    assert start.run("/bin/true", cwd=here, more=more).returncode == 0
    done = start.run("/bin/true", cwd=here, more=more | {"AWS_LAMBDA_FUNCTION_NAME": "unknown"})
    assert done.returncode == 67
    assert f"{root}/profiles/unknown" in done.stderr
    assert "/opt/profiles/unknown" in done.stderr


def test_the_custom_runtime(start: Start) -> None:
    """Without arguments it starts awslambdaric for $_HANDLER in the task root; our files are named from before."""
    root = start.folder / "task"
    root.mkdir(exist_ok=True)
    python = start.folder / "python"
    python.write_text('#!/bin/sh\necho "$@" in "$PWD" with "$AWS_LAMBDA_FUNCTION_NAME"\n')
    python.chmod(0o755)
    more = {
        "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": str(root), "SANDBOX_PYTHON": str(python),
        "SANDBOX_POLICY": "bundle", "AWS_LAMBDA_FUNCTION_NAME": "f",
    }  # fmt: skip
    done = start.run(cwd=start.folder, more=more)
    assert done.stdout == f"-m awslambdaric app.handler in {root} with f\n", done.stderr


CASES: dict[str, tuple[dict[str, str], tuple[str, ...], int, str]] = {
    "no such policy": ({"SANDBOX_POLICY": "/nonexistent"}, ("/bin/true",), 67, "PolicyNotFound"),
    "no policy named": ({"SANDBOX_POLICY": ""}, ("/bin/true",), 67, "PolicyNotFound"),
    "an empty bundle": ({"SANDBOX_POLICY": "{folder}/empty"}, ("/bin/true",), 66, "PolicyInvalid"),
    "a damaged program": ({"SANDBOX_POLICY": "{folder}/damaged"}, ("/bin/true",), 66, "PolicyInvalid"),
    "a damaged profile": ({"SANDBOX_POLICY": "{folder}/broken.yaml"}, ("/bin/true",), 66, "PolicyInvalid"),
    "no such command": ({}, ("/nonexistent/handler",), 73, "HandlerNotFound"),
    "no such name": ({}, ("no-such-command",), 73, "HandlerNotFound"),
    "a name that is no text": ({}, ("\udcff",), 73, "HandlerNotFound"),
    "not executable": ({}, ("{folder}/some.yaml",), 73, "HandlerNotFound"),
    "no interpreter": ({}, ("{folder}/no-interpreter",), 73, "HandlerNotFound"),
    "no interpreter, off": ({"SANDBOX_MODE": "off"}, ("{folder}/no-interpreter",), 73, "HandlerNotFound"),
    "no program at all": ({"SANDBOX_MODE": "off"}, ("{folder}/text",), 73, "HandlerNotFound"),
    "no such mode": ({"SANDBOX_MODE": "of"}, ("/bin/true",), 64, "Usage"),
    "a relay of nobody": (
        {"SANDBOX_REQUEST_ID": "relay", "SANDBOX_SUPERVISE": "0"}, ("/bin/true",), 64, "Usage",
    ),
    "no such word": ({"SANDBOX_ON_UNAVAILABLE": "maybe"}, ("/bin/true",), 64, "Usage"),
    "nothing to do": ({}, (), 64, "Usage"),
    "no such root": ({"_HANDLER": "a.b", "LAMBDA_TASK_ROOT": "/nonexistent"}, (), 73, "HandlerNotFound"),
    "a path as name": ({"SANDBOX_POLICY": "", "AWS_LAMBDA_FUNCTION_NAME": "../x"}, ("/bin/true",), 64, "Usage"),
    "no port": ({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1"}, ("/bin/true",), 64, "Usage"),
    "odd digits": ({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:\u00b2"}, ("/bin/true",), 64, "Usage"),
    "a port too large": ({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:65536"}, ("/bin/true",), 64, "Usage"),
}


def placed(start: Start, words: Iterable[str]) -> list[str]:
    """Words of a case, with the folder in them."""
    return [word.replace("{folder}", str(start.folder)) for word in words]


@pytest.fixture
def broken(start: Start) -> Start:
    """What the cases above name, and a bundle of a function that speaks the Runtime API."""
    damaged = start.folder / "damaged"
    if damaged.exists():
        return start
    (start.folder / "empty").mkdir()
    shutil.copytree(start.bundle, damaged)
    found = profile(*ITEMS, runtime_api=True, network=("runtime-api",))
    build.write(build.build(found, (abi.MACHINE,)), str(start.folder / "api"))
    file = damaged / bundle.FILE
    whole = file.read_bytes()
    program = bundle.read(str(damaged), abi.MACHINE).program
    file.write_bytes(whole.replace(program, program[:-8] + b"\x06\0\0\0\0\0\xfe\x7f"))
    (start.folder / "broken.yaml").write_text("schema: 1\nfunction: {name: x}\nsyscalls: [\n")
    for name, text in (("no-interpreter", "#!/nonexistent/sh\n"), ("text", "neither fish nor fowl\n")):
        (start.folder / name).write_text(text)
        (start.folder / name).chmod(0o755)
    return start


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_done_has_its_own_code(broken: Start, case: str) -> None:
    """Each failure has its exit code, says its type, what happened and what to do, and starts nothing."""
    more, command, code, kind = CASES[case]
    done = broken.run(*placed(broken, command), more=dict(zip(more, placed(broken, more.values()), strict=True)))
    assert done.returncode == code, done.stderr
    assert f"sandbox: Runtime.Sandbox{kind}: " in done.stderr
    assert "what to do: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("case", "module", "cause"),
    [
        ("a damaged program", "/sandbox/bundle.py:", ""),
        ("a damaged profile", "/sandbox/profile/places.py:", "ParserError: "),
        ("no interpreter", "/sandbox/start/launch.py:", "FileNotFoundError: "),
    ],
)
def test_causes_are_shown_when_asked_for(broken: Start, case: str, module: str, cause: str) -> None:
    """With SANDBOX_DEBUG=1 the causes follow the usual text, the compiler's own included, and where each was raised."""
    more, command, code, _ = CASES[case]
    own = dict(zip(more, placed(broken, more.values()), strict=True))
    usual = broken.run(*placed(broken, command), more=own)
    done = broken.run(*placed(broken, command), more=own | {"SANDBOX_DEBUG": "1"})
    assert done.returncode == usual.returncode == code
    assert "caused by" not in usual.stderr
    assert "    at " not in usual.stderr
    assert [line for line in usual.stderr.splitlines() if line not in done.stderr.splitlines()] == []
    assert any(line.startswith("    at ") and module in line for line in done.stderr.splitlines())
    assert f"  caused by: {cause}" in done.stderr or not cause


@pytest.mark.parametrize(
    "case", ["no such policy", "a damaged program", "no such command", "no such mode", "no interpreter"]
)
def test_the_platform_is_told(broken: Start, api: InitErrors, case: str) -> None:
    """A failure is posted to /runtime/init/error once, with our type in header and body, and the message."""
    more, command, code, kind = CASES[case]
    known = {"SANDBOX_POLICY": str(broken.folder / "api"), "AWS_LAMBDA_RUNTIME_API": api.name}
    own = dict(zip(more, placed(broken, more.values()), strict=True))
    done = broken.run(*placed(broken, command), more=known | own)
    assert done.returncode == code, done.stderr
    ((path, header, body),) = api.requests
    assert path == "/2018-06-01/runtime/init/error"
    assert header == body["errorType"] == f"Runtime.Sandbox{kind}"
    assert body["errorMessage"].splitlines()[0] in done.stderr
    assert body["stackTrace"] == []


@pytest.mark.parametrize("supervise", ["0", "1"])
@pytest.mark.parametrize("command", ["no-interpreter", "text"])
def test_the_platform_is_told_from_behind_the_rules(
    broken: Start, api: InitErrors, command: str, supervise: str
) -> None:
    """Also an exec that fails when Landlock and the filters are in force, and our own files can be read no more."""
    bundle = broken.folder / "api-files"
    if not bundle.exists():
        found = dataclasses.replace(
            profile(*ITEMS, runtime_api=True, network=("runtime-api",)), reads=frozenset({"/etc/hostname"})
        )
        build.write(build.build(found, (abi.MACHINE,)), str(bundle))
    more = {"SANDBOX_POLICY": str(bundle), "AWS_LAMBDA_RUNTIME_API": api.name, "SANDBOX_SUPERVISE": supervise}
    done = broken.run(str(broken.folder / command), more=more)
    assert done.returncode == 73, done.stderr
    status = json.loads(next(line for line in done.stderr.splitlines() if line.startswith("{")))
    assert landlock.abi_version() == 0 or any(line.startswith("files: read") for line in status["enforced"])
    ((path, header, body),) = api.requests
    assert (path, header) == ("/2018-06-01/runtime/init/error", "Runtime.SandboxHandlerNotFound")
    assert "cannot be executed" in body["errorMessage"]
    assert "was not told" not in done.stderr


@pytest.mark.parametrize("supervise", ["0", "1"])
def test_a_stale_policy_is_refused_where_that_is_asked_for(start: Start, api: InitErrors, supervise: str) -> None:
    """Learned on another kernel: by default a word in the status line, with `refuse` no start, and a report."""
    bundle = start.folder / "stale"
    if not bundle.exists():
        training = Training("0123456789ab", kernel="4.14.1", architecture=abi.MACHINE)
        found = dataclasses.replace(
            profile(*ITEMS, runtime_api=True, network=("runtime-api",)), trainings=frozenset({training})
        )
        build.write(build.build(found, (abi.MACHINE,)), str(bundle))
    more = {"SANDBOX_POLICY": str(bundle), "AWS_LAMBDA_RUNTIME_API": api.name, "SANDBOX_SUPERVISE": supervise}
    warned = start.run("/bin/echo", "started", more=more)
    assert (warned.returncode, warned.stdout) == (0, "started\n")
    assert any("4.14" in text for text in status_of(warned)["stale"])
    assert api.requests == []
    refused = start.run("/bin/echo", "started", more=more | {"SANDBOX_STALE": "refuse"})
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "4.14" in refused.stderr
    ((_, header, _),) = api.requests
    assert header == "Runtime.SandboxPolicyStale"


FAULT = """
import sys
sys.path.insert(0, {home!r})
from sandbox.confine import single_exec
from sandbox.start import launch
def fault(self):
    raise KeyError("no such word")
single_exec.Launch.exec = fault
sys.argv = ["bootstrap", "/bin/true"]
launch.main()
"""


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_fault_of_ours_is_an_error_like_others(broken: Start, api: InitErrors, debug: str) -> None:
    """What nobody foresaw in the supervised child: a text, an exit code that means it, a report; a trace when asked."""
    more = {
        "SANDBOX_SUPERVISE": "1", "SANDBOX_DEBUG": debug, "AWS_LAMBDA_RUNTIME_API": api.name,
        "SANDBOX_POLICY": str(broken.folder / "api"),
    }  # fmt: skip
    done = subprocess.run(
        [*PYTHON, FAULT.format(home=str(broken.home))], env=broken.environment(more), cwd=broken.folder,
        capture_output=True, text=True, timeout=LIMIT, check=False, **identity(broken.uid),
    )  # fmt: skip
    assert done.returncode == SandboxError.exit_code, done.stderr
    assert "sandbox: Runtime.SandboxError: bootstrap: internal error: KeyError: 'no such word'\n" in done.stderr
    assert "what to do: please report this" in done.stderr
    assert ("  caused by: KeyError: " in done.stderr) == bool(debug)
    assert (" in fault\n" in done.stderr) == bool(debug)
    ((_, header, _body),) = api.requests
    assert header == SandboxError.error_type


def test_an_api_that_does_not_answer_holds_nobody_up(start: Start) -> None:
    """A Runtime API that is not there, or says nothing, does not change the exit code and costs seconds at most."""
    with InitErrors(answers=False) as silent, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for name in (silent.name, f"127.0.0.1:{nobody.getsockname()[1]}"):
            began = time.monotonic()
            done = start.run("/nonexistent", more={"AWS_LAMBDA_RUNTIME_API": name})
            assert done.returncode == 73
            assert time.monotonic() - began < 5


def below(start: Start, number: int, *command: str, **more: str) -> Ended:
    """The bootstrap on a host whose seccomp(2) gives an errno; its output and errors together."""
    ours = [start.command, *command]
    return ended_on_host({"seccomp": number}, start.uid, start.folder, ours, start.environment(more))


@pytest.mark.parametrize(("number", "code"), [(errno.EPERM, 69), (errno.ENOSYS, 70), (errno.EBUSY, 71), (0, 72)])
def test_a_host_that_refuses(start: Start, number: int, code: int) -> None:
    """Where the policy cannot be installed nothing is started, and the code says why."""
    found = below(start, number, "/bin/echo", "started")
    assert found.code == code
    assert b"Traceback" not in found.output
    assert b"started" not in found.output
    assert b"SANDBOX_ON_UNAVAILABLE=warn" in found.output or number == 0


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, 0])
def test_a_host_that_refuses_and_a_user_who_knows(start: Start, number: int) -> None:
    """With SANDBOX_ON_UNAVAILABLE=warn the handler runs all the same, and the status says what is missing and why."""
    found = below(start, number, "/bin/echo", "started", SANDBOX_ON_UNAVAILABLE="warn")
    assert found.code == 0
    first, second = found.output.decode().splitlines()
    said = json.loads(first)
    assert "syscalls" in said["requested"]
    assert "syscalls" not in said["enforced"]
    assert any(line.startswith("everything that is not listed as enforced") for line in said["degraded"])
    assert second == "started"


def test_an_installation_does_not_weaken_with_warn(start: Start) -> None:
    """Where everything can be installed, warn changes nothing."""
    usual, warned = start.run("/bin/true"), start.run("/bin/true", more={"SANDBOX_ON_UNAVAILABLE": "warn"})
    assert status_of(usual) == status_of(warned)
    assert policy(*ITEMS).exec == "single-use"
