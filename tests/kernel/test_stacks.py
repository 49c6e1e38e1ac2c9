"""Stacks of real interpreters, read from outside: equal to their own, whatever they run, and what they call in C."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting_programs import until_it_reads

from sandbox.kernel.memory import Memory
from sandbox.sensor import runtime
from sandbox.sensor.offsets import NoThread, Unreadable, covered, text, version_of
from sandbox.sensor.origins import Sensor
from sandbox.sensor.stack import Stack

PYTHONS = [
    "/usr/bin/python3",
    *filter(os.path.exists, ["/usr/lib/google-cloud-sdk/platform/bundledpythonunix/bin/python3"]),
    *sorted(str(path) for pattern in (".pyenv/versions/3.1[1-9].*", ".local/share/uv/python/cpython-3.1[1-9].*")
            for path in Path.home().glob(f"{pattern}/bin/python3")),
]  # fmt: skip
"""Those that are there: Debian's, Google's tools', pyenv's (static) and uv's (stripped)."""

STOPS = '''\
import json, os, random, sys, threading, time

try:  # a callback maps a page of the interpreter again, below it
    import ctypes
    callback = ctypes.CFUNCTYPE(None)(lambda: None)
except ImportError:
    pass

def chain(frame):
    found = []
    while frame:
        code = frame.f_code
        found.append([code.co_filename, code.co_qualname, frame.f_lineno])
        frame = frame.f_back
    return found

def stop():
    print(json.dumps([threading.get_native_id(), chain(sys._getframe())]), flush=True) or os.read(0, 1)

def plain(depth): go(depth - 1)

def generator(depth):
    yield go(
        depth - 1
    )

class Held:
    def method(self, depth):
        return list(generator(depth))

    def __getattr__(self, name):
        go(int(name[1:]) - 1)

def source(depth):
    name = f"<made {random.randrange(100)}>" if depth % 2 else f"/made/\\u6587{random.randrange(100)}.py"
    exec(compile("\\n" * random.randrange(300) + f"def made(): go({depth} - 1)\\nmade()", name, "exec"), {"go": go})

def go(depth):
    if depth <= 0:
        return stop()
    way = random.choice((plain, Held().method, source, lambda depth: go(depth - 1), lambda depth: getattr(Held(), f"x{depth}"),
                         lambda depth: [go(depth - 1) for _ in range(1)], lambda depth: max([0], key=lambda _: go(depth - 1) or 0)))
    way(depth)

def many(count):
    for _ in range(count):
        go(random.randrange(40))

random.seed(int(sys.argv[1]))

def churn():
    while True:
        compile(f"x{random.randrange(100)} = 1", "f", "exec")
        time.sleep(0.0002)

threading.Thread(target=churn, daemon=True).start()
many(15)
thread = threading.Thread(target=many, args=(5,))
thread.start()
thread.join()
go(300)
os._exit(0)
'''  # noqa: E501


