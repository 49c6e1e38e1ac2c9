"""Whatever ends a command, at whatever moment: its exit status, and nothing of it stays on the host."""

from __future__ import annotations

import contextlib
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from process_table import all_end, descendants, marked, until
from sandbox_command import Workshop, workshop_of

from sandbox.errors import CommandKilled, DiskFull, LimitReached

KILLED = CommandKilled.exit_code
FOLDERS = ("/var/tmp", "/dev/shm")
ONLY_ITS_OWN = 50_000 + os.getpid() % 10_000
"""A uid that nobody else has here, not even a test beside us, since its processes are counted."""


class Ending(NamedTuple):
    """A signal to a command (or to its child, which does the work) once a line of its output holds `moment`."""

    command: str
    moment: str
    number: signal.Signals
    status: int
    child: bool = False


ENDINGS = {
    "learn, in init, hang-up": Ending("learn", "init", signal.SIGHUP, 128 + signal.SIGHUP),
    "learn, in an event, terminated": Ending("learn", "ready", signal.SIGTERM, 128 + signal.SIGTERM),
    "learn, in an event, killed": Ending("learn", "ready", signal.SIGKILL, -signal.SIGKILL),
    "learn, in an event, its child killed": Ending("learn", "ready", signal.SIGKILL, KILLED, child=True),
    "learn, verifying, interrupted": Ending("learn", "serving", signal.SIGINT, 128 + signal.SIGINT),
    "invoke, in init, interrupted": Ending("invoke", "init", signal.SIGINT, 128 + signal.SIGINT),
    "invoke, in an event, terminated": Ending("invoke", "waiting", signal.SIGTERM, 128 + signal.SIGTERM),
    "probe, terminated": Ending("probe", "attempt", signal.SIGTERM, 128 + signal.SIGTERM),
    "probe, its child killed": Ending("probe", "attempt", signal.SIGKILL, KILLED, child=True),
}


class Bench:
    """A function that waits, its profile, and commands on it."""

    def __init__(self, workshop: Workshop, trained: Path | None = None) -> None:
        """`trained` is a profile of the function, None to make one."""
        self.workshop = workshop
        self.root = workshop.new("")
        self.root.mkdir(mode=0o755)
        shutil.copy(workshop.targets / "waits.py", self.root)
        (self.root / "waits.py").chmod(0o644)
        self.long, self.short = workshop.events({"wait": 60}), workshop.events({"wait": 0.3})
        self.profile = workshop.new()
        if trained:
            shutil.copy(trained, self.profile)
            return
        quick = ("--events", workshop.events({"wait": 0.01}), "--cold-starts", "1", "--no-verify")
        workshop.sandbox("learn", "waits", *self._start, *quick, "--output", self.profile)
        self.profile.chmod(0o644)

    @property
    def _start(self) -> tuple[str | Path, ...]:
        return ("--handler", "waits.handler", "--root", self.root)

    def command(self, name: str, moment: str, output: Path) -> list[str]:
        """The command, which stays at this moment for long enough."""
        wait = ("--env", "WAIT_IN_INIT=1") if moment == "init" else ()
        events = self.short if moment in ("serving", "") else self.long
        serve = (*self._start, "--events", events, *wait)
        arguments: Mapping[str, tuple[str | Path, ...]] = {
            "learn": ("learn", "waits", *serve, "--cold-starts", "1", "--output", output),
            "invoke": ("invoke", self.profile, *serve),
            "probe": ("probe", self.profile, "--json"),
        }
        return [sys.executable, "-m", "sandbox", *map(str, arguments[name])]


@pytest.fixture(scope="module")
def bench(workshop: Workshop) -> Bench:
    """As the user of the tests."""
    return Bench(workshop)


@pytest.fixture(scope="module")
def counted(bench: Bench) -> Iterator[Bench]:
    """As a user whose processes can be counted."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be another user")
    with workshop_of(ONLY_ITS_OWN) as workshop:
        yield Bench(workshop, bench.profile)


def mounts() -> list[str]:
    """What is mounted here, as this process sees it."""
    return Path("/proc/self/mountinfo").read_text().splitlines()


def ours(pids: list[int]) -> list[Path]:
    """Folders that commands with these numbers made outside of their TMPDIR."""
    return [found for folder in FOLDERS for pid in pids for found in Path(folder).glob(f"sandbox-*-{pid}-*")]


@pytest.mark.parametrize("name", ENDINGS)
def test_a_signal_leaves_nothing(bench: Bench, name: str) -> None:
    """A signal to the command, or to its child that does the work: its status; no process, folder, file or mount."""
    ending = ENDINGS[name]
    before, temporary, output = mounts(), bench.workshop.new(""), bench.workshop.new("") / "made" / "p.yaml"
    temporary.mkdir()
    log = bench.workshop.new(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            bench.command(ending.command, ending.moment, output), cwd=bench.workshop.folder, stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, env={**os.environ, "TMPDIR": str(temporary)},
        )  # fmt: skip
    if ending.moment == "init":
        until(lambda: any(_works_in(pid, bench.root) for pid in descendants(process.pid)))
    else:
        until(lambda: ending.moment in log.read_text())
    child, *_ = below = list(descendants(process.pid))
    os.kill(child if ending.child else process.pid, ending.number)
    assert process.wait(30) == ending.status, log.read_text()
    assert all_end([*below, *marked(str(bench.root))])
    until(lambda: not list(temporary.iterdir()) and not ours(below))
    assert mounts() == before
    assert not output.parent.parent.exists()
    if ending.status == KILLED:
        assert "ended by SIGKILL\n  what to do: run it again" in log.read_text()


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", folder)
    except OSError:
        return False


def test_an_interrupt_from_the_terminal_is_one(bench: Bench) -> None:
    """Ctrl-C reaches the command and its child: a server's training ends, once, with the profile that it says."""
    output = bench.workshop.new()
    code = "import _socket, time; server = _socket.socket(); server.listen(); time.sleep(60)"
    server = (sys.executable, "-I", "-S", "-c", code)
    learn = ("learn", "server", "--root", bench.root, "--output", output, "--no-verify", "--generalise", "never")
    terminal, theirs = pty.openpty()
    setsid = shutil.which("setsid") or pytest.skip("setsid (util-linux) is not installed")
    command = [setsid, "--ctty", sys.executable, "-m", "sandbox", *map(str, learn), "--", *server]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while b"press Ctrl-C" not in seen:
            seen += os.read(terminal, 1 << 16)
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while True:
                seen += os.read(terminal, 1 << 16)
    finally:
        os.close(terminal)
    assert process.wait(30) == 0, seen
    assert output.exists()


