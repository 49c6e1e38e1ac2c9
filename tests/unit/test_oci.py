"""OCI seccomp JSON: an export says what the filter does, an import says no more than the file, and neither guesses."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from typing import Any

import profile_strategies
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.errors import ProfileError
from sandbox.kernel import bpf, tables
from sandbox.policy import verify
from sandbox.policy.oci import ENGINE, as_operator_object, export_oci, with_engine
from sandbox.policy.oci_file import load
from sandbox.policy.oci_import import Imported, import_oci
from sandbox.policy.rules import Rules, rules_for
from sandbox.profile import document
from sandbox.profile.model import Grant, Phase, Profile, ProfiledFunction, Use
from sandbox.profile.promises import promises_of

LOCATED = re.compile(r"<oci>:\$[^ ]*")


def profile(*uses: tuple[Phase, str, str], runtime_api: bool = False) -> Profile:
    """A profile with these uses."""
    found = frozenset(Use(phase, syscall, name, 1, frozenset({"learned"})) for phase, syscall, name in uses)
    return Profile(ProfiledFunction("f", runtime_api=runtime_api), found, promises=promises_of(found))


def oci(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A seccomp object that allows these entries."""
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW"} | e for e in entries], **more}


def items(imported: Imported) -> set[tuple[str, str]]:
    """What was imported, without the phases."""
    return set(imported.profile.items())


def allowed_by(exported: dict[str, Any], syscall: str, args: tuple[int, ...]) -> bool:
    """What a container runtime makes of the file: entries are alternatives, args of one entry all hold."""
    for entry in exported["syscalls"]:
        if entry["action"] == "SCMP_ACT_ALLOW" and syscall in entry["names"]:
            for arg in entry.get("args", ()):
                masked = arg["op"] == "SCMP_CMP_MASKED_EQ"
                mask, value = (arg["value"], arg["valueTwo"]) if masked else (2**64 - 1, arg["value"])
                if args[arg["index"]] & mask != value:
                    break
            else:
                return True
    return False


def calls(rules: Rules, beside: Rules | None = None) -> list[tuple[int, int, tuple[int, ...]]]:
    """The calls on which the verifier would compare a filter with these rules, without those it shares with others."""
    own = tables.AUDIT_ARCH[rules.arch]
    known = beside.allow if beside else {}
    changed = {nr: found for nr, found in rules.allow.items() if found != known.get(nr)}
    return [call for call in verify._calls(replace(rules, allow=changed), ()) if call[0] == own]


BARE = {
    (arch, runtime_api): rules_for(Profile(ProfiledFunction("f", runtime_api=runtime_api)), arch)
    for arch in tables.ARCHES
    for runtime_api in (True, False)
}


@settings(deadline=None, max_examples=50)
@given(profile_strategies.profiles(max_uses=8))
@example(Profile(ProfiledFunction("f")))
def test_an_export_allows_what_the_filter_allows(any_profile: Profile) -> None:
    """On every call that the verifier would try, the exported file and the rules agree."""
    exported = json.loads(json.dumps(export_oci(any_profile)))
    for arch in tables.ARCHES:
        rules, names = rules_for(any_profile, arch), tables.names(arch)
        bare = BARE[arch, any_profile.function.runtime_api] if any_profile.uses else None
        for number, nr, args in calls(rules, bare):
            if nr in names:
                wanted = rules.verdict(number, nr, args) == bpf.ALLOW
                assert allowed_by(exported, names[nr], args) == wanted, (names[nr], args)


@settings(deadline=None, max_examples=50)
@given(profile_strategies.profiles(max_uses=10))
@example(Profile(ProfiledFunction("f")))
def test_round_trip(any_profile: Profile) -> None:
    """Exported and imported again, with its grants written back, a profile allows exactly what it allowed."""
    function = any_profile.function
    imported = import_oci(json.loads(json.dumps(export_oci(any_profile))), "f", runtime_api=function.runtime_api)
    again = replace(imported.profile, grants=any_profile.grants)
    assert document.parse(document.write(again)).profile == again
    for arch in tables.ARCHES:
        before, after = rules_for(any_profile, arch), rules_for(again, arch)
        assert before.refuse == after.refuse
        bare = BARE[arch, function.runtime_api] if any_profile.uses else None
        for call in [*calls(before, bare), *calls(after, bare)]:
            assert before.verdict(*call) == after.verdict(*call), (tables.names(arch).get(call[1]), call)


