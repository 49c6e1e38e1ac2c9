"""Reading journals back: out of any log, with any filter, and every tampering found."""

from __future__ import annotations

import hmac
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import spelling
from sandbox.behaviour.call import Call
from sandbox.violations import reader
from sandbox.violations.chain import Verifier, sign
from sandbox.violations.journal import Journal
from sandbox.violations.limit import RateLimit
from sandbox.violations.record import Violation
from sandbox.violations.sink import Sink

KEY = b"a key of an operator"
CALLS = (
    ("execve", "", "/bin/sh", "invoke"),
    ("connect", "", "tcp://10.0.0.1:443", "invoke"),
    ("connect", "", "tcp://10.0.0.2:443", "invoke"),
    ("openat", "create", "/etc/cron.d/x", "init"),
    ("getppid", "", "", "init"),
)


def journal_of(path: Path, calls: Sequence[tuple[str, str, str, str]], first: int = 20) -> None:
    """A journal as a supervisor writes it."""
    sink = Sink(f"file:{path}", KEY)
    journal = Journal(sink, "thumbnail", RateLimit(first))
    for i, (syscall, name, target, phase) in enumerate(calls):
        if journal.wants(syscall, name, "denied"):
            journal.write(
                Violation(
                    function="thumbnail", phase=phase, request=None, pid=1, tid=2, comm="python3", syscall=syscall,
                    arg_class=name, args=[], target=target, verdict="denied", errno="EPERM",
                    reason="not in the profile", allow=spelling.of_use(phase, Call(syscall, name)),
                    time=1_700_000_000.0 + i,
                )
            )  # fmt: skip
    journal.finish()
    sink.close()


