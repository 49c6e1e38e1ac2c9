"""From observations to a profile: pure, independent of order, and deaf to what no observation may lift."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from profile_strategies import items

from sandbox.learn.cold_starts import ColdStart, Item, RefusedCall, Sample
from sandbox.learn.generalise import generalise
from sandbox.learn.records import Program, SpanKind, Start
from sandbox.profile import document
from sandbox.profile.model import Phase, Profile

SOME = settings(max_examples=25)  # cold starts are large to draw
PROGRAMS = [
    Program("/bin/true"), Program("/tmp/x", sha256="a" * 64, loader="/lib/ld.so"),
    Program("/tmp/run", real="/srv/task/run", sha256="b" * 64, interpreters=("/bin/sh",)),
]  # fmt: skip
START = Start(handler="app.handler", api=True, places={"{root}": "/srv/task", "{tool}": "/opt/sandbox"})


def keys(*phases: Phase) -> st.SearchStrategy[Item]:
    """Items that a profile may hold, of these phases."""
    return st.tuples(st.sampled_from(phases), items()).map(lambda drawn: (drawn[0], *drawn[1]))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """An invocation, or a cold start; times are coarse, so that several are equal."""
    kinds: tuple[SpanKind, ...] = ("invocation", "invocation", "init", "tail")
    kind = draw(st.sampled_from(kinds))
    found = draw(st.dictionaries(keys("init" if kind == "init" else "invoke"), st.integers(1, 9), max_size=4))
    label = draw(st.sampled_from(["1.json", "2.json", "3.json"])) if kind == "invocation" else ""
    return Sample(kind, label, "ok", found, float(draw(st.integers(0, 5))))


def refusals() -> st.SearchStrategy[RefusedCall]:
    """Refused calls, survived or not."""
    calls, aims, labels = ["ptrace", "bpf", "mount", "clone3"], ["self", "child", "other", ""], ["", "1.json"]
    drawn = (st.sampled_from(values) for values in (["init", "invoke"], calls, aims, labels))
    return st.builds(RefusedCall, *drawn, st.booleans())


@st.composite
def cold_starts(draw: st.DrawFn) -> list[ColdStart]:
    """Some cold starts with distinct ids."""
    ids = draw(st.lists(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), min_size=1, max_size=4, unique=True))
    paths = st.frozensets(
        st.sampled_from(["/srv/task/a", "/tmp/x", "/etc/hosts", "/opt/sandbox/bootstrap"]), max_size=3
    )
    found = []
    for id_ in ids:
        taken = tuple(draw(st.lists(samples(), max_size=5)))
        found.append(
            ColdStart(
                id=id_,
                source="x.jsonl",
                start=START._replace(
                    host=draw(st.sampled_from(["one", "two", ""])), handler=draw(st.sampled_from("ab"))
                ),
                samples=taken,
                items=frozenset(item for sample in taken for item in sample.items),
                network=draw(st.frozensets(st.sampled_from(["runtime-api", "tcp://127.0.0.1:80"]))),
                reads=draw(paths),
                writes=draw(paths),
                processes=draw(st.frozensets(st.sampled_from(PROGRAMS))),
                refusals=draw(st.frozensets(refusals(), max_size=3)),
            )
        )
    return found


@SOME
@given(cold_starts(), st.data())
def test_the_order_of_cold_starts_does_not_matter(found: list[ColdStart], data: st.DataObject) -> None:
    """Any permutation gives the same profile, the same refusals and the same text."""
    one = generalise(found, "name")
    other = generalise(data.draw(st.permutations(found)), "name")
    assert one == other
    assert document.write(one.profile) == document.write(other.profile)


@SOME
@given(cold_starts())
def test_nothing_is_lost_and_nothing_added(found: list[ColdStart]) -> None:
    """The profile holds each item of any environment with the sum of its counts, and no other."""
    profile = generalise(found, "name").profile
    counts: dict[Item, int] = {}
    for cold_start in found:
        for sample in cold_start.samples:
            for item, count in sample.items.items():
                counts[item] = counts.get(item, 0) + count
    assert {use.key: use.count for use in profile.uses} == counts
    assert profile.network >= {"runtime-api"}


@SOME
@given(cold_starts())
def test_what_is_learned_can_be_written_and_read(found: list[ColdStart]) -> None:
    """The profile's text is one that the reader accepts, and means the same."""
    profile = generalise(found, "name").profile
    read = document.parse(document.write(profile)).profile
    assert (read.uses, read.network, read.reads, read.writes) == (
        profile.uses, profile.network, profile.reads, profile.writes,
    )  # fmt: skip
    assert {training.id for training in read.trainings} == {training.id for training in profile.trainings}