def test_what_is_exported() -> None:
    """The object has the shape that the specification names, with equal conditions grouped and clone3 as ENOSYS."""
    exported = export_oci(profile(("run", "openat", "read"), ("run", "getcwd", "")))
    assert exported["defaultAction"] == "SCMP_ACT_ERRNO"
    assert exported["defaultErrnoRet"] == 1
    assert exported["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    read = {"index": 2, "value": 0x400243, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    assert {"names": ["openat"], "action": "SCMP_ACT_ALLOW", "args": [read]} in exported["syscalls"]
    assert any({"getcwd", "execve", "exit_group"} <= {*e["names"]} and "args" not in e for e in exported["syscalls"])
    enosys = [entry for entry in exported["syscalls"] if entry.get("errnoRet") == 38]
    assert len(enosys) == 1
    assert {"clone3", "io_uring_setup"} <= {*enosys[0]["names"]}
    assert "comment" not in json.dumps(exported)


def test_full_registers_are_compared_for_equality() -> None:
    """A condition on all 64 bits is written as SCMP_CMP_EQ."""
    exported = export_oci(profile(("run", "sendto", "connected")))
    (entry,) = [entry for entry in exported["syscalls"] if "sendto" in entry["names"]]
    assert {"index": 4, "value": 0, "op": "SCMP_CMP_EQ"} in entry["args"]


def test_no_entry_compares_an_argument_twice() -> None:
    """Container runtimes take two conditions on one argument for alternatives; no entry has them."""
    classes = profile_strategies.CLASSES
    everything = [("run", syscall, name) for syscall, names in classes.items() for name in names[:40]]
    for entry in export_oci(profile(*everything))["syscalls"]:  # type: ignore[arg-type]
        indexes = [arg["index"] for arg in entry.get("args", ())]
        assert len(indexes) == len(set(indexes))


def test_one_architecture_alone() -> None:
    """An export for one architecture names it alone and none of the other's syscalls."""
    exported = export_oci(profile(("run", "openat", "read")), ("aarch64",))
    assert exported["architectures"] == ["SCMP_ARCH_AARCH64"]
    assert not any("open" in entry["names"] for entry in exported["syscalls"])


def test_imports_land_in_both_phases_with_their_source() -> None:
    """A function's import holds for init and invoke, says where it is from, and leaves out what every profile has."""
    imported = import_oci(oci({"names": ["mkdir", "read"]}), "f", source="/a/docker.json")
    assert imported.profile.uses == {
        Use(phase, "mkdir", "", 0, frozenset({"imported from docker.json"})) for phase in ("init", "invoke")
    }
    assert {use.phase for use in import_oci(oci({"names": ["mkdir"]}), "f", runtime_api=False).profile.uses} == {"run"}


def test_a_whole_container_configuration() -> None:
    """The seccomp object is found inside a config.json, and errors point into it."""
    config = {"ociVersion": "1.0.2", "linux": {"seccomp": oci({"names": ["mkdir"]})}}
    assert items(import_oci(config, "f")) == {("mkdir", "")}
    with pytest.raises(ProfileError) as caught:
        import_oci({"linux": {"seccomp": oci({"names": []})}}, "f")
    assert caught.value.where == "<oci>:$.linux.seccomp.syscalls[0].names"


@pytest.mark.parametrize(
    ("names", "args", "found"),
    [
        (["socket"], [(0, 2, None), (1, 0xF, 1), (2, 0, None)], set()),
        (["mkdir"], [(1, 4, None)], set()),
        (["mmap"], [(2, 7, 7)], set()),
        (["kill"], [(1, 15, None)], {("kill", "SIGTERM")}),
        (["kill"], [(1, 0xFFFFFFFF, 15)], {("kill", "SIGTERM")}),
        (["ioctl"], [(1, 0x5413, None)], {("ioctl", "TIOCGWINSZ")}),
        (["openat"], [(2, 0x400243, 0)], {("openat", "read")}),
        (["mmap"], [(2, 6, 6)], {("mmap", "exec-write")}),
        (["mmap"], [(2, 6, 4)], {("mmap", "exec-file"), ("mmap", "exec-anon")}),
        (["clone"], [(0, 0x7E020000, 0)], {("clone", "process"), ("clone", "thread")}),
        (["clone"], [], {("clone", "process"), ("clone", "thread")}),
        (["sendto"], [], {("sendto", "addressed")}),
        (["prlimit64"], [], {("prlimit64", "other")}),
        (["mkdir"], [], {("mkdir", "")}),
        (["ioctl", "socket"], [], set()),
        (["ptrace", "bpf", "clone3", "seccomp"], [], set()),
        (["prctl"], [(0, 22, None)], set()),
        (["prctl"], [(0, 35, None)], set()),
        (["sys_of_the_future"], [], set()),
        (["execve"], [], set()),
        (["execve", "fork"], [], {("execve", ""), ("fork", "process")}),
    ],
)  # fmt: skip
def test_args_become_classes(
    names: list[str], args: list[tuple[int, int, int | None]], found: set[tuple[str, str]]
) -> None:
    """Args become the classes that they contain whole, never a wider one; what is left out has a note."""
    entry = {"names": names, "args": [_arg(*arg) for arg in args]}
    imported = import_oci(oci(entry), "f", runtime_api=False)
    assert items(imported) == found
    if not found:
        assert len(imported.notes) == len(names)
    for arch in tables.ARCHES:
        bare = BARE[arch, False]
        for number, nr, values in calls(rules := rules_for(imported.profile, arch), bare):
            name = tables.names(arch).get(nr, "")
            if name in names and rules.verdict(number, nr, values) == bpf.ALLOW:
                inside = allowed_by(oci(entry), name, tuple(value & 0xFFFFFFFF for value in values))
                assert inside or bare.verdict(number, nr, values) == bpf.ALLOW, (name, values)


def _arg(index: int, value: int, two: int | None) -> dict[str, Any]:
    if two is None:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}
    return {"index": index, "value": value, "valueTwo": two, "op": "SCMP_CMP_MASKED_EQ"}


