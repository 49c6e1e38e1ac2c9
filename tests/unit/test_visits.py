"""The order in which starts serve events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.learn.visits import Visit, visits
from sandbox.runtime_api import Invocation


@given(count=st.integers(1, 9), starts=st.integers(1, 5))
def test_every_event_in_every_start_and_twice_in_the_last(count: int, starts: int) -> None:
    """Each start serves all first; the last repeats all, sampled the other way, and serves one after a restart."""
    events = tuple(Invocation(b"{}", str(number)) for number in range(count))
    names = {event.name for event in events}
    served = [list(visits(events, start, starts)) for start in range(1, starts + 1)]
    for one in served:
        assert {visit.name for visit in one[:count]} == names
        assert all(visit.is_first for visit in one[:count])
    for one in served[:-1]:
        assert len(one) == count
    first, again, rest = served[-1][:count], served[-1][count:-1], served[-1][-1]
    assert [visit.name for visit in again] == [visit.name for visit in first]
    assert all(a.again and a.invocation.sampled != f.invocation.sampled for a, f in zip(again, first, strict=True))
    assert (rest.restarted, rest.order, rest.is_first) == (True, "after a restart", False)
    assert Visit(events[0]).order == ""
