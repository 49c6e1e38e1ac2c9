"""tools/bench runs and prints what docs/performance.md can hold; how fast anything is, no test says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tool."""
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False, timeout=60)


def measured(*arguments: str) -> dict[str, Any]:
    """Run the tool with one round and --json."""
    done = bench(*arguments, "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_start_prints_a_markdown_table() -> None:
    """Each line of the table has as many cells as its head, and the bar is called met or missed."""
    done = bench("start", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) >= 8
    assert {line.count(" | ") for line in table} == {table[0].count(" | ")}
    assert lines[0].startswith("Measured on ")
    assert [line for line in lines if line.endswith((": met", ": missed"))]


def test_learn_compares_both_loads() -> None:
    """The program and the handler are timed bare and observed, and each ratio fits its medians."""
    found = measured("learn")
    assert found["rounds"] == 1
    assert len(found["tables"]) == 2
    for table in found["tables"]:
        medians = {row["name"]: row["median"] for row in table["rows"]}
        assert medians["bare"] > 0
        assert medians["SANDBOX_MODE=learn"] > 0
    assert len(found["bars"]) == (5 if shutil.which("strace") else 3)
    assert all(bar["met"] is (bar["value"] <= bar["limit"]) for bar in found["bars"])


@pytest.mark.skipif(shutil.which("cc") is None, reason="the program that makes the calls is compiled")
def test_calls_counts_instructions_under_the_policy() -> None:
    """Each kind of call is timed in three ways, what a supervisor sees in four; one has a number of instructions."""
    (table,) = measured("calls")["tables"]
    policy = [row for row in table["rows"] if row["name"].endswith("under the policy")]
    seen = [row for row in table["rows"] if row["name"].endswith("supervised by the launcher")]
    assert len(table["rows"]) == 3 * len(policy) + len(seen) > len(seen) == 2
    assert all(int(row["instructions"]) > 0 for row in policy)


@pytest.mark.skipif(shutil.which("cc") is None, reason="the program that makes the calls is compiled")
def test_egress_compares_bare_and_supervised_calls() -> None:
    """Each kind of call is timed bare and under both starters, and each bar is what the launcher adds to one."""
    found = measured("egress")
    (table,) = found["tables"]
    medians = {row["name"]: row["median"] for row in table["rows"]}
    assert len(medians) == len(table["rows"])
    for bar in found["bars"]:
        kind, _, what = bar["text"].partition(": ")
        bare, launcher = medians[f"{what}: bare"], medians[f"{what}: under the launcher (the default)"]
        added = (launcher - bare) * 1e6
        if "small program" in kind:
            least = medians[f"{what}: under a small C program that does no more than to answer"]
            added = (launcher - bare) / (least - bare)
        assert bar["value"] == pytest.approx(added)


@pytest.mark.skipif(shutil.which("cc") is None, reason="the program that tells its first instant is compiled")
def test_supervise_compares_both_ways_of_each_start() -> None:
    """The launcher under each share of the machine and the bootstrap, supervised and not; each bar fits its medians."""
    found = measured("supervise")
    medians = {row["name"]: row["median"] for table in found["tables"] for row in table["rows"]}
    assert all(value > 0 for value in medians.values())
    ratios = {bar["text"]: bar["value"] for bar in found["bars"]}
    private = ratios.pop(next(text for text in ratios if text.startswith("private")))
    assert 0 < private < 16
    assert {text.partition(",")[0] for text in ratios} == {"launcher", "bootstrap"}
    assert [text for text in ratios if "one processor" in text]
    for text, value in ratios.items():
        beside, alone = text.removesuffix("SANDBOX_SUPERVISE=0").rstrip(" /"), text.replace("supervised / ", "")
        assert value == pytest.approx(medians[beside] / medians[alone])


@pytest.mark.parametrize("arguments", [["start", "--rounds", "0"], ["other"], ["start", "--python", "/nonexistent"]])
def test_bad_arguments_are_refused_in_words(arguments: list[str]) -> None:
    """Wrong arguments give a message and no traceback."""
    done = bench(*arguments)
    assert done.returncode != 0
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="one of the runtimes is compiled")
def test_warm_compares_both_runtimes() -> None:
    """Both functions are invoked bare (twice), under the policy and supervised, also with request ids and activity."""
    found = measured("warm")
    assert [len(table["rows"]) for table in found["tables"]] == [6, 6]
    assert all(row["median"] > 0 for table in found["tables"] for row in table["rows"])
    assert [bar["met"] for bar in found["bars"]] == [bar["value"] <= bar["limit"] for bar in found["bars"]]
    assert len(found["bars"]) == 4


def test_compile_counts_the_calls_of_ever_more_classes() -> None:
    """Each row has more classes than the one before and verifies more calls, and one bar speaks of seconds."""
    found = measured("compile")
    (table,) = found["tables"]
    calls = [int(row["calls verified, plain"]) for row in table["rows"]]
    assert calls == sorted(set(calls))
    assert [bar["limit"] for bar in found["bars"]] == [3.0]


def test_origin_reads_stacks_of_three_depths() -> None:
    """Three depths are read and judged warm, and one for the first time."""
    tables = measured("origin")["tables"]
    assert [len(table["rows"]) for table in tables] == [3, 3, 1]
    assert all(row["median"] > 0 for table in tables for row in table["rows"])
