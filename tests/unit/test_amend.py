"""Amending a profile: exactly what the violations asked for, never a hard-denied call, and only on consent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import profile_strategies
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.behaviour import comparison, spelling
from sandbox.behaviour.call import Call
from sandbox.kernel import bpf, tables
from sandbox.policy.rules import rules_for
from sandbox.profile import base, document
from sandbox.profile.amend import READABLE, REASON, propose
from sandbox.profile.diff import GrantChange, PlaceChange, UseChange, diff
from sandbox.profile.model import RUNTIME_API, Grant, Profile, ProfiledFunction, Use
from sandbox.violations.record import DENIED, QUESTION, REPORTED, VERDICTS, Violation
from sandbox.violations.sink import Sink

ARCH = "x86_64"
PLAIN = Profile(ProfiledFunction("thumbnail", "app.handler"), network=frozenset({RUNTIME_API}))


def event(
    syscall: str, name: str = "", *, phase: str = "invoke", target: str = "", reason: str = "not in the profile",
    verdict: str = REPORTED, allow: str = "",
) -> Violation:  # fmt: skip
    """A violation of the function thumbnail, in audit unless something else is said."""
    return Violation(
        function="thumbnail", phase=phase, request=None, pid=1, tid=1, comm="x", syscall=syscall, arg_class=name,
        args=[], target=target, verdict=verdict, errno="" if verdict == REPORTED else "EPERM", reason=reason,
        allow=allow, time=1.0,
    )  # fmt: skip


def events(phases: tuple[str, ...]) -> st.SearchStrategy[list[Violation]]:
    """Violations of calls that a profile may hold."""
    one = st.builds(
        lambda item, phase, verdict: event(*item, phase=phase, verdict=verdict), profile_strategies.items(),
        st.sampled_from(phases), st.sampled_from(VERDICTS),
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=6)


def goes_with(profile: Profile, refused: set[tuple[str, Call]]) -> set[tuple[str, Call]]:
    """What belongs to the job of a call that was refused, and after an exec what the function did at its start."""
    found = {(phase, then) for phase, call in refused for line in base.together() if call in line.when
             for then in line.then}  # fmt: skip
    starts = any(phase == "invoke" and call.syscall in tables.EXECS for phase, call in refused)
    return found | {("invoke", use.call) for use in profile.uses if starts and use.phase == "init"}


def rest(profile: Profile) -> tuple[object, ...]:
    """What no amendment touches."""
    return profile.function, profile.grants, profile.trainings, profile.audit_until, profile.responses


@settings(max_examples=60, deadline=None)
@given(st.data(), profile_strategies.profiles(max_uses=6))
def test_amendments_add_what_was_asked_for_and_nothing_else(data: st.DataObject, profile: Profile) -> None:
    """Every added item has a violation, nothing goes, what is written is accepted, and twice is as good as once."""
    phases = ("init", "invoke") if profile.function.runtime_api else ("run",)
    found = data.draw(events(phases))
    amended = propose(profile, found)
    asked = {(one.phase, READABLE.get(one.syscall, one.syscall), one.arg_class) for one in found}
    refused = {(one.phase, Call(READABLE.get(one.syscall, one.syscall), one.arg_class)) for one in found
               if one.verdict != REPORTED}  # fmt: skip
    added = {use.key for use in amended.profile.uses} - {use.key for use in profile.uses}
    assert added - asked <= {(phase, *call) for phase, call in goes_with(profile, refused)}
    assert amended.profile.uses >= profile.uses
    assert rest(amended.profile) == rest(profile)
    assert document.parse(document.write(amended.profile)).profile == amended.profile
    assert sum(p.evidence for p in amended.proposals) + sum(r.evidence for r in amended.refusals) == len(found)
    again = propose(amended.profile, found)
    assert again.proposals == ()
    assert again.profile == amended.profile
    backwards = propose(profile, list(reversed(found)))
    assert backwards.profile == amended.profile
    assert [(p.change, p.evidence) for p in backwards.proposals] == [(p.change, p.evidence) for p in amended.proposals]


@settings(max_examples=100, deadline=None)
@given(profile_strategies.items(), st.sampled_from(tables.ARCHES))
def test_what_was_amended_is_allowed_by_the_filter(item: Call, arch: str) -> None:
    """The rules of the amended profile let the refused call through, and did not before unless the floor has it."""
    amended = propose(PLAIN, [event(*item)])
    syscall = READABLE.get(item[0], item[0])
    if not amended.proposals or syscall not in tables.numbers(arch):
        return
    try:
        alternatives = comparison.conditions(*Call(syscall, item.arg_class).as_compared(), arch)
    except ValueError:
        return  # a class of the other architecture
    rules = rules_for(amended.profile, arch)
    args = [0] * 6
    for condition in alternatives[0]:
        args[condition.argument] |= condition.value
    assert rules.verdict(tables.AUDIT_ARCH[arch], tables.numbers(arch)[syscall], args) == bpf.ALLOW


def test_what_is_changed_and_shown_is_proposed_as_training_learns_it() -> None:
    """A folder whose mode changes is itself the place; a file of another process is that of any, but for secrets."""
    found = propose(PLAIN, [
        event("chmod", target="/srv/folder", allow="files.write: [/srv/folder]"),
        event("openat", "read", target="/proc/7/comm", allow='files.read: ["/proc/*/comm"]'),
        event("openat", "read", target="/proc/8/comm", allow='files.read: ["/proc/*/comm"]'),
        event("openat", "read", target="/proc/9/net/tcp", allow="files.read: [/proc/net/tcp]"),
        event("openat", "read", target="/proc/7/environ", allow='files.read: ["/proc/*/environ"]'),
    ])  # fmt: skip
    assert found.profile.writes == {"/srv/folder"}
    assert found.profile.reads == {"/proc/*/comm", "/proc/net/tcp"}
    assert [refusal.reason for refusal in found.refusals] == ["may hold secrets: a person decides"]


def test_a_name_is_proposed_with_the_port_that_was_connected_to() -> None:
    """A DNS question does not know the port: any, where nothing connected to the name; it is dropped otherwise."""
    asked = event("connect", target="db.internal:*", reason=f"{QUESTION}: NXDOMAIN")
    connected = event("connect", target="db.internal:5432")
    assert propose(PLAIN, [asked]).profile.network == {RUNTIME_API, "db.internal:*"}
    assert propose(PLAIN, [event("connect", target="db.internal:*")]).profile == PLAIN
    amended = propose(PLAIN, [asked, connected, asked])
    assert amended.profile.network == {RUNTIME_API, "db.internal:5432"}
    assert {(use.syscall, use.arg_class) for use in amended.profile.uses} == {("connect", "")}


@pytest.mark.parametrize("entry", base.hard_deny(), ids=lambda entry: " ".join((entry.syscall, *entry.classes[:1])))
def test_hard_denied_calls_are_never_proposed(entry: base.BaseEntry) -> None:
    """They are listed, with the grant that a person would write where one is possible."""
    for name in entry.classes or ("",):
        found = propose(PLAIN, [event(entry.syscall, name)] * 3)
        assert found.proposals == ()
        assert found.profile == PLAIN
        (refusal,) = found.refusals
        assert refusal.evidence == 3
        if entry.grantable:
            assert f"{{syscall: {entry.syscall}, " in refusal.how
            assert (f"classes: [{name}]" in refusal.how) == bool(name)
        else:
            assert refusal.how == ""


def test_what_a_refused_call_kept_from_view_is_proposed_with_it() -> None:
    """The rest of its job, with the reason and without evidence; nothing dangerous, and in audit nothing at all."""
    begin = frozenset(
        Use("init", syscall, name, 1, frozenset({"learned at cold start"}))
        for syscall, name in (("readlink", ""), ("mmap", "exec-file"), ("mmap", "exec-anon"), ("socket", "AF_PACKET"))
    )
    profile = Profile(PLAIN.function, begin)
    seen = propose(profile, [event("execve", target="/bin/true"), event("openat", "create", target="/srv/x")])
    assert {use.syscall for use in seen.profile.uses - begin} == {"execve", "openat"}
    found = propose(profile, [
        event("execve", target="/bin/true", verdict=DENIED), event("openat", "create", target="/srv/x", verdict=DENIED),
    ])  # fmt: skip
    more = {(use.syscall, use.arg_class) for use in found.profile.uses - seen.profile.uses}
    assert {("readlink", ""), ("mmap", "exec-file"), ("wait4", ""), ("unlink", ""), ("mkdir", "")} <= more
    assert not {("mmap", "exec-anon"), ("socket", "AF_PACKET"), ("execveat", "")} & more
    assert (found.profile.writes, found.profile.processes) == (seen.profile.writes, seen.profile.processes)
    assert all(bool(proposal.because) == (not proposal.evidence) for proposal in found.proposals)
    assert propose(found.profile, [event("execve", target="/bin/true", verdict=DENIED)]).proposals == ()


def test_nothing_dangerous_goes_with_another_call() -> None:
    """Each job's calls can stand in a profile; none is hard-denied or one that reviewers must not overlook."""
    for line in base.together():
        for call in line.then:
            assert not base.denial(call), call
            assert not base.find(base.dangerous(), call), call
        uses = frozenset(Use("invoke", *call, 1, frozenset({REASON})) for call in line.then)
        assert document.parse(document.write(Profile(PLAIN.function, uses))).profile.uses == uses


