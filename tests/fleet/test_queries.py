"""Questions by name and by SQL: read-only, offline, without HOME, and no file but the store's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_lines import HOME, log, sandbox, taken

from sandbox.errors import UsageError
from sandbox.fleet.engines import FleetEngine, opened
from sandbox.fleet.select import rows
from sandbox.fleet.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one function."""
    folder = tmp_path_factory.mktemp("fleet")
    taken(folder / "store", log(folder / "orders.log", "orders", 4))
    return folder / "store"


def test_a_question_and_a_select(store: Path) -> None:
    """Both answer without HOME and without a network, a question for one function too."""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME)}
    asked = sandbox("query", store, "violations", "--json", "--now", "2026-11-30T13:00", env=bare)
    assert asked.returncode == 0, asked.stderr
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    assert (len(found), found[0]["function"], found[0]["first"][:16]) == (4, "orders", "2026-11-30T12:00")
    counted = sandbox("query", store, "SELECT function, count(*) AS n FROM violations GROUP BY 1", env=bare)
    assert counted.stdout.split() == ["function", "n", "orders", "4"], counted.stderr
    none = sandbox("query", store, "violations", "--function", "' OR 1=1 --", env=bare)
    assert none.stdout.strip() == "no rows"


@pytest.fixture(scope="module")
def engine(store: Path) -> Iterator[FleetEngine]:
    """DuckDB over it."""
    with opened(Store(str(store))) as found:
        yield found


@pytest.mark.parametrize(
    "text",
    [
        "COPY violations TO '{store}/out.csv'",
        "DROP VIEW violations",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "ATTACH '{store}/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('{store}/../orders.log')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
        "SELECT * FROM glob('/etc/*')",
        "PRAGMA database_list",
        "not SQL at all",
    ],
)
def test_nothing_else_is_done(engine: FleetEngine, store: Path, text: str) -> None:
    """Whatever is no SELECT, and a SELECT that leaves the store, is refused, and leaves nothing behind."""
    before = sorted(os.listdir(store))
    with pytest.raises(UsageError):
        rows(engine, text.format(store=store))
    assert sorted(os.listdir(store)) == before
