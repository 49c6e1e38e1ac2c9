"""The record of what a function did: its stretches of time, its bounds, and how it is read back and added up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.behaviour.access import NETWORK, WRITE
from sandbox.behaviour.call import Call
from sandbox.kernel.standing import standing
from sandbox.kernel.task import Task
from sandbox.supervise.activity import INTERVAL, MOST_KEPT, Follower
from sandbox.supervise.judging import Judgement
from sandbox.violations import activities, reader
from sandbox.violations.activity import ALLOWED, MOST_LISTED, AccessRecord, Activity
from sandbox.violations.journal import Journal
from sandbox.violations.sink import Sink

SELF = Task(1)
LEAVES = """
import socket, sys, threading
print(flush=True)
input()
threading.Thread(target=threading.Event().wait, daemon=True).start()
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
print(server.getsockname()[1], flush=True)
input()
"""


class Follows:
    """A follower with a clock of ours, and what it wrote."""

    def __init__(self, folder: Path, *, runtime_api: bool, full: bool = False) -> None:
        self.path = folder / "lines"
        self.now = 0.0
        journal = Journal(Sink(f"file:{self.path}"), "some", clock=lambda: self.now)
        self.follower = Follower(
            "some", journal, full=full, looks=True, runtime_api=runtime_api, clock=lambda: self.now
        )  # fmt: skip

    def wrote(self) -> list[Activity | AccessRecord]:
        """As `sandbox events` reads it."""
        with open(self.path, "rb") as file:
            return [record for line in reader.lines(file) if (record := activities.read(line))]


def writes(follower: Follower, *paths: str) -> None:
    """Accesses that write."""
    for path in paths:
        follower.looked(Call("openat", "create write"), WRITE, path, SELF)


def test_each_stretch_has_what_was_done_in_it(tmp_path: Path) -> None:
    """The start, an invocation, what comes between two, and two at once have lines of their own; duration is exact."""
    bench = Follows(tmp_path, runtime_api=True)
    follower = bench.follower
    writes(follower, "/init")
    bench.now = 1.0
    follower.began("one")
    writes(follower, "/a", "/a")
    bench.now = 1.25
    follower.answered("one")
    writes(follower, "/late")
    bench.now = 3.0
    follower.ended("one")
    writes(follower, "/between")
    follower.refused(Call("ptrace"), "", "", SELF, "denied", known=True)
    follower.refused(Call("mount"), "", "", SELF, "denied")
    follower.began("two")
    follower.began("three")
    writes(follower, "/both")
    follower.answered("two")
    follower.ended("two")
    writes(follower, "/third")
    follower.finish()
    found = [record for record in bench.wrote() if isinstance(record, Activity)]
    told = [(one.phase, one.request, one.answered, one.shared, list(one.written or ())) for one in found]
    assert told == [
        ("init", None, False, False, ["/init"]),
        ("invoke", "one", True, False, ["/a", "/late"]),
        ("invoke", None, False, False, ["/between"]),
        ("invoke", "two", True, True, ["/both"]),
        ("invoke", "three", False, True, ["/both", "/third"]),
    ]
    assert (found[1].duration, found[1].accesses) == (250.0, {"write": 3})
    assert (found[2].refused, found[2].new) == ({"ptrace: denied": 1, "mount: denied": 1}, ("mount",))
    totals = activities.summarise(found)
    assert len(totals.durations) == 3
    assert (totals.things[0].thing, totals.things[0].lines) == ("/both", 2)


def test_without_invocations_a_line_an_hour_and_one_at_the_end(tmp_path: Path) -> None:
    """The hours add up to the run, whatever happened in them."""
    bench = Follows(tmp_path, runtime_api=False)
    follower = bench.follower
    for hour in range(2):
        writes(follower, f"/{hour}")
        follower.tick()
        bench.now += INTERVAL
        assert follower.timeout() == 0.0
        follower.tick()
    bench.now += 1
    follower.finish()
    found = [record for record in bench.wrote() if isinstance(record, Activity)]
    assert [(one.phase, one.duration, one.written) for one in found] == [
        ("run", INTERVAL * 1000, ("/0",)), ("run", INTERVAL * 1000, ("/1",)), ("run", 1000.0, ()),
    ]  # fmt: skip


def test_a_line_says_how_much_it_leaves_out(tmp_path: Path) -> None:
    """However many paths a function writes, the line holds some and counts the others; each has its own in `full`.

    So it does with libraries that connect, whose names the function can forge.
    """
    bench = Follows(tmp_path, runtime_api=True, full=True)
    bench.follower.began("one")
    writes(bench.follower, *(f"/{i}" for i in range(MOST_KEPT + 10)))
    bench.follower.ended("one")
    *calls, line = bench.wrote()[1:]
    assert isinstance(line, Activity)
    assert (len(line.written or ()), line.more) == (MOST_LISTED, MOST_KEPT + 10 - MOST_LISTED)
    assert [one.target for one in calls if isinstance(one, AccessRecord)] == [f"/{i}" for i in range(MOST_KEPT + 10)]
    bench.follower.began("two")
    for number in range(MOST_KEPT + 10):
        found = Judgement(None, users=(f"library-{number:03}",))
        bench.follower.reached(Call("connect"), NETWORK, "tcp://some:1", SELF, ALLOWED, found)
    bench.follower.ended("two")
    *_, line = bench.wrote()
    assert isinstance(line, Activity)
    assert line.destinations[0].by == tuple(f"library-{number:03}" for number in range(MOST_LISTED))
    assert (line.destinations[0].count, line.more) == (MOST_KEPT + 10, MOST_KEPT + 10 - MOST_LISTED)


def test_what_stands_below_a_process() -> None:
    """Processes, threads, listeners and connections are named by what they are, and what was there before is not."""
    def child() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LEAVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    with child() as first:
        assert first.stdin
        assert first.stdout
        first.stdout.readline()
        before = standing(os.getpid())
        first.stdin.write("\n")
        first.stdin.flush()
        port = int(first.stdout.readline())
        with child() as second:
            now = standing(os.getpid(), before)
            second.kill()
        first.kill()
    found = now.since(before)
    (process,) = found["processes"]
    assert process.endswith(f" {second.pid}")
    (thread,) = found["threads"]
    assert thread.startswith("python")
    assert found["listeners"] == (f"listener at tcp://127.0.0.1:{port}",)
    assert found["connections"] == (f"connection to tcp://127.0.0.1:{port}",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([
    *Activity.__slots__, "syscall", "class", "reach", "target", "verdict", "by", "comm",
])  # fmt: skip


@given(st.sampled_from(["activity", "access"]), st.dictionaries(NAMES, JSON), st.lists(JSON, max_size=3))
@example("activity", {"request": None, "duration": 10**400}, [])
def test_no_line_makes_the_reader_raise(event: str, fields: dict[str, object], items: list[object]) -> None:
    """Whatever the fields of a line in a log are, it is read or skipped, and what is shown is safe."""
    text = json.dumps({"event": event, "time": 1.0, "seq": 1, "supervisor": "0" * 8, **fields, "new": items})
    for line in reader.parse(text.encode()):
        record = activities.read(line)
        if record:
            assert activities.describe(record).isprintable()
            activities.summarise([record])
