"""Reading our lines out of what carries them: envelopes of log services and runtimes, cut and hostile ones."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cli.events import LogFormat
from sandbox.logs.counts import Counts
from sandbox.logs.envelopes import FORMATS
from sandbox.logs.reading import PIECE, LogReader
from sandbox.violations.chain import Verifier
from sandbox.violations.journal import Journal
from sandbox.violations.reader import Line
from sandbox.violations.record import Violation
from sandbox.violations.sink import Sink

KEY = b"a key of an operator"
CALLS = (("execve", "/bin/sh"), ("connect", "tcp://10.0.0.1:443"), ("openat", '/tmp/"quoted\\\x07\udcff'))
STATUS = '{"event": "sandbox", "mode": "audit", "function": "thumbnail", "enforced": [], "degraded": []}'
FOREIGN = ("START RequestId: 1", '{"level": "info", "message": "nothing"}', "")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The log of a run: lines of others, the status line, and a supervisor's, which are signed."""
    path = tmp_path_factory.mktemp("logs") / "events"
    sink = Sink(f"file:{path}", KEY)
    journal = Journal(sink, "thumbnail")
    for number, (syscall, target) in enumerate(CALLS):
        assert journal.wants(syscall, "", "denied", target)
        journal.write(Violation(
            function="thumbnail", phase="invoke", request=f"id-{number}", pid=1, tid=2, comm="python3", syscall=syscall,
            arg_class="", args=[target], target=target, verdict="denied", errno="EPERM", reason="not in the profile",
            allow="", time=1_700_000_000.0 + number,
        ))  # fmt: skip
    journal.finish()
    sink.close()
    return [FOREIGN[0], STATUS, *path.read_text().splitlines(), *FOREIGN[1:]]


def events(lines: Iterable[str]) -> list[dict[str, Any]]:
    """As CloudWatch numbers them."""
    return [
        {"logStreamName": "s", "timestamp": 1_700_000_000_000 + i, "message": f"{line}\n", "eventId": str(i)}
        for i, line in enumerate(lines)
    ]


