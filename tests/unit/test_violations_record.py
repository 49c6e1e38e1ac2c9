"""The line of a violation: its fields, its size, its risk, and what its modules load."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import arguments, spelling
from sandbox.behaviour.call import Call
from sandbox.kernel import tables
from sandbox.plain_json import encode
from sandbox.profile import base
from sandbox.violations.activity import AccessRecord, Activity
from sandbox.violations.origin import Frame, Origin
from sandbox.violations.record import (
    KEPT,
    LONGEST,
    UNRATED,
    VERDICTS,
    Beginning,
    CallRecord,
    Degraded,
    Heartbeat,
    Record,
    Summary,
    Suspected,
    Violation,
    cut,
    render,
    technique_of,
    techniques,
)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FORBIDDEN = ("dataclasses", "typing", "enum", "re", "json", "hashlib", "hmac", "pathlib", "ipaddress", "socket")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_encode_says_what_json_reads(value: object) -> None:
    """For every JSON value the text reads back as the same value, on one line of ASCII."""
    text = encode(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert "\n" not in text


def test_encode_of_numbers_that_json_lacks() -> None:
    """Infinity and not-a-number are null, so that the line stays JSON."""
    assert encode([float("inf"), float("-inf"), float("nan"), True, None]) == "[null, null, null, true, null]"


def made(**changed: Any) -> Violation:
    """A violation with some fields changed."""
    fields: dict[str, Any] = {
        "function": "thumbnail", "phase": "invoke", "request": "r-1", "pid": 7, "tid": 8, "comm": "python3",
        "syscall": "execve", "arg_class": "", "args": ['"/bin/sh"'], "verdict": "denied", "errno": "EPERM",
        "reason": "not in the profile", "allow": "processes: [/bin/sh]", "target": "/bin/sh", "time": 1.23456,
        "by": Origin("TagLoad", "2.1", Frame("tagload/tags.py", "apply", 7), Frame("/var/task/app.py", "handler", 12)),
    }  # fmt: skip
    return Violation(**{**fields, **changed})


def line_of(record: Record) -> dict[str, object]:
    """The fields of a record's line, but for what the sink adds."""
    return {"event": record.event, "time": record.time, **record.fields()}


def test_fields_stand_in_their_order() -> None:
    """The order of the fields is fixed, and the time has milliseconds."""
    violation = made()
    assert list(line_of(violation)) == [
        "event", "time", "function", "phase", "request", "pid", "tid", "comm", "syscall", "class", "args", "target",
        "verdict", "errno", "reason", "risk", "technique", "allow", "by",
    ]  # fmt: skip
    assert violation.time == 1.235
    assert (violation.risk, violation.technique) == ("high", "T1059.004")


