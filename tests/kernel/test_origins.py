"""Whose calls they are, of real interpreters: of threads, of children, and of what these run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vulnerable_library as library
from supervised_programs import PLAIN_HOSTS, Supervision, bench_for
from users_and_folders import identity
from waiting_programs import until_it_reads

import sandbox
from sandbox.behaviour.call import Call
from sandbox.kernel.abi import MACHINE
from sandbox.kernel.notification import Notification
from sandbox.kernel.task import Task
from sandbox.sensor import runtime
from sandbox.sensor.elf import Elf
from sandbox.sensor.offsets import Unreadable
from sandbox.sensor.origins import Sensor
from sandbox.sensor.processes import MOST_WITHOUT, Processes
from sandbox.sensor.reading import FROM_STRING
from sandbox.supervise.decision import DENY, Decision
from sandbox.supervise.judging import Judge
from sandbox.supervise.reports import Reports
from sandbox.violations.journal import Journal
from sandbox.violations.origin import Frame
from sandbox.violations.sink import Sink

bench = bench_for(PLAIN_HOSTS[-1:])

CHILDREN = '''\
import os, subprocess, sys, threading

def attempt(start):
    try:
        start()
    except OSError as error:
        print(error.errno, flush=True)

def run(**options):
    subprocess.run(["/bin/true"], start_new_session=True, **options)

def handler():
    attempt(run)
    attempt(lambda: os.posix_spawn("/bin/true", ["true"], {}, setsid=True))
    attempt(lambda: run(preexec_fn=int))
    thread = threading.Thread(target=attempt, args=(run,))
    thread.start()
    thread.join()

handler()
'''


def test_children_are_those_of_the_thread_that_made_them(bench: Supervision) -> None:
    """What is refused in a child before its exec is its parent's, by vfork, posix_spawn and fork, and by any thread."""
    app = bench.new(".py")
    app.write_text(CHILDREN)
    app.chmod(0o755)
    items = ("clone process", "clone thread", "vfork", "fork", "wait4", "waitid", "execve", "pipe2", "dup2")
    done = bench.run(bench.bundle(*items), "/usr/bin/python3", "-I", "-S", str(app))
    assert done.stdout == "1\n" * 4, done.stderr
    lines = done.of("setsid")
    assert all("by" in line for line in lines), lines
    run, spawned = ("standard library", "subprocess.py", "run"), ("", "", "handler.<locals>.<lambda>")
    assert [
        (line["by"].get("distribution", ""), line["by"].get("module", ""), line["by"]["handler"]["function"])
        for line in lines
    ] == [run, spawned, run, run]


SPAWNS = """\
import os

def handler(pipe):
    opens = [(os.POSIX_SPAWN_OPEN, 0, pipe, os.O_RDONLY, 0)]
    os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=opens)
    os.read(0, 1)

handler(PIPE)
"""