def single(*invocations: tuple[str, Item]) -> Profile:
    """The profile of one environment with an invocation for each (label, item)."""
    taken = tuple(Sample("invocation", label, "ok", {item: 1}, n) for n, (label, item) in enumerate(invocations))
    found = ColdStart("0" * 16, "x", START, taken, items=frozenset(item for _, item in invocations))
    return generalise([found], "name").profile


def test_reasons_say_which_events_needed_a_call() -> None:
    """Every event, some events by the first of their names, or the cold start."""
    everywhere: Item = ("invoke", "getcwd", "")
    some: Item = ("invoke", "uname", "")
    profile = single(("1", everywhere), ("1", some), ("2", everywhere), ("3", everywhere), ("2", some))
    assert {use.syscall: use.because for use in profile.uses} == {
        "getcwd": {"learned from every event"}, "uname": {"learned from 1 and 1 other"},
    }  # fmt: skip
    one = single(("2", everywhere), ("1", everywhere), ("1", some))
    assert next(use.because for use in one.uses if use.syscall == "uname") == {"learned from 1 only"}


def test_a_poisoned_training_lifts_no_hard_deny() -> None:
    """A file in which somebody wrote hard-denied items gives a profile without them, and reports them."""
    poison: tuple[Item, ...] = (
        ("invoke", "ptrace", ""), ("invoke", "prctl", "PR_SET_SECCOMP"), ("invoke", "clone", "namespace"),
        ("invoke", "mount", ""),
    )  # fmt: skip
    good: Item = ("invoke", "prctl", "PR_SET_NAME")
    taken = Sample("invocation", "1", "ok", dict.fromkeys((*poison, good), 1), 1.0)
    learned = generalise([ColdStart("0" * 16, "x", START, (taken,), items=frozenset(taken.items))], "name")
    assert [use.key for use in learned.profile.uses] == [good]
    assert learned.denied == {"ptrace", "prctl PR_SET_SECCOMP", "clone namespace", "mount"}


def test_the_tool_and_its_own_files_are_no_part_of_a_function() -> None:
    """Paths are written by place, and what lies beside the bootstrap is left out."""
    found = ColdStart(
        "0" * 16, "x", START, reads=frozenset({"/srv/task/app.py", "/opt/sandbox/bootstrap", "/etc/hosts"}),
        writes=frozenset({"/opt/sandbox/cache", "/tmp/out"}),
    )  # fmt: skip
    profile = generalise([found], "name").profile
    assert profile.reads == {"{root}/**", "/etc/hosts"}
    assert profile.writes == {"/tmp/out"}


def test_a_plain_program_has_one_phase_and_no_runtime_api() -> None:
    """Without a Runtime API in any environment the profile says so."""
    taken = Sample("run", "", "ok", {("run", "getcwd", ""): 2}, 1.0)
    found = ColdStart("0" * 16, "x", Start(api=False), (taken,), items=frozenset(taken.items))
    profile = generalise([found], "name").profile
    assert not profile.function.runtime_api
    assert profile.network == frozenset()
    (use,) = profile.uses
    assert use.phase == "run"
    assert use.because == {"learned"}
    (training,) = profile.trainings
    assert [estimate.phase for estimate in training.estimates] == ["run"]


def test_what_training_survived_is_tolerated() -> None:
    """Of hard-denied calls only, only where it went on, and never an escape at what is not the function's own."""
    seen = [
        ("process_vm_readv", "child", "1.json", True), ("process_vm_readv", "child", "2.json", True),
        ("process_vm_readv", "other", "1.json", True), ("bpf", "other", "1.json", True),
        ("mount", "self", "1.json", True), ("unshare", "self", "2.json", False),
        ("clone3", "self", "1.json", True), ("kcmp", "", "1.json", True),
    ]  # fmt: skip
    samples = tuple(Sample("invocation", label, "ok", {}, 0.0) for label in ("1.json", "2.json"))
    refused = frozenset(RefusedCall("invoke", *refusal) for refusal in seen)
    start = ColdStart(id="a", source="x", start=START, samples=samples, refusals=refused)
    learned = generalise([start], "f")
    tolerated = {(entry.syscall, entry.at, entry.errno, *entry.because) for entry in learned.profile.tolerates}
    assert tolerated == {
        ("process_vm_readv", "child", "EPERM", "learned from every event"),
        ("mount", "self", "EPERM", "learned from 1.json only"),
    }
    assert learned.fatal == {("invoke", "process_vm_readv"), ("invoke", "bpf")}
    elsewhere = generalise([start], "f", trusted=False)
    assert (elsewhere.profile.tolerates, elsewhere.survived) == (frozenset(), learned.profile.tolerates)
    assert document.parse(document.write(learned.profile)).profile == learned.profile
