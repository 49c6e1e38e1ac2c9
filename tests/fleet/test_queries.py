"""Questions by name and by SQL: read-only, offline, without HOME, and no file but the store's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_lines import HOME, line, log, sandbox, taken, violation

from sandbox.errors import UsageError
from sandbox.fleet.engines import FleetEngine, opened
from sandbox.fleet.select import answer
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
    """Whatever is not a SELECT, and a SELECT that leaves the store, is refused, and leaves nothing behind."""
    before = sorted(os.listdir(store))
    with pytest.raises(UsageError):
        answer(engine, text.format(store=store))
    assert sorted(os.listdir(store)) == before


def test_a_report_is_a_page_markdown_or_json(store: Path, tmp_path: Path) -> None:
    """Each holds the same answers; the page has no script and no markup of a log's, and asks for nothing."""
    hostile = tmp_path / "hostile.log"
    hostile.write_bytes(line(violation("<script>alert(1)</script>|`x`", "tcp://192.0.2.9:443"), "000000ff", 1))
    both = tmp_path / "both"
    taken(both, hostile, log(tmp_path / "orders.log", "orders", 4))
    at = ("--now", "2026-11-30T13:00")
    texts = {}
    for ending in ("html", "md", "json"):
        done = sandbox("report", both, "-o", tmp_path / f"fleet.{ending}", *at)
        assert done.returncode == 0, done.stderr
        texts[ending] = (tmp_path / f"fleet.{ending}").read_text()
    found = json.loads(texts["json"])
    assert sum(row["count"] for row in found["violations"]) == 5
    assert "<script" not in texts["html"]
    assert "&lt;script&gt;" in texts["html"]
    assert "default-src 'none'" in texts["html"]
    assert not re.search(r"(?:src|href)=\"(?!#)", texts["html"])
    assert "<script" not in texts["md"]
    assert "\\`x\\`" in texts["md"]
    refused = sandbox("report", store, "-o", tmp_path / "fleet.pdf")
    assert (refused.returncode, "end its name with" in refused.stderr) == (64, True)


def test_an_object_store_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of logs in a bucket, plain and compressed, is taken in as one on disk; no such bucket is an error."""
    server_of = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        where = {"LocationConstraint": "eu-central-1"}
        client.create_bucket(Bucket="logs", CreateBucketConfiguration=where)
        client.upload_file(str(log(tmp_path / "a.log", "orders", 3)), "logs", "2026/11/30/a.log")
        client.upload_file(str(log(tmp_path / "b.log.gz", "billing", 2, "00000002")), "logs", "2026/11/30/b.log.gz")
        assert taken(tmp_path / "store", "s3://logs/2026").new == 3 + 2 + 2 + 2
        with pytest.raises(UsageError, match="s3://none"):
            taken(tmp_path / "store", "s3://none/x")
    finally:
        server.stop()
