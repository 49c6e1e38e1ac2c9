"""A signed run in its journal: a beginning, heartbeats behind new lines, an end with exact counts, no count lost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from pathlib import Path

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.violations import reader
from sandbox.violations import sink as sink_module
from sandbox.violations.chain import Verifier
from sandbox.violations.journal import HEARTBEAT, Journal
from sandbox.violations.record import LONGEST, Summary, Violation
from sandbox.violations.sink import Sink

SCHEMA = Path(str(sink_module.__file__)).with_name("schema.json")
KEY = b"a key of an operator"


def violate(journal: Journal, target: str = "/bin/sh", call: str = "execve") -> None:
    """A violation as a supervisor reports it."""
    if journal.wants(call, "", "denied", target):
        journal.write(
            Violation(
                function="thumbnail", phase="invoke", request=None, pid=1, tid=2, comm="python3", syscall=call,
                arg_class="", args=[], target=target, verdict="denied", errno="EPERM", reason="not in the profile",
                allow="",
            )
        )  # fmt: skip


def run_of(path: Path, violations: int, now: list[float] | None = None) -> Journal:
    """A signed run, begun, with so many violations, each of a target of its own; not finished."""
    clock = now or [1000.0]
    journal = Journal(Sink(f"file:{path}", KEY), "thumbnail", clock=lambda: clock[0])
    journal.begin("enforce", "ab" * 32)
    for i in range(violations):
        violate(journal, f"/bin/{i}")
    return journal


def verified(data: bytes) -> tuple[list[str], Verifier]:
    """The problems of a log, and who found them."""
    verifier = Verifier(KEY)
    problems = [problem for line in reader.lines(io.BytesIO(data)) if (problem := verifier.step(line))]
    return problems, verifier


def events(path: Path) -> list[str]:
    """What the lines of a file are called."""
    with path.open("rb") as file:
        return [str(line.fields["event"]) for line in reader.lines(file)]


def test_a_run_without_violations_verifies(tmp_path: Path) -> None:
    """With a key there is a beginning and an end that counts nothing; without one, nothing is written."""
    path = tmp_path / "events"
    run_of(path, 0).finish()
    problems, verifier = verified(path.read_bytes())
    (run,) = verifier.runs()
    assert (problems, events(path)) == ([], ["begin", "violations"])
    assert (run.function, run.policy, run.violations, run.lost) == ("thumbnail", "sha256:" + "ab" * 32, 0, 0)
    assert run.began is not None
    plain = Journal(Sink(f"file:{tmp_path}/plain"), "thumbnail")
    plain.begin("enforce", "ab" * 32)
    assert plain.timeout() is None
    plain.finish()
    assert (tmp_path / "plain").read_bytes() == b""


def test_one_heartbeat_stands_behind_new_lines(tmp_path: Path) -> None:
    """However long the process was frozen, it is one, with the exact number; then there is none until the next line."""
    path, now = tmp_path / "events", [1000.0]
    journal = run_of(path, 3, now)
    assert journal.timeout() == HEARTBEAT
    now[0] += 86400
    for _ in range(5):
        journal.tick()
    assert events(path) == ["begin", *["violation"] * 3, "alive"]
    assert journal.timeout() is None
    now[0] -= 50  # a clock that is set back by a snapshot
    violate(journal, "/bin/new")
    now[0] += HEARTBEAT
    journal.tick()
    journal.tick()
    journal.finish()
    assert events(path)[5:] == ["violation", "alive", "violations"]
    assert verified(path.read_bytes())[0] == []
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    with path.open("rb") as file:
        found = [line.fields for line in reader.lines(file)]
    assert [fields["total"] for fields in found if "total" in fields] == [3, 4, 4]
    for fields in found:
        validator.validate(fields)


@settings(max_examples=60)
@given(st.data())
def test_no_damage_to_a_log_verifies(data: st.DataObject) -> None:
    """Bytes of a run's lines that were cut off, overwritten, doubled, swapped or removed are found."""
    log = data.draw(st.sampled_from(_logs()))
    start = data.draw(st.integers(0, len(log) - 2))
    end = data.draw(st.integers(start + 1, len(log) - 1))
    damaged = data.draw(
        st.sampled_from([
            log[:start], log[:start] + log[end:], log[:start] + bytes(end - start) + log[end:],
            log[:end] + log[start:], b"".join(reversed(log.splitlines(keepends=True))), log + log,
        ])
    )  # fmt: skip
    problems, verifier = verified(damaged)
    ours = [line.text for line in reader.lines(io.BytesIO(damaged))]
    whole = ours == [line.text for line in reader.lines(io.BytesIO(log))]
    assert whole or problems or verifier.unfinished() or not verifier.runs()
    assert not (whole and (problems or verifier.unfinished()))


