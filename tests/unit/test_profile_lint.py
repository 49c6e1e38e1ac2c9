"""lint: each objection with its place, and silence where there is nothing to object to."""

from __future__ import annotations

import profile_strategies
import pytest
from hypothesis import given, settings

from sandbox.profile import document
from sandbox.profile.completeness import bound
from sandbox.profile.finding import RULES, Finding
from sandbox.profile.lint import lint
from sandbox.profile.model import Profile
from sandbox.profile.reasons import is_empty_reason

GOOD = """\
schema: 2
function: {name: thumbnail, handler: app.handler, runtime-api: true}
promises: [exec, rpath]
processes: [/usr/bin/convert]
network: [runtime-api, "tcp://example.org:443", "unix:/run/x"]
files: {read: [/etc/**], write: [/tmp/**, "{root}/cache/*", /dev/null]}
grants: [{syscall: ptrace, because: the function is a debugger}]
completeness: [{training: abc, invoke: {samples: 90, items: 9, once: 0, novelty: 0, quiet: 80, bound: 0.04, chao2: 9}}]
provenance: [{training: abc, host: here}]
syscalls:
  invoke:
    execve: {count: 1, because: [learned from every event, converts pictures]}
    openat: {classes: {read: 3}, because: learned from every event}
"""


def found(text: str) -> list[Finding]:
    """The findings in a text."""
    return list(lint(document.parse(text, "p.yaml")))


def changed(old: str, new: str) -> Finding:
    """The one finding after one change to the good profile."""
    assert old in GOOD
    (finding,) = found(GOOD.replace(old, new, 1))
    assert finding.todo
    return finding


def test_nothing_to_object_to() -> None:
    """A profile with reasons, names and enough training has no findings."""
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (", converts pictures]", "]", "12:5: error: execve in invoke (runs another program) has no reason"),
        (", converts pictures]", ", todo]", "12:5: error: execve in invoke (runs another program): 'todo' is"),
        ("converts pictures", "imported from docker.json", "12:5: error: execve in invoke (runs another program) has"),
        ("the function is a debugger", "needed because", "7:28: error: the grant of ptrace: 'needed because' is no"),
        ("the function is a debugger", "learned at cold start", "7:28: error: the grant of ptrace"),
        ("[exec, rpath]", "[exec, rpath, inet]", "3:25: warning: no syscall needs the promise inet"),
        ("[exec, rpath]", "[exec, rpath, rpaht]", "3:25: error: 'rpaht' is not a promise"),
        ("[/usr/bin/convert]", "[]", "12:5: warning: execve is allowed, but no program is listed"),
        ("[/usr/bin/convert]", f"[{{program: /tmp/x, sha256: [{'a' * 64}]}}]",
         "4:13: warning: /tmp/x lies where the function writes (/tmp/**): a supervisor tells it by its content"),
        ("[/usr/bin/convert]", f"[{{program: /tmp/x, sha256: [{'a' * 64}, {'b' * 64}]}}]",
         "4:13: warning: /tmp/x lies where the function writes (/tmp/**) and had 2 contents in training: with another"),
        ("[/usr/bin/convert]", "[{program: /tmp/x, sha256: [any]}]",
         "4:13: warning: /tmp/x lies where the function writes (/tmp/**), and whatever is put there is started"),
        ("[/usr/bin/convert]", "[/usr/bin/convert, '{root}/cache/x']",
         "4:31: error: {root}/cache/x lies where the function writes ({root}/cache/*), and nothing says what"),
        ("[/usr/bin/convert]", "[{program: /opt/s, interpreters: [/usr/bin/env, /bin/sh]}, /bin/sh]",
         "4:71: warning: /bin/sh interprets /opt/s and is listed itself, so that it starts for any script"),
        ("/tmp/**", "/tmp/job-*/**", "6:34: info: /tmp/job-*/** opens all of /tmp: Landlock holds no random part"),
        ("/etc/**", "/srv/in/x-*", "6:16: info: /srv/in/x-* opens all of /srv/in"),
        ("/tmp/**", "/etc/**", "6:34: warning: /etc/** is written"),
        ("/tmp/**", "/tmp/../etc/x", "6:34: error: the path '/tmp/../etc/x' has an empty part"),
        ("/tmp/**", "/tmpfiles", "6:34: warning: /tmpfiles is written"),
        ("{root}/cache/*", "{root}/../x", "6:43: error: the path '{root}/../x' has an empty"),
        ("tcp://example.org:443", "tcp://93.184.216.34:443", "5:24: warning: tcp://93.184.216.34:443 is an address"),
        ("tcp://example.org:443", "tcp://[2606:2800::1]:443", "5:24: warning: tcp://[2606:2800::1]:443 is an address"),
        ("tcp://example.org:443", "tcp://169.254.169.254:80", "5:24: error: tcp://169.254.169.254:80 hands out"),
        ("tcp://example.org:443", "tcp://169.254.170.2:80", "5:24: error: tcp://169.254.170.2:80 hands out"),
        ("tcp://example.org:443", "tcp://[::ffff:169.254.169.254]:80", "5:24: error"),
        ("tcp://example.org:443", "udp://10.0.0.2:53", "5:24: warning: udp://10.0.0.2:53 carries questions"),
        ("tcp://example.org:443", "udp://0.0.0.0/0:*", "5:24: warning: udp://0.0.0.0/0:* is any destination"),
        ("tcp://example.org:443", "udp://*", "5:24: error: 'udp://*': has no port"),
        ("tcp://example.org:443", "93.184.216.34:443", "5:24: warning: 93.184.216.34:443 is an address"),
        ("tcp://example.org:443", "169.254.169.254:80", "5:24: error: 169.254.169.254:80 hands out"),
        ("tcp://example.org:443", "*:443", "5:24: error: '*:443': '*' alone is not a host"),
        ("tcp://example.org:443", "unix:run/x", "5:24: error: 'unix:run/x': is not an absolute path"),
        ("tcp://example.org:443", "example.org", "5:24: error: 'example.org': has no port"),
        ("invoke: {samples", "init: {samples", "11:3: warning: nothing says how complete invoke is"),
        ("quiet: 80, bound: 0.04", "quiet: 9, bound: 0.2831", "8:32: warning: invoke: up to 28% of invocations"),
        ("{root}/cache/*", "{rot}/x", "6:43: error: the path '{rot}/x' is neither absolute nor"),
        ("[/usr/bin/convert]", "[convert]", "4:13: error: the path 'convert' is neither absolute nor"),
        ("host: here", "architecture: x86_64", "9:1: info: trained on x86_64 only"),
        ("host: here", "libc: glibc 2.36", "9:1: info: trained on glibc 2.36 only"),
    ],
)  # fmt: skip
def test_findings_point_at_their_line(old: str, new: str, line: str) -> None:
    """Each fault gives exactly one finding, at the line and column where it stands."""
    assert str(changed(old, new)).startswith(f"p.yaml:{line}")