def test_a_granted_call_needs_nothing_more() -> None:
    """A person's grant stands: an old violation of the call asks for nothing."""
    granted = Profile(PLAIN.function, grants=frozenset({Grant("mount", frozenset(), "mounts its own scratch space")}))
    (refusal,) = propose(granted, [event("mount")]).refusals
    assert refusal.reason == "is allowed by the profile already"


def test_destinations_programs_and_files_are_added_where_they_belong() -> None:
    """The call and its target are two lines; what a pattern covers already is not said again."""
    profile = Profile(PLAIN.function, reads=frozenset({"/etc/ssl/**"}), writes=frozenset({"/tmp/*"}))
    found = propose(profile, [
        event("connect", target="tcp://10.0.0.1:443"), event("connect", target="example.com:443"),
        event("execve", target="/usr/bin/ffmpeg"), event("openat", "read", target="/etc/ssl/cert.pem"),
        event("openat", "create", target="/tmp/x"), event("openat", "create", target="/var/cache/x"),
        event("unlink", target="/var/cache/y"),
    ])  # fmt: skip
    assert found.refusals == ()
    changes = diff(profile, found.profile).changes
    assert {(c.section, c.place) for c in changes if isinstance(c, PlaceChange)} == {
        ("network", "tcp://10.0.0.1:443"), ("network", "example.com:443"), ("processes", "/usr/bin/ffmpeg"),
        ("write", "/var/cache/*"),
    }  # fmt: skip
    assert {c.use.syscall for c in changes if isinstance(c, UseChange)} == {"connect", "execve", "openat", "unlink"}
    assert not [c for c in changes if isinstance(c, GrantChange)]
    texts = [proposal.change for proposal in found.proposals]
    assert "syscalls.invoke.openat: {classes: {create: 2}, because: <your reason>}" in texts
    assert "processes: [/usr/bin/ffmpeg]" in texts
    assert found.proposals[0].risk == "high"
    assert all(use.because == {REASON} for use in found.profile.uses)


