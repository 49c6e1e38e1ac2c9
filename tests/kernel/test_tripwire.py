"""Where no filter can be installed: what the tripwire refuses and reports, and what a start says of it.

The ways stand in tests/targets/ways; bare each of them has its effect.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import pytest
from child_processes import Ended, ended_on_host
from guests import LOADING, profile
from users_and_folders import HOME, NOBODY, TARGETS, place

import sandbox
from sandbox import launcher, tripwire
from sandbox.kernel import abi
from sandbox.policy import build

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's loader has rtld-audit(7)")

WAYS = TARGETS / "ways"
PYTHON = "/usr/bin/python3"
SOCKETS = (
    "socket AF_INET SOCK_STREAM", "socket AF_INET SOCK_DGRAM", "socketpair AF_UNIX SOCK_STREAM", "connect", "sendmsg",
    "sendto addressed", "poll", "epoll_create1", "epoll_ctl", "epoll_wait", "setsockopt", "ioctl",
)  # fmt: skip
FILES = ("openat write", "openat create", "mkdir", "rename", "symlink", "unlink")
PASSES = {"a syscall instruction of its own"}
REFUSED: Mapping[str, int] = MappingProxyType({"seccomp": errno.EPERM, "landlock_create_ruleset": errno.ENOSYS})
"""Landlock, too: alone it would be in force, and refuse part of the ways."""
NOTHING: Mapping[str, str] = MappingProxyType({})
SCHEMA = json.loads((Path(sandbox.__file__).parent / "violations" / "schema.json").read_text())


@dataclasses.dataclass
class Tried:
    """What a program's ways got, by their names, the marks that were left, and the lines of the log."""

    outcomes: dict[str, str]
    marks: set[str]
    lines: list[dict[str, Any]]

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of a kind."""
        return [line for line in self.lines if line["event"] == event]


class Host:
    """A bundle, a folder that it opens and one that it does not, and starts where seccomp(2) is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("open", "closed"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        folder.chmod(0o755)
        writes = frozenset({f"{folder}/open/**"})
        some = profile(*LOADING, *SOCKETS, *FILES, "clone thread", network=("tcp://127.0.0.2:9",))
        self.make("bundle", dataclasses.replace(some, writes=writes, reads=frozenset({"/**"})))
        self.make("still", profile(*LOADING, "pause"))
        self.starters = {
            "bootstrap": str(HOME / "bootstrap"), "launcher": str(launcher.path(abi.MACHINE)),
        }  # fmt: skip

    def make(self, name: str, found: Any) -> None:
        """A bundle in the folder."""
        build.write(build.build(found, (abi.MACHINE,)), str(self.folder / name))

    def start(
        self, which: str, *command: str, refuses: Mapping[str, int] = REFUSED, uid: int | None = None,
        more: Mapping[str, str] = NOTHING,
    ) -> Ended:  # fmt: skip
        """Start a command; its output and errors together."""
        known = {
            "PATH": "/usr/bin:/bin", "SANDBOX_POLICY": str(self.folder / "bundle"), "SANDBOX_SUPERVISE": "0",
            "SANDBOX_ON_UNAVAILABLE": "detect", "LAMBDA_TASK_ROOT": str(WAYS), **more,
        }  # fmt: skip
        return ended_on_host(refuses, uid, self.folder, [self.starters[which], *command], known)

    def tried(self, output: bytes) -> Tried:
        """What ways said, and what they left; the folders are empty afterwards."""
        parts = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
        marks = {path.name for path in (self.folder / "closed").iterdir()}
        for name in ("open", "closed"):
            for path in (self.folder / name).iterdir():
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        (outcomes,) = [part for part in parts if "event" not in part]
        return Tried(outcomes, marks, [part for part in parts if "event" in part])


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One for all."""
    tripwire.path(abi.MACHINE)
    with place(None) as folder:
        yield Host(folder)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of somebody on loopback who hears streams and datagrams."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        stream.listen(64)
        datagrams.bind(stream.getsockname())
        yield stream.getsockname()[1]


def test_ways_of_python(host: Host, port: int) -> None:
    """Bare each way of a Python function has its effect; here each is refused with its errno, and has its line."""
    command = (PYTHON, "-I", str(WAYS / "ways.py"), str(host.folder), str(port))
    bare = host.tried(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    assert set(bare.outcomes.values()) == {"happened"}
    assert len(bare.marks) > 20
    ended = host.start("bootstrap", *command, refuses={**REFUSED, "prctl": errno.EPERM})
    assert (host.folder / "open" / "neighbour").exists()
    found = host.tried(ended.output)
    assert not found.marks
    assert found.outcomes.keys() == bare.outcomes.keys()
    refused = {said: text for said, text in found.outcomes.items() if text != "happened"}
    assert refused.keys() == bare.outcomes.keys()
    shells = {"os.system", "ctypes: system"}
    assert {said for said, text in refused.items() if "Errno 1]" not in text and "Errno 13]" not in text} == (
        {*shells, "pickle"}
    )
    (status,), (begun,) = found.of("sandbox"), found.of("tripwire")
    assert "tier: detects, does not contain" in status["degraded"]
    assert not {"syscalls", "supervision"} & set(status["enforced"])
    assert (begun["tier"], begun["python"]) == ("detects", True)
    lines = found.of("violation")
    assert len(lines) > len(refused)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for line in lines:
        validator.validate(line)
        assert (line["tier"], line["verdict"]) == ("detects", "denied")
    (gadget,) = [line for line in lines if line["class"] == "pickle.find_class"]
    assert gadget["target"] == "posix.system"
    (linked,) = [line for line in lines if line["target"].startswith(f"{host.folder}/closed/mark-27")]
    assert linked["by"]["handler"]["function"] == "by_link"
    assert [line["seq"] for line in (begun, *lines)] == list(range(1, len(lines) + 2))


@pytest.mark.parametrize("flags", ["-fno-plt", "-no-pie -Wl,-z,lazy -Wl,-z,norelro"])
def test_ways_of_c(host: Host, port: int, flags: str) -> None:
    """However a program binds its functions, all but its own system calls are refused; by the launcher, too."""
    program = host.folder / "ways"
    subprocess.run(["cc", "-O1", "-w", *flags.split(), "-o", str(program), str(WAYS / "ways.c")], check=True)
    command = (str(program), str(host.folder), str(port))
    found = host.tried(host.start("launcher", *command).output)
    assert {said for said, text in found.outcomes.items() if text == "happened"} == PASSES
    assert len(found.outcomes) - len(PASSES) == len(found.of("violation"))
    assert {line["by"]["object"] for line in found.of("violation")} == {str(program)}


def lines_of(output: bytes) -> list[Any]:
    """What was printed; of lines of the tripwire what does not change."""
    found: list[Any] = []
    for line in output.splitlines():
        said = json.loads(line) if line.startswith(b"{") else line
        if isinstance(said, dict):
            said = {key: value for key, value in said.items() if key not in ("time", "supervisor", "pid", "tid")}
        found.append(said)
    return found


STATIC = "int main(void) { return 0; }"


@pytest.mark.parametrize("setting", ["detect", "best"])
def test_both_starters_say_the_same(host: Host, setting: str) -> None:
    """What can be had is had, and said; where no tripwire can be set `detect` starts nothing, and `best` says so."""
    static = host.folder / "static"
    subprocess.run(["cc", "-static", "-x", "c", "-o", str(static), "-"], input=STATIC.encode(), check=True)
    for refuses, command, tier in (
        (REFUSED, ("/bin/sh", "-c", "echo $SANDBOX_POLICY"), "detects"),
        (REFUSED, (str(static),), "nothing"),
        ({"getuid": errno.ENOSYS}, ("/bin/echo",), "kernel only"),
    ):
        more = {"SANDBOX_ON_UNAVAILABLE": setting}
        ours, theirs = (host.start(which, *command, refuses=refuses, more=more) for which in host.starters)
        assert (ours.code, lines_of(ours.output)) == (theirs.code, lines_of(theirs.output))
        if tier == "nothing" and setting == "detect":
            assert ours.code == 69
            assert b"Runtime.SandboxInstallRefused" in ours.output
            continue
        assert ours.code == 0, ours.output
        assert lines_of(ours.output)[0]["tier"] == tier


def test_a_package_without_the_library(host: Host) -> None:
    """Without a library for this machine `detect` is the old error."""
    folder = host.folder / "copied"
    shutil.copytree(HOME / "sandbox", folder / "sandbox", ignore=shutil.ignore_patterns("built", "__pycache__"))
    shutil.copy(HOME / "bootstrap", folder)
    host.starters["copied"] = str(folder / "bootstrap")
    found = host.start("copied", "/bin/true")
    assert found.code == 69
    assert b"a filter above this process refuses seccomp(2)" in found.output


def test_the_kernels_own_limits(host: Host) -> None:
    """Where the profile has no threads, no processes and no files that it writes, limits of the kernel say so, too."""
    script = "import resource; print([resource.getrlimit(n) for n in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)])"
    more = {"SANDBOX_POLICY": str(host.folder / "still")}
    found = host.start("bootstrap", PYTHON, "-I", "-c", script, uid=NOBODY, more=more)
    assert b"[(1, 1), (0, 0)]" in found.output, found.output
    assert lines_of(found.output)[1]["limits"] == ["RLIMIT_NPROC", "RLIMIT_FSIZE"]
