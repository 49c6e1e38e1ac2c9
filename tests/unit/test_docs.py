"""README.md and the pages under docs/: what they name exists, and what exists is named."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import sandbox
from sandbox import errors
from sandbox.cli import loading, table

ROOT = Path(sandbox.__file__).parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
AUTOMATION = (ROOT / "docs" / "automation.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
VARIABLE = r"\bSANDBOX_[A-Z]+(?:_[A-Z]+)*\b"

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))


def _commands() -> dict[str, set[str]]:
    """{`profile diff`: its options} for every command there is."""
    every = [("", typer.main.get_command(loading.app)), *loading.commands()]
    return {
        name: {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
        for name, command in every
    } | {group: set() for group in table.GROUPS}


COMMANDS = _commands()


def test_every_error_is_on_the_page() -> None:
    """docs/automation.md lists each error class with its exit code and its Runtime API type."""
    for name, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, errors.SandboxError):
            assert f"| {found.exit_code} | `{found.error_type}` | `{name}` |" in AUTOMATION, name


def test_every_variable_is_in_the_reference() -> None:
    """Each SANDBOX_ variable that the code knows is explained, and no other."""
    page = set(re.findall(rf"^\| `({VARIABLE})`", REFERENCE, re.MULTILINE))
    code = "\n".join(path.read_text() for path in (ROOT / "bootstrap", *(ROOT / "sandbox").rglob("*.py")))
    assert set(re.findall(VARIABLE, code)) == page


def test_the_generated_parts_are_those_of_the_code() -> None:
    """`tools/reference --write` would change nothing."""
    tool = [sys.executable, str(ROOT / "tools" / "reference")]
    printed = subprocess.run(tool, capture_output=True, text=True, check=True, timeout=60).stdout
    pages = REFERENCE + AUTOMATION
    parts = re.findall(r"(?<=: tools/reference -->\n\n).*?(?=\n\n<!-- end -->)", pages, re.DOTALL)
    assert len(parts) == 4
    assert "\n\n".join(parts) == printed.rstrip("\n")


@by_name
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file, and its #part a heading there."""
    for target, part in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), target
        headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE) if part else []
        assert not part or part in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}, part


@by_name
def test_named_files_exist(page: Path) -> None:
    """Every file of ours that a page names in code style is there."""
    for target in re.findall(r"`((?:sandbox|profiles|tests|tools|docs|examples)/[\w./-]+)`", page.read_text()):
        stands_for_many = any(word.isupper() for word in re.split(r"[/.]", target))  # profiles/NAME.yaml
        assert stands_for_many or (ROOT / target).exists(), target


def test_tools_can_be_run() -> None:
    """Every tool that begins with an interpreter's name is executable."""
    tools = [path for path in (ROOT / "tools").iterdir() if path.is_file() and path.read_bytes().startswith(b"#!")]
    assert [path.name for path in tools if not os.access(path, os.X_OK)] == []


@by_name
def test_commands_that_are_shown_exist(page: Path) -> None:
    """Every `sandbox ...` in code, and every option in it, is one that the command has."""
    text = page.read_text().replace(" \\\n", " ")
    lines = re.findall(r"^    .*$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    shown = [found for line in lines for found in re.findall(r"(?<![\w/.-])sandbox ((?!learned)[a-z-].*)", line)]
    for line in shown:
        words = line.partition("#")[0].partition(" -- ")[0].partition(" | ")[0].split()
        group = words[0] if words[0] in COMMANDS else ""
        choices = words[1].split("|") if group in table.GROUPS and len(words) > 1 else [""]
        for choice in choices:
            name = f"{group} {choice}".strip()
            assert name in COMMANDS, line
            for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", " ".join(words)):
                assert option in COMMANDS[name] | {"--help"}, line


def test_the_readme_names_the_two_commands() -> None:
    """A newcomer finds the demo and the tests."""
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


@by_name
def test_pages_speak_of_this_project_alone(page: Path) -> None:
    """No path of the machine on which a page was written."""
    assert str(ROOT) not in page.read_text()
    assert not re.search(r"(?<![\w.{}])/(?:root|home)/\w", page.read_text())


def test_the_walk_goes_through_functions_that_exist() -> None:
    """Each step of docs/design.md names a file and a function or method that it defines."""
    text = (ROOT / "docs" / "design.md").read_text()
    steps = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \|", text, re.MULTILINE)
    assert len(steps) > 5
    for file, name in steps:
        nodes: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
        for part in name.split("."):
            (found,) = (n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part)
            nodes = found.body