def test_a_class_of_two_alternatives_needs_both() -> None:
    """TCP as protocol 0 alone is not the class, with protocol 6 beside it it is."""
    entries = [
        {"names": ["socket"], "args": [_arg(0, 10, None), _arg(1, 0xF, 1), _arg(2, protocol, None)]}
        for protocol in (0, 6)
    ]
    alone = import_oci(oci(entries[0]), "f")
    assert not items(alone)
    assert "is not an argument class" in alone.notes[0]
    assert items(import_oci(oci(*entries), "f")) == {("socket", "AF_INET6 SOCK_STREAM")}


def test_notes_say_how_to_grant() -> None:
    """A hard-denied call is left out with the line that would grant it, which the reader then accepts."""
    imported = import_oci(oci({"names": ["ptrace"]}), "f")
    assert "{syscall: ptrace, because: <your reason>}" in imported.notes[0]
    assert imported.notes[0].startswith("$.syscalls[0].names[0]: ")
    granted = replace(imported.profile, grants=frozenset({Grant("ptrace", frozenset(), "is a debugger")}))
    assert document.parse(document.write(granted)).profile == granted


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (oci({"names": ["mkdri"], "action": "SCMP_ACT_ERRNO"}), "$.syscalls[0].names[0]: 'mkdri' is ignored"),
        (oci({"names": ["mkdir"], "args": [{"index": 1, "op": "SCMP_CMP_NE"}]}), "$.syscalls[0].args: mkdir left out"),
        (oci({"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}), "$.syscalls[0]: chmod left out: SCMP_ACT_NOTIFY"),
        (oci({"names": ["chmod"], "action": "SCMP_ACT_TRACE"}), "$.syscalls[0]: chmod left out: SCMP_ACT_TRACE"),
        (oci({"names": ["chmod"], "action": "SCMP_ACT_KILL"}), "$.syscalls[0]: chmod: refused with an errno"),
        (oci({"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS"}), "chmod: refused with EPERM"),
        (oci({"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": "38"}), "refused with EPERM, not ENOSYS"),
        (oci({"names": ["mkdir"], "action": "SCMP_ACT_LOG"}), "$.syscalls[0]: mkdir: allowed and logged by the file"),
        (oci(listenerPath="/run/agent.sock"), "$.listenerPath: is left out"),
        (oci(flags=["SECCOMP_FILTER_FLAG_LOG"]), "$.flags: SECCOMP_FILTER_FLAG_LOG left out"),
        (oci(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]), "$.architectures: SCMP_ARCH_X86 left out"),
        (oci(defaultErrno="ENOSYS"), "$.defaultErrnoRet: what is not allowed gets EPERM, not ENOSYS"),
        (oci(defaultAction="SCMP_ACT_KILL"), "$.defaultAction: what is not allowed gets EPERM"),
        (oci(baseProfileName="runc-v1.3.0"), "$.baseProfileName: 'runc-v1.3.0' is not read"),
    ],
)  # fmt: skip
def test_nothing_is_dropped_in_silence(data: dict[str, Any], note: str) -> None:
    """What a profile cannot say is a note at its JSON path, and the only one."""
    (only,) = import_oci(data, "f").notes
    assert note in only