def refused_file(syscall: str, target: str, allow: str, arg_class: str = "", phase: str = "invoke") -> Violation:
    """A line of the look at files."""
    return Violation(
        function="thumbnail", phase=phase, request=None, pid=1, tid=1, comm="x", syscall=syscall, arg_class=arg_class,
        args=[], target=target, verdict="reported", errno="", reason="a place", allow=allow, time=1.0,
    )  # fmt: skip


def test_files_are_proposed_as_training_would_have_learned_them() -> None:
    """Of random names in a folder the folder, of a folder that was made the one above, of one file that file."""
    found = propose(PLAIN, [
        refused_file("openat", "/var/tmp/spill/s_8004910f", 'files.write: ["/var/tmp/spill/*"]', "create"),
        refused_file("unlink", "/var/tmp/spill/s_8004910f", 'files.write: ["/var/tmp/spill/*"]'),
        refused_file("openat", "/var/tmp/spill/s_8004910f", "files.read: [/var/tmp/spill/s_8004910f]", "read"),
        refused_file("mkdir", "/data/2026", 'files.write: ["/data/*"]'),
        refused_file("openat", "/data/2026/x", 'files.write: ["/data/2026/*"]', "create"),
        refused_file("openat", "/srv/there", "files.write: [/srv/there]", "write"),
        refused_file("openat", "/srv/list", "files.read: [/srv/list]", "read"),
        refused_file("openat", "/opt/f/data/x", 'files.read: ["{root}/data/x"]', "read"),
        *(refused_file("openat", f"/srv/many/{i}", f"files.read: [/srv/many/{i}]", "read") for i in range(9)),
    ])  # fmt: skip
    assert found.profile.writes == {"/var/tmp/spill/*", "/data/**", "/srv/there"}
    assert found.profile.reads == {"/srv/list", "{root}/data/x", "/srv/many/*"}
    assert [p.evidence for p in found.proposals if p.change == 'files.read: ["/srv/many/*"]'] == [9]


