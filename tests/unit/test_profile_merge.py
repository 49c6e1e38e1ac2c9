"""merge: the laws that let environments report in any order and any number of times."""

from __future__ import annotations

from dataclasses import replace

import profile_strategies
import pytest
from hypothesis import given, settings

from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy.rules import rules_for
from sandbox.profile import document
from sandbox.profile.merge import merge
from sandbox.profile.model import Profile, ProfiledFunction, Training, Use

ANY = profile_strategies.profiles(name="f", runtime_api=True, max_uses=6)


@settings(deadline=None, max_examples=60)
@given(ANY, ANY)
def test_merge_is_commutative(one: Profile, other: Profile) -> None:
    """The order of two profiles does not matter."""
    assert merge(one, other) == merge(other, one)


@settings(deadline=None, max_examples=60)
@given(ANY, ANY, ANY)
def test_merge_is_associative(one: Profile, two: Profile, three: Profile) -> None:
    """The grouping of three profiles does not matter."""
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@settings(deadline=None, max_examples=60)
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
