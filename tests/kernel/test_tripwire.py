"""Where no filter can be installed: what the tripwire refuses and reports, and what a start says of it."""

from __future__ import annotations

import errno
import json
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tripwire_hosts import PASSES, REFUSED, WAYS, Host
from users_and_folders import HOME, NOBODY, place

import sandbox
from sandbox import tripwire
from sandbox.behaviour import spelling
from sandbox.behaviour.call import Call
from sandbox.kernel import abi, landlock

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's loader has rtld-audit(7)")

PYTHON = "/usr/bin/python3"
SCHEMA = json.loads((Path(sandbox.__file__).parent / "violations" / "schema.json").read_text())


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
    assert found.outcomes.keys() == bare.outcomes.keys()
    refused = {said: text for said, text in found.outcomes.items() if text != "happened"}
    passed = bare.outcomes.keys() & PASSES
    assert refused.keys() == bare.outcomes.keys() - passed
    assert len(found.marks) == len(passed)
    shells = {"os.system", "ctypes: system"}
    assert {said for said, text in refused.items() if "Errno 1]" not in text and "Errno 13]" not in text} == (
        {*shells, "pickle"}
    )
    (status,), (begun,) = found.of("sandbox"), found.of("tripwire")  # once, whatever else is started
    assert "tier: detects, does not contain" in status["degraded"]
    assert not {"syscalls", "supervision"} & set(status["enforced"])
    assert (begun["tier"], begun["python"]) == ("detects", True)
    lines = found.of("violation")
    assert len(lines) > len(refused)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for line in lines:
        validator.validate(line)
        assert (line["tier"], line["verdict"], line["reason"][:10]) == ("detects", "denied", "tripwire: ")
    called = [line for line in lines if line["syscall"] != "python" and "dlmopen" not in line["reason"]]
    allowed = {line["syscall"]: line["allow"] for line in called}
    assert all(line["allow"] and line["args"] for line in called)
    assert allowed["clone"] == spelling.of_use("run", Call("clone", "process"))
    assert allowed["connect"] == spelling.of_entry("network", f"tcp://127.0.0.1:{port}")
    assert allowed["mkdirat"] == spelling.of_entry("files.write", f"{host.folder}/closed/mark-24")
    assert allowed["process_vm_readv"] == spelling.of_grant("process_vm_readv")
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
    assert {said for said, text in found.outcomes.items() if text == "happened"} == found.outcomes.keys() & PASSES
    assert len(found.outcomes) - 1 == len(found.of("violation"))
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


LANDLOCK_ALONE = {"seccomp": errno.EPERM}
"""What is in force hides the library from who may read little."""
STATIC = "int main(void) { return 0; }"


@pytest.mark.parametrize("setting", ["detect", "best"])
def test_both_starters_say_the_same(host: Host, setting: str) -> None:
    """What can be had is had, and said; where no tripwire can be set `detect` starts nothing, and `best` says so."""
    static, broken, others = (host.folder / name for name in ("static", "line\nbreak", "others"))
    for program, *flags in ((static, "-static"), (others, "-Wl,--dynamic-linker=/lib/ld-linux.so.2")):
        subprocess.run(["cc", *flags, "-x", "c", "-o", str(program), "-"], input=STATIC.encode(), check=True)
    if not broken.exists():
        broken.symlink_to("/bin/echo")
    for refuses, command, tier in (
        (REFUSED, ("/bin/sh", "-c", "echo $SANDBOX_POLICY"), "detects"),
        *((REFUSED, (str(one),), "nothing") for one in (static, broken, others)[: 3 if setting == "detect" else 2]),
        ({"getuid": errno.ENOSYS}, ("/bin/echo",), "kernel only"),
        *([(LANDLOCK_ALONE, ("/bin/echo",), "nothing")] if landlock.abi_version() else []),
    ):
        bundle = "walled" if refuses == LANDLOCK_ALONE else "bundle"
        more = {"SANDBOX_ON_UNAVAILABLE": setting, "SANDBOX_POLICY": str(host.folder / bundle)}
        ours, theirs = (host.start(which, *command, refuses=refuses, more=more) for which in host.starters)
        assert (ours.code, lines_of(ours.output)) == (theirs.code, lines_of(theirs.output))
        if tier == "nothing" and setting == "detect":
            assert ours.code == 69
            assert b"Runtime.SandboxInstallRefused" in ours.output
            continue
        assert ours.code == 0, ours.output
        assert lines_of(ours.output)[0]["tier"] == tier


ASKS = """
import os, socket, sys
def resolver():
    lines = [line.split() for line in open("/etc/resolv.conf")]
    return next((line[1] for line in lines if line[:1] == ["nameserver"] and ":" not in line[1]), "127.0.0.1")
def question(name):
    labels = b"".join(bytes([len(part)]) + part for part in name.encode().split(b"."))
    return bytes.fromhex("123401000001000000000000") + labels + bytes.fromhex("0000010001")
asking = socket.socket(type=socket.SOCK_DGRAM)
asking.connect((resolver(), 53))
again = asking.dup()
with open(sys.argv[1], "w") as file:
    for how in (asking.send, lambda data: os.write(asking.fileno(), data), again.send,
                lambda data: os.write(again.fileno(), data)):
        said = []
        for name in ("known.example", "other.example"):
            try:
                said.append(how(question(name)) > 0)
            except OSError as error:
                said.append(error.errno)
        file.write(repr(said))
        print(said, flush=True)
"""


