"""Programs as functions have them: unpacked at run time, scripts, links, their own file; trained, audited, enforced."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sandbox_command import Workshop, workshop_of
from users_and_folders import USERS

from sandbox.kernel import landlock
from sandbox.profile import document
from sandbox.supervise.executing import SWAPPED

HANDLER = """
import ctypes, mmap, os, shutil, subprocess, tempfile

libc = ctypes.CDLL(None)
HERE = os.path.dirname(os.path.abspath(__file__))


def ran(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except OSError as error:
        return error.errno


def unpacked(name, source):
    place = os.path.join(tempfile.mkdtemp(), name)
    shutil.copyfile(os.path.join(HERE, source), place + ".part")
    os.chmod(place + ".part", 0o755)
    os.rename(place + ".part", place)
    return place


def raced(paths, argv, rounds, places):
    # Execs of a path in shared memory that another process changes all the time, or at which it swaps files.
    page = mmap.mmap(-1, 4096)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    longest = max(map(len, paths)) + 1
    texts = [os.fsencode(path).ljust(longest, bytes(1)) for path in paths]
    page[:longest] = texts[0]
    flipper = os.fork()
    while flipper == 0 and not page[4000]:
        for number in range(200):
            page[:longest] = texts[number % len(texts)]
            if places:
                os.link(places[number % 2], paths[0] + ".new")
                os.rename(paths[0] + ".new", paths[0])
    if flipper == 0:
        os._exit(0)
    words = (ctypes.c_char_p * (len(argv) + 1))(*map(os.fsencode, argv), None)
    ended = {}
    for _ in range(rounds):
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            libc.execve(ctypes.c_void_p(at), words, (ctypes.c_char_p * 1)(None))
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ended[code] = ended.get(code, 0) + 1
    page[4000] = 1
    os.waitpid(flipper, 0)
    return ended


def handler(event, context):
    do, tool = event["do"], event.get("source", "tool.bin")
    if do == "unpack":
        return ran(unpacked("tool", tool), "made")
    if do == "script":
        return ran(unpacked("run.sh", event.get("source", "unpacked.sh")), "made")
    if do == "link":
        os.symlink(event.get("to", "/usr/bin/basename"), link := os.path.join(tempfile.mkdtemp(), "link"))
        return ran(link, "/by/link")
    if do == "swap":
        place = unpacked("tool", "tool.bin")
        first = ran(place, "first")
        shutil.copyfile(os.path.join(HERE, tool), place + ".new")
        os.chmod(place + ".new", 0o755)
        os.rename(place + ".new", place)
        return [first, ran(place, "second")]
    if do == "race":
        good, bad = unpacked("tool", "tool.bin"), unpacked("tool", event["bad"])
        script, marker = os.path.join(HERE, "packaged.sh"), os.path.join(os.path.dirname(good), event["marker"])
        rounds, found = event["rounds"], []
        os.link(bad, place := os.path.join(tempfile.mkdtemp(), "tool"))
        for paths, argv, places in (
            ([good, event["flips"] and bad or good], ["x", marker], []),
            ([script, event["flips"] and "/bin/sh" or script], ["sh", "-c", "echo > " + marker], []),
            ([place], ["x", marker], [good, bad]),
        )[event["first"] : event["end"]]:
            found.append([raced(paths, argv, rounds, places), os.path.exists(marker)])
        return found
    return ran(*(word.replace("HERE", HERE) for word in event["command"]))
"""

TRAINED = (
    {"do": "unpack"}, {"do": "script"}, {"do": "link"}, {"do": "run", "command": ["HERE/packaged.sh", "one"]},
    {"do": "run", "command": ["HERE/by-env.sh", "two"]}, {"do": "run", "command": ["HERE/again"]},
    {"do": "race", "bad": "tool.bin", "flips": False, "rounds": 2, "first": 0, "end": 3, "marker": "marker"},
)  # fmt: skip
AGAIN = """
#include <string.h>
#include <unistd.h>
int main(int n, char **words) {
    if (n > 1) return write(1, words[1], strlen(words[1])) < 0;
    return execl("/proc/self/exe", "again", "itself", (char *)0);
}
"""
REFUSED = errno.EPERM


class Function(NamedTuple):
    """A trained function: the workshop, its folder, its profile, and the options that start it."""

    workshop: Workshop
    root: Path
    profile: Path
    start: tuple[str, ...]

    def answers(self, *events: dict[str, Any], **variables: str) -> tuple[list[Any], dict[str, Any], list[Any]]:
        """What it answers in a start of its own, with the status line and the other lines of the supervisor."""
        options = ("--handler", "app.handler", "--root", self.root, "--events", self.workshop.events(*events), "--json")
        done = self.workshop.sandbox("invoke", self.profile, *options, expect=None, more=variables)
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        status = next(line for line in lines if line["event"] == "sandbox")
        status["later"] = [line["reason"] for line in lines if line["event"] == "degraded"]
        results = [json.loads(json.loads(line)["result"] or "null") for line in done.stdout.splitlines()]
        return results, status, [line for line in lines if line["event"] == "violation"]


@pytest.fixture(scope="module")
def function() -> Iterator[Function]:
    """One training for all tests, of the user who may the least."""
    if landlock.abi_version() < 3 or not shutil.which("cc"):
        pytest.skip("needs Landlock ABI 3 and a C compiler")
    with workshop_of(USERS[-1], "/var/tmp") as workshop:
        root = workshop.folder / "programs"
        root.mkdir()
        (root / "app.py").write_text(HANDLER)
        (root / "by-env.sh").write_text("#!/usr/bin/env sh\necho by env $1\n")
        for name, source in (("tool.bin", "/usr/bin/echo"), ("other.bin", "/usr/bin/touch")):
            shutil.copy(source, root / name)
        for name, text in (("unpacked.sh", "unpacked $1"), ("packaged.sh", "packaged $1"), ("other.sh", "other $1")):
            (root / name).write_text(f"#!/bin/sh\necho {text}\n")
        subprocess.run(["cc", "-o", root / "again", "-x", "c", "-"], input=AGAIN, text=True, check=True)
        for path in (root, *root.iterdir()):
            path.chmod(0o755)
        start = ("--handler", "app.handler", "--root", str(root))
        profile = workshop.new()
        events = workshop.events(*TRAINED)
        options = ("--no-verify", "--cold-starts", "1", *start, "--events", events, "--output", profile)
        workshop.sandbox("learn", "programs", *options)
        yield Function(workshop, root, profile, start)


ATTACKS = (
    {"do": "unpack", "source": "other.bin"}, {"do": "script", "source": "other.sh"},
    {"do": "run", "command": ["/bin/sh", "-c", "echo free"]},
    {"do": "run", "command": ["/bin/sh", "HERE/packaged.sh", "one"]},
    {"do": "run", "command": ["HERE/other.sh", "one"]}, {"do": "link", "to": "/usr/bin/env"},
    {"do": "run", "command": ["/usr/bin/printf", "free"]},
    {"do": "run", "command": ["/usr/bin/env", "sh", "-c", "echo"]},
)  # fmt: skip
SWAP = {"do": "swap", "source": "other.bin"}
RACE = {"do": "race", "bad": "other.bin", "flips": True, "rounds": 1000, "marker": "started-all-the-same"}
EXPECTED = ["made", "unpacked made", "link", "packaged one", "by env two", "itself", [[{"0": 2}, False]] * 3]


class Enforced(NamedTuple):
    """What one supervised start answered to all events, and its lines."""

    answers: list[Any]
    status: dict[str, Any]
    lines: list[Any]


@pytest.fixture(scope="module")
def enforced(function: Function) -> Enforced:
    """The trained events, then the attacks."""
    return Enforced(*function.answers(*TRAINED, *ATTACKS, SWAP))


def test_what_is_learned_of_programs(function: Function) -> None:
    """Where the function writes a program is its content at a path with random parts; a script has its interpreter."""
    found = document.read(str(function.profile)).profile
    tool, script = (
        hashlib.sha256((function.root / name).read_bytes()).hexdigest() for name in ("tool.bin", "unpacked.sh")
    )
    assert found.digests == {("/tmp/tmp*/tool", tool), ("/tmp/tmp*/run.sh", script)}
    assert found.processes == {
        "/tmp/tmp*/tool", "/tmp/tmp*/run.sh", "/usr/bin/basename", "{root}/packaged.sh", "{root}/again",
        "{root}/by-env.sh",
    }  # fmt: skip
    assert {pair for pair in found.interpreters if pair[0].endswith(".sh")} == {
        ("/tmp/tmp*/run.sh", "/bin/sh"), ("{root}/packaged.sh", "/bin/sh"), ("{root}/by-env.sh", "/usr/bin/env"),
        ("{root}/by-env.sh", "/usr/bin/sh"),
    }  # fmt: skip


def test_programs_are_served_after_training(function: Function, enforced: Enforced) -> None:
    """Audited in silence and enforced, with and without a supervisor, whose absence is told as degraded."""
    audited, _, lines = function.answers(*TRAINED, *ATTACKS[:2], SANDBOX_MODE="audit")
    assert audited[: len(TRAINED)] == EXPECTED
    assert [line["verdict"] for line in lines if line["syscall"] == "execve"] == ["reported"] * 2
    assert enforced.answers[: len(TRAINED)] == EXPECTED
    assert not any(line.startswith("programs") for line in enforced.status["degraded"])
    reread = "programs: a script where the function writes is read again by its interpreter, changed or not"
    assert enforced.status["later"] == [reread]
    alone, status, _ = function.answers(*TRAINED, SANDBOX_SUPERVISE="0")
    assert alone == EXPECTED
    told = [line for line in status["degraded"] if line.startswith("programs")]
    assert told[0] == "programs: whatever is put into /tmp can be started"
    assert "/bin/sh" in told[1]


def test_no_other_program_starts_in_their_place(function: Function, enforced: Enforced) -> None:
    """Other content at the path, another script, the interpreter by itself, another target of a link: EPERM, a line."""
    *answers, swapped = enforced.answers[len(TRAINED) :]
    assert answers == [REFUSED] * len(ATTACKS)
    assert swapped == ["first", REFUSED]
    other = hashlib.sha256((function.root / "other.bin").read_bytes()).hexdigest()
    assert other in enforced.lines[0]["allow"]
    reasons = [line["reason"] for line in enforced.lines[: len(ATTACKS) + 1]]
    assert ["another content" in reason for reason in reasons] == [True, True, *[False] * (len(ATTACKS) - 2), True]


@pytest.mark.parametrize("which", range(3), ids=["path", "interpreter", "file"])
def test_no_race_starts_another_program(function: Function, which: int) -> None:
    """A path that changes between look and exec, to another file or to the interpreter, and a file that is swapped.

    The first exec in which something else stands ends the function, with a line that names both.
    """
    answers, _, lines = function.answers({**RACE, "first": which, "end": which + 1})
    assert answers == [None]
    assert not list(Path("/tmp").glob(f"tmp*/{RACE['marker']}"))
    last = lines[-1]
    assert last["verdict"] == "terminated"
    assert last["reason"].startswith(SWAPPED)
    good, other = last["target"], last["reason"].removeprefix(f"{SWAPPED}: ").removesuffix(" (deleted)")
    assert good.endswith(("/tool", "/packaged.sh"))
    assert other.endswith("/tool") or other.startswith(os.path.realpath("/bin/sh"))


def test_any_content_is_a_persons_word(function: Function) -> None:
    """With `any` in the place of a digest what is put at the path starts, and at no other."""
    tool = hashlib.sha256((function.root / "tool.bin").read_bytes()).hexdigest()
    path = function.workshop.new()
    path.write_text(function.profile.read_text().replace(tool, "any"))
    found = function._replace(profile=path)
    elsewhere = {"do": "link", "to": "/usr/bin/printf"}, {"do": "script", "source": "other.sh"}
    (swapped, *others), _, lines = found.answers({**SWAP, "source": "again"}, *elsewhere)
    assert (swapped, others) == (["first", "second"], [REFUSED] * 2)
    assert lines[0]["target"] == "/usr/bin/printf"
    assert "another content" in lines[1]["reason"]


MOVED = """
import os, subprocess, sys


def ran(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except OSError as error:
        return error.errno


def handler(event, context):
    tool = os.path.join(sys.prefix, "bin", event.get("tool", "tool"))
    return [ran(sys.executable, "-c", "print(6 * 7)"), ran(tool, "made")]
"""


def test_another_interpreter_serves_what_was_trained() -> None:
    """A function starts its own interpreter, and what lies in its environment, where both are somewhere else."""
    with workshop_of(USERS[-1], "/var/tmp") as workshop:
        root = workshop.folder / "moved"
        (workshop.folder / "base" / "bin").mkdir(parents=True)
        root.mkdir()
        (root / "app.py").write_text(MOVED)
        (workshop.folder / "base" / "lib").symlink_to(Path(sysconfig.get_path("stdlib")).parent)
        python, found = os.path.realpath(sys.executable), {}
        client = next(entry for entry in sys.path if (Path(entry) / "awslambdaric").is_dir())
        for name, base in (("trained", python), ("served", shutil.copy(python, workshop.folder / "base" / "bin"))):
            found[name] = workshop.folder / name
            subprocess.run([base, "-m", "venv", "--without-pip", found[name]], check=True)
            (site,) = found[name].glob("lib/python3*/site-packages")
            (site / "client.pth").write_text(client)
            for tool in ("tool", "other"):
                shutil.copy("/usr/bin/echo", found[name] / "bin" / tool)
        subprocess.run(["chmod", "-R", "a+rX", workshop.folder], check=True)
        start = ("--handler", "app.handler", "--root", root, "--events", workshop.events({}))
        profile = workshop.new()
        options = ("--cold-starts", "1", "--python", found["trained"], "--output", profile)
        workshop.sandbox("learn", "moved", *start, *options)
        assert document.read(str(profile)).profile.processes == {"{python}", "{venv}/bin/tool"}
        for mode, other in (("audit", "made"), ("enforce", REFUSED)):
            events = workshop.events({}, {"tool": "other"})
            served = ("invoke", profile, *start[:-1], events, "--python", found["served"], "--json")
            done = workshop.sandbox(*served, more={"SANDBOX_MODE": mode})
            results = [json.loads(json.loads(line)["result"]) for line in done.stdout.splitlines()]
            assert results == [["42", "made"], ["42", other]]
            lines = [json.loads(line) for line in done.stderr.splitlines() if '"violation"' in line]
            assert {line["allow"] for line in lines} == {'processes: ["{venv}/bin/other"]'}, done.stderr