def test_a_program_of_the_functions_own_is_proposed_by_its_folder() -> None:
    """{root} serves other hosts; a text that does not end like the target is not believed."""
    for allow, thing in (("{root}/bin/tool", "{root}/bin/tool"), ("{root}/other", "/opt/f/bin/tool")):
        found = propose(PLAIN, [refused_file("execve", "/opt/f/bin/tool", f'processes: ["{allow}"]')])
        assert found.profile.processes == {thing}


def test_the_folder_of_a_replaced_file_is_left_to_a_person() -> None:
    """It lies above what was refused; the person reads what to write."""
    found = propose(PLAIN, [refused_file("openat", "/srv/conf/app", 'files.read: ["/srv/conf/**"]', "read")])
    assert found.profile.reads == frozenset()
    assert [refusal.how for refusal in found.refusals] == ['files.read: ["/srv/conf/**"]']


@pytest.mark.parametrize(
    "target",
    ["/root/.aws/credentials", "/home/me/.ssh/id_rsa", "/home/me", "/run/secrets/token", "/etc/shadow",
     "/proc/1/environ", "/proc/self/mem", "/proc/7/task/7/environ", "/var/run/secrets/token", "/etc/ssh/key"],
)  # fmt: skip
@pytest.mark.parametrize("writes", [False, True])
def test_secrets_are_left_to_a_person(target: str, writes: bool) -> None:
    """Reading them, or writing where they lie, is refused with what a person would write."""
    section = "files.write" if writes else "files.read"
    folder = os.path.dirname(target)
    text = f'{section}: ["{folder}/*"]' if writes else f"{section}: [{target}]"
    found = propose(PLAIN, [refused_file("openat", target, text, "create" if writes else "read")])
    assert found.profile.reads == found.profile.writes == frozenset()
    (refusal,) = found.refusals
    assert refusal.reason == "may hold secrets: a person decides"
    assert refusal.how == text