def sandbox(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command as a user does, its output piped."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments], input=given, capture_output=True, timeout=60, check=False
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with our lines among those of others, and one glued to an unended line."""
    path = tmp_path / "events"
    journal_of(path, CALLS)
    ours = path.read_bytes().splitlines(keepends=True)
    ours.insert(0, b'{"level": "info"}\n')
    ours.insert(2, b"START RequestId: 1\n\xff\xfe\x00\n")
    ours[4] = b"2025-01-01T00:00:00Z stderr F progress 10%" + ours[4]
    path.write_bytes(b"".join(ours))
    return path


def test_only_our_lines_come_out(log: Path) -> None:
    """Foreign lines are skipped, prefixes do not matter, numbers are those of the file."""
    with log.open("rb") as file:
        found = list(reader.lines(file))
    assert [line.violation.syscall for line in found if line.violation] == [call[0] for call in CALLS]
    assert [line.number for line in found] == [2, 5, 6, 7, 8, 9]
    verifier = Verifier(KEY)
    assert [verifier.step(line) for line in found] == [""] * len(found)
    assert verifier.unfinished() == []


@given(st.lists(st.binary(max_size=80) | st.builds(
    lambda value: b'{"event": "violation", "time": 1, "syscall": "x", "y": ' + json.dumps(value).encode() + b"}",
    st.recursive(st.none() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
) | st.sampled_from([
    b'{"event": "' * 20, b'{"event": "violation", "a": ' + b"[" * 30_000, b'{"event": "violation", "time": 1e999}',
    b'{"event": "violations", "time": 1, "counts": {"a": -1}}', b'{"event": "violation", "time": NaN, "syscall": "x"}',
    b'{"event": "violation", "time": 1, "syscall": "\\ud800", "args": ["\\u001b[2J"]}', b"x" * 70_000,
    b'{"event": "violation", "time": 253402300799.9, "syscall": "x"}', b'{"event": "x", "time": 1, "seq": 1}',
]), max_size=6))  # fmt: skip
def test_no_input_makes_the_reader_raise(parts: list[bytes]) -> None:
    """Any bytes are read, described, added up and verified without an exception, and what is shown is printable."""
    found = list(reader.lines(io.BytesIO(b"\n".join(parts))))
    verifier = Verifier(KEY)
    for line in found:
        assert verifier.step(line)
        if line.violation:
            assert reader.describe(line.violation).isprintable()
            assert reader.moment(line.violation.time).endswith("Z")
    reader.summarise(found, reader.Filter())


Tamper = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("tamper", "line", "words"),
    [
        (lambda ours: ours, 0, ""),
        (lambda ours: ours[:2] + ours[3:], 3, "1 line before it missing (number 4 follows 2)"),
        (lambda ours: ours[2:], 1, "2 lines before it missing (number 3 follows 0)"),
        (lambda ours: [ours[0], ours[2], ours[1], *ours[3:]], 2, "1 line before it missing"),
        (lambda ours: [ours[0], ours[0], *ours[1:]], 2, "out of order"),
        (lambda ours: [ours[0], ours[1].replace(b"10.0.0.1", b"10.0.0.9"), *ours[2:]], 2, "was altered"),
        (lambda ours: [ours[0], ours[1].replace(b'"high"', b'"low"'), *ours[2:]], 2, "was altered"),
        (lambda ours: [ours[0], ours[1][: ours[1].rindex(b', "hmac"')] + b"}\n", *ours[2:]], 2, "carries no signature"),
        (lambda ours: [ours[0], b'{"event": "violation", "time": 1, "syscall": "x"}\n', *ours[1:]], 2, "no signature"),
        (lambda ours: [*ours, *ours], 7, "out of order"),
    ],
)  # fmt: skip
def test_every_tampering_is_found_where_it_begins(tmp_path: Path, tamper: Tamper, line: int, words: str) -> None:
    """Removed, reordered, repeated, altered and forged lines: `--verify` names the first and exits 1."""
    path, key = tmp_path / "events", tmp_path / "key"
    journal_of(path, CALLS)
    key.write_bytes(KEY + b"\n")
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    run = sandbox("events", str(path), "--verify", "--key-file", str(key))
    assert run.returncode == (1 if line else 0), run.stderr
    if line:
        assert run.stdout.decode().startswith(f"line {line}: ")
        assert words in run.stdout.decode()
    else:
        assert run.stdout == b"6 lines of 1 run, all signed and in order; 5 violations in finished runs\n"
        assert run.stderr == b""


@given(st.binary(max_size=200), st.text(st.characters(codec="utf-8"), max_size=300))
def test_the_signature_is_the_librarys(key: bytes, body: str) -> None:
    """Our HMAC agrees with the standard library's for keys and texts of any length."""
    assert sign(key, "ab" * 32, body) == hmac.digest(key, ("ab" * 32 + body).encode(), "sha256").hex()


def test_lines_off_the_end_do_not_verify(tmp_path: Path) -> None:
    """A run without its end is named and does not verify, unless killed and running ones are accepted."""
    path, key = tmp_path / "events", tmp_path / "key"
    journal_of(path, CALLS)
    key.write_bytes(KEY)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    run = sandbox("events", str(path), "--verify", "--key-file", str(key), "--json", "--unfinished", "--expect", "1")
    assert run.returncode == 0
    answer = json.loads(run.stdout)
    assert (answer["lines"], answer["broken"], answer["first"], len(answer["unfinished"])) == (4, 0, None, 1)
    (found,) = answer["runs"]
    assert (answer["holds"], found["function"], found["violations"]) == (True, "thumbnail", None)
    for options, problem in (((), b"no end after 20"), (("--unfinished", "--expect", "2"), b"there should be 2 runs")):
        run = sandbox("events", str(path), "--verify", "--key-file", str(key), *options)
        assert (run.returncode, problem in run.stderr + run.stdout) == (1, True)


def test_with_the_key_only_signed_lines_are_shown(tmp_path: Path) -> None:
    """What the function put in between is left out of the list, and told."""
    path, key = tmp_path / "events", tmp_path / "key"
    journal_of(path, CALLS)
    key.write_bytes(KEY)
    ours = path.read_bytes().splitlines(keepends=True)
    ours.insert(2, b'{"event": "violation", "time": 1, "syscall": "forged"}\n')
    path.write_bytes(b"".join(ours))
    run = sandbox("events", str(path), "--key-file", str(key), "--json")
    assert [json.loads(line)["syscall"] for line in run.stdout.splitlines()] == [call[0] for call in CALLS]
    assert run.stderr.decode() == (
        "left out 1 line that does not verify, the first in line 3: carries no signature\n"
        f"{path}: 7 lines read: 0 starts and 7 lines of a supervisor\n"
    )


def test_journals_of_several_supervisors_may_be_mixed(tmp_path: Path) -> None:
    """Lines of two environments in one log verify; another key does not."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        journal_of(path, CALLS)
    both = [path.read_bytes().splitlines() for path in paths]
    mixed = [line for pair in zip(*both, strict=True) for line in pair]
    found = list(reader.lines(io.BytesIO(b"\n".join(mixed))))
    verifier, stranger = Verifier(KEY), Verifier(b"another")
    assert not any(verifier.step(line) for line in found)
    assert all(stranger.step(line) for line in found)


def test_after_an_inserted_line_the_rest_still_fits(tmp_path: Path) -> None:
    """One forged line is one problem, also when it borrows the supervisor's name."""
    path = tmp_path / "events"
    journal_of(path, CALLS)
    ours = path.read_bytes().splitlines()
    forged = ours[1].replace(b'"seq": 2', b'"seq": 3')
    found = list(reader.lines(io.BytesIO(b"\n".join([*ours[:2], forged, *ours[2:]]))))
    verifier = Verifier(KEY)
    assert [bool(verifier.step(line)) for line in found] == [False, False, True, *[False] * 4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["execve", "connect", "connect", "openat", "getppid"]),
        (("--syscall", "connect", "--syscall", "openat"), ["connect", "connect", "openat"]),
        (("--phase", "init"), ["openat", "getppid"]),
        (("--risk", "low"), ["getppid"]),
        (("--since", "1700000003"), ["openat", "getppid"]),
        (("--since", "2023-11-14T22:13:24"), ["getppid"]),
        (("--since", "1d"), []),
    ],
)
def test_filters_choose(log: Path, options: tuple[str, ...], expected: list[str]) -> None:
    """Each filter keeps what it names, as JSON lines and as plain ones, from a file and from standard input."""
    run = sandbox("events", str(log), "--json", *options)
    assert run.returncode == 0, run.stderr
    assert [json.loads(line)["syscall"] for line in run.stdout.splitlines()] == expected
    plain = sandbox("events", "-", *options, given=log.read_bytes())
    assert [line.split(b": ")[1].split(b"(")[0].decode() for line in plain.stdout.splitlines()] == expected


