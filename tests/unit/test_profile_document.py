"""The profile's text: what is written is read back, and what is malformed is refused where it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import profile_strategies
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.errors import ProfileError
from sandbox.profile import document
from sandbox.profile.model import Grant, Profile, ProfiledFunction, Use

LOCATED = re.compile(r"<profile>:[1-9][0-9]*:[1-9][0-9]*")

VALID = """\
schema: 1
function: {name: thumbnail, handler: app.handler, runtime-api: true}
promises: [exec, rpath, wpath]
processes: [/usr/bin/convert]
network: [runtime-api]
files: {read: [/etc/**], write: [/tmp/**]}
grants: [{syscall: ptrace, because: the function is a debugger}]
completeness: [{training: abc, init: {samples: 3, items: 9, once: 1, novelty: 0.1, quiet: 1, bound: 0.9, chao2: 9.5}}]
provenance: [{training: abc, libc: glibc 2.36}]
syscalls:
  init:
    execve: {count: 1, because: [learned at cold start, converts pictures]}
  invoke:
    openat: {classes: {read: 3, write: {count: 2, because: writes the thumbnail}}, because: learned from every event}
"""


def refused(text: bytes | str) -> ProfileError:
    """The located error that the text gives."""
    with pytest.raises(ProfileError) as caught:
        document.parse(text)
    assert LOCATED.fullmatch(caught.value.where), caught.value.where
    assert caught.value.todo
    return caught.value


def read_or_refused(text: str) -> None:
    """Either the text is a profile, which can be written again, or it is refused at a place."""
    try:
        document.write(document.parse(text).profile)
    except ProfileError:
        refused(text)


@settings(deadline=None, max_examples=80)
@given(profile_strategies.profiles(max_uses=8))
def test_what_is_written_is_read_back(profile: Profile) -> None:
    """Reading what was written gives an equal profile, reasons of each class included."""
    assert document.parse(document.write(profile)).profile == profile


@settings(deadline=None, max_examples=20)
@given(profile_strategies.profiles(max_uses=8))
def test_writing_is_deterministic(profile: Profile) -> None:
    """Two equal profiles give the same text, whatever the order of their sets."""
    again = document.parse(document.write(profile)).profile
    assert document.write(again) == document.write(profile)


def test_grants_that_differ_in_reasons_are_written_in_one_order() -> None:
    """Grants of one syscall are sorted by their reasons too, so that a merge in either order gives one text."""
    grants = [Grant("ptrace", frozenset(), f"reason number {i}") for i in range(8)]
    texts = {
        document.write(Profile(ProfiledFunction("x"), grants=frozenset(order)))
        for order in (grants, list(reversed(grants)))
    }
    assert len(texts) == 1
    assert document.parse(texts.pop()).profile.grants == frozenset(grants)


def test_a_class_keeps_its_own_reasons() -> None:
    """A person's word for one class is not read as a word for the others of the same syscall."""
    uses = document.parse(VALID).profile.uses
    assert Use("invoke", "openat", "read", 3, frozenset({"learned from every event"})) in uses
    assert Use("invoke", "openat", "write", 2, frozenset({"writes the thumbnail"})) in uses


def test_a_use_is_found_in_the_file() -> None:
    """`line_of` points at the class where there is one and at the syscall where there is none."""
    read = document.parse(VALID, "p.yaml")
    lines = {use.arg_class or use.syscall: read.line_of(use) for use in read.profile.uses}
    assert lines == {"execve": "p.yaml:12:5", "read": "p.yaml:14:24", "write": "p.yaml:14:33"}


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("schema: 1", "schema: 3", "1:1", "schema"),
        ("name: thumbnail", "name: a/b", "2:12", "function.name"),
        ("name: thumbnail", 'name: "a\\n"', "2:12", "function.name"),
        ("handler: app.handler", "author: me", "2:29", "author"),
        ("promises: [exec, ", "promises: [", "3:1", "leave out exec"),
        ("[/usr/bin/convert]", "[1]", "4:13", "processes.0"),
        ("[runtime-api]", "{a: b}", "5:1", "network"),
        ("[runtime-api]", "&a [*a]", "5:10", "anchor"),
        ("syscall: ptrace", "syscall: openat", "7:11", "not hard-denied"),
        ("syscall: ptrace", "syscall: seccomp", "7:11", "never be granted"),
        ("syscall: ptrace", "syscall: ptracee", "7:11", "not a system call"),
        ("novelty: 0.1", "novelty: .nan", "8:79", "out of range"),
        ("{training: abc, libc: glibc 2.36}", "{training: abc}, {training: abc}", "9:31", "twice"),
        ("    execve:", "    exec:", "12:5", "not a system call"),
        ("{count: 1, because: [", "{classes: {read: 1}, because: [", "12:5", "no argument classes"),
        ("{count: 1, because: [", "{count: -1, because: [", "12:14", "minimum"),
        ("classes: {read: 3", "classes: {reed: 3", "14:24", "reed"),
        ("classes: {read: 3", "count: 4, classes: {read: 3", "14:14", "counted for each class"),
        ("read: 3", "read: three", "14:24", "three"),
        ("read: 3, write", "write: 3, write", "14:34", "twice"),
        ("    openat:", "    clone: {classes: {namespace: 1}, because: x}\n    openat:", "14:23", "hard-denied"),
        ("    openat:", "    prctl: {classes: {PR_SET_MM: 1}, because: x}\n    openat:", "14:23", "hard-denied"),
        ("    openat:", "    prctl: {classes: {'22': 1}, because: x}\n    openat:", "14:23", "PR_SET_SECCOMP"),
        ("    openat:", "    ioctl: {classes: {'0x5412': 1}, because: x}\n    openat:", "14:23", "TIOCSTI"),
        ("    openat:", "    fcntl: {classes: {F_SETFL to others: 1}, because: x}\n    openat:", "14:23", "F_SETFL"),
        ("    openat:", "    ? [a]\n    : b\n    openat:", "14:7", "a key that is not text"),
        ("    openat:", "    1: b\n    openat:", "14:5", "a key that is not text"),
    ],
)
def test_faults_are_located(old: str, new: str, place: str, says: str) -> None:
    """Each fault is refused with the line and column where it stands, and a word that says what it is."""
    assert VALID.count(old) >= 1
    error = refused(VALID.replace(old, new, 1))
    assert (error.where, says in error.what) == (f"<profile>:{place}", True), str(error)


@pytest.mark.parametrize(
    "text",
    [
        "", "\n\n# nothing\n", "null", "[]", "a", "--- a\n--- b", "\0", "a: \x07", "a: \ud800", b"\xff\xfe\0a", b"\xc3",
        '"open', "a: [1", "%YAML 9.9\n---\na: 1", "a: !!bool z", "a: !!python/object:os.system {}", "<<: {a: b}",
        "=: =", "a: 2020-99-99", "a: 0x_", "a: " + "9" * 5000, "a: 0x" + "f" * 9000, "a: 1e999", "[" * 5000,
        "{a: " * 5000, "- " * 5000, "? " * 5000, "a: b: c", "\ta: b", "a: 'b\n", "a" * (document.LARGEST + 1),
    ],
)  # fmt: skip
def test_malformed_text_is_refused(text: bytes | str) -> None:
    """What is no YAML, no profile, too deep, too long or a trap of YAML gives a located error."""
    refused(text)


def test_alias_bombs_cost_nothing() -> None:
    """Nine levels of nine aliases are refused at the first anchor, before they become 400 million nodes."""
    levels = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    assert refused("\n".join(levels)).where == "<profile>:1:5"


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=80) | st.binary(max_size=80))
@example("---")
def test_any_text_gives_a_located_error(text: bytes | str) -> None:
    """Arbitrary text and bytes are refused, located, and never with another exception."""
    refused(text)


KEYS = st.sampled_from(
    ["schema", "function", "promises", "processes", "files", "grants", "syscalls", "init", "invoke", "openat",
     "classes", "count", "because", "read", "socket", "AF_INET SOCK_STREAM", "training", "completeness", "bound",
     "name", "syscall"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | KEYS
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(TREES)
def test_any_structure_gives_a_located_error(tree: Any) -> None:
    """Well-formed YAML of any other shape is refused, located, and never with another exception."""
    refused(yaml.safe_dump(tree, allow_unicode=True))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_one_wrong_value_anywhere(data: st.DataObject) -> None:
    """A profile with any one value replaced by any other is read or refused, located."""
    tree = yaml.safe_load(VALID)
    at, steps = tree, data.draw(st.integers(1, 6))
    for _ in range(steps):
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(TREES)
        break
    read_or_refused(yaml.safe_dump(tree, allow_unicode=True))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(VALID) - 1), st.integers(0, 6), st.text(max_size=4))
def test_one_edit_anywhere(at: int, length: int, new: str) -> None:
    """A profile with a few characters replaced anywhere is read or refused, located."""
    read_or_refused(VALID[:at] + new + VALID[at + length :])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a name that no file can have are errors that name them."""
    for name in (str(tmp_path / "none.yaml"), str(tmp_path), "a\0b"):
        with pytest.raises(ProfileError) as caught:
            document.read(name)
        assert caught.value.where == name


def test_byte_order_mark_is_no_fault() -> None:
    """UTF-8 with a byte order mark, as some editors write it, is read."""
    assert document.parse(b"\xef\xbb\xbf" + VALID.encode()).profile == document.parse(VALID).profile


@pytest.mark.parametrize(
    ("old", "new", "near", "line"),
    [
        ("files:", "fiels:", "did you mean files?", "fiels:"),
        ("    openat:", "    opneat:", "did you mean openat?", "    opneat:"),
        ("classes: {read: 3", "classes: {reed: 3", "did you mean read?", "    openat: {classes: {reed: 3"),
        ("    openat:", "    socket: {classes: {AF_INET SOCK_STREEM: 1}, because: x}\n    openat:",
         "did you mean AF_INET SOCK_STREAM?", "    socket:"),
        ("    openat:", "    setsockopt: {classes: {SOL_SOCKET SO_REUSEADR: 1}, because: x}\n    openat:",
         "did you mean SOL_SOCKET SO_REUSEADDR?", "    setsockopt:"),
        ("    openat:", "    ioctl: {classes: {'': 1}, because: x}\n    openat:", "'' does not fit", "    ioctl:"),
    ],
)  # fmt: skip
def test_errors_show_the_line_and_the_nearest_word(old: str, new: str, near: str, line: str) -> None:
    """A misspelled key, call or class is answered with the word that was meant, the line, and a mark below it."""
    error = refused(VALID.replace(old, new, 1))
    assert error.what.endswith(near)
    number, column = (int(part) for part in error.where.split(":")[1:])
    shown, mark = error.excerpt.split("\n")
    assert shown.startswith(f"  {number} | {line}")
    assert mark.index("^") - mark.index("|") - 1 == column
    assert error.excerpt in str(error)


def test_a_line_of_any_length_and_content_fits_a_terminal() -> None:
    """Of a long line the part around the mark is shown, and nothing of it is obeyed by a terminal."""
    error = refused(VALID.replace("    openat:", f"    {'x' * 500}\u202e: {{count: 1, because: x}}\n    openat:", 1))
    assert all(len(part) < 120 and part.isprintable() for part in error.excerpt.split("\n"))
