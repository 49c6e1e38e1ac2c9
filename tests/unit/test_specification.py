"""SPECIFICATION.md: every promise is numbered and has a test, which exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import sandbox

ROOT = Path(sandbox.__file__).parent.parent
ROW = re.compile(r"^\| (P\d+) \| (.+) \| `([^`]+)::(\w+)` \|$")
ROWS = [found for line in (ROOT / "SPECIFICATION.md").read_text().splitlines() if (found := ROW.match(line))]


def test_promises_are_numbered_in_order() -> None:
    """Every line of a table is a promise, and none is left out or counted twice."""
    lines = [line for line in (ROOT / "SPECIFICATION.md").read_text().splitlines() if line.startswith("| P")]
    assert len(lines) == len(ROWS) > 50
    assert [row[1] for row in ROWS] == [f"P{number}" for number in range(1, len(ROWS) + 1)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[1]))
def test_each_promise_has_its_test(row: re.Match[str]) -> None:
    """The test that a promise names is defined in the file that it names."""
    tree = ast.parse((ROOT / "tests" / row[3]).read_text())
    assert row[4] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