def test_quiet_where_nothing_is_lost() -> None:
    """clone3 as ENOSYS and bpf as EPERM are what every profile answers: they need no note."""
    entries = [
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 1},
    ]
    assert import_oci(oci(*entries, architectures=["SCMP_ARCH_X86_64"]), "f").notes == ()


def test_logged_calls_are_allowed() -> None:
    """An entry that allows and logs is an entry that allows."""
    assert items(import_oci(oci({"names": ["mkdir"], "action": "SCMP_ACT_LOG"}), "f")) == {("mkdir", "")}


@settings(deadline=None, max_examples=25)
@given(profile_strategies.profiles(max_uses=8), st.booleans())
def test_the_engines_calls_are_marked(any_profile: Profile, no_new_privileges: bool) -> None:
    """What is added for the engine is marked, allows no more where NoNewPrivs is set, and does not come back."""
    plain = export_oci(any_profile)
    exported = with_engine(plain, no_new_privileges)
    added = [entry for entry in exported["syscalls"] if entry.get("comment") == ENGINE]
    assert [entry for entry in exported["syscalls"] if entry not in added] == plain["syscalls"]
    assert no_new_privileges != any("setgroups" in entry["names"] for entry in added) or allowed_by(
        json.loads(json.dumps(plain)), "setgroups", (0,) * 6
    )
    function = any_profile.function
    with_marks = import_oci(exported, "f", runtime_api=function.runtime_api)
    assert with_marks.profile == import_oci(plain, "f", runtime_api=function.runtime_api).profile


def test_an_operator_object_comes_back() -> None:
    """A SeccompProfile, written as YAML or JSON and read again, is the profile that it was made of."""
    exported = export_oci(profile(("run", "openat", "read"), ("run", "mkdir", "")))
    written = json.dumps(as_operator_object(exported, "My_Function"), indent=2)
    data = load(written.encode(), "p.yaml")
    assert data == load(written.encode(), "p.json")
    assert data["metadata"] == {"name": "my-function"}
    assert "comment" not in written
    assert items(import_oci(data, "f", runtime_api=False)) == items(import_oci(exported, "f", runtime_api=False))


def test_learned_udp_is_kept() -> None:
    """IPv6 UDP sockets, which are refused without a UDP destination, stay allowed when the file allows them."""
    used = replace(profile(("run", "socket", "AF_INET6 SOCK_DGRAM")), network=frozenset({"udp://example.org:53"}))
    imported = import_oci(export_oci(used), "f", runtime_api=False)
    assert ("socket", "AF_INET6 SOCK_DGRAM") in items(imported)
    assert any("udp://0.0.0.0/0:*" in note for note in imported.notes)
    assert rules_for(imported.profile, "x86_64").allow.keys() == rules_for(used, "x86_64").allow.keys()


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ([], "$"), (None, "$"), ({}, "$"), ({"linux": 1}, "$.linux"), ({"linux": {}}, "$.linux"),
        ({"linux": {"seccomp": None}}, "$.linux.seccomp"),
        ({"defaultAction": "SCMP_ACT_ALLOW"}, "$.defaultAction"),
        ({"defaultAction": "SCMP_ACT_LOG"}, "$.defaultAction"),
        (oci(defaultErrnoRet=-1), "$.defaultErrnoRet"), (oci(more=1), "$"),
        (oci({"names": ["read"], "action": "ALLOW"}), "$.syscalls[0].action"),
        (oci({"names": "read"}), "$.syscalls[0].names"), (oci({"name": "read"}), "$.syscalls[0]"),
        (oci({"names": [1]}), "$.syscalls[0].names[0]"),
        (oci({"names": ["read"], "includes": {"caps": ["CAP_SYS_ADMIN"]}}), "$.syscalls[0].includes"),
        (oci({"names": ["kill"], "args": [_arg(6, 1, None)]}), "$.syscalls[0].args[0].index"),
        (oci({"names": ["kill"], "args": [_arg(1, -1, None)]}), "$.syscalls[0].args[0].value"),
        (oci({"names": ["kill"], "args": [_arg(1, 2**64, None)]}), "$.syscalls[0].args[0].value"),
        (oci({"names": ["kill"], "args": [_arg(1, 1, None) | {"op": "EQ"}]}), "$.syscalls[0].args[0].op"),
        (oci({"names": ["kill"], "args": [{"value": 1, "op": "SCMP_CMP_EQ"}]}), "$.syscalls[0].args[0]"),
        (oci({"names": ["kill"], "args": [_arg(1, 1, None), _arg(1, 2, None)]}), "$.syscalls[0].args[1]"),
        (oci({"names": ["mmap"], "args": [_arg(2, 4, 2)]}), "$.syscalls[0].args[0]"),
        (oci({"names": ["mkdir"]}, {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}), "$.syscalls[1].names[0]"),
        (oci({"names": ["mkdir"]}, {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}), "$.syscalls[1].names[0]"),
        (oci({"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "ENOTHING"}), "$.syscalls[0].errnoRet"),
        (oci({"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": "9" * 9}), "$.syscalls[0].errnoRet"),
        (oci(defaultErrno="EWHAT"), "$.defaultErrnoRet"),
        ({"kind": "Pod", "spec": {}}, "$.kind"), ({"kind": "SeccompProfile"}, "$.kind"),
        ({"kind": "SeccompProfile", "spec": {"defaultAction": "SCMP_ACT_LOG"}}, "$.spec.defaultAction"),
    ],
)  # fmt: skip
def test_faults_are_located(data: Any, where: str) -> None:
    """What does not fit, or could only be taken by widening, is refused at its JSON path with what to do."""
    with pytest.raises(ProfileError) as caught:
        import_oci(data, "f")
    assert caught.value.where == f"<oci>:{where}"
    assert caught.value.todo


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"", "1:1"), (b"{", "1:2"), (b'{\n "a": }', "2:7"), (b"\xff", "1:1"), (b'{\n"\xff"}', "2:2"),
        (b'{"a": 1, "a": 2}', "1:1"), (b"[" * 100_000, "1:1"), (b"9" * 5000, "1:1"), (b"{} {}", "1:4"),
    ],
)  # fmt: skip
def test_malformed_json_is_located(text: bytes, place: str) -> None:
    """What is no JSON, or JSON that readers disagree about, is refused with file, line and column."""
    with pytest.raises(ProfileError) as caught:
        load(text, "p.json")
    assert caught.value.where == f"p.json:{place}"