@pytest.mark.parametrize(
    ("outcome", "severity"),
    [("ok", ""), ("'ok, but not in force here: files'", ""), ("umask", "error"), ("'not installed: no'", "warning")],
)
def test_what_did_not_serve_its_own_events_is_told(outcome: str, severity: str) -> None:
    """An outcome that is not ok is an error, or a warning where the host refused to enforce anything."""
    line = f"verified: {{date: '2030-01-31', tool: 0.1.0, events: 3, audit: ok, enforce: {outcome}}}\n"
    findings = found(GOOD.replace("completeness:", line + "completeness:", 1))
    assert [(finding.severity, finding.line) for finding in findings] == ([(severity, 8)] if severity else [])


def test_loopback_is_no_strange_address() -> None:
    """A destination on the machine itself needs no name."""
    assert found(GOOD.replace("tcp://example.org:443", "tcp://127.0.0.1:80")) == []


def test_programs_without_exec() -> None:
    """Programs in a profile whose phases may not exec are a warning."""
    text = "\n".join(line for line in GOOD.splitlines() if "execve" not in line).replace("exec, ", "")
    assert [str(finding) for finding in found(text)] == [
        "p.yaml:4:1: warning: programs are listed, but no phase may exec"
    ]


def test_a_reason_counts_for_its_own_class_only() -> None:
    """A person's word for one class of a syscall does not excuse another dangerous one."""
    text = GOOD.replace("[exec, ", "[prot_exec, exec, ").replace(
        "    openat:",
        "    mmap: {classes: {exec-anon: {count: 1, because: compiles patterns}, exec-write: 1}, because: learned}\n"
        "    openat:",
    )  # fmt: skip
    (finding,) = found(text)
    assert "mmap exec-write" in finding.message


