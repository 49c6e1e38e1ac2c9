"""Where questions are asked: DuckDB in this process, or Spark. Both see the store's tables, with its own columns.

DuckDB is closed up before it is given anything of a person's: no file but the store's, no network, no extension, and no
way to change that. It needs no HOME.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.errors import UsageError
from sandbox.fleet.extras import FLEET, SPARK, java, require
from sandbox.fleet.schema import TABLES
from sandbox.fleet.store import Store, damaged

Name = Literal["duckdb", "spark"]
Value = str | int | float | bool | None
"""A cell of an answer."""
Relation = Any
"""An expression of Ibis, which has no types of its own for them."""
MASTER = "SPARK_MASTER"
"""The variable that names a cluster; without it Spark runs in this machine (`local[*]`)."""


@dataclass(frozen=True)
class FleetEngine:
    """An open engine. `tables` are Ibis tables by name; `connection` is the engine's own, for SQL."""

    name: Name
    store: str
    tables: Mapping[str, Relation]
    connection: Any

    def rows(self, expression: Relation) -> list[dict[str, Value]]:
        """The rows of an expression, in its order. Raises UsageError for a store that the engine cannot read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one library about another's versions
            try:
                found: list[dict[str, Value]] = expression.to_pyarrow().to_pylist()
            except Exception as error:  # DuckDB's, Spark's and Java's have nothing in common
                raise damaged(self.store, error) from error
        return found


@contextmanager
def opened(store: Store, name: Name = "duckdb", since: str = "") -> Iterator[FleetEngine]:
    """An engine over a store; days before `since` are not read. Raises UsageError where it is not installed."""
    require(*FLEET)
    if name == "spark":
        require(*SPARK, extra="fleet,spark")
        java()
    with _spark(store, since) if name == "spark" else _duckdb(store, since) as engine:
        yield engine


@contextmanager
def _duckdb(store: Store, since: str) -> Iterator[FleetEngine]:
    import duckdb
    import ibis

    with tempfile.TemporaryDirectory(prefix="sandbox-fleet-") as scratch:
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
                "temp_directory": scratch, "home_directory": scratch,
            },
        )  # fmt: skip
        try:
            backend = ibis.duckdb.from_connection(connection)
            for table, columns in TABLES.items():
                paths = ", ".join(_quoted(path) for path in store.files(table, since))
                chosen = ", ".join(f'"{column}"' for column in columns)
                try:
                    connection.execute(
                        f'CREATE VIEW "{table}" AS SELECT {chosen} FROM read_parquet([{paths}], '
                        "hive_partitioning = false, union_by_name = false)"
                    )
                except duckdb.Error as error:
                    raise damaged(store.path, error) from error
            connection.execute(f"SET allowed_directories = [{_quoted(store.path + os.sep)}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            tables = {table: backend.table(table) for table in TABLES}
            yield FleetEngine("duckdb", store.path, tables, connection)
        finally:
            connection.close()


def _quoted(text: str) -> str:
    """A text of SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _spark(store: Store, since: str) -> Iterator[FleetEngine]:
    warnings.simplefilter("ignore", FutureWarning)  # of PySpark about pandas, of which nothing here hangs
    import ibis
    from pyspark.sql import SparkSession
    from pyspark.sql.types import (
        BooleanType,
        DoubleType,
        LongType,
        ShortType,
        StringType,
        StructField,
        StructType,
    )

    kinds = {
        "int16": ShortType(), "int64": LongType(), "float64": DoubleType(), "string": StringType(),
        "bool": BooleanType(),
    }  # fmt: skip
    existing = SparkSession.getActiveSession()
    running = existing or session(SparkSession)
    try:
        backend = ibis.pyspark.connect(running)
        tables = {}
        for table, columns in TABLES.items():
            schema = StructType([StructField(name, kinds[kind]) for name, kind in columns.items()])
            frame = running.read.schema(schema).option("recursiveFileLookup", "true")
            frame.parquet(*store.files(table, since)).createOrReplaceTempView(table)
            tables[table] = backend.table(table)
        yield FleetEngine("spark", store.path, tables, running)
    finally:
        if existing is None:
            running.stop()


def session(builder: Any) -> Any:
    """A session of Spark, of its class SparkSession. Raises UsageError where it cannot be started."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = {
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8", "spark.sql.caseSensitive": "true", "spark.driver.bindAddress": "127.0.0.1",
    }  # fmt: skip
    master = os.environ.get(MASTER, "local[*]")
    if not master.startswith("local"):
        del settings["spark.driver.bindAddress"]
    try:
        started = builder.builder.master(master).appName("sandbox fleet")
        for key, value in settings.items():
            started = started.config(key, value)
        running = started.getOrCreate()
    except Exception as error:  # py4j's, Java's, or Spark's own
        raise UsageError(
            f"cannot be started: {error}", where=f"--engine spark, {master}",
            todo=f"check Java (JAVA_HOME), and {MASTER} where it names a cluster",
        ) from error  # fmt: skip
    running.sparkContext.setLogLevel("ERROR")
    return running
