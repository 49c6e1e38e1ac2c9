"""Taking in lines: each row once, with the store's own columns, whatever the lines hold and whatever ends a writer."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from fleet_lines import HOME, NOON, activity, line, log, sandbox, status, summary, taken, violation

from sandbox.errors import UsageError
from sandbox.fleet import schema
from sandbox.fleet.engines import Value, opened
from sandbox.fleet.questions import QUESTIONS, Window
from sandbox.fleet.store import EMPTY, Store

HOSTILE = "x'); DROP TABLE violations; --"
WINDOW = Window(round((NOON + 3600) * 1000))


def rows(store: Path, table: str) -> list[dict[str, Value]]:
    """The rows of a table."""
    with opened(Store(str(store))) as engine:
        return engine.rows(engine.tables[table].order_by("id"))


def test_a_folder_of_logs_is_taken_in_once(tmp_path: Path) -> None:
    """Plain and compressed logs of a folder become typed rows with a version; again, or copied, they add none."""
    logs = tmp_path / "logs"
    (logs / "deep").mkdir(parents=True)
    log(logs / "orders.log", "orders", 5)
    log(logs / "deep" / "billing.log.gz", "billing", 3, "00000002")
    writer = taken(tmp_path / "store", logs)
    assert writer.new == len(rows(tmp_path / "store", "violations")) + 2 + 2 == 12  # with two statuses and two runs
    (logs / "copy.log").write_bytes((logs / "orders.log").read_bytes())
    assert taken(tmp_path / "store", logs, logs / "orders.log").new == 0
    for table, columns in schema.TABLES.items():
        for path in Store(str(tmp_path / "store")).files(table):
            found = pyarrow.parquet.ParquetFile(path)
            assert found.schema_arrow.equals(schema.arrow(table), check_metadata=True)
            assert {field.name for field in found.schema_arrow} == set(columns)
            groups = [found.metadata.row_group(i).column(0).compression for i in range(found.num_row_groups)]
            assert set(groups) <= {"ZSTD"}
    names = {path.parent.name for path in (tmp_path / "store" / "violations").glob("day=2026-11-30/*/*.parquet")}
    assert names == {"function=orders", "function=billing"}


def test_what_comes_late_and_what_is_hostile_is_kept_as_text(tmp_path: Path) -> None:
    """A field that only the last of many lines has is not lost; a name like SQL, a path or nothing stays a name."""
    names = [HOSTILE, "../../etc", "", "a/b", "ünï\x1b[31m", "n" * 500]
    path = tmp_path / "all.log"
    lines = [line(violation("orders", f"tcp://192.0.2.7:{n}"), "00000003", n + 1) for n in range(3000)]
    lines += [line(violation(name), f"1000000{i}", 1) for i, name in enumerate(names)]
    lines.append(line(violation("orders", library="requests", time=NOON + 1), "00000003", 4000))
    lines.append(b'{"event": "violation", "time": 1e999, "syscall": "x"}\n{"event": "sandbox", "mode": [1]}\n')
    lines.append(b'{"event": "violations", "time": 1, "function": "orders", "counts": {"a: denied": 9e99}}\n')
    lines.append(b'{"event": "violation", "time": 5, "function": "\\ud800", "syscall": "read", "seq": 1' + b"9" * 40)
    lines.append(b"}\n")
    path.write_bytes(b"".join(lines))
    taken(tmp_path / "store", path)
    found = rows(tmp_path / "store", "violations")
    assert len(found) == 3000 + len(names) + 2
    assert [row["library"] for row in found if row["library"]] == ["requests"]
    assert {*names} <= {row["function"] for row in found}
    assert not (tmp_path / "etc").exists()
    with opened(Store(str(tmp_path / "store"))) as engine:
        asked = QUESTIONS["violations"].ask(engine.tables, Window(WINDOW.now, function=HOSTILE))
        assert [row["function"] for row in engine.rows(asked)] == [HOSTILE]
    said = sandbox("report", tmp_path / "store").stdout
    assert "DROP TABLE" in said
    assert "\x1b" not in said


def test_a_writer_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed at random moments, beside another writer: what is there is whole, and the same again completes it."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for n in range(4):
        log(logs / f"f{n}.log", f"f{n}", 400, f"0000000{n}")
    chance = random.Random(15)
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    # Files of few rows, so that there are many moments.
    small = "from sandbox.fleet import store; store.MOST_ROWS = 50; from sandbox.cli import main; main()"
    writing = [sys.executable, "-c", small, "fleet", "ingest", str(tmp_path / "store"), str(logs)]
    for _ in range(4):
        before = len(list((tmp_path / "store").rglob("*.parquet")))
        until = before + chance.randrange(8)
        writer = subprocess.Popen(writing, env=environment, stdout=subprocess.DEVNULL)
        while writer.poll() is None and len(list((tmp_path / "store").rglob("*.parquet"))) <= until:
            time.sleep(chance.uniform(0.0, 0.01))
        writer.kill()
        writer.wait()
        if (tmp_path / "store" / "fleet.json").exists():
            ids = [row["id"] for row in rows(tmp_path / "store", "violations")]
            assert len(ids) == len({*ids}) < 1600
    taken(tmp_path / "alone", logs)
    both = [subprocess.Popen(writing, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [writer.wait() for writer in both] == [0, 0]
    for table in schema.TABLES:
        assert rows(tmp_path / "store", table) == rows(tmp_path / "alone", table), table


def test_the_same_lines_are_the_same_answers(tmp_path: Path) -> None:
    """Coverage, counts, news and what was refused together come out of lines as a person would count them."""
    lines = [status("a", "a"), line(violation("a", time=NOON - 30), "0000000a", 1)]
    lines += [status("b", "b", "audit"), line(violation("b", time=NOON), "0000000b", 1)]
    lines += [status("c", "c", degraded=["files: Landlock is missing"], stale=["python: learned on 3.11, here 3.12"])]
    lines += [line(violation("c", time=NOON + 30, library="requests"), "0000000c", 1)]
    lines += [line(summary("c", {"connect: denied": 41}), "0000000c", 2)]
    lines += [b'{"event": "sandbox", "mode": "off", "enforced": [], "degraded": ["everything: SANDBOX_MODE=off"]}\n']
    lines += [line(activity("d", [("tcp://api.example.com:443", ["httpx"])], ["/bin/ls"]), "0000000d", 1)]
    (tmp_path / "all.log").write_bytes(b"".join(lines))
    taken(tmp_path / "store", tmp_path / "all.log")
    with opened(Store(str(tmp_path / "store"))) as engine:
        found = {name: engine.rows(one.ask(engine.tables, WINDOW)) for name, one in QUESTIONS.items()}
    tiers = {row["function"]: row["tier"] for row in found["coverage"]}
    assert tiers == {"a": "enforced", "b": "audited", "c": "degraded", "": "unprotected", "d": "unknown"}
    assert {(row["function"], str(row["release"])[:1], row["count"]) for row in found["violations"]} == {
        ("a", "a", 1), ("b", "b", 1), ("c", "c", 1),
    }  # fmt: skip
    assert [(row["function"], row["kind"], row["count"]) for row in found["unlisted"]] == [("c", "connect: denied", 40)]
    (same,) = found["together"]
    assert (same["functions"], same["target"], same["library"]) == (3, "tcp://192.0.2.7:443", "requests")
    news = {(row["sort"], row["thing"]) for row in found["new"]}
    assert {("library", "httpx"), ("program", "/bin/ls"), ("destination", "tcp://api.example.com:443")} <= news
    assert [(row["function"], row["stale"]) for row in found["stale"]] == [("c", "python: learned on 3.11, here 3.12")]


def test_what_is_not_a_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder, a later version, a damaged source and a damaged file are errors that say what to do.

    So is a name that means nothing, wherever it stands; then nothing was taken.
    """
    monkeypatch.setattr("sandbox.fleet.store.MOST_ROWS", 1)
    with pytest.raises(UsageError, match="No such file"):
        taken(tmp_path / "empty", log(tmp_path / "first.log", "a", 5), tmp_path / "nothing.log")
    assert rows(tmp_path / "empty", "violations") == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        Store(str(tmp_path / "other"), create=True)
    with pytest.raises(UsageError, match="is not a store"):
        Store(str(tmp_path / "none"))
    log(tmp_path / "a.log.gz", "a", 50)
    (tmp_path / "a.log.gz").write_bytes((tmp_path / "a.log.gz").read_bytes()[:-40])
    done = sandbox("ingest", tmp_path / "store", tmp_path / "a.log.gz")
    assert (done.returncode, "is damaged" in done.stderr) == (1, True)
    assert (tmp_path / "store" / "violations" / EMPTY).exists()
    (whole := log(tmp_path / "whole.log", "a", 5)).touch()
    taken(tmp_path / "store", whole)
    (path,) = (tmp_path / "store" / "violations" / "day=2026-11-30" / "function=a").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    log(whole, "a", 6)
    for arguments in (("ingest", tmp_path / "store", whole), ("query", tmp_path / "store", "violations")):
        done = sandbox(*arguments)
        assert done.returncode in (1, 64)
        assert (path.name in done.stderr, "Traceback" in done.stderr) == (True, False), done.stderr
    (tmp_path / "store" / "fleet.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(UsageError, match="schema 2"):
        Store(str(tmp_path / "store"))