def test_questions_and_many_folders(host: Host) -> None:
    """A question for another name is refused by write(2) and on a duplicate, too; the 150th folder is open."""
    for one in host.many:
        one.mkdir()
    more = {"SANDBOX_POLICY": str(host.folder / "asks")}
    found = host.start("bootstrap", PYTHON, "-I", "-c", ASKS, str(host.many[-1] / "file"), more=more)
    assert found.output.splitlines().count(b"[True, 1]") == 4, found.output
    lines = [line for line in lines_of(found.output) if isinstance(line, dict) and line["event"] == "violation"]
    assert [line["target"] for line in lines] == ["dns://other.example"] * 4
    assert [line["syscall"] for line in lines] == ["sendto", "write"] * 2


LATER = """
import ctypes, os, shutil, socket, sys
number, folder = int(sys.argv[1]), sys.argv[2]
def wrote(path):
    try:
        with open(path, "w"): return "wrote"
    except OSError as error: return error.errno
def bound(port):
    try: return socket.socket(type=socket.SOCK_DGRAM).bind(("127.0.0.1", port))
    except OSError as error: return error.errno
found = [wrote(f"{folder}/open/one"), wrote(f"{folder}/open/one")]
os.mkdir(f"{folder}/open/below")
found += [wrote(f"{folder}/open/below/one"), wrote(f"{folder}/open/below/two")]
os.unlink(f"{folder}/open/one")
os.symlink(f"{folder}/closed/by-file", f"{folder}/open/one")
shutil.rmtree(f"{folder}/open/below")
os.symlink(f"{folder}/closed", f"{folder}/open/below")
found += [wrote(f"{folder}/open/one"), wrote(f"{folder}/open/below/one"), wrote(f"{folder}/open/two")]
found.append(wrote(f"{folder}/open/none/one"))
os.symlink(f"{folder}/closed", f"{folder}/open/none")
found += [wrote(f"{folder}/open/none/one"), bound(0), bound(7)]
if not os.fork():
    words = (ctypes.c_char_p * 4)(b"/bin/sh", b"-c", f": > {folder}/closed/by-shell".encode(), None)
    ctypes.CDLL(None).syscall(number, b"/bin/sh", words, (ctypes.c_char_p * 1)(None))
    os._exit(1)
found += [os.spawnv(os.P_WAIT, sys.argv[3], [sys.argv[3]])]
found += [os.waitstatus_to_exitcode(os.wait()[1]), os.listdir(f"{folder}/closed")]
print(found)
"""


def test_links_that_come_later_and_raw_calls(host: Host) -> None:
    """A link in the place of what was written to is refused; no program starts without the tripwire unsaid."""
    static = host.folder / "static"
    subprocess.run(["cc", "-static", "-x", "c", "-o", str(static), "-"], input=STATIC.encode(), check=True)
    more = {"SANDBOX_POLICY": str(host.folder / "execs")}
    command = (PYTHON, "-I", "-c", LATER, str(abi.number("execve")), str(host.folder), str(static))
    found = lines_of(host.start("bootstrap", *command, more=more).output)
    refused, wrote = str(errno.EACCES), "'wrote', 'wrote'"
    later = f"{refused}, {refused}, 'wrote', {errno.ENOENT}, {refused}, None, {refused}, 0, 2, []"
    assert f"[{wrote}, {wrote}, {later}]".encode() in found, found
    (bare,) = [line["reason"] for line in found if isinstance(line, dict) and line["event"] == "degraded"]
    assert bare == f"tier: nothing for {static}, which no loader of glibc starts"
    lines = [line for line in found if isinstance(line, dict) and line["event"] == "violation"]
    assert [line["target"] for line in lines] == [
        f"{host.folder}/closed/by-file", f"{host.folder}/closed/one", f"{host.folder}/closed/one",
        "udp://127.0.0.1:7", f"{host.folder}/closed/by-shell",
    ]  # fmt: skip
    assert lines[-1]["comm"] == "sh"


ROOM = "static __thread char room[8000]; char *own_room(void) { return room; }"
HAS_ROOM = 'char *own_room(void); int puts(const char *); int main(void) { return *own_room() || puts("room") < 0; }'


def test_libraries_with_much_memory_of_each_thread(host: Host) -> None:
    """A program starts whose libraries need more thread-local memory than a loader with auditors leaves (jemalloc)."""
    library, program = host.folder / "libroom.so", host.folder / "room"
    for source, *words in (
        (ROOM, "-shared", "-fPIC", "-ftls-model=initial-exec", "-o", str(library), "-x", "c", "-"),
        (HAS_ROOM, "-o", str(program), "-x", "c", "-", "-x", "none", str(library), f"-Wl,-rpath={host.folder}"),
    ):
        subprocess.run(["cc", *words], input=source.encode(), check=True)
    for which in ("bootstrap", "launcher"):
        for more in ({}, {"GLIBC_TUNABLES": "glibc.malloc.check=0"}):
            found = host.start(which, str(program), more=more)
            assert (found.code, found.output.splitlines()[-1]) == (0, b"room"), found.output


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
