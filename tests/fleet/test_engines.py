"""DuckDB and Spark give the same rows for every question, whatever the fleet."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fleet_lines import NOON, activity, line, status, summary, taken, violation
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.errors import UsageError
from sandbox.fleet import engines, extras
from sandbox.fleet.engines import opened
from sandbox.fleet.questions import DAY, QUESTIONS, Window, newest_profiles
from sandbox.fleet.store import Store
from sandbox.profile import document
from sandbox.profile.model import Estimate, Profile, ProfiledFunction, Training

FUNCTIONS = ("orders", "billing", "x'); DROP TABLE violations; --", "ünï/..", "")
TARGETS = ("tcp://192.0.2.7:443", "tcp://192.0.2.8:443", "/bin/sh", "a'b\"c\\", "")
RELEASES = "abc"
ENGINES: tuple[engines.Name, ...] = ("duckdb", "spark")


@pytest.fixture(scope="module")
def spark() -> Iterator[object]:
    """One session for all, in this machine. Skips where there is no Java that it runs on."""
    pyspark = pytest.importorskip("pyspark.sql")
    try:
        extras.java()
    except UsageError as error:
        pytest.skip(str(error))
    session = engines.session(pyspark.SparkSession)
    session.conf.set("spark.sql.shuffle.partitions", "1")  # a handful of rows, and forty queries
    yield session
    session.stop()


@st.composite
def fleets(draw: st.DrawFn) -> list[bytes]:
    """The lines of a small fleet, in any order."""
    chance = draw(st.randoms(use_true_random=False))
    return list(_lines(chance, draw(st.integers(0, 60))))


def _lines(chance: random.Random, count: int) -> Iterator[bytes]:
    for number in range(count):
        function = chance.choice(FUNCTIONS)
        time = NOON + chance.choice((-40 * 86400, -3600, 0, 1, 30, 400, 7200)) + chance.random()
        supervisor = f"{chance.randrange(6):08x}"
        match chance.randrange(8):
            case 0:
                more = chance.choice(({}, {"degraded": ["files: none"]}, {"tier": "detects"}, {"stale": ["libc: new"]}))
                yield status(function, chance.choice(RELEASES), chance.choice(("enforce", "audit", "off")), **more)
            case 1:
                counts = {"connect: denied": chance.randrange(1, 50), "execve exec: denied": 3}
                yield line(summary(function, counts, final=chance.random() < 0.5, time=time), supervisor, number)
            case 2 | 3:
                things = [(target, ["httpx"][: chance.randrange(2)]) for target in TARGETS[: chance.randrange(4)]]
                yield line(activity(function, things, TARGETS[2:3], time=time), supervisor, number)
            case _:
                syscall, arg_class = chance.choice((("connect", ""), ("execve", "exec"), ("openat", "create write")))
                library, verdict = chance.choice(("", "requests", "Foo_Bar")), chance.choice(("denied", "reported"))
                found = violation(
                    function, chance.choice(TARGETS), syscall=syscall, arg_class=arg_class, time=time, library=library,
                    verdict=verdict,
                )  # fmt: skip
                yield line(found, supervisor, number)


def profiles(folder: Path) -> None:
    """Two profiles of one function, of which the newer counts."""
    for date, novelty in (("2026-01-31", 0.5), ("2026-11-01", 0.25)):
        estimates = (Estimate("invoke", 4, 9, 1, novelty, 2, 0.7, 9.5),)
        training = Training(f"t{date}", kernel="6.1", date=date, estimates=estimates)
        profile = Profile(
            ProfiledFunction("orders", "app.handler"), trainings=frozenset({training}),
            network=frozenset({"tcp://192.0.2.7:443", "runtime-api"}), processes=frozenset({"/bin/ls"}),
        )  # fmt: skip
        path = folder / f"orders-{date}.yaml"
        path.write_text(document.write(profile))
        os.utime(path, (NOON - novelty * DAY, NOON - novelty * DAY))  # when it was changed says which is the newer


@settings(max_examples=2)  # a query of Spark's takes a second of two processors
@given(fleets())
def test_both_engines_give_the_same_rows(spark: object, lines: list[bytes]) -> None:
    """Every question, and the profiles that narrowing reads; the rows of DuckDB are those of Spark, in their order."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "all.log").write_bytes(b"".join(lines))
        profiles(folder)
        taken(folder / "store", folder / "all.log", *sorted(folder.glob("*.yaml")))
        window = Window(round(NOON * 1000) + DAY, functions=2)
        found = []
        for engine in ENGINES:
            with opened(Store(str(folder / "store")), engine) as one:
                asked = {question.name: question.ask for question in QUESTIONS.values()}
                asked["profiles"] = newest_profiles
                found.append({name: one.rows(ask(one.tables, window)) for name, ask in asked.items()})
    for question, rows in found[0].items():
        assert rows == found[1][question], question
    assert [(row["novelty"], row["training"]) for row in found[0]["estimates"]] == [(0.25, "t2026-11-01")]
    assert spark is not None
