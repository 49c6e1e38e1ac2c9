"""The estimate: what it counts, that it is leave-one-out through the decision, and how much work that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_events import FACTS, USUAL, invoked, read, started

from sandbox.behaviour.call import Call
from sandbox.kernel.tables import machine
from sandbox.learn import rights
from sandbox.learn.allowed import Allowed
from sandbox.learn.cold_starts import ColdStart, Item, Sample
from sandbox.learn.generalise import generalise
from sandbox.learn.leave_one_out import MOST_WORK, LeaveOneOut
from sandbox.learn.records import Connect, Fact, FileAccess, Listen, Program, SpanKind
from sandbox.policy import supervision
from sandbox.profile import base
from sandbox.profile.model import Estimate, Phase


def estimated(*samples: Sample) -> Estimate:
    """The estimate of the invoke phase after a usual cold start."""
    first = invoked("", read("/srv/data.bin"), items=[("init", "openat", "read")], kind="init")
    (training,) = generalise([started([first, *samples])], "f").profile.trainings
    return next(estimate for estimate in training.estimates if estimate.phase == "invoke")


def shares(*facts: Fact) -> tuple[float, int]:
    """Novelty and quiet of events of which each reached one of these."""
    found = estimated(*(invoked(f"{number}.json", fact) for number, fact in enumerate(facts)))
    return found.novelty, found.quiet


HOSTILE: list[Fact] = [
    read("/srv/../etc/shadow"), read("/srv//x"), Program("/bin/*"), Connect("unix:relative"), read("/a\0b"), read(""),
    read("relative"), read("*"), FileAccess("/", "entry"), FileAccess("/../x", "entry"), Program(""), Connect(""),
    Listen("everywhere"), read("/**"), FileAccess("/srv/**/x", "write"),
]  # fmt: skip

NEW = {
    "files of folders that do not fold": [read(f"/etc/app{n}/settings") for n in range(6)],
    "files of a folder of keys": [read(f"/etc/ssh/key{n}") for n in range(6)],
    "hosts": [Connect(f"shard-{n}.db.example.com:5432") for n in range(6)],
    "addresses": [Connect(f"tcp://10.0.0.{n}:443") for n in range(1, 7)],
    "listeners": [Listen(f"tcp://127.0.0.{n}:8001") for n in range(1, 7)],
    "programs": [Program(f"/usr/bin/tool{n}") for n in range(6)],
    "folders that are written": [FileAccess(f"/var/lib/app{n}/x", "entry") for n in range(6)],
}


@pytest.mark.parametrize("facts", NEW.values(), ids=NEW.keys())
def test_what_does_not_generalise_is_new_in_every_event(facts: list[Fact]) -> None:
    """All kinds of accesses count: each event reaches something that the profile of the others would refuse."""
    assert shares(*facts) == (1.0, 0)


KNOWN = {
    "files of one folder": [read(f"/var/data/in/{name}") for name in ("a", "b", "c", "d", "e", "f", "g")],
    "random names": [read(f"/var/data/in/job-{n}") for n in range(1001, 1007)],
    "files of the function": [read(f"/srv/task/models/{n}/weights") for n in "abcdef"],
    "files that every profile may read": [read(f"/usr/share/zoneinfo/{name}") for name in ("UTC", "CET", "EET", "MET")],
    "sockets of random names": [Connect(f"unix:/tmp/pymp-{name}/listener-{name}") for name in ("abcdefgh", "ijklmnop")],
    "temporary files": [FileAccess(f"/tmp/{name}", "entry") for name in "abcdef"],
    "ports of one's own": [Listen(f"tcp://127.0.0.1:{n}") for n in range(8001, 8007)],
}


@pytest.mark.parametrize("facts", KNOWN.values(), ids=KNOWN.keys())
def test_what_generalises_is_not_new(facts: list[Fact]) -> None:
    """What the profile of the others would allow is nothing new, although no other event reached it."""
    assert shares(*facts)[0] == 0.0


def test_a_folder_that_only_all_events_fold_is_new_in_each() -> None:
    """Four files fold; of three that the others give none covers the fourth."""
    assert shares(*(read(f"/var/data/{name}") for name in "abcd")) == (1.0, 0)
    assert shares(*(read(f"/var/data/{name}") for name in "abcde")) == (0.0, 1)


def test_calls_count_as_they_are_enforced() -> None:
    """A call that only one event made is new, but not where the floor, its family or another phase allows it."""
    usual: list[Item] = [("invoke", "mkdir", ""), USUAL]
    lone: list[Item] = [*usual, ("invoke", "setsid", "")]
    family: list[Item] = [("invoke", "mkdirat", "")]
    floor: list[Item] = [("invoke", "futex", "")]
    for items, novelty in ((lone, 1 / 3), (family, 0.0), (floor, 0.0)):
        events = (invoked("1", items=usual), invoked("2", items=usual), invoked("3", items=items))
        assert estimated(*events).novelty == novelty


def test_repeats_of_an_event_are_left_out_together() -> None:
    """Served again, in whatever cold start, an event says nothing of the next one."""
    samples = [invoked(f"{n}", read(f"/etc/app{n}/x")) for n in range(3)]
    one = generalise([started(samples, "1")], "f").profile
    two = generalise([started(samples, "1"), started(samples[::-1], "2")], "f").profile
    assert [[e.novelty for e in training.estimates] for p in (one, two) for training in p.trainings] == [[1.0]] * 2


def test_what_another_phase_reached_is_not_new() -> None:
    """Files and destinations are allowed for a whole life: what the cold start read, an event may read."""
    assert shares(read("/srv/data.bin"), read("/srv/data.bin"))[0] == 0.0
    assert shares(read("/srv/data.bin"), read("/srv/other.bin"))[0] == 0.5


def test_quiet_is_what_the_events_before_would_have_allowed() -> None:
    """The fifth file of a folder is quiet, the fourth was not; a host that comes last ends it."""
    files = [read(f"/var/data/{name}") for name in "abcdefgh"]
    assert shares(*files)[1] == 4
    assert shares(*files, Connect("db.example.com:5432"))[1] == 0
    assert shares(Connect("db.example.com:5432"), *[Connect("db.example.com:5432")] * 5)[1] == 5


def test_contents_count_where_they_tell_programs_apart() -> None:
    """A program that the function unpacks is quiet with the same content, and new with another."""
    for digests, novelty in (("aaa", 0.0), ("abc", 1.0)):
        unpacked = [(FileAccess("/tmp/tool", "entry"), Program("/tmp/tool", sha256=digest)) for digest in digests]
        assert estimated(*(invoked(f"{n}", *facts) for n, facts in enumerate(unpacked))).novelty == novelty


@pytest.mark.parametrize(("facts", "novelty"), [
    (lambda n: [read(f"/var/data/in/{n:b}")], 0.0),
    (lambda n: [read(f"/var/data/{n:b}/in.csv"), FileAccess(f"/tmp/{n:b}/x", "entry")], 0.0),
    (lambda n: [read(f"/{n:b}/in.csv"), FileAccess("/var/data/out", "write")], 1.0),
    (lambda n: [Connect(f"shard-{n}.example.com:443")], 1.0),
], ids=["a folder", "folders and /tmp", "top folders", "hosts"])  # fmt: skip
def test_thousands_of_events_are_asked_in_halves(facts: Callable[[int], list[Fact]], novelty: float) -> None:
    """Each of 5,000 events reaches something of its own: the rest is generalised some dozen times, not 5,000."""
    usual = [read(f"/srv/task/{n}.py") for n in range(20)]
    cold_starts = [started([invoked(f"{n}.json", *usual, *facts(n)) for n in range(5000)])]
    learned = generalise(cold_starts, "f")
    ((found,),) = (training.estimates for training in learned.profile.trainings)
    assert found.novelty == novelty
    assert found.samples == 5000
    assert learned.left_out.rounds <= 64
    assert learned.left_out.work <= MOST_WORK


@settings(max_examples=100, deadline=None)
@given(st.lists(FACTS | st.sampled_from(HOSTILE), max_size=12))
def test_what_was_reached_is_allowed_by_what_is_learned(facts: list[Fact]) -> None:
    """The decision that the estimate asks refuses nothing of training but what no profile can hold."""
    cold_start = started([invoked(f"{n}.json", fact) for n, fact in enumerate(facts)])
    profile = generalise([cold_start], "f").profile
    if any(fact in HOSTILE for fact in facts):
        return  # read all the same, and told where the profile is written
    allowed = Allowed(profile)
    assert all(allowed.allows(thing) for _, thing in rights.things(cold_start, profile.listen))


def test_what_no_profile_can_hold_is_new() -> None:
    """A path or destination that nobody can write into a profile is refused, and does not hinder the estimate."""
    usual = read("/srv/data.bin")
    for fact in HOSTILE[:4]:
        assert shares(fact, fact, usual)[0] == 0.0
        assert shares(usual, usual, fact)[0] == pytest.approx(1 / 3)


def naive(cold_starts: Sequence[ColdStart]) -> set[tuple[str, str]]:
    """The events that the profile of all others refuses something, by generalising anew for each: (kind, label)."""
    whole = generalise(cold_starts, "f").profile
    events = {(s.kind, s.label or str(s.time)) for c in cold_starts for s in c.samples if s.kind != "tail"}
    found: set[tuple[str, str]] = set()
    for event in events:
        others, ours = [], []
        for cold_start in cold_starts:
            own = [s for s in cold_start.samples if (s.kind, s.label or str(s.time)) == event]
            kept = [s for s in cold_start.samples if s not in own]
            rest = started(kept, cold_start.id)
            others.append(replace(rest, samples=tuple(kept)))
            ours += own
        profile = replace(generalise(others, "f").profile, function=whole.function)
        if (whole.reads or whole.writes) and not (profile.reads or profile.writes):
            profile = replace(profile, reads=frozenset({"/dev/null"}))  # or it would limit no files
        filters, allowed = supervision.filters(profile, machine()), Allowed(profile)
        rules = filters.plain if event[0] == "init" else filters.later
        calls = {rule.call for several in rules.allow.values() for rule in several if rule.origin != "launch"}
        for sample in ours:
            asked = {Call(*item[1:]).as_compared() for item in sample.items if not base.kept_out(Call(*item[1:]))}
            things = dict(rights.things(started([sample], "0"), whole.listen))
            if any(call not in calls and Call(call.syscall) not in calls for call in asked):
                found.add(event)
            if not all(allowed.allows(thing) for thing in things.values()):
                found.add(event)
            contents = {digest for _, digest in whole.digests}
            known = {fact.sha256 for c in others for s in c.samples for fact in s.facts if isinstance(fact, Program)}
            if any(fact.sha256 in contents - known for fact in sample.facts if isinstance(fact, Program)):
                found.add(event)
    return found


CALLS = st.sampled_from(["umask", "setsid", "open", "openat", "futex", "execve", "socket", "ptrace"])
CLASSES = {"open": "write", "openat": "write", "socket": "AF_INET SOCK_DGRAM"}


@st.composite
def trainings(draw: st.DrawFn) -> list[ColdStart]:
    """One or two cold starts with an init phase and some events, of which some come in both."""
    found = []
    for number in range(draw(st.integers(1, 2))):
        samples = []
        for at in range(draw(st.integers(2, 8))):
            kind: SpanKind = "invocation" if at else "init"
            phase: Phase = "invoke" if at else "init"
            items: list[Item] = [(phase, name, CLASSES.get(name, "")) for name in draw(st.lists(CALLS, max_size=2))]
            label = draw(st.sampled_from([f"{at}.json", f"{number}-{at}.json"])) if at else ""
            samples.append(invoked(label, *draw(st.lists(FACTS, max_size=3)), items=items, kind=kind))
        start = started(samples, str(number))
        moved = tuple(replace(sample, time=sample.time + number / 10) for sample in start.samples)
        found.append(replace(start, samples=moved))
    return found


@pytest.mark.parametrize("one_by_one", [32, 0])
@settings(max_examples=60, deadline=None)
@given(cold_starts=trainings())
def test_it_is_what_leaving_out_each_event_gives(one_by_one: int, cold_starts: list[ColdStart]) -> None:
    """The same events are new as when all others are generalised anew for each, by themselves and in halves."""
    left_out = LeaveOneOut(cold_starts, generalise(cold_starts, "f").profile, one_by_one=one_by_one)
    found, expected = left_out.novel(), naive(cold_starts)
    assert {event.label for event in found if event.phase == "invoke"} == {
        label for kind, label in expected if kind == "invocation"
    }
    assert sum(event.phase == "init" for event in found) == sum(kind == "init" for kind, _ in expected)
