"""Completeness: the three estimates by hand, and what they must not depend on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.learn.cold_starts import ColdStart, Item, Sample
from sandbox.learn.generalise import generalise
from sandbox.learn.leave_one_out import LeaveOneOut
from sandbox.learn.records import Start
from sandbox.profile.completeness import CONFIDENCE, TARGET, bound, estimate, still_needed
from sandbox.profile.model import Estimate

ITEMS: tuple[Item, ...] = tuple(("invoke", "openat", name) for name in ("write", "create")) + tuple(
    ("invoke", syscall, "") for syscall in ("umask", "setsid", "fsync", "mkdir", "sysinfo")
)
"""Calls of which none is of the floor, in the family of another one, or needed by every client."""
SETS = st.lists(st.frozensets(st.sampled_from(ITEMS), max_size=5), min_size=1, max_size=12)


def seen(*samples: str, novel: int = 0, quiet: int = 0) -> Estimate:
    """The estimate of samples that are words, each letter an item."""
    return estimate("invoke", [frozenset(sample) for sample in samples], novel, quiet)


LETTERS = dict(zip("abcde", ITEMS, strict=False))


def served(*samples: str) -> Estimate:
    """The estimate of events that are words, each letter a call, through the profile of the others."""
    taken = [
        Sample("invocation", f"{n}.json", "ok", {LETTERS[letter]: 1 for letter in sample}, float(n))
        for n, sample in enumerate(samples)
    ]
    (found,) = found_in([taken])
    return found


def test_novelty_is_the_share_of_samples_with_a_call_of_their_own() -> None:
    """Two of five samples made a call that no other made, one of them two such calls."""
    found = served("ab", "a", "abcd", "ae", "ab")
    assert (found.samples, found.items, found.once) == (5, 5, 3)
    assert found.novelty == 2 / 5


def test_novelty_of_samples_that_share_everything_is_nothing() -> None:
    """Nothing is new where every call was made twice."""
    assert served("ab", "ab", "a", "b").novelty == 0.0


def test_a_single_sample_says_nothing() -> None:
    """One sample holds only what no other held, and no quiet one followed it."""
    found = served("abc")
    assert (found.novelty, found.quiet, found.bound) == (1.0, 0, 1.0)


def test_no_samples_promise_nothing() -> None:
    """Without samples everything is to be expected."""
    found = estimate("init", [], 0, 0)
    assert (found.samples, found.items, found.novelty, found.bound, found.chao2) == (0, 0, 1.0, 1.0, 0.0)


def test_quiet_counts_the_samples_since_the_last_new_call() -> None:
    """The third sample brings c, the two after it nothing."""
    assert served("a", "ab", "c", "ab", "ac").quiet == 2
    assert served("a", "a", "a").quiet == 2
    assert served("a", "a", "b").quiet == 0


@pytest.mark.parametrize(("quiet", "value"), [(1, 0.95), (2, 0.7764), (3, 0.6316), (10, 0.2589), (299, 0.00997)])
def test_bound_by_hand(quiet: int, value: float) -> None:
    """1 - 0.05^(1/n), which is near 3/n for many."""
    assert bound(quiet) == pytest.approx(value, abs=5e-5)


def test_the_bound_is_about_three_in_n() -> None:
    """The rule of three: from 30 on the bound is within a tenth of 3/n."""
    for quiet in (30, 100, 1000):
        assert bound(quiet) == pytest.approx(3 / quiet, rel=0.1)


def test_chao2_with_items_seen_twice() -> None:
    """S=5, T=4, Q1=3 (c, d, e), Q2=1 (b): 5 + 3/4 * 9/2 = 8.375."""
    assert seen("abc", "abd", "ae", "a").chao2 == pytest.approx(8.375)


def test_chao2_without_items_seen_twice_is_corrected_for_its_bias() -> None:
    """S=3, T=3, Q1=2 (b, c), Q2=0: 3 + 2/3 * 2*1/2 = 3.6667."""
    assert seen("ab", "ac", "a").chao2 == pytest.approx(3 + 2 / 3)


def test_chao2_adds_nothing_where_nothing_was_seen_once() -> None:
    """What every sample held leaves nothing to be expected."""
    assert seen("ab", "ab", "ab").chao2 == 2.0


@given(st.integers(0, 2000))
def test_still_needed_reaches_the_target_and_not_later(quiet: int) -> None:
    """So many more quiet samples bring the bound down to the target; one fewer does not."""
    more = still_needed(quiet)
    assert bound(quiet + more) <= TARGET
    if more:
        assert bound(quiet + more - 1) > TARGET
    assert still_needed(0) == math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - TARGET)) == 299


@given(SETS)
def test_estimates_are_shares_and_lower_bounds(sets: list[frozenset[Item]]) -> None:
    """Shares lie between 0 and 1, counts fit each other, and Chao2 is never below what was seen."""
    found = estimate("invoke", sets, 0, 0)
    assert 0 <= found.novelty <= 1
    assert 0 < found.bound <= 1
    assert found.once <= found.items == len(frozenset().union(*sets))
    assert found.chao2 >= found.items


@given(SETS, st.randoms(use_true_random=False))
def test_only_quiet_and_bound_depend_on_the_order(sets: list[frozenset[Item]], random: object) -> None:
    """Novelty and Chao2 count incidences, whatever the order of the samples."""
    shuffled = sorted(enumerate(sets), key=lambda _: random.random())  # type: ignore[attr-defined]
    one, other = (
        found_in([[Sample("invocation", f"{n}", "ok", dict.fromkeys(items, 1), float(at))
                   for at, (n, items) in enumerate(order)]])[0]
        for order in (list(enumerate(sets)), shuffled)
    )  # fmt: skip
    assert one.quiet < max(2, one.samples)
    assert (one.novelty, one.items, one.once, one.chao2) == (other.novelty, other.items, other.once, other.chao2)


def cold_starts(groups: list[list[Sample]]) -> list[ColdStart]:
    """One cold start for each group of samples."""
    return [
        ColdStart(
            f"{n:016x}", f"{n}.jsonl", Start(api=True), tuple(group), items=frozenset(i for s in group for i in s.items)
        )
        for n, group in enumerate(groups)
    ]


def found_in(groups: list[list[Sample]]) -> tuple[Estimate, ...]:
    """The estimates in the profile that these cold starts give."""
    (training,) = generalise(cold_starts(groups), "grouped").profile.trainings
    return training.estimates


def of_samples(samples: list[Sample]) -> tuple[Estimate, ...]:
    """The estimates of one cold start's samples, in whatever order they are told."""
    found = cold_starts([samples])
    return LeaveOneOut(found, generalise(found, "grouped").profile).estimates()