def read_or_refused(data: Any) -> None:
    """Either the data is imported, or it is refused at a path."""
    try:
        imported = import_oci(data, "f")
    except ProfileError as error:
        located = LOCATED.fullmatch(error.where)
        assert located, error.where  # noqa: PT017  (which of the two it is, the data decide)
    else:
        assert document.parse(document.write(imported.profile)).profile == imported.profile


ACTIONS = st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_NONE"])
NAMES = st.sampled_from(sorted(tables.every_name())) | st.sampled_from(["openat", "clone", "socket", "x"])
VALUES = st.sampled_from([0, 1, 2, 4, 6, 0xF, 0x5401, 0xFFFFFFFF, 2**64 - 1, 2**64]) | st.integers(0, 2**64 - 1)
OPERATORS = st.sampled_from(["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_GT"])
ARGS = st.fixed_dictionaries(
    {"index": st.integers(0, 6), "value": VALUES, "op": OPERATORS},
    optional={"valueTwo": VALUES},
)
ENTRIES = st.fixed_dictionaries(
    {"names": st.lists(NAMES, min_size=1, max_size=3), "action": ACTIONS},
    optional={"args": st.lists(ARGS, max_size=2) | st.none(), "errnoRet": st.integers(0, 99), "comment": st.text()},
)


@settings(deadline=None, max_examples=500)
@given(st.lists(ENTRIES, max_size=3))
def test_any_filter_is_imported_or_located(entries: list[dict[str, Any]]) -> None:
    """Whatever a well-formed file allows, the import is a readable profile or a located error."""
    read_or_refused({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | ACTIONS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["linux", "seccomp", "syscalls", "names", "args", "defaultAction"]), inner),
    max_leaves=10,
)


@settings(deadline=None, max_examples=500)
@given(JSON, st.data())
@example({"linux": {"seccomp": []}}, None)
def test_any_data_is_imported_or_located(data: Any, choose: st.DataObject | None) -> None:
    """Any JSON, alone or in the place of any value of a good file, is imported or refused at a path."""
    read_or_refused(data)
    if choose is None:
        return
    good = copy.deepcopy(export_oci(profile(("run", "openat", "read"))))
    at: Any = good
    for _ in range(choose.draw(st.integers(1, 5))):
        key = choose.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if isinstance(at[key], dict | list) and at[key] and choose.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data
        break
    read_or_refused(good)