def test_a_program_is_not_who_started_it(tmp_path: Path) -> None:
    """A child that waits before its exec is its parent's; what runs behind it was started by that, if it was read."""
    pipe, app = tmp_path / "pipe", tmp_path / "app.py"
    os.mkfifo(pipe)
    app.write_text(SPAWNS.replace("PIPE", repr(str(pipe))))
    sensor = Sensor()
    with subprocess.Popen(["/usr/bin/python3", "-I", "-S", str(app)], stdin=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (child,) = map(int, until(lambda: children.read_text().split()))
        before = sensor.origin(child, child)
        with open(pipe, "wb"):
            until(lambda: os.readlink(f"/proc/{child}/exe") == os.path.realpath("/bin/cat"))
            behind = sensor.origin(child, child)
            assert Sensor().origin(child, child) is None
        process.communicate(b"x")
    sensor.close()
    assert before
    assert behind
    assert behind.fields() == {**before.fields(), "started": True}
    assert not before.started
    assert before.handler
    assert before.handler.function == "handler"


STARTS = """\
import subprocess

def handler():
    subprocess.run(["/bin/sh", "-c", "setsid true; true"])

handler()
"""


def test_what_a_program_does_is_of_those_who_started_it(bench: Supervision) -> None:
    """A refused call of a program that a shell has started, which Python has started: its line says by whom."""
    app = bench.new(".py")
    app.write_text(STARTS)
    app.chmod(0o755)
    items = ("clone process", "clone thread", "vfork", "fork", "wait4", "waitid", "execve", "pipe2", "dup2", "getppid")
    bundle = bench.bundle(*items, processes=("/bin/sh", "/usr/bin/setsid", "/usr/bin/true"))
    done = bench.run(bundle, "/usr/bin/python3", "-I", "-S", str(app))
    assert "setsid" in done.stderr
    (line,) = done.of("setsid")
    assert line["comm"] == "setsid"
    assert (line["by"]["module"], line["by"]["started"]) == ("subprocess.py", True)
    assert line["by"]["handler"] == {"file": str(app), "function": "handler", "line": 4}


HIDES = """\
import ctypes, os

def attempt():
    try:
        os.setsid()
    except OSError as error:
        print(error.errno, flush=True)

print(ctypes.CDLL(None).prctl(4, 0, 0, 0, 0), flush=True)  # PR_SET_DUMPABLE
attempt()
"""


def test_who_was_met_can_hide_its_memory_no_more(bench: Supervision) -> None:
    """A function that makes itself undumpable behind its first line is named in the second, too."""
    app = bench.new(".py")
    app.write_text(HIDES.replace("print(ctypes", "attempt()\nprint(ctypes"))
    app.chmod(0o755)
    done = bench.run(bench.bundle("prctl PR_SET_DUMPABLE", "clone thread"), "/usr/bin/python3", "-I", "-S", str(app))
    assert done.stdout == "1\n0\n1\n", done.stderr
    assert [line["by"]["handler"]["function"] for line in done.of("setsid")] == ["attempt"] * 2


ASKS = """\
import json, os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from sandbox.sensor.early import Early
from sandbox.sensor.origins import Sensor

def asked(sensor):
    found = sensor.origin(process.pid, process.pid)
    return found and found.fields()

command = [sys.argv[2], "-I", "-S", sys.argv[3]]
process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
process.stdout.read(1)
early = Early(process.pid)
process.stdin.write(b"x")
process.stdin.flush()
sensor, deadline = Sensor(early), time.monotonic() + 20
while "module" not in (found := asked(sensor) or {}) and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps([early.hidden, asked(Sensor()), found]))
process.communicate(b"x")
"""
HIDDEN = """\
import ctypes, os, sys

os.write(1, b"x") and os.read(0, 1)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
sys.path.insert(0, sys.argv[0].rpartition("/")[0] + "/site-packages")
import tagload

def handler():
    tagload.load("!!apply:builtins.input")

handler()
"""


def test_what_was_opened_early_is_read_of_who_hides(bench: Supervision) -> None:
    """Another user's eyes: memory and mappings that were opened before, files by the root that both have."""
    folder = bench.new("")
    folder.mkdir()
    app = library.install(folder)
    app.write_text(HIDDEN)
    root = str(Path(sandbox.__file__).parent.parent)
    command = ["/usr/bin/python3", "-I", "-S", "-B", "-c", ASKS, root, "/usr/bin/python3", str(app)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **identity(bench.uid))
    assert done.stdout, done.stderr
    hidden, without, found = json.loads(done.stdout)
    assert (hidden, without) == (True, None)
    assert (found["distribution"], found["version"]) == (library.NAME, library.VERSION)
    assert found["handler"] == {"file": str(app), "function": "handler", "line": 9}


LAYERS = """\
import os, sys
sys.path.insert(0, os.path.dirname(__file__) + "/site-packages")
from tagload.constructor import construct_apply

def stop(_):
    os.write(1, b"x") and os.read(0, 1)

def handler():
    exec("def made(): construct_apply('__main__.stop', '')\\nmade()")

handler()
"""


def test_a_reading_has_each_frame_with_its_owner(tmp_path: Path) -> None:
    """The function, a library, code from a string: from the innermost to the outermost, with names and lines."""
    app = library.install(tmp_path)
    app.write_text(LAYERS)
    command = ["/usr/bin/python3", "-I", "-S", str(app)]
    sensor = Sensor()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"x"
        until_it_reads(process.pid)
        reading = sensor.reading(process.pid, process.pid)
        assert reading
        found = [(frame.owner, frame.module, frame.function, frame.line) for frame in reading.frames]
        assert sensor.reading(process.pid, process.pid, deadline=time.monotonic() - 1) is None
        process.communicate(b"x")
    sensor.close()
    assert reading.origin
    assert (reading.origin.library, reading.origin.handler) == (None, Frame(str(app), "stop", 6))
    assert reading.whole
    assert found == [
        ("", str(app), "stop", 6),
        (library.NAME, "tagload/constructor.py", "construct_apply", library.CALL_LINE),
        (FROM_STRING, "<string>", "made", 1),
        (FROM_STRING, "<string>", "<module>", 2),
        ("", str(app), "handler", 9),
        ("", str(app), "<module>", 11),
    ]


def until(asked: Callable[[], Any]) -> Any:
    """The first answer that is something."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := asked():
            return found
        time.sleep(0.001)
    return pytest.fail("it does not come")


def test_the_origin_of_a_call_that_is_gone_is_not_said(tmp_path: Path) -> None:
    """What was read of a thread counts if its call still waits behind that; the line is written in any case."""
    app = tmp_path / "app.py"
    app.write_text("import os\ndef handler(): os.write(1, b'x') and os.read(0, 1)\nhandler()\n")
    command = ["/usr/bin/python3", "-I", "-S", str(app)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"x"
        until_it_reads(process.pid)
        said = {waits: reported(process.pid, tmp_path / str(waits), waits) for waits in (True, False)}
        process.communicate(b"x")
    assert said[True]["by"]["handler"]["function"] == "handler"
    assert "by" not in said[False]


def reported(pid: int, path: Path, waits: bool) -> dict[str, Any]:
    """The line of a call by a process, which still waits or not when it is written."""
    sink = Sink(f"file:{path}")
    judge = Judge({}, {}, (), audit=False, waits=lambda call: waits, degraded=lambda why: None)
    reports = Reports("f", MACHINE, Journal(sink, "f"), None, None, judge)
    call = Notification((1, pid, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    task = Task(pid)
    reports.report(call, task, Call("setsid"), Decision(DENY, "not in the profile", ""), "invoke")
    task.close()
    sink.close()
    line: dict[str, Any] = json.loads(path.read_text())
    return line


def test_what_runs_no_python_has_no_origin(bench: Supervision) -> None:
    """A program in C is refused as ever, and its line says nothing of whose call it was."""
    done = bench.run(bench.bundle("clone thread"), bench.hostile(), "forks", "1")
    assert done.violations
    assert not any("by" in line for line in done.violations)
    assert not [event for event in done.events if event["event"] == "degraded"]


def test_who_runs_no_python_is_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    """What has none is known to have none, until it maps more, or becomes another program, which may be Python."""
    app = tmp_path / "app.py"
    app.write_text("import os\ndef handler(): os.write(1, b'x') and os.read(0, 1)\nhandler()\n")
    script = f"read -r line; line=$(printf %0999999d 0); echo; read -r line; exec /usr/bin/python3 -I -S {app}"
    pids = []
    sensor, processes = Sensor(), Processes()
    for _ in range(MOST_WITHOUT + 1):
        with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            pid = process.pid
            pids.append(pid)
            until_it_reads(pid)
            assert sensor.origin(pid, pid) is None
            with pytest.raises(Unreadable):
                processes.opened(pid, time.monotonic() + 10)
            with pytest.raises(Unreadable):
                processes.known(pid)
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
            assert processes.known(pid) is None  # to be looked at again
            with pytest.raises(Unreadable):
                processes.opened(pid, time.monotonic() + 10)
            if len(pids) == 1:
                process.stdin.write(b"\n")
                process.stdin.flush()
                assert process.stdout.read(1) == b"x"
                until_it_reads(pid)
                assert processes.known(pid) is None
                by = sensor.origin(pid, pid)
                assert by
                assert by.handler
                assert by.handler.function == "handler"
            process.kill()
            process.wait()
        assert processes.known(pid) is None
    open_files = len(os.listdir("/proc/self/fd"))
    sensor.close()
    processes.close()
    assert len(os.listdir("/proc/self/fd")) < open_files


def test_an_unknown_interpreter_is_said_once(bench: Supervision) -> None:
    """Of a version that no table has, two refused calls have lines as ever, and one more says why they name nobody."""
    data = bytearray(Path("/usr/bin/python3").read_bytes())
    with open("/usr/bin/python3", "rb") as file:
        at = Elf(file.fileno()).symbol(runtime.VERSION)
    if at is None or data[at + 3] != 3 or data[at + 2] > 12:
        pytest.skip("/usr/bin/python3 is newer than what the table is for")
    data[at + 1] = 99
    python = bench.new("")
    python.write_bytes(data)
    python.chmod(0o755)
    code = "import os\nfor _ in range(2):\n try: os.fork()\n except OSError as error: print(error.errno)"
    done = bench.run(bench.bundle(), str(python), "-I", "-S", "-c", code)
    assert done.stdout == "1\n1\n", done.stderr
    assert ["by" in line for line in done.of("clone")] == [False] * 2
    (why,) = [event["reason"] for event in done.events if event["event"] == "degraded"]
    assert why.startswith(f"origins: the layout of Python 3.{data[at + 2]}.99 is not known: ")


@pytest.mark.parametrize("site", ["", "python/lib/python3.11/site-packages"], ids=["beside", "layer"])
def test_libraries_are_named_wherever_they_lie(bench: Supervision, site: str) -> None:
    """Right beside the function, as deployed packages have them, and in a layer; audit says it, too."""
    folder = bench.new("")
    folder.mkdir()
    app = library.install(folder, site)
    command = ("/usr/bin/python3", "-I", "-S", str(app), "!!apply:os.system true")
    done = bench.run(bench.bundle(), *command, more={"SANDBOX_MODE": "audit"})
    found: list[dict[str, Any]] = [line["by"] for line in done.violations if line["syscall"] in ("clone", "vfork")]
    assert found
    for by in found:
        assert (by["distribution"], by["version"]) == (library.NAME, library.VERSION)
        assert by["handler"]["file"] == str(app)


def test_the_sensor_gives_its_descriptors_back() -> None:
    """However many processes it has read, few are open, and none in the end; one that ended is read no more."""
    before = len(os.listdir("/proc/self/fd"))
    sensor = Sensor()
    code = "import os\ndef own(): os.write(1, b'x') and os.read(0, 1)\nown()"
    for _ in range(6):
        process = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout
        assert process.stdout.read(1) == b"x"
        until_it_reads(process.pid)
        assert sensor.origin(process.pid, process.pid) is None  # code from a string alone is nobody's
        process.communicate(b"x")
        assert sensor.origin(process.pid, process.pid) is None
    assert len(os.listdir("/proc/self/fd")) - before <= 4 + 2  # and the mounts of one namespace
    sensor.close()
    assert len(os.listdir("/proc/self/fd")) - before <= 2