def _logs() -> list[bytes]:
    """Runs with and without violations, made once."""
    if not _MADE:
        for count in (0, 4):
            ours, theirs = os.pipe()
            journal = Journal(Sink("", KEY, stderr=theirs), "thumbnail")
            journal.begin("audit", "cd" * 32)
            for i in range(count):
                violate(journal, f"/{i}")
            journal.finish()
            _MADE.append(os.read(ours, 1 << 16))
            os.close(ours)
            os.close(theirs)
    return _MADE


_MADE: list[bytes] = []

GARBAGE = st.lists(
    st.binary(max_size=40) | st.sampled_from([
        b"\n", b'{"event": "' * 40, b'{"event": "violation", "a": "', b'{"event": "x", "y": [' * 200, b"\0" * 5000,
        b"x" * 70_000, b'"}', b'{"event": "x", "time": 1, "supervisor": "z", "seq": 1, "y": ',
    ]), max_size=3,
).map(b"".join)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(GARBAGE, min_size=7, max_size=7), st.data())
def test_the_reader_finds_every_line_in_any_garbage(garbage: list[bytes], data: st.DataObject) -> None:
    """Whatever stands before, between and behind our lines, all are read; in a line it costs that line alone."""
    log = _logs()[1]
    ours = [line.text for line in reader.lines(io.BytesIO(log))]
    pieces = [line.encode() for line in ours]
    if data.draw(st.booleans()):
        hit = data.draw(st.integers(1, len(pieces) - 1))
        at = data.draw(st.integers(1, len(pieces[hit]) - 1))
        pieces[hit] = pieces[hit][:at] + b"\0" + pieces[hit][at:]
        del ours[hit]
    mixed = b"".join(junk + b"\n" + piece + b"\n" for junk, piece in zip(garbage, pieces, strict=False)) + garbage[-1]
    assert [line.text for line in reader.lines(io.BytesIO(mixed)) if line.supervisor != "z"] == ours
    glued = b"x" * len(garbage[0]) + b"".join(piece + b" " for piece in pieces)
    assert [line.text for line in reader.lines(io.BytesIO(glued))] == ours


def test_a_full_sink_loses_lines_and_no_count() -> None:
    """Nobody reads for a while: what had its line lost is in the summary that gets through, the end waits for room."""
    reading, writing = os.pipe()
    now = [1000.0]
    try:
        journal = Journal(Sink("", KEY, stderr=writing), "thumbnail", clock=lambda: now[0])
        journal.begin("enforce", "ab" * 32)
        for call in (f"c{i}" for i in range(200)):
            for target in "abc":
                violate(journal, target * 600, call)
        first = os.read(reading, 1 << 17)
        now[0] += 1
        while journal.timeout() is not None:
            now[0] += journal.timeout() or 0
            journal.tick()
        journal.finish()
        data = first + os.read(reading, 1 << 17)
    finally:
        os.close(reading)
        os.close(writing)
    problems, verifier = verified(data)
    (run,) = verifier.runs()
    found = list(reader.lines(io.BytesIO(data)))
    written = sum(line.violation is not None for line in found)
    summaries = [line.record for line in found if isinstance(line.record, Summary) and not line.record.final]
    told = sum(count for summary in summaries for count in summary.counts.values())
    assert problems == []
    assert run.lost > 0
    assert 0 < written < 600
    assert (written + told, run.violations) == (600, 600)
    assert max(map(len, data.splitlines())) < LONGEST
    ends = [line for line in data.splitlines(keepends=True) if b'"final": true' in line]
    assert len(ends) > 1
    problems, verifier = verified(data[: data.rindex(ends[-1])])
    assert (problems, len(verifier.unfinished())) == ([], 1)


def test_what_a_full_sink_did_not_take_is_said_again() -> None:
    """A heartbeat comes a heartbeat later, and the end once there is room for it, within its patience."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    now = [1000.0]

    def fill() -> None:
        with contextlib.suppress(BlockingIOError):
            while os.write(writing, b"x" * 4095 + b"\n"):
                pass

    with os.fdopen(reading, "rb", buffering=0) as log, os.fdopen(writing, "wb"):
        journal = Journal(Sink("", KEY, stderr=writing), "thumbnail", clock=lambda: now[0])
        journal.begin("enforce", "ab" * 32)
        violate(journal)
        fill()
        now[0] += HEARTBEAT
        journal.tick()
        assert journal.timeout() == HEARTBEAT
        data = log.read(1 << 17)
        now[0] += HEARTBEAT
        journal.tick()
        fill()
        room = threading.Timer(0.2, lambda: read.append(log.read(1 << 17)))
        read = [data]
        room.start()
        journal.finish()
        room.join()
        data = b"".join(read) + log.read(1 << 17)
    found = [str(line.fields["event"]) for line in reader.lines(io.BytesIO(data))]
    assert found == ["begin", "violation", "alive", "violations"]
    problems, verifier = verified(data)
    assert (problems, verifier.unfinished()) == ([], [])