def limited(limit: int, value: int) -> list[str]:
    """What to put before a command to give it a limit."""
    code = "import os, resource, sys; resource.setrlimit(int(sys.argv[1]), (int(sys.argv[2]),) * 2); "
    return [sys.executable, "-c", code + "os.execv(sys.argv[3], sys.argv[3:])", str(limit), str(value)]


@pytest.mark.parametrize(
    ("command", "limit", "value", "text"),
    [
        ("invoke", resource.RLIMIT_NPROC, 4, "this user may start no more processes or threads"),
        ("learn", resource.RLIMIT_NPROC, 5, "this user may start no more processes or threads"),
        ("probe", resource.RLIMIT_NPROC, 2, "this user may start no more processes or threads"),
        ("invoke", resource.RLIMIT_NOFILE, 20, "the function could not start: a limit of this host is reached"),
    ],
    ids=["threads in invoke", "processes in learn", "processes in probe", "descriptors of the function"],
)
def test_a_limit_is_an_error(counted: Bench, command: str, limit: int, value: int, text: str) -> None:
    """Where no thread, process or descriptor is to be had the command ends at once with an error of its own."""
    output, began = counted.workshop.new(), time.monotonic()
    done = subprocess.run(
        [*limited(limit, value), *counted.command(command, "", output)], cwd=counted.workshop.folder,
        capture_output=True, text=True, check=False, user=ONLY_ITS_OWN, group=ONLY_ITS_OWN, extra_groups=[],
        env={"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": str(counted.workshop.home)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == LimitReached.exit_code, done.stderr
    assert text in done.stderr
    assert "what to do: raise `ulimit -" in done.stderr
    assert "/sandbox/cli/" not in done.stderr  # no traceback of ours
    assert time.monotonic() - began < 30
    assert not [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_of(pid, ONLY_ITS_OWN)]
    assert not output.exists()


def _is_of(pid: int, uid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == uid
    except OSError:
        return False


@pytest.mark.parametrize("what", ["profile", "bundle", "package", "state of learn", "state of invoke"])
def test_a_full_disk_is_an_error(bench: Bench, what: str) -> None:
    """On a file system of 12 KiB: an error that names the path, exit status 82, and no file or folder of ours."""
    tiny = bench.workshop.new("")
    tiny.mkdir()
    full = not what.startswith("state")
    output = tiny / "new" / "made" if full else bench.workshop.new()
    tool = [sys.executable, "-m", "sandbox"]
    command = {
        "profile": [*bench.command("learn", "", output), "--no-verify"],
        "bundle": [*tool, "compile", str(bench.profile), "--output", str(output)],
        "package": [*tool, "package", "layer", str(bench.profile), "--output", str(output)],
        "state of learn": bench.command("learn", "", output),
        "state of invoke": bench.command("invoke", "", output),
    }[what]
    script = f"mount -t tmpfs -o size=12k tiny {tiny} || exit 99; " + (f"head -c 12k /dev/zero > {tiny}/fill; " * full)
    script += f'"$@"; status=$?; ls -A {tiny} >&2; exit $status'
    unshare = shutil.which("unshare") or pytest.skip("unshare (util-linux) is not installed")
    done = subprocess.run(
        [unshare, "--mount", "/bin/sh", "-c", script, "sh", *command],
        cwd=bench.workshop.folder, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **({} if full else {"TMPDIR": str(tiny)})},
    )  # fmt: skip
    if (done.returncode in (1, 99) and "unshare" in done.stderr) or done.returncode == 99:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == DiskFull.exit_code, done.stderr
    said, left = done.stderr.partition("  what to do: make room")[::2]
    assert f"{tiny}" in said
    assert "No space left on device" in said
    assert left.splitlines()[1:] == (["fill"] if full else [])
    assert not output.exists()
