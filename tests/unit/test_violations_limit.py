"""The rate limit: whatever the flood, lines and summaries add up to the exact count."""

from __future__ import annotations

import json
import os

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sandbox.violations import limit
from sandbox.violations.journal import Journal
from sandbox.violations.limit import RateLimit
from sandbox.violations.record import LONGEST, Summary, Violation
from sandbox.violations.sink import Sink

KEYS = st.tuples(
    st.sampled_from(["openat", "ioctl"]),
    st.sampled_from(["", "create", *map(hex, range(9))]),
    st.sampled_from(["denied", "reported"]),
)


PLACES = st.sampled_from(["", "a", "b", "c"])


class Flood(RuleBasedStateMachine):
    """Calls, the passing of time and lost summaries, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = RateLimit(first=2, every=1.0, kinds=4, new=2)
        self.now = 0.0
        self.calls: dict[str, int] = {}
        self.said: dict[str, int] = {}
        self.summaries: list[float] = []

    def count(self, counts: dict[str, int], syscall: str, verdict: str, number: int) -> None:
        """Add to the count of a syscall and verdict."""
        key = f"{syscall}: {verdict}"
        counts[key] = counts.get(key, 0) + number

    @rule(key=KEYS, place=PLACES, times=st.integers(1, 5))
    def call(self, key: tuple[str, str, str], place: str, times: int) -> None:
        """Some violations of one kind."""
        for _ in range(times):
            self.count(self.calls, key[0], key[2], 1)
            if self.limit.take(*key, self.now, place):
                self.count(self.said, key[0], key[2], 1)

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(lost=st.booleans())
    def tick(self, lost: bool) -> None:
        """A summary, if one is due, which the sink may lose."""
        counts = self.limit.summary(self.now)
        if not counts:
            return
        assert not self.summaries or self.now - self.summaries[-1] >= 1.0
        self.summaries.append(self.now)
        if lost:
            self.limit.give_back(counts, self.now)
            return
        for (syscall, _, verdict), number in counts.items():
            self.count(self.said, syscall, verdict, number)

    @invariant()
    def adds_up(self) -> None:
        """What was said, what waits and nothing else make the count; the totals are it as well."""
        rest = dict(self.said)
        for (syscall, _, verdict), number in self.limit._pending.items():
            self.count(rest, syscall, verdict, number)
        assert rest == self.calls
        totals: dict[str, int] = {}
        for part in self.limit.totals():
            for (syscall, _, verdict), number in part.items():
                self.count(totals, syscall, verdict, number)
        assert totals == self.calls
        assert (self.limit.due is None) == (not self.limit._pending)


TestFlood = Flood.TestCase


def test_the_first_lines_of_each_kind_pass() -> None:
    """Twenty lines of a kind, then none; another verdict is another kind."""
    found = RateLimit()
    assert [found.take("connect", "", "denied", 0.0) for _ in range(25)] == [True] * 20 + [False] * 5
    assert found.take("connect", "", "terminated", 0.0)
    assert found.due == limit.EVERY


def test_a_new_target_has_its_line_behind_a_flood_of_another() -> None:
    """Repeats take nothing from what new targets get; each is told once, and the counts are exact."""
    found = RateLimit()
    lines = [found.take("connect", "", "denied", 0.0, "10.0.0.1:80") for _ in range(1000)]
    assert sum(lines) == limit.FIRST
    assert found.take("connect", "", "denied", 0.0, "10.0.0.2:443")
    assert not found.take("connect", "", "denied", 0.0, "10.0.0.2:443")
    assert not found.take("connect", "", "denied", 0.0, "10.0.0.1:80")
    assert found.take("connect", "", "denied", 0.0, "10.0.0.3:443")
    assert sum(count for part in found.totals() for count in part.values()) == 1004


def test_who_invents_targets_gets_what_the_bucket_holds() -> None:
    """Targets without end: the bucket bounds the lines, it refills with time, and what is remembered is bounded."""
    found = RateLimit()
    lines = sum(found.take("connect", "", "denied", 0.0, f"10.0.0.1:{port}") for port in range(10_000))
    assert lines == limit.FIRST + limit.NEW
    assert not found.take("connect", "", "denied", 0.5, "10.0.0.2:443")
    assert found.take("connect", "", "denied", 1.0, "10.0.0.2:443")
    hour = [found.take("connect", "", "denied", 1.0 + second / 10, f"h{second}:1") for second in range(1, 36_001)]
    assert sum(hour) <= 3600 * limit.REFILL + 1
    assert len(found._told) <= limit.TARGETS
    assert sum(found.take("connect", "", "denied", 1e6, f"x{port}:1") for port in range(100)) == limit.NEW
    assert sum(count for part in found.totals() for count in part.values()) == 10_000 + 2 + 36_000 + 100


def test_a_clock_that_goes_back_adds_nothing() -> None:
    """The bucket takes time that goes backwards for none."""
    found = RateLimit(first=0, new=1)
    assert found.take("connect", "", "denied", 5.0, "a:1")
    assert not found.take("connect", "", "denied", 1.0, "b:1")


def test_kinds_are_bounded() -> None:
    """Ten thousand ioctl requests of a hostile program share one kind once there are too many; the sum is exact."""
    found = RateLimit()
    lines = sum(found.take("ioctl", hex(number), "denied", 0.0) for number in range(10_000))
    assert lines == limit.KINDS + limit.FIRST
    assert sum(count for part in found.totals() for count in part.values()) == 10_000
    assert sum(len(part) for part in found.totals()) == limit.KINDS + 1


@given(st.lists(st.tuples(st.text(max_size=200), st.integers(1, 40)), max_size=40))
def test_every_summary_of_a_journal_fits_its_line(kinds: list[tuple[str, int]]) -> None:
    """However many kinds and however long their names, each line fits, and the lines say the exact totals."""
    path = f"/tmp/sandbox-journal-{os.getpid()}"
    sink = Sink(f"file:{path}")
    try:
        journal = Journal(sink, "flood", RateLimit(first=1))
        shown = sum(journal.wants("ioctl", name, "denied") for name, times in kinds for _ in range(times))
        journal.finish()
        with open(path, "rb") as file:
            lines = file.read().splitlines(keepends=True)
    finally:
        sink.close()
        os.unlink(path)
    events = [json.loads(line) for line in lines]
    assert all(len(line) <= LONGEST for line in lines)
    assert all(event["event"] == Summary.event for event in events)
    total = sum(times for _, times in kinds)
    assert sum(sum(event["counts"].values()) for event in events if event["final"]) == total
    assert sum(sum(event["counts"].values()) for event in events if not event["final"]) == total - shown
    assert [event["final"] for event in events[-1:]] == ([True] if kinds else [])


def test_ten_thousand_calls_a_second_are_counted(tmp_path: object) -> None:
    """A second's flood of 10,000 calls on a clock of our own: 20 lines, one summary a second, an exact total."""
    now = [0.0]
    path = f"{tmp_path}/events"
    sink = Sink(f"file:{path}")
    journal = Journal(sink, "flood", clock=lambda: now[0])
    assert journal.timeout() is None
    for _ in range(10_000):
        now[0] += 0.0001
        if journal.wants("openat", "create", "denied"):
            journal.write(
                Violation(
                    function="flood", phase="invoke", request=None, pid=1, tid=2, comm="x", syscall="openat",
                    arg_class="create", args=[], target="", verdict="denied", errno="EPERM", reason="", allow="",
                    time=now[0],
                )
            )  # fmt: skip
        journal.tick()
    assert journal.timeout() is not None
    journal.finish()
    sink.close()
    with open(path, encoding="utf-8") as file:
        events = [json.loads(line) for line in file]
    assert [event["event"] for event in events].count("violation") == 20
    assert len(events) <= 20 + 1 + 1 + 1
    assert events[-1]["counts"] == {"openat create: denied": 10_000}
    assert sum(event["counts"]["openat create: denied"] for event in events[20:-1]) == 9_980
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
