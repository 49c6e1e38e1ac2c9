"""Path patterns: which are taken, and that one covers another as the Landlock rules do that they become."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_strategies import TEXT

from sandbox.behaviour.path import NAMES, _parts, above, below, check, covers, is_like, literal, outermost, rule_of
from sandbox.errors import ProfileError

FOLDERS = st.sampled_from(["", "{root}", "{venv}"])
PARTS = st.sampled_from(["a", "b", "ab", "?", "[z]"])
PATHS = st.builds("{}/{}".format, FOLDERS, st.lists(PARTS, min_size=1, max_size=3).map("/".join))
ENDS = st.sampled_from(["", "/*", "/**"])
RANDOM = st.builds(
    "{}/a/{}".format, FOLDERS, st.lists(PARTS | st.sampled_from(["a*", "*b", "*", "a*b*"]), max_size=3).map("/".join)
).map(lambda path: path.rstrip("/"))  # fmt: skip
PATTERNS = st.one_of(
    st.builds(str.__add__, PATHS | RANDOM, ENDS), FOLDERS.filter(bool).flatmap(lambda name: ENDS.map(name.__add__)),
    st.sampled_from(["/", "/*", "/**"]),
)  # fmt: skip


def means(pattern: str, path: str) -> bool:
    """Whether a path is meant by a pattern, as an expression says it."""
    stem, whole = pattern, pattern.endswith(("/*", "/**"))
    if whole:
        stem = pattern.removesuffix("*").removesuffix("*").removesuffix("/")
    names = stem if not stem.endswith("/") else stem[:-1]
    text = "[^/]*".join(map(re.escape, names.split("*"))) + ("(/.*)?" if whole else "")
    if stem in ("", "/"):
        return (whole and path.startswith("/")) or path == "/"
    return re.fullmatch(text, path) is not None


def allows(pattern: str, path: str) -> bool:
    """Whether the rule that a pattern becomes is on this path or on a folder above it (man 7 landlock)."""
    name, stem, whole = rule_of(pattern)
    folders = [folder for folder in (name, *NAMES) if folder and path.startswith(folder)]
    if (folders or [""])[0] != name:
        return False
    inside = path.removeprefix(name) or "/"
    above = {"/", inside, *("/".join(inside.split("/")[:depth]) for depth in range(2, inside.count("/") + 1))}
    return (stem or "/") in (above if whole else {inside})


@given(PATTERNS, PATHS)
def test_a_pattern_covers_what_its_rule_allows(pattern: str, path: str) -> None:
    """For every path: what covers says is what the kernel does with the rule, which is wider for a random part only."""
    assert covers(pattern, path) == means(pattern, path)
    assert not means(pattern, path) or allows(pattern, path)
    if "*" not in _parts(pattern)[1]:
        assert means(pattern, path) == allows(pattern, path)


def _folder(pattern: str) -> str:
    """The path of the rule that a pattern becomes."""
    base, path, _ = rule_of(pattern)
    return base + path.rstrip("/")


@given(PATTERNS, PATTERNS, PATTERNS)
def test_covering_is_a_partial_order(one: str, other: str, third: str) -> None:
    """Each covers itself, what the covered covers is covered, and two that cover each other are one rule."""
    assert covers(one, one)
    if covers(one, other) and covers(other, third):
        assert covers(one, third)
    assert (covers(one, other) and covers(other, one)) == (_parts(one) == _parts(other))
    if covers(one, other):
        assert covers(below(_folder(one)), below(_folder(other)))


@given(PATTERNS, PATTERNS, PATHS)
def test_who_covers_a_pattern_covers_its_paths(one: str, other: str, path: str) -> None:
    """And where it does not cover the pattern, there is a path that only the other's rule allows."""
    if covers(one, other):
        assert not means(other, path) or means(one, path)
    else:
        name, stem, whole = _parts(other.replace("a*b*", "aQbR"))
        stem = stem.replace("*", "QR")
        plain = name + (stem if stem != "/" or not name else "")
        inside = [plain, f"{plain.rstrip('/')}/new"] if whole else [plain]
        assert any(means(other, path) and not means(one, path) for path in inside)


@given(st.frozensets(PATTERNS), PATHS)
def test_without_overlap_nothing_is_lost(patterns: frozenset[str], path: str) -> None:
    """The outermost patterns stand for exactly what all stood for, and none of them is covered by another."""
    kept = outermost(patterns)
    assert kept <= patterns
    assert any(covers(pattern, path) for pattern in patterns) == any(covers(pattern, path) for pattern in kept)
    assert not any(covers(one, other) for one in kept for other in kept if one != other)


