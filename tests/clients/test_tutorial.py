"""The walks in docs: each of their commands runs, and prints what the page says, but for numbers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from users_and_folders import HOME

PAGES = {
    ("tutorial.md",): (4566, "orders"),
    ("servers.md",): (8008, "web"),
    ("walk-platform.md", "walk-security.md"): (8080, "platform"),
}
"""Each walk, and where a page goes on from another with that one: the port of what it starts in the background, and its
folder of build/. Two may run at once."""
FILE = re.compile(r"`([\w/.-]+)`:\n\n((?:    .*\n|\n)+)")
"""A file that a page shows: its name ends a sentence, and its text follows, indented."""
LIMIT = 150
"""Seconds for the whole walk."""


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of the page (`    $ ...`, with its continuations, or the lines up to END that it is given) and the
    lines that it prints there.
    """
    command: list[str] = []
    printed: list[str] = []
    for line in [*(HOME / "docs" / page).read_text().splitlines(), "end"]:
        text = line.removeprefix("    ") if line.startswith("    ") else ""
        if command and (command[-1].endswith("\\") or ("<<'END'" in command[0] and command[-1] != "END")):
            command.append(text)
        elif text.startswith("$ ") or not text:
            if command:
                yield "\n".join(command), printed
            command, printed = [text[2:]] if text else [], []
        elif command:
            printed.append(text)


def plain(line: str) -> str:
    """A line without its numbers and digests."""
    return re.sub(r"[0-9a-f]{8,}|\d+(\.\d+)?", "N", line)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a network of its own, for its ports: needs root")
@pytest.mark.parametrize("pages", PAGES, ids=" ".join)
def test_the_walk(pages: tuple[str, ...]) -> None:
    """Nothing on the pages is invented: each line that they show is among those that the command prints."""
    port, folder = PAGES[pages]
    shutil.rmtree(HOME / "build" / folder, ignore_errors=True)
    follow(pages, port, HOME)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a network of its own, for its port: needs root")
def test_the_walk_of_a_developer(tmp_path: Path) -> None:
    """In a folder that did not exist, a function of the page's own is trained, attacked, packaged and promoted."""
    page = "walk-developer.md"
    files = FILE.findall((HOME / "docs" / page).read_text())
    assert len(files) == 8
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(re.sub("^    ", "", text, flags=re.MULTILINE).rstrip() + "\n")
    follow((page,), 8917, tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 100_000


def follow(pages: Sequence[str], port: int, folder: Path) -> None:
    """Run the pages' commands in a folder, and look for each line that they show."""
    walk = [step for page in pages for step in commands(page)]
    assert len(walk) > 12
    script = "ip link set lo up\nset -m\n" + "".join(f"echo '@@{i}'\n{text}\n" for i, (text, _) in enumerate(walk))
    # The page goes on by hand, when what it started listens.
    listens = f"until (: >/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.2; done"
    script = script.replace(" &\necho", f" &\n{listens}\necho")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SANDBOX_"))}
    kept["PATH"] = f"{os.path.dirname(sys.executable)}:{kept['PATH']}"
    try:
        done = subprocess.run(
            ["unshare", "-n", "bash", "-e", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
            cwd=folder, env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"no end in {LIMIT} s; it printed {error.stdout!r}")
    assert done.returncode == 0, done.stdout
    outputs = re.split(r"^@@\d+\n", done.stdout, flags=re.MULTILINE)[1:]
    for (text, expected), output in zip(walk, outputs, strict=True):
        printed = [plain(line) for line in output.splitlines()]
        for line in expected:
            begin = plain(line).removesuffix("...").rstrip()
            assert any(found == begin or (line.endswith("...") and found.startswith(begin)) for found in printed), (
                f"{text}\nprinted\n{output}\nand not\n{line}"
            )
