"""Listeners: their grammar, what an entry allows, and how profiles get, keep and lose them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from guests import profile
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import listener, spelling
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.learn.cold_starts import ColdStart, Sample
from sandbox.learn.generalise import generalise
from sandbox.learn.records import Listen, Start
from sandbox.policy import supervision
from sandbox.profile import document, lint
from sandbox.profile.amend import propose
from sandbox.profile.merge import merge
from sandbox.profile.model import Profile
from sandbox.violations.record import Violation

OLD = """\
schema: 1
function: {name: f}
promises: [listen]
syscalls:
  invoke:
    bind: {count: 1, because: learned from every event}
"""


@pytest.mark.parametrize(
    ("text", "other", "allowed"),
    [
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80", True), ("tcp://127.0.0.1:80", "tcp://127.0.0.1:81", False),
        ("tcp://127.0.0.1:80", "udp://127.0.0.1:80", False), ("tcp://127.0.0.1:80", "tcp://0.0.0.0:80", False),
        ("tcp://0.0.0.0:80", "tcp://10.0.0.1:80", True), ("tcp://0.0.0.0:80", "tcp://[::]:80", True),
        ("tcp://127.0.0.1:80", "tcp://[::1]:80", True), ("tcp://[::1]:80", "tcp://127.0.0.1:80", True),
        ("tcp://[::1]:80", "tcp://127.0.0.2:80", False), ("tcp://127.0.0.1:80", "tcp://[fe80::1]:80", False),
        ("tcp://[::]:80", "tcp://10.0.0.1:80", True), ("tcp://[::]:80", "tcp://0.0.0.0:80", True),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:80", True), ("tcp://127.0.0.1:80", "tcp://127.0.0.1:*", False),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0", True), ("tcp://127.0.0.1:0", "tcp://127.0.0.1:80", False),
        ("tcp://[::ffff:10.0.0.1]:80", "tcp://10.0.0.1:80", True), ("any", "tcp://0.0.0.0:1", True),
        ("any", "unix:/x", True), ("tcp://0.0.0.0:*", "any", False), ("unix:/run/*", "unix:/run/x", True),
        ("unix:/tmp/pool-*/sock", "unix:/tmp/pool-7/sock", True), ("unix:/run/x", "unix:/run/y", False),
        ("unix:@x", "unix:@x", True), ("unix:@x", "unix:/x", False),
        ("type5://127.0.0.1:1", "tcp://127.0.0.1:1", False),
    ],
)  # fmt: skip
def test_what_an_entry_allows(text: str, other: str, allowed: bool) -> None:
    """Its address and port; the unspecified address is each address of the host, and any is everything."""
    assert listener.covers(listener.parse(text), listener.parse(other)) is allowed


BOUND = st.tuples(
    st.sampled_from(["tcp", "udp", "type5"]), st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    st.integers(0, 65535),
)  # fmt: skip


@given(BOUND, BOUND)
def test_what_a_refusal_proposes_allows_just_that(one: tuple[str, bytes, int], other: tuple[str, bytes, int]) -> None:
    """The text of a bound socket is read back as it, in YAML too, and allows no other but where it says so."""
    entry, stranger = listener.of_socket(*one), listener.of_socket(*other)
    (text,) = yaml.safe_load(spelling.of_entry("listen", entry.text))["listen"]
    assert listener.parse(text) == entry
    assert listener.covers(listener.parse(text), entry)
    if one[0] != other[0] or (one[2] and one[2] != other[2]):
        assert not listener.covers(entry, stranger)
    assert entry.text.endswith(":*") == (one[2] == 0)


@pytest.mark.parametrize("text", ["localhost:80", "tcp://10.0.0.0/8:80", "runtime-api", "own", "family:AF_VSOCK", "*"])
def test_what_is_not_a_listener(text: str) -> None:
    """Names, networks and what only `network` can say are refused with what to write."""
    with pytest.raises(ProfileError):
        listener.parse(text)


def test_schema_1_decides_nothing() -> None:
    """A profile of schema 1 whose calls listen reads as `any`, which is written, merged and warned of until removed."""
    old = document.parse(OLD)
    assert old.profile.listen == {"any"}
    assert document.parse(OLD.replace("bind: {count: 1", "accept4: {count: 1")).profile.listen == frozenset()
    again = document.parse(document.write(old.profile))
    assert again.profile == old.profile
    newer = Profile(old.profile.function, old.profile.uses, listen=frozenset({"tcp://127.0.0.1:80"}))
    assert merge(old.profile, newer).listen == {"any", "tcp://127.0.0.1:80"}
    found = [finding for finding in lint.lint(again) if finding.message.startswith("any:")]
    assert [(finding.severity, finding.line) for finding in found] == [("warning", 11)]


def test_binding_needs_a_reason_only_where_something_listens() -> None:
    """Resolvers and clients bind what the kernel chooses, of which no person needs to say why."""
    def reasons(listen: str) -> list[str]:
        text = OLD.replace("schema: 1", f"schema: 2\nlisten: [{listen}]")
        return [finding.message for finding in lint.lint(document.parse(text)) if "reason" in finding.message]

    assert reasons("") == []
    assert [message.partition(" has")[0] for message in reasons("tcp://127.0.0.1:80")] == [
        "bind in invoke (accepts data from others)"
    ]


def learned(*starts: tuple[set[str], set[str]]) -> Profile:
    """The profile of cold starts with these listeners and destinations."""
    found = [
        ColdStart(id=str(i), source="x", start=Start(), listen=frozenset(listen), network=frozenset(network))
        for i, (listen, network) in enumerate(starts)
    ]
    return generalise(found, "f").profile


def test_ports_that_differ_between_starts_become_any() -> None:
    """So do those that the kernel chose; what every start has, or one start more than the others, keeps its port."""
    one, other = "tcp://127.0.0.1:8001", "tcp://127.0.0.1:8002"
    assert learned(({one}, set()), ({one, other}, set())).listen == {one, other}
    assert learned(({one}, set()), ({other}, set())).listen == {"tcp://127.0.0.1:*"}
    assert learned(({one, "tcp://127.0.0.1:*"}, set())).listen == {"tcp://127.0.0.1:*"}
    assert learned(({one}, set()), ({"tcp://[::1]:8002"}, set())).listen == {one, "tcp://[::1]:8002"}
    assert learned(({"unix:/tmp/pymp-k2j4_x1z/listener-0abcdef1"}, set())).listen == {"unix:/tmp/pymp-*/listener-*"}


def test_older_observations_decide_nothing() -> None:
    """Those of format 1 noted no addresses, so that the profile of a function that listens is read as of schema 1."""
    start = Start(format=1)
    cold_start = ColdStart(id="1", source="x", start=start, items=frozenset({("run", "listen", "")}))
    assert generalise([cold_start], "f").profile.listen == {"any"}
    assert generalise([ColdStart(id="1", source="x", start=start)], "f").profile.listen == frozenset()


def test_connects_to_ports_that_differ_become_own() -> None:
    """Only on loopback, and only to what the same start listened on; a port that stays the same keeps its entry."""
    one, other, far = "tcp://127.0.0.1:8001", "tcp://127.0.0.1:8002", "tcp://10.0.0.1:8001"
    assert learned(({one}, {one, far, "tcp://127.0.0.1:9"}), ({other}, {other})).network == {
        "own", far, "tcp://127.0.0.1:9",
    }  # fmt: skip
    assert learned(({one}, {one})).network == {one}


def test_ports_that_differ_between_events_become_any() -> None:
    """Also within one start; a server that goes on from event to event has one port."""
    def events(*listen: set[int]) -> Profile:
        facts = [frozenset(Listen(f"tcp://127.0.0.1:{port}") for port in ports) for ports in listen]
        samples = tuple(Sample("invocation", str(i), "ok", {}, float(i), found) for i, found in enumerate(facts))
        addresses = frozenset(fact.address for found in facts for fact in found)
        start = ColdStart(id="1", source="x", start=Start(), samples=samples, listen=addresses)
        return generalise([start], "f").profile

    assert events({8001}, {8002}).listen == {"tcp://127.0.0.1:*"}
    assert events({8001}, set(), {8001, 8002}).listen == {"tcp://127.0.0.1:8001", "tcp://127.0.0.1:8002"}


def test_merging_folds_the_sockets_of_both() -> None:
    """As learning does, where the names differ in a random part."""
    one, other = (profile("bind", listen=(f"unix:/tmp/pool-{number}/sock", "any")) for number in (17, 2304))
    assert merge(one, other).listen == {"unix:/tmp/pool-*/sock", "any"}


def refused(target: str, syscall: str = "bind") -> Violation:
    """The line of a listener that was refused."""
    return Violation(
        function="some", phase="invoke", request=None, pid=1, tid=1, comm="x", syscall=syscall, arg_class="", args=(),
        target=target, verdict="denied", errno="EPERM", reason=f"no entry of listen names {target}", allow="",
    )  # fmt: skip


def test_amending_adds_listeners() -> None:
    """Each refused listener becomes an entry of high risk, with the call where it lacks; nonsense is refused."""
    targets = ["tcp://0.0.0.0:4444", "tcp://127.0.0.1:*", "unix:/tmp/s", "unix:@name"]
    made = profile("bind", runtime_api=True, network=("runtime-api",), listen=("udp://127.0.0.1:53",))
    found = propose(made, [*map(refused, targets), refused("udp://127.0.0.1:53")])
    assert found.profile.listen == {*targets, "udp://127.0.0.1:53"}
    assert {proposal.risk for proposal in found.proposals} == {"high"}
    assert document.parse(document.write(found.profile)).profile == found.profile
    assert [refusal.reason for refusal in found.refusals] == ["is allowed by the profile already"]
    odd = propose(made, [refused(text) for text in ("any", "localhost:1", "unix:/tmp/*", "tcp://10.0.0.0/8:1")])
    assert odd.profile == made
    heard = propose(made, [refused("tcp://127.0.0.1:*", "listen")]).profile
    calls = {str(use.call) for use in heard.uses}
    assert calls >= {"bind", "listen", "accept", "accept4"}
    assert not [call for call in calls if call.startswith(("connect", "socket", "execve"))]


@pytest.mark.parametrize(
    ("listen", "network", "made"),
    [((), (), True), (("tcp://127.0.0.1:80",), (), True), (("any",), (), False), (("any",), ("own",), True)],
)
def test_the_supervisor_makes_what_it_decides(listen: tuple[str, ...], network: tuple[str, ...], made: bool) -> None:
    """Bind and listen are notified where their address is decided or noted, in the init phase too; else they pass."""
    api = ("runtime-api", *network)
    found = profile("bind", "listen", runtime_api=True, network=api, listen=listen)
    early = replace(found, uses=frozenset(replace(use, phase="init") for use in found.uses))
    for each in (found, early):
        filters = supervision.filters(each, "x86_64")
        numbers = {tables.numbers("x86_64")[name] for name in tables.LISTENS}
        told = supervision.description(each, {"x86_64": filters})
        assert ({"bind", "listen"} <= {*told["brokered"]}) is made  # type: ignore[misc]
        assert numbers.isdisjoint(filters.supervised.allow) or not made
        passes = numbers & {*filters.supervised.allow, *map(int, supervision.init_calls(filters))}
        assert passes == (set() if made else numbers)
    assert told["listen"] == sorted(listen)