@pytest.mark.parametrize(
    ("pattern", "path", "inside"),
    [
        ("/a/**", "/a/b/c", True), ("/a/**", "/a/*", True), ("/a/**", "/a/b/**", True), ("/a/**", "/a", True),
        ("/a/**", "/ab", False), ("/a/*", "/a/b", True), ("/a/*", "/a/b/c", True), ("/a/*", "/a/**", True),
        ("/a", "/a", True), ("/a", "/a/b", False), ("{root}/**", "{root}/x", True), ("/a/**", "/a/../etc/x", False),
        ("/**", "/", True), ("/**", "{root}/x", False), ("/a/../b", "/a/../b", True),
    ],
)  # fmt: skip
def test_covers(pattern: str, path: str, inside: bool) -> None:
    """A folder is meant with all below it, however its pattern ends, and dots do not lead out."""
    assert covers(pattern, path) is inside


@given(TEXT)
def test_a_pattern_is_taken_or_refused(text: str) -> None:
    """Any text is a pattern with a plain absolute stem, or a ProfileError."""
    try:
        taken = check(text, "some")
    except ProfileError:
        return
    assert taken == text
    stem = text.removesuffix("/**").removesuffix("/*")
    assert stem == "" or stem.startswith(("/", *NAMES))
    assert "**" not in stem
    base, path, _ = rule_of(text)
    assert "*" not in path
    assert base or path != "/" or stem in ("", "/")


@pytest.mark.parametrize(
    ("pattern", "path", "inside"),
    [
        ("/tmp/pymp-*/listener-*", "/tmp/pymp-1/listener-2", True), ("/tmp/pymp-*", "/tmp/pymp-1/x", False),
        ("/tmp/pymp-*/*", "/tmp/pymp-1/x/y", True), ("/tmp/a*b", "/tmp/ab", True), ("/tmp/a*b", "/tmp/a", False),
        ("/tmp/a*a", "/tmp/a", False), ("/tmp/*/x", "/tmp/a/x", True), ("/tmp/*/x", "/tmp/a/b/x", False),
        ("/tmp/**", "/tmp/a*/b*", True), ("/tmp/a*", "/tmp/**", False), ("/tmp/a*", "/tmp/ab*", True),
        ("/tmp/ab*", "/tmp/a*", False), ("{root}/x-*", "{root}/x-1", True), ("/tmp/x-*", "/tmp/x-/../y", False),
    ],
)  # fmt: skip
def test_random_parts(pattern: str, path: str, inside: bool) -> None:
    """A `*` stands for any text in one name, and is no wider than the name."""
    assert check(pattern, "some") == pattern
    assert covers(pattern, path) is inside


def test_the_rule_on_the_folder_above() -> None:
    """Landlock holds the folder above the first random part, never the root."""
    assert rule_of("/tmp/demo/pymp-*/listener-*") == ("", "/tmp/demo", True)
    assert rule_of("{root}/cache-*") == ("{root}", "", True)
    assert rule_of("/srv/a-*/**") == ("", "/srv", True)
    assert above("/tmp/a/b") == "/tmp/a/b"
    assert is_like("/a/x*", "/a/x*")


@pytest.mark.parametrize(
    "pattern",
    ["relative", "", "~/x", "/a/../b", "/a//b", "/a*/b", "/*/b", "{home}/x", "{root}x", "/a/./b", "/a\0b", "*", "/x*",
     "/a/b**", "/a/**/b", "/a/*/**/c", "{root*}/x", "/a/x*/../b"],
)  # fmt: skip
def test_odd_patterns_are_refused(pattern: str) -> None:
    """What is relative, unknown or has a wildcard elsewhere is a ProfileError that names the pattern."""
    with pytest.raises(ProfileError, match="what to do"):
        check(pattern, "some")


@pytest.mark.parametrize("pattern", ["/", "/a", "/a/*", "/a/**", "{root}", "{root}/**", "{venv}/bin/x", "/a[1]?"])
def test_plain_patterns_are_taken(pattern: str) -> None:
    """Files and folders, absolute or under a name."""
    assert check(pattern, "some") == pattern


@given(st.lists(st.sampled_from(["a", "*", "x*y", "b"]), min_size=1, max_size=4).map(lambda p: "/" + "/".join(p)), ENDS)
def test_an_observed_path_has_a_pattern(path: str, end: str) -> None:
    """The pattern of any path is taken and covers the path; only where a name holds a `*` is it wider."""
    found = literal(path + end)
    assert check(found, "some") == found
    assert covers(found, path)
    if "*" not in path:
        assert found == path + end
    assert covers(below("/"), found)