def test_no_folder_that_holds_secrets_is_proposed() -> None:
    """A file made in /etc would open all of it to writing."""
    found = propose(PLAIN, [refused_file("openat", "/etc/new", 'files.write: ["/etc/*"]', "create")])
    assert found.profile.writes == frozenset()
    assert [refusal.how for refusal in found.refusals] == ['files.write: ["/etc/*"]']


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (event("connect", target="tcp://169.254.169.254:80"), "hands out credentials"),
        (event("connect", target="tcp://[fd00:ec2::254]:80"), "hands out credentials"),
        (event("connect", target="tcp://169.254.170.23:80"), "hands out credentials"),
        (event("connect", target="udp://[64:ff9b::a9fe:a9fe]:80"), "hands out credentials"),
        (event("connect", target="tcp://[::ffff:169.254.169.254]:80"), "hands out credentials"),
        *((event("connect", target=target), "hands out credentials") for target in (
            "0xa9fea9fe:80", "tcp://169.254.1.1:80",
            "tcp://[::ffff:a9fe:a9fe]:80", "tcp://[::169.254.169.254]:80", "tcp://[2002:a9fe:a9fe::1]:80",
            "tcp://[fe80::1]:80", "tcp://[fe80::a9fe:a9fe]:80", "tcp://[fd00:ec2::1]:80", "tcp://100.100.100.200:80",
            "udp://168.63.129.16:80", "metadata.google.internal:80", "instance-data:80",
        )),
        *((event("connect", target=target), "not a destination") for target in (
            "2852039166:80", "0251.0376.0251.0376:80", "169.254.43518:80", "169.254.169.254.:80",
        )),
        *((event("execve", target=target), "is a shell") for target in ("/bin/sh", "/usr/bin/bash", "/bin/busybox")),
        (event("connect", target="udp://10.0.0.2:53"), "is a resolver"),
        (event("connect", target="tcp://[2001:db8::53]:53"), "is a resolver"),
        (event("connect", target="tcp://10.0.0.0/8:443"), "more than one"),
        (event("connect", target="*.example.com:443"), "more than one"),
        (event("connect", target="example.com:*"), "more than one"),
        (event("connect", target="unix:/run/*"), "more than one"),
        (event("connect", target="*"), "not a destination"),
        (event("connect", target="0.0.0.0/0, x"), "not a destination"),
        (event("connect", target="runtime-api"), "not a destination"),
        (event("execve", target="sh"), "not an absolute path"),
        (event("openat", "create", target="/tmp/../etc/x"), "not an absolute path"),
        (event("openat", "read", target="/**"), "pattern"),
        (event("openat", "read", target="/a\nb"), "no profile can hold"),
        (event("openat", ""), "class"),
        (event("openat", "everything"), "class"),
        (event("kill", "9"), "written"),
        (event("made_up"), "not a system call"),
        (event("getppid", phase="run"), "phase"),
        (event("clone3", ""), ""),
        (event("socket", "AF_INET6 SOCK_DGRAM"), "without loss"),
        (event(""), "not a system call"),
        (event("getppid", phase="7", target="x"), "phase"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_reason(what: Violation, words: str) -> None:
    """A forged or meaningless violation widens nothing and raises nothing."""
    found = propose(PLAIN, [what])
    assert found.profile == PLAIN
    assert found.proposals == ()
    (refusal,) = found.refusals
    assert words in refusal.reason


def test_datagrams_to_what_is_reached_by_tcp_are_left_to_a_person() -> None:
    """libc connects a datagram socket to sort addresses; of a name and of an address, and in either order."""
    for stream, datagram in (("example.com:443", "udp://example.com:443"), ("tcp://10.0.0.1:5", "udp://10.0.0.1:0")):
        lines = [event("connect", target=datagram), event("connect", target=stream)]
        for found in (propose(PLAIN, lines), propose(PLAIN, lines[::-1])):
            assert found.profile.network == {RUNTIME_API, stream}
            assert [refusal.how for refusal in found.refusals] == [spelling.of_entry("network", datagram)]
    apart = [event("connect", target="tcp://10.0.0.1:5"), event("connect", target="udp://10.0.0.1:6")]
    assert len(propose(PLAIN, apart).profile.network) == 3


def test_a_connect_to_a_port_that_the_kernel_chose_is_one_to_its_own_listener() -> None:
    """Where the function listens at such a port; fixed ports and other addresses stay as they are."""
    targets = ("tcp://127.0.0.1:40001", "tcp://127.0.0.1:50002", "tcp://127.0.0.1:2000", "tcp://10.0.0.1:40001")
    connects = [event("connect", target=target) for target in targets]
    found = propose(PLAIN, [event("listen", target="tcp://127.0.0.1:*"), *connects])
    assert found.profile.network == {RUNTIME_API, "own", "tcp://127.0.0.1:2000", "tcp://10.0.0.1:40001"}
    assert found.profile.listen == {"tcp://127.0.0.1:*"}
    assert propose(PLAIN, connects).profile.network == {RUNTIME_API, *targets}
    assert "tcp://127.0.0.1:40001" in propose(found.profile, connects).profile.network


def test_with_a_key_only_lines_that_verify_count(tmp_path: Path) -> None:
    """A forged line is left out and told; without any that verifies nothing is changed."""
    profile, journal, key = tmp_path / "thumbnail.yaml", tmp_path / "events", tmp_path / "key"
    profile.write_text(document.write(PLAIN))
    key.write_text("secret\n")
    sink = Sink(f"file:{journal}", key=b"secret")
    sink.write(event("connect", target="example.com:443"))
    sink.close()
    plain = tmp_path / "plain"
    forger = Sink(f"file:{plain}")
    forger.write(event("connect", target="evil.example:443"))
    forger.close()
    journal.write_bytes(journal.read_bytes() + plain.read_bytes())
    run = sandbox("profile", "amend", str(profile), "--from", str(journal), "--key-file", str(key), "--yes")
    assert run.returncode == 0, run.stderr
    assert b"left out 1 line that does not verify, the first in line 2: carries no signature" in run.stderr
    assert document.read(str(profile)).profile.network == {RUNTIME_API, "example.com:443"}
    key.write_text("another")
    wrong = sandbox("profile", "amend", str(profile), "--from", str(journal), "--key-file", str(key), "--yes")
    assert wrong.returncode == 64
    assert b"holds no violations that verify" in wrong.stderr


def test_calls_that_a_filter_cannot_read_become_those_that_it_can() -> None:
    """openat2 and clone3 are answered with `no such call`; libc then makes the older one, which is what is proposed."""
    found = propose(PLAIN, [event("openat2", "read"), event("clone3", "thread")])
    assert {use.key for use in found.profile.uses} == {("invoke", "openat", "read"), ("invoke", "clone", "thread")}


def sandbox(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments], input=given, capture_output=True, timeout=60, check=False
    )


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """A profile and the journal of what it refused."""
    profile, journal = tmp_path / "thumbnail.yaml", tmp_path / "events"
    use = Use("invoke", "openat", "read", 1, frozenset({"learned from every event"}))
    profile.write_text(document.write(Profile(PLAIN.function, frozenset({use}), network=PLAIN.network)))
    sink = Sink(f"file:{journal}")
    for each in (event("connect", target="example.com:443"), event("ptrace", "", target=""), event("getppid")):
        sink.write(each)
    sink.close()
    return profile, journal