def test_how_many_more_quiet_invocations() -> None:
    """The warning about thin training says how many more quiet invocations reach one percent, and it is true."""
    finding = changed("quiet: 80, bound: 0.04", "quiet: 9, bound: 0.2831")
    more = int(finding.todo.split()[2])
    assert bound(9 + more) <= 0.01 < bound(9 + more - 1)


def test_the_estimate_has_one_line() -> None:
    """Two thin phases are one warning, of the thinner; a high novelty is one even where the last events were quiet."""
    init = "init: {samples: 3, items: 9, once: 0, novelty: 0, quiet: 2, bound: 0.78, chao2: 9}"
    thin = GOOD.replace("invoke: {samples", f"{init}, invoke: {{samples").replace("bound: 0.04", "bound: 0.3")
    (finding,) = found(thin + "  init:\n    openat: {classes: {read: 3}, because: learned at cold start}\n")
    assert finding.message.startswith("init: up to 78% of cold starts may need something unseen (if")
    (finding,) = found(GOOD.replace("novelty: 0,", "novelty: 0.25,"))
    assert finding.severity == "warning"
    assert finding.message.startswith(
        "invoke: up to 4% of invocations may need something unseen, and 25% of those in training were new to the others"
    )


def test_the_best_training_counts() -> None:
    """A merged profile is as complete as its best training."""
    thin = "{training: thin, invoke: {samples: 1, items: 9, once: 9, novelty: 1, quiet: 0, bound: 1, chao2: 9}}"
    assert found(GOOD.replace("completeness: [", f"completeness: [{thin}, ")) == []


@pytest.mark.parametrize(
    ("reason", "empty"),
    [
        ("", True), ("x", True), ("because", True), ("TODO: write", True), ("needed", True), ("it is needed", True),
        ("xxxxxxxxxxxx", True), ("????????", True), ("<your reason>", True), ("12345678", True), ("short", True),
        ("starts ffmpeg", False), ("renders with a JIT", False), ("Bildgröße ändern", False),
        ("转换图片格式为网页用", False),
    ],
)  # fmt: skip
def test_what_is_a_reason(reason: str, empty: bool) -> None:
    """Placeholders and words that fit anywhere are no reasons; a few words about the function are."""
    assert is_empty_reason(reason) is empty


@settings(deadline=None, max_examples=40)
@given(profile_strategies.profiles(max_uses=6))
def test_any_profile_can_be_linted(profile: Profile) -> None:
    """Whatever a readable profile holds, lint gives findings inside the file and in its order."""
    text = document.write(profile)
    findings = lint(document.parse(text))
    assert [(f.line, f.column) for f in findings] == sorted((f.line, f.column) for f in findings)
    assert all(1 <= f.line <= text.count("\n") + 1 for f in findings)


IGNORED = GOOD.replace("tcp://example.org:443", "tcp://93.184.216.34:443").replace("/tmp/**", "/etc/**")


def test_findings_are_ignored_with_a_reason_alone() -> None:
    """A line of `ignores` with a person's reason takes its finding out of the count; any other is a finding itself."""
    line = 'ignores: [{rule: address, at: "tcp://93.184.216.34:443", because: the vendor publishes no name}, '
    line += "{rule: writes-elsewhere}, {rule: resolver, because: it asks its own}, "
    line += "{rule: adress, because: a typo of it}, {rule: no-reason, because: nobody knows any more}]\n"
    findings = found(IGNORED.replace("syscalls:", f"{line}syscalls:"))
    said = [(one.rule, one.severity, one.subject, one.ignored) for one in findings]
    assert said == [
        ("address", "warning", "tcp://93.184.216.34:443", "the vendor publishes no name"),
        ("writes-elsewhere", "warning", "/etc/**", ""),
        ("ignore-without-reason", "error", "writes-elsewhere", ""),
        ("unused-ignore", "warning", "resolver", ""),
        ("unused-ignore", "error", "adress", ""),
        ("unused-ignore", "error", "no-reason", ""),
    ]
    assert str(findings[0]).startswith("p.yaml:5:24: ignored warning: tcp://93.184.216.34:443 is an address")
    assert findings[4].message == "'adress' is not a rule of lint: did you mean address?"
    assert {one.rule for one in findings} <= RULES.keys()