@given(SETS, st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_estimates_do_not_move_when_events_are_grouped_otherwise(
    sets: list[frozenset[Item]], starts: list[int]
) -> None:
    """All events in one cold start, each in its own, or spread anyhow: the sampling unit is the invocation."""
    samples = [Sample("invocation", f"{n}.json", "ok", dict.fromkeys(s, 1), float(n)) for n, s in enumerate(sets)]
    spread: list[list[Sample]] = [[], [], [], []]
    for sample, start in zip(samples, starts, strict=False):
        spread[start].append(sample)
    together = found_in([samples])
    assert together == found_in([[sample] for sample in samples])
    assert together == found_in([group for group in spread if group])
    assert together == of_samples(samples[::-1])


@given(SETS, st.data())
def test_repeating_an_event_changes_nothing(sets: list[frozenset[Item]], data: st.DataObject) -> None:
    """An event that is served again, in whatever cold start, tells nothing about the next one."""
    samples = [Sample("invocation", f"{n}.json", "ok", dict.fromkeys(s, 1), float(n)) for n, s in enumerate(sets)]
    again = data.draw(st.lists(st.sampled_from(samples), max_size=8))
    later = [Sample(s.kind, s.label, s.outcome, s.items, 100.0 + n) for n, s in enumerate(again)]
    assert of_samples(samples) == of_samples(samples + later)
    assert found_in([samples]) == (found_in([samples, later]) if later else found_in([samples]))


def test_cold_starts_are_samples_of_their_own() -> None:
    """The init phase has one sample a cold start, and a label does not make two of them one."""
    first = Sample("init", "", "ok", {("init", "openat", "write"): 3}, 1.0)
    second = Sample("init", "", "ok", {("init", "openat", "write"): 3, ("init", "umask", ""): 1}, 2.0)
    (found,) = of_samples([first, second, first])
    assert (found.phase, found.samples, found.items, found.once, found.quiet) == ("init", 3, 2, 1, 0)
