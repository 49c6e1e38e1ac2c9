"""Who uses what, in a profile: learned in any order, merged, compared, linted, amended, and told to the supervisor."""

from __future__ import annotations

import random
from dataclasses import replace

from observed_events import invoked, started

from sandbox.behaviour.anomaly import NEW_LIBRARY
from sandbox.behaviour.call import Call
from sandbox.learn.cold_starts import Attributed, ColdStart, Item
from sandbox.learn.generalise import generalise
from sandbox.learn.proposal import accept
from sandbox.learn.records import Connect, FileAccess, Listen, Program
from sandbox.learn.rights import Thing
from sandbox.policy.supervision import users
from sandbox.profile import document
from sandbox.profile.amend import propose
from sandbox.profile.diff import described, diff, lines
from sandbox.profile.lint import lint
from sandbox.profile.merge import merge_all
from sandbox.profile.model import Profile, ProfiledFunction, Section, Use, UsedBy
from sandbox.violations.origin import Frame, Origin
from sandbox.violations.record import Violation

API, GIT = "api.example.com:443", "/usr/bin/git"
EXEC: Item = ("invoke", "execve", "")


def cold_start(name: str, *whose: tuple[FileAccess | Connect | Listen | Program | Item, str, str]) -> ColdStart:
    """One event in which libraries reached things, or made calls of EXEC."""
    facts = [what for what, _, _ in whose if isinstance(what, Connect | FileAccess | Listen | Program)]
    attributed = frozenset(Attributed(what, tuple(by.split()), text) for what, by, text in whose)
    sample = replace(invoked(f"{name}.json", *facts, items=[EXEC]), whose=attributed)
    return replace(started([sample], name), whose=attributed)


STARTS = (
    cold_start(
        "1", (Connect(API), "botocore urllib3", "urllib3 2.2 connection.py connect"),
        (Program(GIT), "gitpython", "gitpython 3.1 cmd.py execute"),
        (EXEC, "gitpython", "gitpython 3.1 cmd.py execute"),
    ),
    cold_start(
        "2", (Connect(API), "requests urllib3", "urllib3 2.2 connection.py connect"), (Connect("own"), "function", ""),
        (FileAccess("/tmp/job-1001/a", "entry"), "pillow", "pillow 10 Image.py save"), (EXEC, "function", ""),
        (Connect("unix:/tmp/pymp-abcdefgh/s"), "joblib", "joblib 1 pool.py start"),
    ),
    cold_start(
        "3", (FileAccess("/tmp/job-2002/a", "entry"), "function", ""), (Connect(API), "function", ""),
        (Connect("unix:/tmp/pymp-ijklmnop/s"), "loky", "loky 3 pool.py start"),
        (EXEC, "python", "python 3.11 subprocess.py run"),
        (Listen("tcp://127.0.0.1:8001"), "uvicorn", "uvicorn 1 x.py run"),
    ),
)  # fmt: skip


def test_users_are_learned_in_any_order() -> None:
    """The lines that things fold into have the users of all of them; the function's own alone has none."""
    learned = generalise(STARTS, "f").profile
    assert learned.users("network") == {
        API: ["botocore", "function", "requests", "urllib3"], "unix:/tmp/pymp-*/s": ["joblib", "loky"],
    }  # fmt: skip
    assert learned.users("processes") == {GIT: ["gitpython"]}
    assert learned.users("listen") == {"tcp://127.0.0.1:8001": ["uvicorn"]}
    assert learned.users("write") == {"/tmp/job-*/*": ["function", "pillow"]}
    (use,) = learned.uses
    assert use.by == {"function", "gitpython", "python"}
    assert use.because == {"learned from every event, by gitpython 3.1 cmd.py execute"}
    for seed in range(5):
        shuffled = random.Random(seed).sample(STARTS, len(STARTS))
        assert document.write(generalise(shuffled, "f").profile) == document.write(learned)
    (training,) = learned.trainings
    assert {one.phase: one.users for one in training.estimates} == {"invoke": 1.0}  # botocore, requests, loky
    more = [*(replace(one, id=f"{one.id}x") for one in STARTS), cold_start("4", (Connect(API), "botocore urllib3", ""))]
    (training,) = generalise([*STARTS, *more], "f").profile.trainings
    assert {one.phase: one.users for one in training.estimates} == {"invoke": 0.75}  # repeats are one event
    parts = [generalise([one], "f").profile for one in STARTS]
    merged = merge_all(parts)
    assert merged.by == merge_all(parts[::-1]).by == merge_all([merged, *parts]).by
    assert merged.users("network") == {
        API: ["botocore", "requests", "urllib3"], "unix:/tmp/pymp-*/s": ["joblib", "loky"],
    }  # fmt: skip
    assert document.parse(document.write(merged)).profile == merged
    wide = accept(merged, [Thing("network", "*.example.com:443")])
    assert wide.users("network")["*.example.com:443"] == ["botocore", "requests", "urllib3"]
    assert users(merged)["syscalls"] == {"invoke execve": ["gitpython", "python"]}


