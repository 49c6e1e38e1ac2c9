"""Reading observation files: what counts, what is skipped, and that damage is told with file and line."""

from __future__ import annotations

import json
import random
import re
import time as clock
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.behaviour import arguments
from sandbox.errors import ObservationError
from sandbox.kernel import tables
from sandbox.learn import denials, recorder, records
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.generalise import generalise
from sandbox.learn.observation_log import ObservationLog
from sandbox.learn.observations import read
from sandbox.learn.records import Program
from sandbox.learn.whose import LONGEST

PLACES = {"{tool}": "/opt/sandbox", "{root}": "/srv/task", "{python}": "/usr/lib/python3.11"}
TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def environment(name: str, invocations: int = 2, **start: object) -> list[dict[str, Any]]:
    """The lines of one environment as the observer writes them."""
    lines: list[dict[str, Any]] = [
        {
            "event": "start",
            "format": 2,
            "version": "0",
            "handler": "app.handler",
            "api": True,
            "places": PLACES,
            **start,
        },
        {"event": "item", "id": 0, "phase": "init", "syscall": "openat", "class": "read"},
        {"event": "file", "id": 0, "value": "/srv/task/app.py", "mode": "read"},
        {"event": "init", "items": {"0": 12}, "facts": [0]},
        {"event": "network", "id": 1, "value": "runtime-api"},
        {"event": "item", "id": 1, "phase": "invoke", "syscall": "sendto", "class": "connected"},
        {"event": "item", "id": 2, "phase": "invoke", "syscall": "getcwd", "class": ""},
    ]
    for n in range(invocations):
        items, reached = {"1": 2, "2": 1}, [0, 1] if n == 0 else [0]
        lines.append(
            {"event": "invocation", "request": f"{name}-{n}", "outcome": "ok", "items": items, "facts": reached}
        )
    lines += [
        {"event": "exec", "id": 2, "value": "/usr/bin/gzip"},
        {"event": "denied", "value": "ptrace"},
        {"event": "file", "id": 3, "value": "/tmp/out", "mode": "write"},
        {"event": "tail", "items": {"1": 1}, "facts": [2]},
        {"event": "end", "status": -15, "last": ["sendto connected", "recvfrom"]},
    ]
    return [{**line, "environment": name, "time": 1000.0 + n} for n, line in enumerate(lines)]