def subscription(lines: Iterable[str]) -> str:
    """The event of a Lambda function that a log group is subscribed to."""
    data = {"messageType": "DATA_MESSAGE", "logGroup": "g", "logEvents": events(lines)}
    return json.dumps({"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(data).encode())).decode()}})


def docker(lines: Iterable[str], most: int = 16384) -> str:
    """A json-file of Docker's, which cuts long lines."""
    parts = [line[i : i + most] for line in (f"{one}\n" for one in lines) for i in range(0, len(line), most)]
    return "".join(
        json.dumps({"log": part, "stream": "stderr", "time": "2025-01-31T12:00:00.1Z"}, separators=(",", ":")) + "\n"
        for part in parts
    )


def cri(lines: Iterable[str], most: int = 100) -> str:
    """A container runtime's, with lines of the other stream between the parts."""
    shown = []
    for line in lines:
        parts = [line[i : i + most] for i in range(0, len(line), most)] or [""]
        for number, part in enumerate(parts):
            tag = "F" if number == len(parts) - 1 else "P"
            shown += [f"2025-01-31T12:00:00.123456789Z stderr {tag} {part}"]
            shown += ["2025-01-31T12:00:00.123456789+01:00 stdout F {"]
    return "\n".join(shown) + "\n"


def journald(lines: Iterable[str], *, array: bool) -> str:
    """What journalctl -o json writes; a message that is not printable is an array of bytes."""
    return "".join(
        json.dumps({
            "__CURSOR": "s=1", "MESSAGE": list(line.encode()) if array else line,
            "__REALTIME_TIMESTAMP": "1700000000000000",
        }) + "\n" for line in lines
    )  # fmt: skip


def tail_json(lines: Iterable[str]) -> str:
    """aws logs tail --format json: a message that is JSON is indented, over several lines."""
    shown = []
    for line in lines:
        text = "\n" + json.dumps(json.loads(line), indent=2) if line[:1] == "{" else line
        shown.append(f"2025-01-31T12:00:00.123000+00:00 2025/01/31/[$LATEST]0123 {text}")
    return "\n".join(shown) + "\n"


def insights(lines: Iterable[str], *, console: bool) -> str:
    """get-query-results, or what the console saves, where a message that is JSON is an object."""
    if console:
        messages = [json.loads(line) if line[:1] == "{" else line for line in lines]
        return json.dumps([{"@timestamp": "2025", "@message": message} for message in messages])
    rows = [[{"field": "@timestamp", "value": "2025"}, {"field": "@message", "value": line}] for line in lines]
    return json.dumps({"results": rows, "status": "Complete"}, indent=4)


ENVELOPES: dict[str, Callable[[list[str]], str]] = {
    "plain": lambda lines: "\n".join(lines),
    "prefix": lambda lines: "".join(f"2025-01-31T12:00:00 {line}\r\n" for line in lines),
    "filter-log-events": lambda lines: json.dumps({"events": events(lines), "searchedLogStreams": []}, indent=4),
    "one-line": lambda lines: json.dumps({"events": events([*["x" * 100] * 9000, *lines])}),
    "json-lines": lambda lines: "\n".join(json.dumps(one) for one in events(lines)),
    "insights": lambda lines: insights(lines, console=False),
    "insights-console": lambda lines: insights(lines, console=True),
    "subscription": subscription,
    "tail": lambda lines: "".join(f"2025-01-31T12:00:00.123000+00:00 2025/01/31/[$LATEST]0 {line}\n" for line in lines),
    "tail-json": tail_json,
    "docker": docker,
    "docker-parts": lambda lines: docker(lines, 100),
    "docker-in-cloudwatch": lambda lines: json.dumps({"events": events(docker(lines).splitlines())}),
    "cri": cri,
    "journald": lambda lines: journald(lines, array=False),
    "journald-array": lambda lines: journald(lines, array=True),
    "loki": lambda lines: "".join(json.dumps({"labels": {"a": "b"}, "line": line}) + "\n" for line in lines),
    "rewritten": lambda lines: "\n".join(
        json.dumps(json.loads(line), separators=(",", ":")) if line[:1] == "{" else line for line in lines
    ),
}


def read(data: bytes, name: str = "auto", step: int = 0) -> tuple[list[Line], Counts]:
    """All of a log, at once or in steps of so many bytes."""
    reading = LogReader(name)
    if not step:
        return list(reading.lines(io.BytesIO(data))), reading.counts
    found = [line for i in range(0, len(data), step) for line in reading.feed(data[i : i + step])]
    return [*found, *reading.end()], reading.counts


@pytest.mark.parametrize("name", ENVELOPES)
def test_each_envelope_gives_the_lines_that_were_written(lines: list[str], name: str) -> None:
    """Whatever carries them, compressed and in pieces: each signature holds, the start counts, all is understood."""
    data = ENVELOPES[name](lines).encode()
    members = gzip.compress(data[:50]) + gzip.compress(data[50:])
    for text, step in ((data, 0), (members, 0), (data, 37 if len(data) < 99_999 else 70_001)):
        found, counts = read(text, step=step)
        verifier = Verifier(KEY)
        assert [verifier.step(line) for line in found] == [""] * 4, (name, step)
        assert [line.violation.target for line in found if line.violation] == [target for _, target in CALLS]
        assert (counts.ours, counts.starts, counts.problems) == (4, 1, {}), (name, step)
        assert counts.lines == data.count(b"\n") + (not data.endswith(b"\n"))
        assert not counts.nothing_ours


def test_fields_in_another_order_are_read(lines: list[str]) -> None:
    """What parsed our lines and sorted their fields, or put them into an object, leaves them readable, but unsigned."""
    parsed = [json.loads(line) for line in lines if line[:1] == "{"]
    text = "\n".join(json.dumps(one, sort_keys=True) for one in parsed)
    text += "\n" + "\n".join(json.dumps({"jsonPayload": one, "severity": "ERROR"}, sort_keys=True) for one in parsed)
    found, counts = read(text.encode())
    assert (counts.ours, counts.starts, counts.problems) == (8, 2, {})
    assert [line.violation.target for line in found if line.violation] == [target for _, target in CALLS] * 2


RECORD = (
    'audit(1700000000.123:45): auid=1000 uid=0 gid=0 ses=1 subj=unconfined pid=7 comm={comm} exe="/usr/bin/true" '
    "sig=31 arch=c000003e syscall=101 compat=0 ip=0x7f12 code={code}"
)


@pytest.mark.parametrize(
    "line",
    [
        "[   12.345] audit: type=1326 " + RECORD, "Jan 31 12:00:00 host kernel: audit: type=1326 " + RECORD,
        "type=SECCOMP msg=" + RECORD,
        json.dumps({"__REALTIME_TIMESTAMP": "1700000000123000", "MESSAGE": "SECCOMP " + RECORD.partition(": ")[2]}),
    ],
)
def test_records_of_the_kernel_are_violations(line: str) -> None:
    """Type 1326 from dmesg, syslog, auditd and journald: which call, by whom, what became of it; half of one counts."""
    text = line.replace("{comm}", "7368203132").replace("{code}", "0x80000000")
    found, counts = read(f"{text}\ntype=1326 audit(1.0:1): arch=zz\n".encode())
    (record,) = [one.violation for one in found]
    assert record
    assert (record.syscall, record.verdict, record.comm, record.pid, record.time) == (
        "ptrace", "terminated", "sh 12", 7, 1_700_000_000.123,
    )  # fmt: skip
    assert record.function == record.phase == record.allow == ""
    assert "KILL_PROCESS, by /usr/bin/true" in record.reason
    assert "0 starts and 0 lines of a supervisor, 1 record of the kernel" in counts.verdict()
    assert counts.problems == {"a record of type 1326 that is cut": 1}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (gzip.compress(b"x\n" * 9000)[:-20], "too early"), (gzip.compress(b"x")[:-8] + bytes(8), "damaged"),
        (b'{"event": "violation", "time": 1, "syscall"', "cut or altered"),
        (b'{"log":"{\\"event\\": \\"violation\\", \\"time\\": 1', "ends nowhere"),
        (b'{"message": "' + b"x" * (3 << 20) + b'"}', "too long"),
        (b'{"awslogs": {"data": "H4sIAAAA"}}', "does not unpack"), (b'{"MESSAGE": null}', "journalctl --all"),
        (b'{"message": "\\ud8"}', "ends nowhere"), (b'{"event": "violation", "a": ' + b"[" * 9000, "cut or altered"),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_cannot_be_read_is_counted_with_its_reason(data: bytes, problem: str) -> None:
    """Truncated, damaged, endless and deep: no exception, no line, and the count says why."""
    found, counts = read(data)
    assert found == []
    assert counts.nothing_ours
    assert counts.not_understood == 1
    assert problem in counts.verdict(), counts.verdict()
    assert "says nothing about violations" in counts.verdict()


def test_what_is_nested_too_deeply_hides_nothing() -> None:
    """JSON that the decoder takes and the encoder does not, in each form that is written anew: the next line counts."""
    deep = "[" * 600 + "]" * 600
    lines = (f'{{"event":"violation","a":{deep}}}', f'{{"a": 1, "event": "violation", "b": {deep}}}',
             f'{{\n"event": "violation",\n"a": {deep}\n}}', STATUS)  # fmt: skip
    assert read("\n".join(lines).encode())[1].starts == 1


PARTS = [
    b'{"event": "', b'"message": "', b'"data":"H4sI', b"\\", b'"', b"\n", b"{", b'"event": "violation",', b"}", b"[1,2",
    b'"MESSAGE": [', b'{"log":"', b"type=1326 ", b"audit(1.5:1) arch=c000003e syscall=1 pid=1 code=0 ", b"\xff\xfe",
    b"2025-01-31T12:00:00Z stderr P ", b'{"event":"', b"9" * 5000, STATUS.encode(), b"\x1f\x8b\x08",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PARTS) | st.binary(max_size=20), max_size=12), st.sampled_from(FORMATS), st.integers(1, 30)
)
def test_no_log_makes_a_reading_raise(parts: list[bytes], name: str, step: int) -> None:
    """Any bytes, in any format, at once or in pieces: no exception, and each byte is of a line that is counted."""
    data = b"".join(parts)
    assert read(data, name, step)[1].lines == read(data, name)[1].lines


