"""The page about a profile: what it says, that strangers' names do nothing in it, and that it needs neither style nor
script.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_samples import PROFILES, hostile, violation
from typer.testing import CliRunner

from sandbox.cli.loading import app
from sandbox.errors import ExtraMissing
from sandbox.kernel import tables
from sandbox.logs.counts import Counts
from sandbox.policy.rules import rules_for
from sandbox.profile import document
from sandbox.report import comment, contents, page, surface, timeline, tree
from sandbox.violations.reader import parse


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As HTMLParser calls it."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """As HTMLParser calls it."""
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


def test_hostile_names_are_words_on_a_page_with_an_end(tmp_path: Path) -> None:
    """No name becomes markup, nothing needs script or inline style, and 10,000 violations are one page."""
    profile, log = hostile(tmp_path)
    output = tmp_path / "page.html"
    old = str(PROFILES / "hello.yaml")
    run = CliRunner().invoke(app, ["report", str(profile), "--events", str(log), "--against", old, "-o", str(output)])
    assert run.exit_code == 0, run.output
    text = output.read_text()
    assert len(text) < 600_000
    shown = Page(text)
    assert {"script", "img", "iframe", "object", "link", "form"}.isdisjoint(tag for tag, _ in shown.elements)
    attributes = [(name, value or "") for _, found in shown.elements for name, value in found.items()]
    assert not [pair for pair in attributes if pair[0].startswith("on") or pair[0] == "style"]
    assert all(value.startswith("#") for name, value in attributes if name in ("href", "src", "xlink:href"))
    assert "alert(1)" in " ".join(shown.words)
    assert {"\u202e", "\x1b"}.isdisjoint(text)
    # Its own policy allows its own style and nothing else.
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(meta["content"] for meta in shown.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    # Readable without the style: one outline, named tables, and each link leads somewhere.
    levels = [int(tag[1]) for tag, _ in shown.elements if re.fullmatch("h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [found["id"] for _, found in shown.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in shown.all("a")} <= {f"#{id_}" for id_ in ids}
    assert len(shown.all("caption")) == len(shown.all("table")) > 5
    pictures = shown.all("svg")
    assert len(pictures) == 7
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    said = " ".join(" ".join(shown.words).split())
    for words in ("10,000 violations", "and 460 more kinds", "(100,", "more paths"):
        assert words in said


def test_the_comment_fits_a_pull_request(tmp_path: Path) -> None:
    """As Markdown the same report is one comment, in which a stranger's name is neither HTML nor a link.

    A log without a line of ours is not an answer about violations.
    """
    profile, log = hostile(tmp_path)
    command = ["report", str(profile), "--against", str(PROFILES / "hello.yaml"), "--format", "markdown", "--events"]
    run = CliRunner().invoke(app, [*command, str(log)])
    assert run.exit_code == 0, run.output
    assert len(run.stdout) < 65_536
    assert "](" not in run.stdout
    assert set(re.findall(r"</?\w+", run.stdout)) <= {"<details", "</details", "<summary", "</summary"}
    assert {"\u202e", "\x1b"}.isdisjoint(run.stdout)
    rows = [line for line in run.stdout.splitlines() if line.startswith("| ")]
    assert "| violations in the log | 10,000 |" in rows
    assert any(row.startswith("| high |") and row.count("|") == 6 for row in rows)
    assert "### Findings" in run.stdout
    silent = tmp_path / "silent.log"
    silent.write_text("nothing of a supervisor\n")
    run = CliRunner().invoke(app, [*command, str(silent)])
    assert run.exit_code == 1
    assert "| violations in the log | not known |" in run.stdout


def test_the_picture_is_what_is_compiled() -> None:
    """Each system call stands once; what is open is what the filter's rules have, without the starter's own exec."""
    for name in ("thumbnail", "shell-runtime", "c-runtime"):
        profile = document.read(str(PROFILES / f"{name}.yaml")).profile
        found = surface.surface_of(profile)
        rules = rules_for(profile, "x86_64")
        numbers = tables.numbers("x86_64")
        assert [call.name for call in found.calls] == sorted(numbers)
        is_open = {call.name for call in found.calls if call.standing != "refused"}
        own = {numbers["execve"]} if all(rule.origin == "launch" for rule in rules.allow[numbers["execve"]]) else set()
        assert {numbers[call] for call in is_open} == {*rules.allow} - own
        assert sum(map(found.standing, surface.STANDINGS)) == len(numbers)
        assert {"exec", "proc"} & {promise.name for promise in found.withheld} == (
            set() if "execve" in is_open else {"exec", "proc"}
        )
    init_only = {call.name for call in found.calls if call.standing == "init only"}
    assert not init_only or profile.function.runtime_api


def test_what_is_not_limited_is_not_called_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that may exec and lists no program starts any, one without files reads all; the same page comes twice.

    Without the libraries that draw, the error names the extra, and the comment is written all the same.
    """
    text = "schema: 2\nfunction: {name: open, runtime-api: false}\npromises: [exec]\nlisten: [any]\n"
    found = contents.gather(document.parse(text + "syscalls: {run: {execve: {count: 1, because: it runs tools}}}\n"))
    assert dict(found.sentences) == {
        "Connects": "to nothing", "Listens": "on any address", "Starts": "any program: it may exec, and none is listed",
        "Files": "are not limited: the profile lists none",
    }  # fmt: skip
    assert "| programs it starts | any |" in comment.written(found)
    assert page.html(found) == page.html(found)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'seccomp-bootstrap\[report\]'"):
        page.html(found)
    assert comment.written(found)


def test_bars_hold_every_violation_of_a_log() -> None:
    """Whatever the span of time is, no more bars than there is room for, and none loses a violation."""
    for seconds in (0.0001, 1, 3600.5, 10**9):
        lines = [
            line for number in range(200)
            for line in parse(violation(number, time=number * seconds / 199).encode(), number + 1)
        ]  # fmt: skip
        log = timeline.read(lines, Counts())
        assert sum(bar.count for bar in log.bars) == log.listed == log.violations == 200
        assert len({bar.start for bar in log.bars}) <= timeline.SPANS


def test_trees_name_each_path_once() -> None:
    """Folders on the way are joined, a pattern says that all below is meant, and users stand beside what they write."""
    text = (PROFILES / "thumbnail.yaml").read_text()
    text = text.replace("  - /tmp/**", "  - {path: /tmp/**, by: [pillow]}\n  - /srv/a/b/c\n  - /srv/a/b/d\n  - /srv/a")
    found = tree.files(document.parse(text).profile)
    (top,) = (node for node in found.nodes if node.name == "/")
    by_name = {node.name: node for node in top.below}
    assert by_name["tmp/ and everything below"].notes == ("writes", "by pillow")
    assert by_name["srv/"].below[0].notes == ("writes",)
    assert [node.name for node in by_name["srv/"].below] == ["a", "a/b/"]
    assert [node.name for node in by_name["srv/"].below[1].below] == ["c", "d"]