def test_records_and_schema_are_of_one_mind() -> None:
    """The records hold the fields that schema.json asks for, in its order, and the same words for a verdict."""
    with open(os.path.join(ROOT, "sandbox", "violations", "schema.json"), encoding="utf-8") as file:
        definitions = json.load(file)["$defs"]
    sinks = ("seq", "supervisor", "lost", "hmac", "tier")  # and what stands beside a tripwire's lines alone
    signed = ((Beginning("thumbnail", "audit", "ab" * 32), "begin"), (Heartbeat("thumbnail", 0), "alive"))
    suspected: dict[str, Any] = {"anomaly": "library-misuse", "detail": "below _pickle.loads"}
    call: dict[str, Any] = {name: getattr(made(), name) for name in CallRecord.__slots__ if name not in suspected}
    calls = ((made(**suspected), "violation"), (Suspected(**call, **suspected), "anomaly"))
    where: dict[str, Any] = {"function": "thumbnail", "phase": "invoke", "request": "r-1"}
    did = Activity(
        **where, duration=1.5, answered=True, shared=False, accesses={}, destinations=[], listeners=[], programs=[],
        written=[], refused={}, anomalies={}, new=[], cost=0.2,
    )  # fmt: skip
    made_call = AccessRecord(
        **where, pid=1, tid=1, comm="x", call=Call("connect"), reach="network", target="tcp://a:1", verdict="allowed",
        by=made().by,
    )  # fmt: skip
    told = ((did, "activity"), (made_call, "access"))
    for record, name in (*calls, *told, (Summary("thumbnail", {}, final=True, total=0), "summary"), *signed):
        described = definitions[name]["properties"]
        assert list(line_of(record)) == [key for key in described if key not in sinks]
        optional = {"summary": {"total"}, "violation": {"anomaly", "detail", "by"}, "anomaly": {"by"},
                    "activity": {"written", "cost"}, "access": {"by"}}.get(name, set())  # fmt: skip
        assert set(line_of(record)) - optional == set(definitions[name]["required"]) - set(sinks)
        assert described["event"]["const"] == record.event
    assert definitions["violation"]["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert Degraded.event not in definitions["other"]["properties"]["event"]["not"]["enum"]


FRAMES = st.builds(Frame, st.text(max_size=4096), st.text(max_size=4096), st.integers(0, 1 << 31))


@given(
    st.fixed_dictionaries({}, optional={
        "comm": st.text(max_size=6000), "reason": st.text(max_size=6000), "allow": st.text(max_size=9000),
        "target": st.text(st.characters(codec=None), max_size=5000), "request": st.none() | st.text(max_size=9000),
        "args": st.lists(st.text(max_size=3000), max_size=40), "function": st.text(max_size=9000),
        "by": st.builds(Origin, st.text(max_size=128), st.text(max_size=128), FRAMES, FRAMES),
    }),
    st.integers(700, LONGEST),
)  # fmt: skip
def test_no_line_is_too_long_and_every_line_is_json(changed: dict[str, object], room: int) -> None:
    """Whatever the texts are, the line fits, parses, and keeps its fields; short texts stay as they are."""
    event = line_of(made(**changed))
    line = render(event, room)
    assert len(line.encode()) <= room
    parsed = json.loads(line)
    assert set(parsed) <= set(event)
    assert parsed["event"] == "violation"
    if len(encode(event)) <= room:
        assert line == encode(event)
    elif room >= 1800:
        assert list(parsed) == list(event)


def test_a_field_that_cannot_be_cut_goes_and_the_place_in_the_journal_stays() -> None:
    """Counts are never cut to wrong ones: the whole field is left out, and what places the line stays."""
    counts = {str(i): i for i in range(2000)}
    event: dict[str, object] = {"event": "x", "time": 1.0, "seq": 3, "supervisor": "0a" * 4, "counts": counts}
    assert json.loads(render(event)) == {key: event[key] for key in KEPT if key in event}


@given(st.text(max_size=300), st.integers(32, 300))
def test_cut_texts_end_in_dots(text: str, longest: int) -> None:
    """A cut text is a beginning of the whole with dots, and as long as was allowed at most."""
    shown = cut(text, longest)
    assert len(encode(shown)) - 2 <= longest
    assert shown == text or (shown.endswith("...") and text.startswith(shown[:-3]))


def test_every_technique_is_well_formed_and_of_a_real_call() -> None:
    """Ids look like ATT&CK's, one id has one title, risks are of the three, and calls exist."""
    titles: dict[str, str] = {}
    for key, entry in techniques().items():
        assert set(entry) == {"risk", "technique", "title"}
        assert re.fullmatch(r"T1\d{3}(\.\d{3})?", entry["technique"]), key
        assert entry["risk"] in ("high", "medium", "low")
        assert titles.setdefault(entry["technique"], entry["title"]) == entry["title"]
        syscall, _, name = key.partition(" ")
        assert syscall in tables.every_name(), key
        if name and not arguments.partition_classes(syscall) and syscall != "socket":
            base.arguments_exist(Call(syscall, name), key)


def test_every_hard_denied_and_dangerous_call_is_rated_above_low() -> None:
    """What the policy calls dangerous has a technique of its own and is never rated low."""
    for entry in (*base.hard_deny(), *base.dangerous()):
        for name in entry.classes or ("",):
            found = technique_of(Call(entry.syscall, name))
            assert found != UNRATED, (entry.syscall, name)
            assert found[0] != "low", (entry.syscall, name)
    for entry in base.dangerous():
        for name in entry.classes or ("",):
            assert technique_of(Call(entry.syscall, name))[0] == "high" or entry.syscall in ("prlimit64", "pidfd_open")


@pytest.mark.parametrize("promise", [p for p in base.promises() if p.risk or p.name in ("inet", "unix", "netlink")])
def test_every_call_of_a_promise_with_a_risk_is_rated(promise: base.Promise) -> None:
    """The promises that a reviewer looks at have no call without a technique."""
    for call in promise.items:
        assert str(call) in techniques() or call.syscall in techniques(), call


def test_the_most_exact_words_decide() -> None:
    """A class with more words wins over one with fewer, and that over the syscall alone."""
    assert technique_of(Call("socket", "AF_INET SOCK_RAW IPPROTO_ICMP"))[1] == "T1095"
    assert technique_of(Call("socket", "AF_INET SOCK_STREAM"))[1] == "T1071"
    assert technique_of(Call("socket", "AF_X25 SOCK_STREAM"))[1] == "T1095"
    assert technique_of(Call("kill", "SIGTERM to others"))[1] == "T1489"
    assert technique_of(Call("getpid")) == UNRATED


WORDS = ["no", "AF_INET SOCK_STREAM", "tcp://[::1]:80", "a: b", "1", "~"]


@given(st.text(min_size=1, max_size=30) | st.sampled_from(WORDS))
def test_allowing_texts_are_yaml(text: str) -> None:
    """What would allow a call can be pasted: the YAML reads as the same words."""
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        return  # no UTF-8, no YAML
    assert yaml.safe_load(f"[{spelling.scalar(text)}]") == [text]
    use = yaml.safe_load(spelling.of_use("invoke", Call("openat", text), 3))
    assert use == {"syscalls.invoke.openat": {"classes": {text: 3}, "because": "<your reason>"}}


def test_allowing_texts_read_as_people_write_them() -> None:
    """The texts of the usual cases, word for word."""
    assert spelling.of_use("invoke", Call("openat", "create")) == (
        "syscalls.invoke.openat: {classes: {create: 1}, because: <your reason>}"
    )
    stream = "AF_INET SOCK_STREAM"
    assert spelling.of_use("init", Call("socket", stream)) == (
        "syscalls.init.socket: {classes: {AF_INET SOCK_STREAM: 1}, because: <your reason>}"
    )
    assert spelling.of_use("run", Call("chmod")) == "syscalls.run.chmod: {count: 1, because: <your reason>}"
    assert spelling.of_entry("network", "example.com:443") == 'network: ["example.com:443"]'
    assert spelling.of_entry("network", "tcp://10.0.0.1:443") == "network: [tcp://10.0.0.1:443]"
    assert spelling.of_grant("ptrace") == "grants: [{syscall: ptrace, because: <your reason>}]"


def schema() -> jsonschema.protocols.Validator:
    """The validator of schema.json."""
    with open(os.path.join(ROOT, "sandbox", "violations", "schema.json"), encoding="utf-8") as file:
        found = json.load(file)
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_the_schema_wants_what_the_sink_adds() -> None:
    """An event alone is not a line: seq and supervisor are the sink's."""
    line = json.loads(encode(line_of(made())))
    assert not schema().is_valid(line)
    assert schema().is_valid({**line, "seq": 1, "supervisor": "00ff00ff"})
    assert not schema().is_valid({**line, "seq": 1, "supervisor": "00ff00ff", "more": 1})
    degraded = json.loads(encode(line_of(Degraded("thumbnail", "x"))))
    assert schema().is_valid({**degraded, "seq": 1, "supervisor": "00ff00ff"})
    assert not schema().is_valid({**degraded, "seq": 1})


def test_the_supervisors_path_loads_little() -> None:
    """None of the modules that a supervisor needs loads what would cost it memory, with a key or without."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import sandbox.violations.journal, sandbox.violations.sink, sandbox.behaviour.spelling\n"
        "import sandbox.violations.decode\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])\n"
        "from sandbox.behaviour.call import Call\n"
        "from sandbox.violations.record import Degraded, technique_of\n"
        "technique_of(Call('execve')), sandbox.kernel.tables.argument_kinds()\n"
        "sink = sandbox.violations.sink.Sink('file:/dev/null', b'key')\n"
        "print(sink.write(Degraded('x', 'y')))\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code, ROOT], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "True", "[]"]
