"""SPECIFICATION.md and the pages under docs/: what they name exists, and what exists is named."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import sandbox
from sandbox import errors

ROOT = Path(sandbox.__file__).parent.parent
ROW = re.compile(r"^\| (P\d+) \| (.+) \| `([^`]+)::(\w+)` \|$")
ROWS = [found for line in (ROOT / "SPECIFICATION.md").read_text().splitlines() if (found := ROW.match(line))]
PAGES = [ROOT / "README.md", ROOT / "SPECIFICATION.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_every_error_is_in_the_reference() -> None:
    """docs/reference.md lists each error class with its exit code and its Runtime API type."""
    page = (ROOT / "docs" / "reference.md").read_text()
    for name, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, errors.SandboxError):
            assert f"| {found.exit_code} | `{found.error_type}` | `{name}` |" in page, name


def test_every_variable_is_in_the_reference() -> None:
    """Each SANDBOX_ variable that the code knows is explained, and no other."""
    page = set(re.findall(r"^\| `(SANDBOX_[A-Z_]+)`", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE))
    code = "\n".join(path.read_text() for path in (ROOT / "sandbox").rglob("*.py"))
    assert set(re.findall(r"\bSANDBOX_[A-Z]+(?:_[A-Z]+)*\b", code)) == page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_named_files_exist(page: Path) -> None:
    """Every file of ours that a page names in code style is there."""
    for target in re.findall(r"`((?:sandbox|profiles|tests|tools|docs|examples)/[\w./-]+)`", page.read_text()):
        stands_for_many = any(word.isupper() for word in re.split(r"[/.]", target))  # profiles/NAME.yaml
        assert stands_for_many or (ROOT / target).exists(), target
