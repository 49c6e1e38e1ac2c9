"""Bad input of every command: a located error with its own exit status, nothing left behind, and no traceback.

The command lines and what comes of them are the table in bad_inputs.toml.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from forked_commands import forked

from sandbox import errors
from sandbox.cli import loading

TABLE = tomllib.loads(Path(__file__).with_name("bad_inputs.toml").read_text())
INPUTS: list[dict[str, Any]] = TABLE["input"]
STATUSES = {1, 2} | {value.exit_code for value in vars(errors).values() if hasattr(value, "exit_code")}
"""Findings, misused options (typer), and the errors of the tree."""


def _brackets(name: str, count: int) -> Callable[[], None]:
    def write() -> None:
        Path(name).write_text("[" * count)

    return write


def _closed(number: int) -> Callable[[], None]:
    def close() -> None:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as the interpreter does (sys.stdin)

    return close


def _filled() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


PREPARED: Mapping[str, Callable[[], None]] = {
    "": lambda: None,
    "writes 20000 brackets to bad.yaml": _brackets("bad.yaml", 20_000),
    "writes 200000 brackets to bad.json": _brackets("bad.json", 200_000),
    "removes its folder": lambda: shutil.rmtree(os.getcwd()),
    "closes standard input": _closed(0),
    "closes standard output": _closed(1),
    "fills standard output": _filled,
}
"""What `does` means, by the words of the table."""


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Every command is loaded once, here, and not in each fork."""
    for _ in loading.commands():
        pass


def _files(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _title(case: Mapping[str, Any]) -> str:
    return f"{case['run']} {case.get('does', '')} {case['says'][0]}"


@pytest.mark.parametrize("case", INPUTS, ids=_title)
def test_bad_input(case: Mapping[str, Any], tmp_path: Path) -> None:
    """One line of the table."""
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    scratch.mkdir()
    texts = {**TABLE["folder"], **case.get("files", {})}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {name: text.encode("latin-1") for name, text in case.get("bytes", {}).items()}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    does = case.get("does", "")
    before: dict[str, bytes | None] = {}

    def prepare() -> None:
        PREPARED[does]()

    if does.startswith("writes"):
        with contextlib.chdir(folder):
            prepare()
    before = _files(folder)
    ended = forked(
        *shlex.split(case["run"]), cwd=folder, stdin=case.get("stdin", "").encode(),
        environ={"TMPDIR": str(scratch), **case.get("environ", {})},
        before=(lambda: None) if does.startswith("writes") else prepare,
    )  # fmt: skip
    text = " ".join((ended.stderr + ended.stdout * (ended.code == 1)).split())
    assert ended.code == case["exit"], text
    assert ended.code in STATUSES
    assert "Traceback" not in text
    for said in case["says"]:
        assert said in text
        text = text.partition(said)[2]
    assert ended.stdout == "" or ended.code in (1, errors.LearningFailed.exit_code)  # findings; how training went
    assert does == "removes its folder" or _files(folder) == before
    assert _files(scratch) == {}


def test_the_table_has_sixty_sorts_of_bad_input() -> None:
    """It covers every command but `doctor`, which is given nothing, in at least sixty lines that differ."""
    assert len({(case["run"], str(case)) for case in INPUTS}) >= 60
