"""What commands print fits the terminal: wrapped by words, narrow tables as paragraphs, colour where there may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from forked_commands import Ended, forked

from sandbox.violations.record import Violation
from sandbox.violations.sink import Sink

PROFILES = Path(__file__).parent.parent.parent / "profiles"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*words: str, cwd: Path, width: int, environ: Mapping[str, str] | None = None) -> Ended:
    """A command line on a terminal of this width: rich's own variable says that standard output is one."""
    settings = {"COLUMNS": str(width), "TTY_COMPATIBLE": "1", "TERM": "xterm-256color", "NO_COLOR": ""}
    return forked(*words, cwd=cwd, environ={**settings, **(environ or {})})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with two violations."""
    sink = Sink(f"file:{tmp_path / 'log'}")
    for call in ("openat", "execve"):
        sink.write(
            Violation(
                function="hello", phase="invoke", request="some-request", pid=1, tid=1, comm="python", syscall=call,
                arg_class="", args=["AT_FDCWD", '"/etc/some/file"'], target="/etc/some/file",
                verdict="denied", errno="EACCES", reason="not in the profile", allow="a line of the profile " * 4,
                risk="high", technique="T1083",
            )
        )  # fmt: skip
    sink.close()
    return tmp_path / "log"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_output_fits_the_terminal(width: int, log: Path, tmp_path: Path) -> None:
    """No line is wider than the terminal but for single words that are, and no word is cut in two."""
    for words in (
        ("profile", "show", str(PROFILES / "thumbnail.yaml")), ("events", str(log)), ("events", str(log), "--summary"),
        ("profile", "diff", str(PROFILES / "hello.yaml"), str(PROFILES / "wordcount.yaml")), ("profile", "-h"),
        ("profile", "lint", str(PROFILES / "hello.yaml")),
    ):  # fmt: skip
        ended = on_terminal(*words, cwd=tmp_path, width=width)
        assert ended.code in (0, 1), ended.stderr
        text = ESCAPES.sub("", ended.stdout).partition("Example:")[0]
        for line in text.splitlines():
            assert len(line) <= width or len(line.split()) <= 2, (words, line)
        if words == ("events", str(log)) and width < 200:  # one line a violation, and no table with narrow columns
            assert all(word in text.split() for word in ("EACCES,", "T1083", "profile;"))


def test_colours_are_for_terminals_that_want_them(log: Path, tmp_path: Path) -> None:
    """NO_COLOR and TERM=dumb take colours away, and nothing else; in a pipe there are none."""
    words = ("events", str(log))
    coloured = on_terminal(*words, cwd=tmp_path, width=80).stdout
    assert ESCAPES.search(coloured)
    plain = ESCAPES.sub("", coloured)
    assert on_terminal(*words, cwd=tmp_path, width=80, environ={"NO_COLOR": "1"}).stdout == plain
    assert on_terminal(*words, cwd=tmp_path, width=80, environ={"TERM": "dumb"}).stdout == plain
    assert not ESCAPES.search(forked(*words, cwd=tmp_path).stdout)