def older(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same lines in format 1: facts without ids, which no span names."""
    found = []
    for line in lines:
        dropped = {"id"} if line["event"] in ("file", "network", "exec") else {"facts"}
        kept = {key: value for key, value in line.items() if key not in dropped}
        found.append({**kept, "format": 1} if line["event"] == "start" else kept)
    return found


def text(lines: list[dict[str, Any]]) -> bytes:
    """Lines as bytes."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def write(path: Path, data: bytes) -> str:
    """A file with these bytes."""
    path.write_bytes(data)
    return str(path)


def test_everything_of_an_environment_is_read(tmp_path: Path) -> None:
    """Samples with their counts and outcomes, facts by kind, and how the process ended."""
    label = b'{"event": "label", "request": "a-1", "name": "second.json"}\n'
    (found,) = read([write(tmp_path / "a", text(environment("a")) + label)])
    assert found.items == {("init", "openat", "read"), ("invoke", "sendto", "connected"), ("invoke", "getcwd", "")}
    assert [(s.kind, s.label, s.outcome) for s in found.samples] == [
        ("init", "", "ok"), ("invocation", "a-0", "ok"), ("invocation", "second.json", "ok"), ("tail", "", "ok"),
    ]  # fmt: skip
    assert found.samples[0].items == {("init", "openat", "read"): 12}
    assert found.reads == {"/srv/task/app.py"}
    assert found.writes == {"/tmp/out"}
    assert found.network == {"runtime-api"}
    assert found.processes == {Program("/usr/bin/gzip")}
    assert found.denied == {"ptrace"}
    assert (found.status, found.last) == (-15, ("sendto connected", "recvfrom"))


APP, API = records.FileAccess("/srv/task/app.py", "read"), records.Connect("runtime-api")
GZIP, OUT = records.Program("/usr/bin/gzip"), records.FileAccess("/tmp/out", "write")


def test_each_event_has_its_facts(tmp_path: Path) -> None:
    """A span names what was reached in it, the same fact in several; what came after the last span is the file's."""
    (found,) = read([write(tmp_path / "a", text(environment("a")))])
    assert [sample.facts for sample in found.samples] == [{APP}, {APP, API}, {APP}, {GZIP}]
    assert found.writes == {"/tmp/out"}


def test_a_file_of_format_1_is_read(tmp_path: Path) -> None:
    """It holds the same rights; a fact, which it tells once, is of the span in which it came first."""
    (found,) = read([write(tmp_path / "new", text(environment("a")))])
    (old,) = read([write(tmp_path / "old", text(older(environment("a"))))])
    assert old.start.format == 1
    assert [sample.facts for sample in old.samples] == [{APP}, {API}, frozenset(), {GZIP, OUT}]
    assert (old.items, old.reads, old.writes, old.network, old.processes) == (
        found.items, found.reads, found.writes, found.network, found.processes,
    )  # fmt: skip


def test_facts_of_the_same_text_are_two() -> None:
    """A destination is not a program, whatever both are called."""
    assert len({records.Connect("x"), records.Program("x"), records.FileAccess("x", "read")}) == 3


LINES: tuple[tuple[records.Record, str], ...] = (
    (
        records.Start(version="1", handler="app.handler", api=True, host="h", places={"{root}": "/srv"}),
        '{"event": "start", "format": 2, "version": "1", "function": "", "handler": "app.handler", "api": true, '
        '"host": "h", "kernel": "", "libc": "", "python": "", "architecture": "", "handler_digest": "", '
        '"places": {"{root}": "/srv"}, "lock_digest": "", "interpreter": "", "environment": "a", "time": 1.235}',
    ),
    (
        records.Again(records.Start(version="1", places={"{root}": "/srv"})),
        '{"event": "again", "format": 2, "version": "1", "function": "", "handler": "", "api": false, '
        '"host": "", "kernel": "", "libc": "", "python": "", "architecture": "", "handler_digest": "", '
        '"places": {"{root}": "/srv"}, "lock_digest": "", "interpreter": "", "environment": "a", "time": 1.235}',
    ),
    (records.Full(7), '{"event": "full", "count": 7, "environment": "a", "time": 1.235}'),
    (
        records.SoFar({1: 2}, frozenset({3})),
        '{"event": "so-far", "items": {"1": 2}, "facts": [3], "environment": "a", "time": 1.235}',
    ),
    (
        records.Part({1: 2}, frozenset({3})),
        '{"event": "part", "items": {"1": 2}, "facts": [3], "environment": "a", "time": 1.235}',
    ),
    (
        records.NewItem(0, "init", "openat", "read"),
        '{"event": "item", "id": 0, "phase": "init", "syscall": "openat", "class": "read", "environment": "a", '
        '"time": 1.235}',
    ),
    (
        records.Span("invocation", {10: 1, 2: 3}, "r", "error", frozenset({12, 4})),
        '{"event": "invocation", "request": "r", "outcome": "error", "items": {"2": 3, "10": 1}, "facts": [4, 12], '
        '"environment": "a", "time": 1.235}',
    ),
    (
        records.Span("init", {0: 2}),
        '{"event": "init", "items": {"0": 2}, "facts": [], "environment": "a", "time": 1.235}',
    ),
    (
        records.NewFact(3, records.FileAccess("/x", "entry")),
        '{"event": "file", "id": 3, "value": "/x", "mode": "entry", "environment": "a", "time": 1.235}',
    ),
    (
        records.NewFact(0, records.Connect("tcp://10.0.0.1:443")),
        '{"event": "network", "id": 0, "value": "tcp://10.0.0.1:443", "environment": "a", "time": 1.235}',
    ),
    (
        records.NewFact(1, records.Program("/bin/sh")),
        '{"event": "exec", "id": 1, "value": "/bin/sh", "environment": "a", "time": 1.235}',
    ),
    (
        records.NewFact(7, records.MadeBy(0, False, ("botocore", "urllib3"), "urllib3 2.2 connection.py connect")),
        '{"event": "by", "id": 7, "fact": 0, "value": ["botocore", "urllib3"], '
        '"library": "urllib3 2.2 connection.py connect", "environment": "a", "time": 1.235}',
    ),
    (
        records.NewFact(8, records.MadeBy(2, True, ("python",))),
        '{"event": "by", "id": 8, "item": 2, "value": ["python"], "library": "", "environment": "a", "time": 1.235}',
    ),
    (
        records.NewFact(9, records.Loaded("urllib3", "2.2", "executed")),
        '{"event": "library", "id": 9, "value": "urllib3", "version": "2.2", "how": "executed", "environment": "a", '
        '"time": 1.235}',
    ),
    (records.DeniedCall("ptrace", "init", "other"),
     '{"event": "denied", "value": "ptrace", "phase": "init", "at": "other", "environment": "a", "time": 1.235}'),
    (
        records.Failure("r", ("openat read /x",)),
        '{"event": "failed", "request": "r", "last": ["openat read /x"], "environment": "a", "time": 1.235}',
    ),
    (
        records.End(-15, ("poll",)),
        '{"event": "end", "status": -15, "last": ["poll"], "environment": "a", "time": 1.235}',
    ),
)


@pytest.mark.parametrize(("record", "line"), LINES, ids=lambda given: type(given).__name__)
def test_each_record_has_its_line_and_reads_back(record: records.Record, line: str) -> None:
    """The text of each line, its fields in their order, and the same record from it."""
    encoded = records.encode(record, "a", 1.23456)
    assert encoded.decode() == line + "\n"
    read_back = records.parse(encoded)
    assert read_back
    assert (read_back.record(), read_back.environment, read_back.time) == (record, "a", 1.235)
    assert type(read_back.record()) is type(record)
    if isinstance(record, records.NewFact):
        assert type(read_back.record().fact) is type(record.fact)  # type: ignore[union-attr]


def test_lines_are_found_in_any_log(tmp_path: Path) -> None:
    """Behind a prefix, an unended line or one another, in JSON of a driver or a service, where a restart cut one."""
    lines = text(environment("a")).splitlines(keepends=True)
    (plain,) = read([write(tmp_path / "plain", b"".join(lines))])
    logs = {
        "prefix": b"".join(b"web-1  | 2026-11-30T11:00:00Z stderr F " + line for line in lines),
        "unended": b"".join(b"..." + line + b"GET / 200\n" for line in lines),
        "together": b"".join(line.rstrip() for line in lines),
        "json": b"".join(json.dumps({"log": line.decode(), "stream": "stderr"}).encode() + b"\n" for line in lines),
        "service": json.dumps({"events": [{"message": line.decode()} for line in lines]}, indent=4).encode(),
        "service, one line": json.dumps({"events": [{"message": line.decode()} for line in lines]}).encode(),
        "restart": b'{"event": "start", "for' + b"".join(lines),
        "not ours": b'{"event": "login", "user": broken\n{"event": "login"}\n' + b"".join(lines),
    }
    for name, log in logs.items():
        (found,) = read([write(tmp_path / name, log)])
        assert facts(found) == facts(plain), name


def test_a_log_without_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """What is told again makes up for what a rotation took; each line is one piece of a pipe."""
    now = [100.0]
    frozen = types.SimpleNamespace(monotonic=lambda: now[0], time=clock.time)
    monkeypatch.setattr("sandbox.learn.observation_log.time", frozen)
    log = ObservationLog("", "web")
    log.emit(records.Start(places=PLACES))
    names = sorted(name for name in tables.every_name() if not arguments.has_classes(name))[:300]
    for number, name in enumerate(names):
        log.emit(records.NewItem(number, "run", name, ""))
    for number in range(1000):
        log.emit(records.NewFact(number, records.FileAccess(f"/srv/task/{number}", "read")))
    longest = records.MadeBy(999, False, ("a" * 100, "b" * 100), " ".join(4 * ["\u6587" * LONGEST]))
    log.emit(records.NewFact(1000, longest))
    assert not log.again()
    now[0] += 61
    assert log.timeout() == 0
    assert log.again()
    assert not log.again()
    span = dict.fromkeys(range(300), 7), frozenset(range(1001))
    log.emit(records.SoFar(*span))
    killed = capfd.readouterr().err
    log.emit(records.Span("run", span[0], facts=span[1]))
    log.emit(records.End(0, ()))
    whole = killed + capfd.readouterr().err
    assert max(map(len, whole.splitlines())) < 4096
    assert whole.count("NOTHING IS ENFORCED") == 2
    (expected,) = read([write(tmp_path / "whole", whole.encode())])
    assert {len(expected.items), len(expected.reads), len(expected.samples)} == {300, 1000, 1}
    assert set(expected.samples[0].items.values()) == {7}
    assert len(expected.samples[0].facts) == 1000
    assert {(one.what, one.by, one.library) for one in expected.samples[0].whose} == {
        (records.FileAccess("/srv/task/999", "read"), longest.by, longest.library)
    }
    begin = whole.index('"event": "item", "id": 250')
    for text_left, status in ((whole[begin:], 0), (killed[begin:], None)):
        (found,) = read([write(tmp_path / "left", text_left.encode())])
        assert (found.items, found.reads, found.status) == (expected.items, expected.reads, status)
        assert (found.samples[0].items, found.samples[0].facts) == (
            expected.samples[0].items, expected.samples[0].facts,
        )  # fmt: skip
    with pytest.raises(ObservationError, match="before any start"):
        read([write(tmp_path / "none", whole[begin : whole.index('"event": "again"')].encode())])


def test_no_more_is_noted_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and destinations without end are told up to a bound, and the profile's maker hears that there were more."""
    monkeypatch.setattr(recorder, "MOST_FACTS", 1)
    lines = [records.encode(records.Start(), "a", 1.0)]
    noting = recorder.Recorder(
        "x86_64", lambda record: lines.append(records.encode(record, "a", 1.0)), api=frozenset(), denied=denials.load()
    )
    for syscall in ("recvfrom", "recvmsg", "recvmmsg", "recvfrom"):
        noting.note_receive(syscall)
    noting.finish(0)
    (found,) = read([write(tmp_path / "full", b"".join(lines))])
    assert found.full
    assert found.receives == {"recvfrom"}
    assert b"".join(lines).count(b'"event": "full"') == 1


def test_a_label_belongs_to_no_environment() -> None:
    """The trainer writes it beside the observer, and knows no environment."""
    label = records.Label("r", "first.json")
    encoded = records.encode(label)
    assert encoded == b'{"event": "label", "request": "r", "name": "first.json"}\n'
    line = records.parse(encoded)
    assert line
    assert (line.label, line.environment) == (label, None)


def test_a_failed_invocation_is_known_by_its_event(tmp_path: Path) -> None:
    """The label of the trainer names the failure too."""
    lines = environment("a")
    lines.insert(8, {"event": "failed", "request": "a-0", "last": ["openat read /x"], "environment": "a", "time": 1.0})
    label = b'{"event": "label", "request": "a-0", "name": "first.json"}\n'
    (found,) = read([write(tmp_path / "a", text(lines) + label)])
    assert [(failure.label, failure.last) for failure in found.failures] == [("first.json", ("openat read /x",))]


@TMP
@given(cut=st.integers(min_value=0))
def test_a_file_that_ends_anywhere_keeps_its_whole_lines(tmp_path: Path, cut: int) -> None:
    """A platform kills without warning: the last line may be cut short anywhere, what came before counts."""
    whole = text(environment("a"))
    cut %= len(whole)
    path = write(tmp_path / "cut", whole[:cut])
    if b"\n" not in whole[: cut + 1] and cut < whole.index(b"\n"):
        with pytest.raises(ObservationError, match="hold no observations"):
            read([path])
        return
    (found,) = read([path])
    complete = whole[:cut].count(b'"event": "invocation"')
    assert complete - 1 <= sum(sample.kind == "invocation" for sample in found.samples) <= complete


FOREIGN = st.one_of(
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        [
            "START RequestId: 1 Version: $LATEST",
            "{'a': 1}",
            "{",
            "}",
            '{"level": "info", "msg": "x"}',
            '{"event": "start"}',
            '{"event": "item", "level": "info"}',
            "[1, 2]",
            '{"a": [[[',
            "\x00\x01",
            '  {"nested": {"event": "end"}}',
            '"event"',
        ]
    ),
)


