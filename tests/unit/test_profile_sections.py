"""What schema 2 adds to a profile: listeners, notes, tolerated refusals, `verified`; schema 1 is still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.behaviour import anomaly, listener
from sandbox.errors import ProfileError
from sandbox.profile import diff, document, lint, shape
from sandbox.profile.amend import propose
from sandbox.profile.merge import merge
from sandbox.violations.record import Violation

FULL = """\
schema: 2
function: {name: f, handler: app.handler, runtime-api: true, environment: [AWS_REGION, TABLE]}
promises: []
processes: []
network: [runtime-api, {to: db.internal:5432, by: [psycopg]}]
listen: [tcp://127.0.0.1:8001, {at: tcp://0.0.0.0:80, because: the platform probes its health there}]
names: {keep: 90s}
files: {read: [], write: []}
tolerates:
- {call: process_vm_readv, phase: invoke, at: child, errno: EPERM, because: learned from every event}
- {call: prctl PR_SET_PTRACER, phase: init, at: other, errno: EPERM, because: learned at cold start}
verified: {date: '2030-01-31', tool: 0.1.0, events: 3, audit: ok, enforce: ok}
on-anomaly: {all: report, library-misuse: deny, late-load: off}
most: {connects: 4, threads: 1}
ignores: [{rule: variables, because: every stage sets them}, {rule: one-host, at: provenance, because: one host is all}]
provenance: [{training: abc, date: '2030-01-30', tool: 0.1.0}]
syscalls: {}
"""
OLD = "schema: 1\nfunction: {name: f, handler: app.handler}\npromises: []\nsyscalls: {}\n"


def test_all_that_is_read_is_written_merged_and_amended() -> None:
    """Writing, merging with a profile of schema 1 and amending lose nothing."""
    profile = document.parse(FULL).profile
    for kept in (
        document.parse(document.write(profile)).profile,
        merge(profile, document.parse(OLD).profile),
        propose(profile, [violation("getppid")]).profile,
    ):
        for section in (
            "function", "listen", "listen_because", "by", "libraries", "names_keep", "names_receives", "tolerates",
            "on_anomaly", "most", "ignores", "verified", "trainings",
        ):  # fmt: skip
            assert getattr(kept, section) == getattr(profile, section), section


def violation(syscall: str, **suspicion: str) -> Violation:
    """A violation of the invoke phase."""
    return Violation(
        **suspicion,
        function="f", phase="invoke", request=None, pid=1, tid=1, comm="f", syscall=syscall, arg_class="", args=(),
        target="", verdict="denied", errno="EPERM", reason="not in the profile", allow="",
    )  # fmt: skip


def test_schema_1_is_read_and_written_as_2() -> None:
    """A profile of schema 1 that uses nothing new differs in the number alone."""
    text = document.write(document.parse(OLD).profile)
    assert "schema: 2\n" in text
    assert document.parse(text.replace("schema: 2", "schema: 1")).profile == document.parse(text).profile
    assert not [word for word in ("listen", "names", "tolerates", "verified") if word in text]
    notes = [finding for finding in lint.lint(document.parse(OLD)) if "schema 1" in finding.message]
    assert [(finding.severity, finding.line) for finding in notes] == [("info", 1)]
    assert not [finding for finding in lint.lint(document.parse(text)) if "schema" in finding.message]


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ("schema: 2", "schema: 1", "6:1", "needs `schema: 2`"),
        ("[AWS_REGION, TABLE]", "[AWS_REGION, TABLE=orders]", "2:88", "TABLE=orders"),
        ("[AWS_REGION, TABLE]", "[SANDBOX_MODE]", "2:76", "SANDBOX_MODE"),
        ("[AWS_REGION, TABLE]", "TABLE", "2:62", "environment"),
        ("by: [psycopg]", "by: []", "5:47", "by"),
        ("by: [psycopg]", "by: [psycopg], per: x", "5:62", "per"),
        ("keep: 90s", "keep: soon", "7:9", "keep"),
        ("at: child", "at: parent", "10:43", "at"),
        ("at: child", "at: other", "10:4", "never tolerated"),
        ("errno: EPERM, because: learned from", "errno: ENOSYS, because: learned from", "10:54", "with EPERM"),
        ("process_vm_readv", "openat read", "10:4", "not hard-denied"),
        ("process_vm_readv", "process_vm_read", "10:4", "not a system call"),
        ("call: prctl PR_SET_PTRACER, phase: init, at: other", "call: process_vm_readv, phase: invoke, at: child",
         "11:4", "twice"),
        ("date: '2030-01-31'", "date: '2030-02-31'", "12:12", "not a date"),
        ("late-load: off", "late-loads: off", "13:49", "late-loads"),
        ("late-load: off", "late-load: kill", "13:49", "kill"),
    ],
)  # fmt: skip
def test_faults_are_located(old: str, new: str, place: str, says: str) -> None:
    """What schema 2 adds is checked like the rest: with line, column and a word that says what it is."""
    assert FULL.count(old) == 1
    with pytest.raises(ProfileError) as caught:
        document.parse(FULL.replace(old, new))
    assert (caught.value.where, says in caught.value.what) == (f"<profile>:{place}", True), str(caught.value)


def test_names_of_variables_need_schema_2() -> None:
    """An older program would drop them in silence."""
    with pytest.raises(ProfileError, match="'environment' needs `schema: 2`") as caught:
        document.parse(OLD.replace("{name: f,", "{name: f, environment: [TABLE],"))
    assert caught.value.where == "<profile>:2:21"


def test_variables_are_merged_shown_and_allow_nothing() -> None:
    """A merge has the names of both, a diff shows which came and went, lint says them, and nothing is widened."""
    one = document.parse(FULL)
    other = document.parse(FULL.replace("[AWS_REGION, TABLE]", "[QUEUE, TABLE]"))
    assert merge(one.profile, other.profile).function.environment == ("AWS_REGION", "QUEUE", "TABLE")
    found = diff.diff(one.profile, other.profile)
    assert list(diff.lines(found)) == ["- variable in training: AWS_REGION", "+ variable in training: QUEUE"]
    assert not found.widened
    assert diff.described(found)["variables"] == [{"sign": "-", "name": "AWS_REGION"}, {"sign": "+", "name": "QUEUE"}]
    [note] = [finding for finding in lint.lint(one) if "training was given" in finding.message]
    assert (note.severity, note.line, note.message) == ("info", 2, "training was given AWS_REGION, TABLE")


def test_contents_of_programs_are_read_merged_and_widen() -> None:
    """A content is a right of its own: with another one the same path allows more; a profile of schema 1 has none."""
    one, other = (
        document.parse(FULL.replace("processes: []", f"processes: [/bin/a, {{program: /tmp/x, sha256: [{digest}], "
                                    "interpreters: [/bin/sh]}]")).profile
        for digest in ("a" * 64, "b" * 64)
    )  # fmt: skip
    assert one.processes == {"/bin/a", "/tmp/x"}
    assert one.interpreters == {("/tmp/x", "/bin/sh")}
    both = merge(one, other)
    assert document.parse(document.write(both)).profile.digests == {("/tmp/x", "a" * 64), ("/tmp/x", "b" * 64)}
    assert [(change.sign, str(change.place)) for change in diff.diff(one, both).places] == [
        ("+", f"/tmp/x with the content {'b' * 64}")
    ]
    with pytest.raises(ProfileError, match="needs `schema: 2`"):
        document.parse(OLD + "processes: [{program: /tmp/x, interpreters: [/bin/sh]}]\n")


def test_new_listeners_and_tolerated_refusals_widen() -> None:
    """A diff shows each as what is allowed now; the same listener in another spelling is none."""
    profile, old = document.parse(FULL).profile, document.parse(OLD).profile
    found = diff.diff(old, profile)
    lines = list(diff.lines(found))
    assert found.widened
    assert "+ listen: tcp://0.0.0.0:80" in lines
    assert "+ tolerates in invoke: process_vm_readv at child, EPERM (learned from every event)" in lines
    respelled = document.parse(FULL.replace("tcp://127.0.0.1:8001", "'tcp://[::ffff:127.0.0.1]:8001'")).profile
    assert not diff.diff(profile, respelled).widened
    narrower = document.parse(FULL.replace("0.0.0.0:80", "127.0.0.1:80")).profile
    assert (diff.diff(profile, narrower).widened, diff.diff(narrower, profile).widened) == (False, True)


def test_lint_asks_who_connects_from_outside() -> None:
    """Listening on every address needs a person's reason; a tolerated refusal is shown with its risk."""
    def messages(text: str) -> list[str]:
        return [str(finding) for finding in lint.lint(document.parse(text, "p"))]

    assert not [text for text in messages(FULL) if "listens" in text]
    for reason in ("learned at cold start", "todo"):
        found = messages(FULL.replace("the platform probes its health there", reason))
        assert [text for text in found if text.startswith("p:6:32: error: tcp://0.0.0.0:80 listens on every address")]
    assert [text for text in messages(FULL) if text.startswith("p:10:3: warning: process_vm_readv at a process of")]
    assert [text for text in messages(FULL) if text.startswith("p:11:3: info: prctl PR_SET_PTRACER at anything else")]


@pytest.mark.parametrize("text", ["tcp://0.0.0.0:80", "udp://[::]:*", "tcp://127.0.0.1:8001", "unix:/run/x", "unix:@x"])
def test_listeners_are_read_back(text: str) -> None:
    """The unspecified address is every address, not loopback, and what is printed means the same again."""
    entry = listener.parse(text)
    assert listener.parse(str(entry)) == entry
    assert entry.is_unspecified == (text in ("tcp://0.0.0.0:80", "udp://[::]:*"))


@pytest.mark.parametrize("text", ["localhost:80", "tcp://10.0.0.0/8:80", "runtime-api", "family:AF_VSOCK", "*.a:1"])
def test_names_and_networks_are_no_listeners(text: str) -> None:
    """A socket is bound to one address."""
    with pytest.raises(ProfileError, match="listen on"):
        listener.parse(text)


def test_what_is_done_about_anomalies_is_merged_strictly_and_shown() -> None:
    """For each detector the stricter answer wins, silence gives way; a laxer one widens, and lint says `off`."""
    said = {
        name: document.parse(OLD.replace("schema: 1", "schema: 2") + f"on-anomaly: {text}\n")
        for name, text in (("deny", "deny"), ("mixed", "{all: report, late-load: off, code-from-string: terminate}"))
    }
    silent, deny, mixed = document.parse(OLD).profile, said["deny"].profile, said["mixed"].profile
    assert set(deny.on_anomaly) == {("all", "deny")}
    assert "on-anomaly: deny\n" in document.write(deny)
    assert merge(silent, mixed).on_anomaly == mixed.on_anomaly
    both = {("all", "deny"), ("late-load", "deny"), ("code-from-string", "terminate")}
    assert merge(deny, mixed).on_anomaly == both
    laxer = diff.diff(deny, mixed)
    assert laxer.widened
    assert list(diff.lines(laxer)) == [
        "+ on-anomaly all: report, before deny", "- on-anomaly code-from-string: terminate, before deny",
        "+ on-anomaly late-load: off, before deny",
    ]  # fmt: skip
    assert list(diff.lines(diff.diff(silent, deny))) == ["- on-anomaly all: deny, before nothing said"]
    assert not diff.diff(silent, deny).widened
    [note] = [finding for finding in lint.lint(said["mixed"]) if "late-load" in finding.message]
    assert (note.severity, note.line) == ("warning", 5)
    nobody = [finding for finding in lint.lint(said["mixed"]) if "no entry says who uses it" in finding.message]
    assert [(finding.severity, finding.line) for finding in nobody] == [("info", 5)]
    assert not [finding for finding in lint.lint(document.parse(FULL)) if "no entry says" in finding.message]
    asked = document.parse(FULL.replace("late-load: off", "burst: deny"))
    assert [one.message for one in lint.lint(asked) if "burst" in one.message] == [
        "burst is asked only with SANDBOX_ACTIVITY"
    ]  # fmt: skip
    schema = json.loads(Path(shape.schema_path()).read_text())
    assert list(schema["properties"]["on-anomaly"]["then"]["properties"]) == [anomaly.ALL, *anomaly.DETECTORS]


def test_what_a_detector_suspects_is_a_persons_to_allow() -> None:
    """amend proposes the same call where nobody suspects it, and nothing else in its place."""
    profile = document.parse(FULL).profile
    assert len(propose(profile, [violation("getppid")]).proposals) == 1
    found = propose(profile, [violation("getppid", anomaly="library-misuse", detail="below _pickle.loads line 7")])
    assert (found.profile, found.proposals) == (profile, ())
    assert [(one.what, one.reason) for one in found.refusals] == [
        ("getppid", "is suspected (library-misuse): a person decides")
    ]
