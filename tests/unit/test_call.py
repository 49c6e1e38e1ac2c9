"""Calls as one value: what is printed reads back, in the order of pairs."""

from __future__ import annotations

import copy
import pickle

import profile_strategies
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour.call import Call

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" "), min_size=1)
CALLS = profile_strategies.items() | st.builds(Call, WORDS, st.lists(WORDS, max_size=3).map(" ".join))


@given(CALLS)
def test_what_is_printed_reads_back(call: Call) -> None:
    """Parsing is the inverse of printing, for any syscall and any words of a class."""
    assert Call.parse(str(call)) == call
    assert eval(repr(call)) == call
    assert copy.deepcopy(call) == pickle.loads(pickle.dumps(call)) == call


@given(st.text(), st.text())
def test_a_text_is_printed_as_it_was(syscall: str, arg_class: str) -> None:
    """Printing is the inverse of parsing, whatever a log holds; only a last space with nothing behind it goes."""
    text = f"{syscall} {arg_class}"
    assert str(Call.parse(text)) == (text if text.partition(" ")[2] else text[:-1])


@given(st.lists(CALLS))
def test_the_order_is_that_of_pairs(calls: list[Call]) -> None:
    """By syscall, then by class; equal calls are one key, and one with the plain pair."""
    pairs = [(call.syscall, call.arg_class) for call in calls]
    assert sorted(calls) == sorted(pairs)
    assert set(calls) == set(pairs)


@given(profile_strategies.items())
def test_a_signal_to_others(call: Call) -> None:
    """To others it is another call, of which a filter compares the same."""
    compared = call.as_compared()
    assert not compared.signals_others
    assert compared == call or call.signals_others
    assert compared.to_others().signals_others
    assert compared.to_others().as_compared() == compared