@TMP
@given(noise=st.lists(st.tuples(st.integers(0, 12), FOREIGN), max_size=12))
def test_lines_of_others_are_skipped(tmp_path: Path, noise: list[tuple[int, str]]) -> None:
    """Standard error is shared with the function's own log, which may be JSON and may have events of its own."""
    lines = text(environment("a")).splitlines(keepends=True)
    for at, line in noise:
        lines.insert(at, line.encode() + b"\n")
    (alone,) = read([write(tmp_path / "alone", text(environment("a")))])
    (mixed,) = read([write(tmp_path / "mixed", b"".join(lines))])
    assert facts(mixed) == facts(alone)
    assert mixed.id == alone.id


def facts(cold_start: ColdStart) -> object:
    """All of a cold start but where it was read."""
    return (
        cold_start.items,
        cold_start.samples,
        cold_start.failures,
        cold_start.network,
        cold_start.reads,
        cold_start.writes,
        cold_start.processes,
        cold_start.refusals,
        cold_start.status,
        cold_start.last,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(data=st.data())
def test_damage_anywhere_is_an_error_with_file_and_line_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Fuzz: bytes overwritten, removed or inserted never give anything but data or a located ObservationError."""
    damaged = bytearray(text(environment("a") + environment("b")))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        how = data.draw(st.sampled_from(["overwrite", "remove", "insert"]))
        new = data.draw(st.binary(min_size=1, max_size=6))
        damaged[at : at + (0 if how == "insert" else len(new))] = b"" if how == "remove" else new
    path = write(tmp_path / "damaged", bytes(damaged))
    error = problem(path)
    if error and "hold no observations" not in error.what:
        located = re.fullmatch(re.escape(path) + r":(\d+)", error.where)
        assert located, error
        assert 1 <= int(located[1]) <= damaged.count(b"\n") + 1


def problem(path: str) -> ObservationError | None:
    """What is said about a file, None where it can be read and made into a profile."""
    try:
        generalise(read([path]), "damaged")
    except ObservationError as error:
        return error
    return None


BAD: dict[str, dict[str, Any]] = {
    "another format": {"event": "start", "format": 3},
    "no format": {"event": "start"},
    "places that are no names": {"event": "start", "format": 1, "places": [1]},
    "a place that is not a path": {"event": "start", "format": 1, "places": {"{root}": 3}},
    "an unknown phase": {"event": "item", "id": 9, "phase": "later", "syscall": "getcwd", "class": ""},
    "an unknown syscall": {"event": "item", "id": 9, "phase": "init", "syscall": "opne", "class": ""},
    "an unknown class": {"event": "item", "id": 9, "phase": "init", "syscall": "openat", "class": "append"},
    "a class where there is none": {"event": "item", "id": 9, "phase": "init", "syscall": "getcwd", "class": "read"},
    "a class that is not a text": {"event": "item", "id": 9, "phase": "init", "syscall": "openat", "class": ["read"]},
    "a syscall that is not a text": {"event": "item", "id": 9, "phase": "init", "syscall": ["openat"], "class": ""},
    "an id that is not a number": {"event": "item", "id": "x", "phase": "init", "syscall": "getcwd", "class": ""},
    "an item without its call": {"event": "item", "id": 9, "phase": "init"},
    "a count of an item that was not told": {"event": "init", "items": {"77": 1}},
    "a count that is none": {"event": "init", "items": {"0": "many"}},
    "a negative count": {"event": "init", "items": {"0": -1}},
    "an endless count": {"event": "init", "items": {"0": float("inf")}},
    "items that are a list": {"event": "init", "items": [1]},
    "a time that is none": {"event": "init", "items": {}, "time": "noon"},
    "a time that is not a number": {"event": "init", "items": {}, "time": float("nan")},
    "a failure without calls": {"event": "failed", "request": "x"},
    "a status that is none": {"event": "end", "status": "well", "last": []},
    "a file without a mode": {"event": "file", "id": 7, "value": "/x"},
    "a file without an id": {"event": "file", "value": "/x", "mode": "read"},
    "an id of a file that is not a number": {"event": "exec", "id": "x", "value": "/x"},
    "a fact that was not told": {"event": "init", "items": {}, "facts": [77]},
    "facts that are a text": {"event": "init", "items": {}, "facts": "0"},
    "a fact that is not a number": {"event": "init", "items": {}, "facts": [[]]},
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_damaged_line_is_named(tmp_path: Path, line: dict[str, Any]) -> None:
    """Each way in which a line can be wrong names this very line, and says what to do."""
    lines = environment("a")
    lines.insert(5, {"environment": "a", "time": 3.0, **line})
    path = write(tmp_path / "bad", text(lines))
    with pytest.raises(ObservationError) as caught:
        read([path])
    assert caught.value.where == f"{path}:6"
    assert caught.value.todo
    assert caught.value.exit_code == 75


def test_a_line_of_ours_that_is_cut_in_the_middle_of_a_file_is_damage(tmp_path: Path) -> None:
    """Only the last line may be cut short."""
    lines = text(environment("a")).splitlines(keepends=True)
    lines[4] = lines[4][:20] + b"\n"
    path = write(tmp_path / "bad", b"".join(lines))
    with pytest.raises(ObservationError) as caught:
        read([path])
    assert caught.value.where == f"{path}:5"


def test_lines_before_any_start_are_damage(tmp_path: Path) -> None:
    """A file whose beginning is lost does not say what its numbers mean."""
    path = write(tmp_path / "tail", text(environment("a")[3:]))
    with pytest.raises(ObservationError, match="before any start") as caught:
        read([path])
    assert caught.value.where == f"{path}:1"


@pytest.mark.parametrize("data", [b"", b"\n\n", b"only a log\n", b"{}\n"])
def test_files_without_observations_are_refused(tmp_path: Path, data: bytes) -> None:
    """No profile is made of nothing."""
    with pytest.raises(ObservationError, match="hold no observations"):
        read([write(tmp_path / "none", data)])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the path that was looked for."""
    with pytest.raises(ObservationError) as caught:
        read([str(tmp_path / "missing")])
    assert caught.value.where == str(tmp_path / "missing")


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    """Any order of the files gives the same environments in the same order."""
    paths = [write(tmp_path / name, text(environment(name))) for name in "abcd"]
    expected = read(paths)
    assert len(expected) == 4
    for seed in range(6):
        shuffled = random.Random(seed).sample(paths, len(paths))
        assert read(shuffled) == expected


def test_the_same_observations_count_once(tmp_path: Path) -> None:
    """A file given twice, a copy of it, and a file that holds them twice say nothing more."""
    data = text(environment("a"))
    one, copy, twice = (write(tmp_path / n, d) for n, d in (("one", data), ("copy", data), ("twice", data + data)))
    (alone,) = read([one])
    for paths in ([one, one], [one, copy], [twice], [copy, twice, one]):
        (found,) = read(paths)
        assert facts(found) == facts(alone)


@TMP
@given(seed=st.integers(0, 10**6))
def test_environments_that_ran_at_the_same_time_are_told_apart(tmp_path: Path, seed: int) -> None:
    """A platform's log lays the lines of all environments between each other; each line says whose it is."""
    queues = [text(environment(name, n)).splitlines(keepends=True) for n, name in enumerate("abc")]
    separate = read([write(tmp_path / f"{n}.jsonl", b"".join(queue)) for n, queue in enumerate(queues)])
    choose, mixed = random.Random(seed), b""
    while any(queues):
        mixed += choose.choice([queue for queue in queues if queue]).pop(0)
    together = read([write(tmp_path / "mixed.jsonl", mixed)])
    assert [facts(found) for found in together] == [facts(found) for found in separate]
    assert [found.id for found in together] == [found.id for found in separate]