def test_json_lines_are_the_lines_that_were_written(tmp_path: Path) -> None:
    """What --json prints verifies as the original does: filters of other tools lose nothing."""
    path = tmp_path / "events"
    journal_of(path, CALLS)
    run = sandbox("events", str(path), "--json")
    assert run.stdout.splitlines() == path.read_bytes().splitlines()[:-1]


def test_the_summary_adds_up_to_the_exact_count(tmp_path: Path) -> None:
    """What the rate limit kept back is counted as well, beside the targets that had lines, with what would allow it."""
    path = tmp_path / "events"
    journal_of(path, [*CALLS[1:3], *CALLS[:1] * 30, *CALLS[1:3] * 50], first=4)
    rows = [json.loads(line) for line in sandbox("events", str(path), "--summary", "--json").stdout.splitlines()]
    assert sum(row["count"] for row in rows) == 132
    counts = {(row["syscall"], row["target"]): row["count"] for row in rows}
    assert counts == {
        ("connect", "tcp://10.0.0.1:443"): 2, ("connect", "tcp://10.0.0.2:443"): 2, ("connect", reader.UNLISTED): 98,
        ("execve", "/bin/sh"): 4, ("execve", reader.UNLISTED): 26,
    }  # fmt: skip
    plain = sandbox("events", str(path), "--summary").stdout.decode()
    assert plain.endswith("132 violations of 5 kinds\n")
    assert "to allow: syscalls.invoke.connect: {count: 1, because: <your reason>}" in plain
    only = sandbox("events", str(path), "--summary", "--syscall", "execve").stdout.decode()
    assert only.endswith("30 violations of 2 kinds\n")
    journal_of(tmp_path / "one", CALLS[:1])
    single = sandbox("events", str(tmp_path / "one"), "--summary").stdout.decode()
    assert single.endswith("\n1 violation of 1 kind\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("no-such-file",), 64), (("/",), 64), (("-", "--verify"), 64), (("-", "--key-file", "/dev/null"), 64),
        (("-", "--verify", "--key-file", "/dev/null"), 64), (("-", "--since", "yesterday"), 64),
        (("-", "--expect", "1"), 64), (("-", "--risk", "huge"), 2),
    ],
)  # fmt: skip
def test_wrong_questions_get_an_answer_and_no_traceback(arguments: tuple[str, ...], code: int) -> None:
    """Missing files, missing keys and words that mean nothing end with an error's own code."""
    run = sandbox("events", *arguments)
    assert run.returncode == code, run.stderr
    assert b"Traceback" not in run.stderr


def test_garbage_is_no_traceback(tmp_path: Path) -> None:
    """A binary file, and a file of lines that only look like ours, end in peace."""
    path, key = tmp_path / "garbage", tmp_path / "key"
    key.write_bytes(KEY)
    evil: Any = {"event": "violation", "time": 1, "syscall": "\ud800[bold]\u001b[31m", "class": "[/]", "args": ["[x]"]}
    path.write_bytes(os.urandom(5000) + b"\n" + json.dumps(evil).encode() + b'\n{"event": "violation", "seq": "x"}\n')
    for options in ((), ("--summary",), ("--json",), ("--verify", "--key-file", str(key))):
        run = sandbox("events", str(path), *options)
        assert run.returncode == (1 if options[:1] == ("--verify",) else 0)
        assert b"Traceback" not in run.stderr
        assert b"\x1b" not in run.stdout


def test_a_terminal_gets_a_table(log: Path) -> None:
    """On a terminal the same violations stand in a table, without a control character of the log's."""
    ours, theirs = os.openpty()
    try:
        for options in ((), ("--summary",)):
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
            with subprocess.Popen(
                [sys.executable, "-m", "sandbox", "events", str(log), *options], stdout=theirs, env=environment
            ) as process:
                shown = b""
                while "┘" not in shown.decode(errors="replace"):
                    shown += os.read(ours, 1 << 16)
                assert process.wait(30) == 0
            assert "getppid" in shown.decode()
    finally:
        os.close(ours)
        os.close(theirs)