def test_nothing_is_written_without_consent(scene: tuple[Path, Path]) -> None:
    """Without a terminal and without --yes the proposals are shown and the file stays."""
    profile, journal = scene
    before = profile.read_bytes()
    run = sandbox("profile", "amend", str(profile), "--from", str(journal))
    assert run.returncode == 64
    assert b"without a terminal nobody can agree" in run.stderr
    assert profile.read_bytes() == before
    shown = run.stdout.decode()
    for words in (
        "propose network: [", "risk high, 1 violation, such as:", "not proposed: ptrace", "hard-denied",
        "grants: [{syscall: ptrace, because: <your reason>}]", "+ network: example.com:443", "+ invoke: getppid",
    ):  # fmt: skip
        assert words in shown, words


def test_yes_writes_what_was_shown(scene: tuple[Path, Path]) -> None:
    """--yes writes a profile that is read back with exactly the proposals; a second run has nothing to add."""
    profile, journal = scene
    before = document.read(str(profile)).profile
    run = sandbox("profile", "amend", str(profile), "--from", "-", "--yes", given=journal.read_bytes())
    assert run.returncode == 0, run.stderr
    after = document.read(str(profile)).profile
    assert after.network - before.network == {"example.com:443"}
    assert {use.syscall for use in after.uses - before.uses} == {"connect", "getppid"}
    again = sandbox("profile", "amend", str(profile), "--from", str(journal))
    assert again.returncode == 0, again.stderr
    assert b"nothing to add" in again.stdout


def test_syscalls_can_be_chosen(scene: tuple[Path, Path]) -> None:
    """--syscall takes in only the violations of those calls."""
    profile, journal = scene
    run = sandbox("profile", "amend", str(profile), "--from", str(journal), "--syscall", "getppid", "--yes")
    assert run.returncode == 0, run.stderr
    assert document.read(str(profile)).profile.network == PLAIN.network
    none = sandbox("profile", "amend", str(profile), "--from", str(journal), "--syscall", "bpf", "--yes")
    assert none.returncode == 64
    assert b"holds no violations of bpf" in none.stderr


def test_events_of_another_function_are_refused(scene: tuple[Path, Path]) -> None:
    """A profile is not widened by what some other function did."""
    profile, journal = scene
    journal.write_bytes(journal.read_bytes().replace(b'"thumbnail"', b'"other"', 1))
    run = sandbox("profile", "amend", str(profile), "--from", str(journal), "--yes")
    assert run.returncode == 64
    assert b"not only of thumbnail" in run.stderr


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
def test_a_terminal_is_asked(scene: tuple[Path, Path], answer: bytes, code: int) -> None:
    """On a terminal the question is put, and only yes writes."""
    profile, journal = scene
    before = profile.read_bytes()
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "sandbox", "profile", "amend", str(profile), "--from", str(journal)],
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            os.write(ours, answer)
            process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert (profile.read_bytes() != before) == (code == 0)