@contextmanager
def stopping(
    python: str, folder: Path, *arguments: str, source: str = STOPS
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """A program under an interpreter."""
    path = folder / "stops.py"
    path.write_text(source)
    process = subprocess.Popen(
        [python, "-I", str(path), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("python", PYTHONS)
def test_stacks_are_the_interpreters_own(python: str, tmp_path: Path) -> None:
    """At random stops in random calls, two threads beside each other: file, name and line of every frame agree."""
    number = int(subprocess.run(
        [python, "-c", "import sys; print(sys.hexversion)"], capture_output=True, text=True, check=True
    ).stdout)  # fmt: skip
    version = version_of(number)
    with stopping(python, tmp_path, "7") as process:
        assert process.stdout
        assert process.stdin
        stops = iter(process.stdout.readline, "")
        first = next(stops)
        memory = Memory(process.pid)
        if version < (3, 13) and covered(version) is None:
            with pytest.raises(Unreadable, match="not known"):
                runtime.locate(process.pid, memory, time.monotonic() + 10)
            sensor = Sensor()
            assert sensor.origin(process.pid, process.pid) is None
            assert text(version) in sensor.unknown
            pytest.skip(f"Python {text(version)} is in no table: it is unknown, as it should be")
        with pytest.raises(Unreadable):
            runtime.locate(process.pid, memory, time.monotonic() - 1)
        stack = Stack(memory, *runtime.locate(process.pid, memory, time.monotonic() + 10))
        count = 0
        for line in itertools.chain([first], stops):
            tid, expected = json.loads(line)
            until_it_reads(tid)
            found = [activation.frame() for activation in stack.activations(tid, time.monotonic() + 10)]
            shown = [[frame.file, frame.function, frame.line] for frame in found]
            # One difference, not all: pytest takes minutes to show those of a thousand frames.
            assert next((pair for pair in zip(shown, expected, strict=False) if pair[0] != pair[1]), None) is None
            assert len(shown) == len(expected)
            count += 1
            process.stdin.write("x")
            process.stdin.flush()
        assert count == 21
        with pytest.raises((NoThread, Unreadable)):
            list(stack.activations(process.pid + 1, time.monotonic() + 10))
        memory.close()


CALLS = '''\
import functools, os, pickle, sys

def stop(*ignored):
    os.write(1, b"x\\n")
    os.read(0, 1)
    return 0

class Reduces:
    def __reduce__(self): return stop, ()

class Made:
    def __init__(self, *ignored): stop()

    def __getattr__(self, name): stop()

def loads(): pickle.loads(payload)
def evaluates(): print(1, eval("stop()"), len("x"))
def executes():
    for _ in range(1):
        with open(os.devnull):
            exec("stop()")
def sorts(): sorted([1], key=stop)
def sorts_itself(): [1].sort(key=stop)
def waits_below(): setattr(Made, "x", pickle.loads(payload))
def unpacks(): eval(*("stop()",))
def calls(): print(1, stop())
def makes(): print(1, Made(2))
def gets(): print(1, Made.__getattr__(None, ""))
def after():
    try:
        print(1, 2, 3, len(None))
    except TypeError:
        eval("stop()")
def binds(): functools.partial(stop, 1)()

payload = pickle.dumps(Reduces())
sys.stdout = open(os.devnull, "w")
for call in (loads, evaluates, executes, sorts, sorts_itself, unpacks, calls, makes, gets, after, binds, waits_below):
    for _ in range(12):  # by then it is specialised
        call()
'''
BELOW = {
    "loads": "_pickle.loads", "evaluates": "builtins.eval", "executes": "builtins.exec", "sorts": "builtins.sorted",
    "sorts_itself": "list.sort", "unpacks": "builtins.eval", "calls": "", "makes": "", "gets": "",
    "after": "builtins.eval", "binds": "", "waits_below": "_pickle.loads",
}  # fmt: skip


@pytest.mark.parametrize("python", PYTHONS)
def test_the_function_in_c_that_a_frame_calls_is_named(python: str, tmp_path: Path) -> None:
    """Below each frame, what it has called in C; none below a call of Python, or a class, or after what has failed."""
    with stopping(python, tmp_path, source=CALLS) as process:
        assert process.stdout
        assert process.stdin
        memory = Memory(process.pid)
        stack = None
        found = set()
        for line in iter(process.stdout.readline, ""):
            assert line == "x\n"
            until_it_reads(process.pid)
            if stack is None:
                stack = Stack(memory, *runtime.locate(process.pid, memory, time.monotonic() + 10))
            one, *others, _ = stack.activations(process.pid, time.monotonic() + 10)
            assert (one.frame().function, one.c_function()) == ("stop", "posix.read")
            (last,) = [(frame, called.c_function()) for called in others if (frame := called.frame().function) in BELOW]
            found.add(last)
            process.stdin.write("x")
            process.stdin.flush()
        memory.close()
    assert found == set(BELOW.items())
