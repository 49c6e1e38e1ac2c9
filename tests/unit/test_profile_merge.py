"""merge: the laws that let environments report in any order and any number of times."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import profile_strategies
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.behaviour.path import covers
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy.rules import rules_for
from sandbox.profile import document
from sandbox.profile.folding import FEW, LONGEST, listed
from sandbox.profile.merge import merge, merge_all
from sandbox.profile.model import Profile, ProfiledFunction, Training, Use

ANY = profile_strategies.profiles(name="f", runtime_api=True, max_uses=6)
FILES = st.builds(
    "{}/{}".format,
    st.sampled_from(["/var/data", "/var/data/in", "/srv/queue", "/etc/ssh", "/tmp", "/tmp/tmpk2j4_x1z", "/srv/.ssh"]),
    st.sampled_from(["a", "b", "c", "d", "e", "job-1001", "job-2002", "2030-01-31.csv", "2030-02-28.csv", "*", "**"]),
)  # fmt: skip
Files = tuple[frozenset[str], frozenset[str]]
LISTS = st.tuples(st.frozensets(FILES, max_size=12), st.frozensets(FILES, max_size=6))


def learned(reads: frozenset[str], writes: frozenset[str]) -> Profile:
    """The profile of a function that read and wrote these files."""
    read, written = listed(reads, writes)
    return Profile(ProfiledFunction("f"), reads=read, writes=written)


@settings(deadline=None, max_examples=30)
@given(ANY, ANY)
def test_merge_is_commutative(one: Profile, other: Profile) -> None:
    """The order of two profiles does not matter."""
    assert merge(one, other) == merge(other, one)


@settings(deadline=None, max_examples=30)
@given(ANY, ANY, ANY)
def test_merge_is_associative(one: Profile, two: Profile, three: Profile) -> None:
    """The grouping of three profiles does not matter."""
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@settings(deadline=None, max_examples=30)
@given(ANY, ANY)
def test_merge_is_idempotent(one: Profile, other: Profile) -> None:
    """Merging what is in there already changes nothing."""
    assert merge(one, one) == one
    assert merge(merge(one, other), other) == merge(one, other)


@settings(deadline=None, max_examples=30)
@given(ANY, ANY)
def test_merge_of_texts_is_the_text_of_the_merge(one: Profile, other: Profile) -> None:
    """It makes no difference whether profiles went through files before they met."""
    read = [document.parse(document.write(profile)).profile for profile in (one, other)]
    assert document.write(merge(*read)) == document.write(merge(one, other))


@settings(deadline=None, max_examples=15)
@given(ANY, ANY)
def test_merge_allows_what_either_allows(one: Profile, other: Profile) -> None:
    """Every rule of either profile is contained in the rules of the merged one."""
    merged = rules_for(merge(one, other), tables.ARCHES[0]).allow
    for profile in (one, other):
        for nr, rules in rules_for(profile, tables.ARCHES[0]).allow.items():
            for rule in rules:
                assert any(set(wider.conditions) <= set(rule.conditions) for wider in merged[nr])


@settings(deadline=None)
@given(LISTS, LISTS, LISTS)
def test_files_merge_in_any_order(first: Files, second: Files, third: Files) -> None:
    """Files that fold only together fold alike, whichever profiles meet first, and all of them stay allowed."""
    one, two, three = (learned(*drawn) for drawn in (first, second, third))
    together = merge(merge(one, two), three)
    assert together == merge(one, merge(two, three)) == merge(three, merge(one, two))
    assert merge(together, two) == together
    shown = merge_all((one, two, three))
    for profile in (one, two, three):
        for path in profile.reads:
            assert any(covers(pattern, path) for pattern in shown.reads | shown.writes)
        for path in profile.writes:
            assert any(covers(pattern, path) for pattern in shown.writes)


@given(st.lists(FILES, max_size=12), st.lists(FILES, max_size=12))
def test_merge_folds_as_learning_does(one: list[str], other: list[str]) -> None:
    """Two trainings, learned apart and merged, give the files that one training of both gives."""
    profiles = [learned(frozenset(paths), frozenset()) for paths in (one, other)]
    assert merge_all(profiles).reads == learned(frozenset([*one, *other]), frozenset()).reads


def test_a_fourth_file_of_a_folder_folds_it() -> None:
    """Two profiles with two files each become the folder, a folder of secrets never, nor more lines than one screen."""
    halves = [frozenset(f"{place}/{n}" for n in range(half, FEW + 1, 2) for place in ("/var/data", "/etc/ssh"))
              for half in (0, 1)]  # fmt: skip
    merged = merge_all(learned(half, frozenset()) for half in halves)
    assert merged.reads == {"/var/data/*", *(f"/etc/ssh/{n}" for n in range(FEW + 1))}
    many = [frozenset(f"/opt/app/part{n}/data/file" for n in range(half, LONGEST + 10, 2)) for half in (0, 1)]
    assert merge_all(learned(half, frozenset()) for half in many).reads == {"/opt/app/**"}
    assert len(reduce(merge, (learned(half, frozenset()) for half in many)).reads) == LONGEST + 10


def test_counts_are_not_added() -> None:
    """Of two counts the larger stands, and reasons are united."""
    uses = [Use("init", "openat", "read", n, frozenset({f"reason {n}"})) for n in (3, 5)]
    merged = merge(*(Profile(ProfiledFunction("f"), frozenset({use})) for use in uses))
    assert merged.uses == {Use("init", "openat", "read", 5, frozenset({"reason 3", "reason 5"}))}


def test_one_training_stays_one() -> None:
    """Copies of a training that differ in digits, as after a file, stay one entry, so that the text can be read."""
    trainings = [Training("abc", libc=libc) for libc in ("glibc 2.36", "")]
    merged = merge(*(Profile(ProfiledFunction("f"), trainings=frozenset({training})) for training in trainings))
    assert merged.trainings == {trainings[0]}
    assert document.parse(document.write(merged)).profile == merged


def test_other_functions_are_refused() -> None:
    """Profiles of two functions, or of a function and a plain program, do not merge."""
    one = Profile(ProfiledFunction("f"))
    for function in (ProfiledFunction("g"), ProfiledFunction("f", runtime_api=False)):
        with pytest.raises(ProfileError, match="different functions"):
            merge(one, replace(one, function=function))
