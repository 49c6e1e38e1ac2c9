"""Path patterns: which are taken, and that one covers another as the Landlock rules do that they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_strategies import TEXT

from sandbox import bundle
from sandbox.behaviour.path import NAMES, below, check, covers, literal, outermost
from sandbox.errors import ProfileError

FOLDERS = st.sampled_from(["", "{root}", "{venv}"])
PARTS = st.sampled_from(["a", "b", "ab", "?", "[z]"])
PATHS = st.builds("{}/{}".format, FOLDERS, st.lists(PARTS, min_size=1, max_size=3).map("/".join))
ENDS = st.sampled_from(["", "/*", "/**"])
PATTERNS = st.one_of(
    st.builds(str.__add__, PATHS, ENDS), FOLDERS.filter(bool).flatmap(lambda name: ENDS.map(name.__add__)),
    st.sampled_from(["/", "/*", "/**"]),
)  # fmt: skip


def allows(pattern: str, path: str) -> bool:
    """Whether the rule that a pattern becomes is on this path or on a folder above it (man 7 landlock)."""
    name, stem, whole = bundle.place(pattern)
    folders = [folder for folder in (name, *NAMES) if folder and path.startswith(folder)]
    if (folders or [""])[0] != name:
        return False
    inside = path.removeprefix(name) or "/"
    above = {"/", inside, *("/".join(inside.split("/")[:depth]) for depth in range(2, inside.count("/") + 1))}
    return (stem or "/") in (above if whole else {inside})


@given(PATTERNS, PATHS)
def test_a_pattern_covers_what_its_rule_allows(pattern: str, path: str) -> None:
    """For every path: what covers says is what the kernel does with the rule."""
    assert covers(pattern, path) == allows(pattern, path)


@given(PATTERNS, PATTERNS, PATTERNS)
def test_covering_is_a_partial_order(one: str, other: str, third: str) -> None:
    """Each covers itself, what the covered covers is covered, and two that cover each other are one rule."""
    assert covers(one, one)
    if covers(one, other) and covers(other, third):
        assert covers(one, third)
    assert (covers(one, other) and covers(other, one)) == (bundle.place(one) == bundle.place(other))


@given(PATTERNS, PATTERNS, PATHS)
def test_who_covers_a_pattern_covers_its_paths(one: str, other: str, path: str) -> None:
    """And where it does not cover the pattern, there is a path that only the other's rule allows."""
    if covers(one, other):
        assert not allows(other, path) or allows(one, path)
    else:
        name, stem, whole = bundle.place(other)
        plain = name + (stem if stem != "/" or not name else "")
        inside = [plain, f"{plain.rstrip('/')}/new"] if whole else [plain]
        assert any(allows(other, path) and not allows(one, path) for path in inside)


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
    assert "*" not in stem


@pytest.mark.parametrize(
    "pattern",
    ["relative", "", "~/x", "/a/../b", "/a//b", "/a/*.txt", "/*/b", "{home}/x", "{root}x", "/a/./b", "/a\0b", "*"],
)
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
