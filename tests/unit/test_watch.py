"""The live view, driven by Textual's pilot: what it shows of a run, its keys, and how it fits terminals."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator
from queue import Queue

import pytest
from textual.widgets import DataTable, Static

from sandbox.behaviour.call import Call
from sandbox.logs.reading import LogReader
from sandbox.plain_json import encode
from sandbox.violations.activity import ALLOWED, AccessRecord, Activity
from sandbox.violations.origin import Frame, Origin
from sandbox.violations.reader import Line
from sandbox.violations.record import Record, Violation
from sandbox.watch.view import Watch

STATUS = {
    "event": "sandbox", "mode": "enforce", "function": "thumbnail", "policy": "sha256:0",
    "degraded": ["files: nobody looks"],
}  # fmt: skip
BY = Origin("urllib3", "2.2.1", Frame("urllib3/util/connection.py", "create", 85), Frame("/task/app.py", "handler", 12))
HOSTILE = "/tmp/[bold red]\x1b[2J\u202e"


def written(*records: Record) -> list[bytes]:
    """The lines of records."""
    return [
        encode({"event": record.event, "time": record.time, "seq": 1, "supervisor": "0a", **record.fields()}).encode()
        for record in records
    ]


def access(target: str, verdict: str = ALLOWED, request: str = "id-1") -> AccessRecord:
    """One access of an invocation."""
    return AccessRecord(
        function="thumbnail", phase="invoke", request=request, pid=7, tid=7, comm="python3",
        call=Call("connect", ""), reach="network", target=target, verdict=verdict, time=1_700_000_000.0,
    )  # fmt: skip


def violation(target: str) -> Violation:
    """One refusal of the same invocation."""
    return Violation(
        function="thumbnail", phase="invoke", request="id-1", pid=7, tid=7, comm="python3", syscall="connect",
        arg_class="", args=["3", target], target=target, verdict="denied", errno="EPERM", reason="not in the profile",
        allow=f"network: [{target}]", by=BY, time=1_700_000_001.0,
    )  # fmt: skip


ANSWERED = Activity(
    function="thumbnail", phase="invoke", request="id-1", duration=5.0, answered=True, shared=False, accesses={},
    destinations=[], listeners=[], programs=[], written=None, refused={}, anomalies={}, new=[],
)  # fmt: skip


class Fed:
    """A view of lines that the test hands in."""

    def __init__(self) -> None:
        self.reader = LogReader()
        self.ended = False
        self.queue: Queue[list[Line] | None] = Queue()
        self.app = Watch("a log", self.reader.counts, self.read, lambda: self.queue.put(None))

    def read(self) -> Iterator[list[Line]]:
        """What was handed in, until it is stopped."""
        while (lines := self.queue.get(timeout=30)) is not None:
            yield lines
        self.ended = True

    def feed(self, *lines: bytes) -> None:
        """Hand lines in."""
        self.queue.put(list(self.reader.feed(b"\n".join(lines) + b"\n", starts=True)))

    def text(self, name: str) -> str:
        """What a part of the screen shows."""
        return str(self.app.query_one(name, Static).render())

    def rows(self) -> list[list[str]]:
        """The table's texts."""
        table = self.app.query_one(DataTable)
        return [[str(cell) for cell in table.get_row(key)] for key in table.rows]


def test_the_view_of_a_run() -> None:
    """State, accesses and refusals as they come; the selected one with its stack and the line that would allow it."""

    async def drive() -> None:
        fed = Fed()
        async with fed.app.run_test(size=(140, 40)) as pilot:
            await pilot.pause()
            assert "waiting for a start" in fed.text("#state")
            fed.feed(json.dumps(STATUS).encode())
            refused = "tcp://10.0.0.9:25"
            fed.feed(*written(access("tcp://10.0.0.1:443"), access(refused, "denied"), violation(refused)))
            fed.feed(*written(*[access(f"tcp://10.0.1.{i}:443") for i in range(60)], access(HOSTILE)))
            await pilot.pause(0.3)
            state = fed.text("#state")
            said = "thumbnail", "enforce", "phase invoke", "request id-1", "62 allowed, 1 denied", "nobody looks"
            assert all(words in state for words in said), state
            table = fed.app.query_one(DataTable)
            assert (table.row_count, table.cursor_row) == (63, 62)  # the refused access is its violation
            assert "\\x1b[2J" in fed.rows()[-1][5]
            assert "[bold red]" in fed.text("#details")
            await pilot.press("n")
            await pilot.pause()
            assert table.cursor_row == 1
            details = fed.text("#details")
            for words in (
                'connect(3, tcp://10.0.0.9:25)', "denied: not in the profile", "ATT&CK",
                "urllib3 2.2.1 urllib3/util/connection.py create line 85", "/task/app.py handler line 12",
                "to allow network: [tcp://10.0.0.9:25]",
            ):  # fmt: skip
                assert words in details, details
            fed.feed(*written(access("tcp://10.0.2.1:443")))
            await pilot.pause(0.2)
            assert (table.row_count, table.cursor_row) == (64, 1)  # the selected one stays
            await pilot.press("r")
            await pilot.pause()
            assert [row[3] for row in fed.rows()] == ["denied"]
            assert "refusals only" in fed.text("#state")
            await pilot.press("r", "p")
            fed.feed(*written(access("tcp://10.0.2.2:443"), ANSWERED))
            await pilot.pause(0.2)
            assert (table.row_count, "PAUSED" in fed.text("#state")) == (64, True)
            assert "1 invocation, 1 start" in fed.text("#state")
            assert "request" not in fed.text("#state")
            await pilot.press("p", "f")
            await pilot.pause()
            assert (table.row_count, table.cursor_row) == (65, 64)
            await pilot.press("up", "up")
            assert table.cursor_row == 62
            await pilot.resize_terminal(44, 16)
            await pilot.pause()
            assert [len(row) for row in fed.rows()] == [3] * 65
            assert table.cursor_row == 62
            assert table.virtual_size.width <= 44
            await pilot.press("q")
        assert fed.ended
        assert fed.app.return_code == 0

    asyncio.run(drive())


def test_nothing_of_ours_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a log in which nothing is ours the view says so; and without colours it says the same."""
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")

    async def drive() -> None:
        fed = Fed()
        async with fed.app.run_test(size=(100, 20)) as pilot:
            list(fed.reader.lines(io.BytesIO(b"nothing\n" * 3)))
            await pilot.pause(1.2)
            assert "3 lines read: none of a supervisor or a start" in fed.text("#state")
            fed.feed(json.dumps({**STATUS, "mode": "audit"}).encode(), *written(violation("tcp://10.0.0.9:25")))
            await pilot.pause(0.2)
            assert fed.app.no_color
            assert fed.rows()[0][3] == "denied"
            assert "audit" in fed.text("#state")

    asyncio.run(drive())
