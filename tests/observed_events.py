"""Cold starts as observations give them, made by hand: events that reached these files, destinations and programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from sandbox.learn.cold_starts import ColdStart, Item, Sample
from sandbox.learn.records import Connect, Fact, FileAccess, Listen, Program, SpanKind, Start

START = Start(api=True, places={"{root}": "/srv/task"})
USUAL: Item = ("invoke", "getcwd", "")


def read(path: str) -> Fact:
    """A file that was read."""
    return FileAccess(path, "read")


def invoked(label: str, *facts: Fact, items: Iterable[Item] = (USUAL,), kind: SpanKind = "invocation") -> Sample:
    """A sample of an event that reached these."""
    return Sample(kind, label, "ok", dict.fromkeys(items, 1), 0.0, frozenset(facts))


def started(samples: Sequence[Sample], name: str = "0") -> ColdStart:
    """A cold start in which these samples came one after another."""
    taken = tuple(replace(sample, time=float(number)) for number, sample in enumerate(samples))
    facts = frozenset[Fact]().union(*(sample.facts for sample in taken))
    return ColdStart(
        id=name.zfill(16), source="x", start=START, samples=taken,
        items=frozenset(item for sample in taken for item in sample.items),
        network=frozenset(fact.destination for fact in facts if isinstance(fact, Connect)),
        listen=frozenset(fact.address for fact in facts if isinstance(fact, Listen)),
        processes=frozenset(fact for fact in facts if isinstance(fact, Program)),
        reads=frozenset(fact.path for fact in facts if isinstance(fact, FileAccess) and fact.mode == "read"),
        writes=frozenset(fact.path for fact in facts if isinstance(fact, FileAccess) and fact.mode == "write"),
        entries=frozenset(fact.path for fact in facts if isinstance(fact, FileAccess) and fact.mode == "entry"),
    )  # fmt: skip


PATHS = st.builds(
    "{}/{}".format,
    st.sampled_from(["/var/data", "/var/data/in", "/etc/ssh", "/tmp", "/srv/task/x", "/usr/share", "/etc/app", "/x"]),
    st.sampled_from(["a", "b", "c", "d", "e", "job-1001", "job-2002", "2030-01-31.csv"]),
)
FACTS = st.one_of(
    st.builds(FileAccess, PATHS, st.sampled_from(["read", "write", "entry"])),
    st.builds(FileAccess, PATHS, st.just("read")),
    st.builds(Connect, st.sampled_from(["a.example.com:443", "b.example.com:443", "tcp://10.0.0.1:80", "unix:/run/x",
                                        "unix:/tmp/pymp-abcdefgh/s", "unix:/tmp/pymp-ijklmnop/s", "runtime-api"])),
    st.builds(Program, st.sampled_from(["/bin/true", "/srv/task/tool", "/var/data/a"]),
              real=st.just(""), sha256=st.sampled_from(["", "a" * 64, "b" * 64]), interpreters=st.just(()),
              loader=st.just("")),
    st.builds(Listen, st.sampled_from(["tcp://127.0.0.1:8001", "tcp://127.0.0.1:8002", "tcp://0.0.0.0:8001"])),
)  # fmt: skip