def test_memory_is_bounded_by_the_longest_string() -> None:
    """A line of 24 MiB, of strings or of nothing, takes a few pieces at most, and what is of ours behind it is read."""

    class Endless(io.RawIOBase):
        """Of one line, and a status line behind it."""

        def __init__(self, pattern: bytes, size: int) -> None:
            self.pattern, self.left = pattern * (PIECE // len(pattern)), size

        def read1(self, _size: int) -> bytes:
            """As io.BufferedReader."""
            self.left -= 1
            return self.pattern if self.left > 0 else (b'"}\n' + STATUS.encode()) * (self.left == 0)

    for pattern in (b'{"message": "' + b"x" * 9999 + b'"}, ', b"x", b'{"message": "' + b"x" * (PIECE - 20)):
        reading = LogReader()
        tracemalloc.start()
        assert list(reading.lines(Endless(pattern, 96))) == []  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12 << 20, (pattern, peak)
        assert reading.counts.starts == 1


def sandbox(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command as a user does, its output piped."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments], input=given, capture_output=True, timeout=60, check=False
    )


def test_the_command_says_what_it_read(tmp_path: Path, lines: list[str]) -> None:
    """How many lines, of whom and from what; exit 1 and no count of violations where nothing was ours."""
    assert tuple(LogFormat) == FORMATS
    log, other, quiet = tmp_path / "log.gz", tmp_path / "other", tmp_path / "quiet"
    log.write_bytes(gzip.compress(docker(lines).encode()))
    other.write_text("nothing of ours\n" * 3)
    quiet.write_text(STATUS)
    run = sandbox("events", str(log), "--summary")
    assert run.returncode == 0
    assert run.stdout.endswith(b"3 violations of 3 kinds\n")
    assert run.stderr.decode() == f"{log}: 8 lines read: 1 start and 4 lines of a supervisor (docker)\n"
    run = sandbox("events", str(other), "--summary")
    assert (run.returncode, b"violations of" in run.stdout) == (1, False)
    assert run.stderr.decode() == (
        f"{other}: 3 lines read: none of a supervisor or a start, which says nothing about violations\n"
    )
    run = sandbox("events", str(quiet), "--summary")
    assert (run.returncode, run.stdout) == (0, b"0 violations of 0 kinds\n")
    run = sandbox("events", "-", "--log-format", "cri", given=docker(lines).encode())
    assert run.returncode == 1
    assert b"8 not understood: a line that is not of cri (8)" in run.stderr
