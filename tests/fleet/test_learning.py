"""A profile out of a store is the one of the same logs, however they came there and in whatever order they unite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fleet_lines import HOME, NOON, sandbox, taken
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.fleet.gathering import gather, united
from sandbox.fleet.store import Store
from sandbox.learn import observations
from sandbox.learn.generalise import generalise
from sandbox.learn.observations import Reader
from sandbox.learn.records import (
    Connect,
    DeniedCall,
    Fact,
    FileAccess,
    Label,
    NewFact,
    NewItem,
    Program,
    Span,
    Start,
    encode,
)
from sandbox.profile import document

CALLS = ("getpid", "uname", "brk", "sysinfo", "times")
FACTS: tuple[Fact, ...] = (
    FileAccess("/var/task/a.json", "read"), FileAccess("/tmp/x1", "write"), FileAccess("/tmp/x2", "write"),
    Connect("tcp://db.internal:5432"), Connect("tcp://192.0.2.7:443"), Program("/usr/bin/tar"),
)  # fmt: skip
Invocations = list[tuple[set[int], set[int]]]


def environment(number: int, invocations: Invocations, *, labels: bool = False) -> bytes:
    """The lines of one cold start: each invocation with its calls and facts, by their numbers here."""
    name, time = f"{number:08x}", NOON + number
    lines = [encode(Start(function="orders", handler="app.handler", api=True, kernel="6.1"), name, time)]
    lines += [encode(NewItem(i + 1, "invoke", call, ""), name, time) for i, call in enumerate(CALLS)]
    lines += [encode(NewFact(i + 1, fact), name, time) for i, fact in enumerate(FACTS)]
    lines.append(encode(Span("init", {1: 2}, facts=frozenset({1})), name, time))
    for i, (calls, facts) in enumerate(invocations):
        request = f"request-{number}-{i}"
        lines.append(encode(DeniedCall("ptrace", "invoke", "self"), name, time + i))
        counted = {call + 1: 1 + call for call in sorted(calls)}
        span = Span("invocation", counted, request, "ok", frozenset(fact + 1 for fact in facts))
        lines.append(encode(span, name, time + i))
        lines += [encode(Label(request, f"event-{i}.json"))] * labels
    return b"".join(lines)


SOME = st.lists(
    st.tuples(st.sets(st.integers(0, len(CALLS) - 1)), st.sets(st.integers(0, len(FACTS) - 1))), min_size=1, max_size=4
)


def test_a_profile_of_the_store_is_the_one_of_the_logs(tmp_path: Path) -> None:
    """Byte for byte, with interleaved environments, a log twice, and labels; a refusal is a person's to tolerate."""
    logs = tmp_path / "logs"
    logs.mkdir()
    several = [environment(n, [({n % 5, 1}, {n % 6, 2}), ({3}, {0})], labels=n == 2) for n in range(6)]
    mixed = [line for pair in zip(*(one.splitlines(True) for one in several[:2]), strict=True) for line in pair]
    (logs / "a.log").write_bytes(b"".join(mixed))
    (logs / "b.log").write_bytes(several[2] + several[3])
    (logs / "c.log").write_bytes(several[4] + b"unrelated\n" + several[5][:-10])
    (logs / "d.log").write_bytes(several[3])
    taken(tmp_path / "store", logs)
    files = [str(path) for path in sorted(logs.iterdir())]
    command = [sys.executable, "-m", "sandbox", "learn", "orders", "--output", str(tmp_path / "of-logs.yaml"), "--from"]
    done = subprocess.run([*command, *files], cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    learned = sandbox("learn", tmp_path / "store", "orders", "-o", tmp_path)
    assert learned.returncode == 0, learned.stderr
    written = (tmp_path / "orders.yaml").read_text()
    assert written == (tmp_path / "of-logs.yaml").read_text()
    assert "tolerates" not in written
    assert "a person decides whether to tolerate it" in learned.stdout
    missing = sandbox("learn", tmp_path / "store", "x'; --", "-o", tmp_path)
    assert (missing.returncode, "holds no observations of x'; --" in missing.stderr) == (75, True)


@settings(max_examples=15)
@given(st.lists(SOME, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_parts_unite_in_any_order(several: list[Invocations], chance: object) -> None:
    """United in any order and grouping, any part twice, cold starts are the same, and so is the profile."""
    parts = []
    for number, invocations in enumerate(several):
        reader = Reader("log")
        lines = environment(number, invocations).splitlines(True)
        found = [cold for at, line in enumerate(lines) for cold in reader.take(line, at)]
        parts.append((*found, *reader.end()))
    whole = united(one for part in parts for one in part)
    mixed = [*parts, chance.choice(parts)]  # type: ignore[attr-defined]  # a random.Random
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    while len(mixed) > 1:
        both = united((*mixed.pop(), *mixed.pop()))
        mixed.insert(chance.randrange(len(mixed) + 1), both)  # type: ignore[attr-defined]
    assert united(mixed[0]) == whole
    profiles = {document.write(generalise(one, "orders").profile) for one in (whole, united(mixed[0]))}
    assert len(profiles) == 1


def test_the_store_gives_what_the_reader_gives(tmp_path: Path) -> None:
    """Cold starts out of the store are those of the file, damage in one log leaves the others, and says so."""
    (tmp_path / "good.log").write_bytes(environment(1, [({1}, {1})]))
    beheaded = environment(3, [({2}, {2})]).splitlines(True)[1:]  # a log group is cut at the front, too
    (tmp_path / "cut.log").write_bytes(b"".join(beheaded) + environment(4, [({1}, {1})]))
    (tmp_path / "bad.log").write_bytes(environment(2, [({1}, {1})]).replace(b'"items": {"2"', b'"items": {"99"'))
    done = sandbox("ingest", tmp_path / "store", tmp_path / "good.log", tmp_path / "bad.log", tmp_path / "cut.log")
    assert (done.returncode, done.stderr.count("had not ended there were left out")) == (1, 2)
    found = gather(Store(str(tmp_path / "store")), "orders")
    (tmp_path / "cut.log").write_bytes(environment(4, [({1}, {1})]))
    files = [str(tmp_path / name) for name in ("good.log", "cut.log")]
    assert [one.id for one in found] == [one.id for one in observations.read(files)]