def listing(by: dict[Section, dict[str, str]], calls: str = "") -> Profile:
    """A profile with these entries and the distributions that use them, and of execve."""
    use = Use("invoke", "execve", "", 1, frozenset({"learned"}), frozenset(calls.split()))
    return Profile(
        ProfiledFunction("f"), frozenset({use}),
        network=frozenset(by.get("network", {})), processes=frozenset(by.get("processes", {})),
        writes=frozenset(by.get("write", {})), promises=("exec",),
        by=frozenset(UsedBy(section, entry, name) for section, entries in by.items()
                     for entry, names in entries.items() for name in names.split()),
    )  # fmt: skip


def test_a_diff_says_who_uses_what_now() -> None:
    """A library more is widening of its own kind, none known is any; to learn who uses what is no change."""
    old = listing({
        "network": {API: "urllib3", "*.db.internal:1": "", "b:1": "requests"}, "write": {"/tmp/**": "pillow"},
    }, "gitpython")  # fmt: skip
    new = listing({
        "network": {API: "requests urllib3", "x.db.internal:1": "psycopg", "b:1": "", "c:1": "aiohttp"},
        "write": {"/tmp/a": "function"}, "processes": {GIT: "gitpython"},
    }, "gitpython python")  # fmt: skip
    found = diff(old, new)
    assert found.widened
    assert list(lines(found)) == [
        f"+ processes: {GIT} (by gitpython)",
        "+ network: c:1 (by aiohttp)",
        "+ network: x.db.internal:1 (by psycopg)",
        "- network: *.db.internal:1",
        "- write: /tmp/** (by pillow)",
        "+ network: requests now also connects to api.example.com:443",
        "+ write: the function's own code now also writes /tmp/a",
        "+ network: any library now also connects to b:1",
        "+ syscalls: Python's own library now also makes execve in invoke",
    ]
    assert described(found)["users"][0] == {  # type: ignore[index]
        "sign": "+", "section": "network", "entry": API, "distribution": "requests",
        "text": "requests now also connects to api.example.com:443",
    }  # fmt: skip
    back = [line for line in lines(diff(new, old)) if "longer" in line]
    assert back == [
        "- network: requests no longer connects to api.example.com:443",
        "- write: the function's own code no longer writes /tmp/a",
        "- syscalls: Python's own library no longer makes execve in invoke",
    ]
    assert not diff(listing({"network": {API: ""}}), listing({"network": {API: "urllib3"}}, "gitpython")).changes


def test_names_that_nothing_is_compared_with_are_linted() -> None:
    """A name as its author writes it is none of a stack's: what to write is said, with its place."""
    text = document.write(listing({"network": {API: "PyYAML urllib3"}, "write": {"/tmp/**": "../x"}}))
    found = [finding for finding in lint(document.parse(text)) if "`by`" in finding.message]
    assert [(finding.severity, finding.message.split()[0], finding.todo) for finding in found] == [
        ("warning", "PyYAML", "write pyyaml"), ("warning", "../x", "write the name of its metadata, in lower case"),
    ]  # fmt: skip
    assert text.splitlines()[found[0].line - 1].startswith("network:")


def test_an_amendment_names_the_library_of_its_line() -> None:
    """What a line's origin says stands with the new entry, folded as that is; the function's own code says nothing."""

    def violation(call: str, target: str, library: str, anomaly: str = "") -> Violation:
        frame = Frame("connection.py", "connect", 7)
        by = Origin(library, "1", frame, None) if library else Origin("", "", None, frame)
        syscall, arg_class = Call.parse(call)
        return Violation(
            function="f", phase="invoke", request=None, pid=1, tid=1, comm="x", syscall=syscall, arg_class=arg_class,
            args=[], target=target, verdict="denied", errno="EPERM", reason="r", allow="", by=by, anomaly=anomaly,
        )  # fmt: skip

    found = propose(listing({}), [
        violation("connect", API, "URLLib_3"), violation("connect", API, "urllib.3"), violation("connect", "b:1", ""),
        *(violation("openat create", f"/tmp/job-{number}/a", "Pillow") for number in (1001, 2002)),
    ])  # fmt: skip
    assert found.profile.users("network") == {API: ["urllib-3"]}
    assert found.profile.users("write") == {"/tmp/job-*/*": ["pillow"]}
    changes = [proposal.change for proposal in found.proposals]
    assert f"network: [{{to: {API}, by: [urllib-3]}}]".replace(API, '"api.example.com:443"') in changes
    assert document.parse(document.write(found.profile)).profile.by == found.profile.by
    local = "tcp://127.0.0.1:*"
    old = replace(listing({"network": {local: "redis"}}), listen=frozenset({local}))
    own = propose(old, [violation("connect", "tcp://127.0.0.1:40001", "httpx")]).profile
    assert own.network == {local, "own"}
    assert own.users("network") == {local: ["redis"]}  # nobody is added unseen
    (refused,) = propose(found.profile, [violation("connect", API, "httpx", NEW_LIBRARY)]).refusals
    assert refused.how == 'network: [{to: "api.example.com:443", by: [httpx, urllib-3]}]'
