"""What is behind a high novelty, and what is proposed to lower it: never a folder of secrets, never more than asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_events import FACTS, invoked, read, started

from sandbox.behaviour.path import covers
from sandbox.learn.generalise import Learned, generalise, widened
from sandbox.learn.proposal import behind, proposals
from sandbox.learn.records import Connect, Fact, FileAccess, Listen
from sandbox.learn.rights import Thing
from sandbox.profile import document
from sandbox.profile.folding import is_secret


def learned(facts: Sequence[Fact]) -> Learned:
    """What is learned from events of which each reached one of these, beside a file that all read."""
    usual = read("/srv/data.bin")
    return generalise([started([invoked(f"{n}.json", usual, fact) for n, fact in enumerate(facts)])], "f")


def novelty(found: Learned) -> float:
    """The share of new events."""
    (training,) = found.profile.trainings
    return next(estimate.novelty for estimate in training.estimates if estimate.phase == "invoke")


def bucket(name: str) -> Fact:
    """A connect to a bucket of S3."""
    return Connect(f"{name}.s3.eu-west-1.amazonaws.com:443")


WIDER = {
    "files of a folder": ([read(f"/var/data/in/{name}") for name in "abc"], Thing("read", "/var/data/in/**")),
    "files of folders": ([read(f"/var/data/{name}/in.csv") for name in "abc"], Thing("read", "/var/data/**")),
    "temporary files": ([read(f"/tmp/{name}") for name in "abc"], Thing("read", "/tmp/**")),
    "files that are written": (
        [FileAccess(f"/var/data/in/{name}", "write") for name in "abc"], Thing("write", "/var/data/in/**"),
    ),
    "buckets": ([bucket("a"), bucket("photos"), bucket("b2")], Thing("network", "*.s3.eu-west-1.amazonaws.com:443")),
    "shards": (
        [Connect(f"shard-{n}.example.com:5432") for n in (1, 2, 30)], Thing("network", "*.example.com:5432"),
    ),
    "datagrams": (
        [Connect(f"udp://s{n}.stats.example.com:8125") for n in (1, 2)], Thing("network", "udp://*.stats.example.com:8125"),
    ),
    "own ports": ([Listen(f"tcp://127.0.0.1:{n}") for n in (8001, 8002)], Thing("listen", "tcp://127.0.0.1:*")),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "line"), WIDER.values(), ids=WIDER.keys())
def test_a_line_that_makes_all_of_them_known(facts: list[Fact], line: Thing) -> None:
    """One line is proposed; with it nothing is new, the lines that it covers are gone, and the text can be read."""
    found = learned(facts)
    assert novelty(found) == 1.0
    assert proposals(found.left_out.novel()) == (line,)
    wider = widened(found, [line])
    assert novelty(wider) == 0.0
    read_back = document.parse(document.write(wider.profile)).profile
    lists = {"read": read_back.reads - {"/srv/data.bin"}, "write": read_back.writes, "listen": read_back.listen,
             "network": read_back.network - {"runtime-api"}}  # fmt: skip
    assert lists.pop(line.reach) == {line.text}
    assert not any(lists.values())


NEVER = {
    "one event": [read("/var/data/in/a")],
    "/etc": [read(f"/etc/{name}") for name in "abc"],
    "a folder in /etc": [read(f"/etc/app/{name}") for name in "abc"],
    "/root": [read(f"/root/data/{name}") for name in "abc"],
    "a home": [read(f"/home/user/data/{name}") for name in "abc"],
    "homes": [read(f"/home/{name}/x") for name in "abc"],
    "/run/secrets": [read(f"/run/secrets/{name}") for name in "abc"],
    "/sys": [read(f"/sys/devices/{name}/x") for name in "abc"],
    "the top": [read(f"/data/{name}") for name in "abc"],
    "keys": [read(f"/srv/app/.aws/{name}") for name in "abc"],
    "above keys": [read(f"/srv/app/{name}/.ssh/id") for name in "abc"],
    "above a folder that was written in": [FileAccess(f"/var/lib/app/{name}/x", "entry") for name in "abc"],
    "hosts of whoever": [Connect(f"{name}.github.io:443") for name in ("alpha", "beta", "gamma")],
    "hosts with other ports": [Connect(f"a.db.example.com:{port}") for port in (1, 2, 3)],
    "listeners for everybody": [Listen(f"tcp://0.0.0.0:{n}") for n in (8001, 8002)],
    "addresses": [Connect(f"tcp://10.0.0.{n}:443") for n in (1, 2, 3)],
}


@pytest.mark.parametrize("facts", NEVER.values(), ids=NEVER.keys())
def test_what_is_never_proposed(facts: list[Fact]) -> None:
    """Secrets, homes, the kernel's files, folders at the top, domains of many owners: new, and a person's to write."""
    found = learned([*facts, read("/srv/data.bin")])
    assert novelty(found) > 0
    assert proposals(found.left_out.novel()) == ()


def test_what_is_behind_is_ranked() -> None:
    """What makes the most events new comes first, things of one place together, with examples."""
    found = learned([*(read(f"/var/data/{name}/in") for name in "abc"), bucket("a"), bucket("b"), read("/etc/x")])
    novel = found.left_out.novel()
    assert [str(items) for items in behind(novel, proposals(novel))] == [
        "read /var/data/** in 3 events, such as /var/data/a/in, /var/data/b/in, /var/data/c/in",
        "network *.s3.eu-west-1.amazonaws.com:443 in 2 events, such as a.s3.eu-west-1.amazonaws.com:443, "
        "b.s3.eu-west-1.amazonaws.com:443",
        "read /etc/ in 1 event, such as /etc/x",
    ]
    assert str(behind(novel, ())[-1]) == "read /var/data/c/ in 1 event, such as /var/data/c/in"


@settings(max_examples=60, deadline=None)
@given(st.lists(FACTS, min_size=2, max_size=10))
def test_no_proposal_opens_secrets_or_makes_more_new(facts: list[Fact]) -> None:
    """Whatever was reached: a proposal covers something that was, no secret, and lowers the novelty or keeps it."""
    found = learned(facts)
    lines = proposals(found.left_out.novel())
    reached = {thing.text for needs in found.left_out.novel().values() for thing in needs if isinstance(thing, Thing)}
    for line in lines:
        if line.reach in ("read", "write"):
            assert not is_secret(line.text)
            assert any(covers(line.text, text) for text in reached)
    assert novelty(widened(found, lines)) <= novelty(found)
