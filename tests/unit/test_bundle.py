"""The bundle on disk: it comes back as it was written, and whatever is damaged is PolicyInvalid, never a traceback."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_strategies import profiles

from sandbox import bundle, plain_json
from sandbox.behaviour.path import rule_of
from sandbox.bundle import Policy
from sandbox.errors import PolicyInvalid
from sandbox.kernel import tables
from sandbox.policy import build, supervision
from sandbox.policy.build import Bundle
from sandbox.policy.encode import encode
from sandbox.profile.model import Profile, ProfiledFunction, Use
from sandbox.supervised import Supervision

DECISIONS = tuple(sorted({name.removeprefix("_") for name in Policy.__slots__} - {"digest", "source"}))
"""All that a policy says."""


def some() -> Profile:
    """A profile."""
    uses = frozenset({Use("invoke", "openat", "read", 3), Use("invoke", "clone", "thread", 1)})
    return Profile(ProfiledFunction("some", "app.handler"), uses, reads=frozenset({"/srv/**"}))


@functools.cache
def built() -> Bundle:
    """One bundle for both architectures."""
    return build.build(some())


def decode(data: bytes, arch: str = "x86_64") -> Policy:
    """The policy in these bytes, with what only a supervisor reads of it."""
    found = bundle.decode(data, arch, "policy.bin")
    assert isinstance(found.supervision, Supervision)
    return found


def decisions(policy: Policy) -> tuple[object, ...]:
    """What the policy decides."""
    return tuple(plainly(getattr(policy, name)) for name in DECISIONS)


def plainly(value: Any) -> Any:
    """A typed record as its fields and values."""
    names = getattr(value, "__slots__", None)
    return {name: plainly(getattr(value, name)) for name in names} if names else value


PATHS = {"2": [[[1, 0x40, 0]], []]}
EARLY = {"1": [[[0, 2**64 - 1, 7], [5, 1, 0]], []], "41": [[[2, 0xFF, 2**64 - 1]]]}
PROGRAMS: Mapping[str, Any] = {"x86_64": ((bytes(24), 1), (bytes(16), 1), EARLY, PATHS, {"44": [[]]})}
FIELDS: Mapping[str, Any] = {
    "function": "some", "exec": "granted", "signals": "any", "network": "ports", "bind": "ports", "abstract": "own",
    "audit_until": "2030-02-28", "files.listed": True, "files.limited": True, "files.memfd": False,
    "files.renames": True, "files.read": ["/srv/**", "{root}/x"], "files.write": ["/tmp/*"],
    "files.programs": ["/bin/true"], "network_ports": [53, 443, 65535], "bind_ports": [0, 8001],
    "network_shown": "TCP to port 53, 443, 65535 only", "bind_shown": "TCP on port 0, 8001 only",
    "unsupervised": ["network: UDP to any address"], "looked": [],
    "limits_proc": True, "unlooked": ["files: modes"], "reads_netlink": True,
    "connects": "always", "decider": "early", "looks": "decider",
    "judged": True, "own": True, "socket_paths": ["/run/x"], "names_keep": 3600, "names_receives": ["recvmsg"],
    "hosts": ["001bbs3.example.com", "2****.example"],
    "literals": [("tcp", b"\x0a\0\0\1", 32, 443), ("udp", bytes(16), 64, None)],
    "provenance": {"kernel": ["6.18.44-v", "\0"]},
}  # fmt: skip


@functools.cache
def _told() -> str:
    return json.dumps(supervision.description(some(), {"x86_64": supervision.filters(some(), "x86_64")}))


def told() -> dict[str, Any]:
    """A fresh copy of what a supervisor is told."""
    found: dict[str, Any] = json.loads(_told())
    return found


@functools.cache
def small() -> bytes:
    """A policy of few bytes."""
    return encode(FIELDS, PROGRAMS, told())


def signed(body: bytes) -> bytes:
    """A body with the right magic, length and digest around it, so that only what it says can be wrong."""
    head = bundle.MAGIC + (len(bundle.MAGIC) + 4 + len(body) + bundle.DIGEST).to_bytes(4, "little") + body
    return head + hashlib.sha256(head).digest()


def body(data: bytes) -> bytes:
    """What `signed` puts around taken away."""
    return data[len(bundle.MAGIC) + 4 : -bundle.DIGEST]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(max_uses=6, compiled=True))
def test_what_was_built_is_read_back(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> None:
    """Written to disk and read again, the policy of each architecture is the one that was built."""
    folder = tmp_path_factory.mktemp("bundle") / "below" / "it"
    found = build.build(profile)
    build.write(found, str(folder))
    assert {path.name for path in folder.iterdir()} == set(found.files)
    for arch in tables.ARCHES:
        policy = bundle.read(str(folder), arch)
        assert decisions(policy) == decisions(found.policy(arch))
        assert policy.function == profile.function.name
        assert policy.digest == hashlib.sha256((folder / bundle.FILE).read_bytes()).hexdigest()
        assert found.files[bundle.FILE].count(policy.program) == 1
        assert bundle.arches(str(folder)) == list(tables.ARCHES)


def test_each_field_comes_back() -> None:
    """Every field has the value that was written; facts as they are compared, and a NUL in one as no host has it."""
    policy = decode(small())
    for name, value in FIELDS.items():
        owner, _, field = name.rpartition(".")
        found = getattr(policy.files if owner else policy, field)
        if owner and isinstance(value, list):
            assert found == [rule_of(pattern) for pattern in value]
        elif name == "provenance":
            assert found == {fact: [] for fact in bundle.FACTS} | {"kernel": ["6.18", "\ufffd"]}
        else:
            assert found == value
    assert (policy.program, policy.head, policy.supervised, policy.supervised_head) == (bytes(24), 8, bytes(16), 8)
    assert (policy.init_calls, policy.path_calls, policy.served_calls) == (EARLY, PATHS, {"44": [[]]})


def test_files_are_readable_by_the_function(tmp_path: Path) -> None:
    """The files can be read by any user and be written by their owner only."""
    build.write(built(), str(tmp_path))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize("data", [small(), built().files[bundle.FILE]], ids=["small", "both"])
def test_every_turned_byte_is_refused(data: bytes) -> None:
    """No byte of a policy can be changed, one bit or all of it, added or taken away."""
    assert decode(data).function == "some"
    for at in range(len(data)):
        others = {data[at] ^ 1 << at % 8, ord('"'), 0, 0xFF} if len(data) < 4096 else {data[at] ^ 1 << at % 8}
        for byte in others - {data[at]}:
            with pytest.raises(PolicyInvalid):
                bundle.decode(data[:at] + bytes([byte]) + data[at + 1 :], "x86_64", "here")
        with pytest.raises(PolicyInvalid):
            bundle.decode(data[:at] + data[at + 1 :], "x86_64", "here")
    for other in (data + b"\n", b"\n" + data, data + data):
        with pytest.raises(PolicyInvalid):
            decode(other)


def test_truncated_policies_are_refused() -> None:
    """A policy that was cut anywhere before its end is not one, with a right digest under it neither."""
    data = built().files[bundle.FILE]
    for length in range(len(data)):
        with pytest.raises(PolicyInvalid):
            decode(data[:length])
    inside = body(small())
    for length in range(len(inside)):
        with pytest.raises(PolicyInvalid):
            decode(signed(inside[:length]))
    empty = hashlib.sha256(b"").digest()
    with pytest.raises(PolicyInvalid):
        decode(data[: -len(empty)] + b"more" + empty)


def test_another_format_is_to_be_compiled_again() -> None:
    """A policy of an older or newer version names this one and says what to do."""
    for number in (0, bundle.FORMAT - 1, bundle.FORMAT + 1, 255):
        other = bundle.MAGIC[:-1] + bytes([number]) + small()[len(bundle.MAGIC) :]
        with pytest.raises(PolicyInvalid, match=r"is not a policy of format 8\n.*sandbox compile"):
            decode(other)
    with pytest.raises(PolicyInvalid, match="is not a policy of format 8"):
        decode(b"sbxtwin\3" + small()[8:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exec", 2), ("exec", 255), ("signals", 2), ("network", 3), ("bind", 3), ("abstract", 2), ("files.listed", 2),
        ("files.limited", 7), ("files.memfd", 2), ("files.renames", 0x80),
    ],
)  # fmt: skip
def test_words_that_this_version_does_not_know(name: str, value: int) -> None:
    """A number that stands for no word of its field is PolicyInvalid, and the message names the field."""
    names = [known for known, kind, _ in bundle.FIELDS if kind in ("choice", "flag")]
    lengths = {"choice": 1, "flag": 1, "day": 4, "text": 4 + len("some") + 1}
    at = 0
    for known, kind, _ in bundle.FIELDS:
        if known == name:
            break
        at += lengths[kind]
    assert name in names
    data = bytearray(body(small()))
    data[at] = value
    with pytest.raises(PolicyInvalid, match=rf"does not know \({name}\)"):
        decode(signed(bytes(data)))


@pytest.mark.parametrize("path", ["x", "", "/a/../b", "/..", "/../a", "{other}/x", "{root}/../x", "{root}x/../y"])
def test_paths_lead_out_of_no_folder(path: str) -> None:
    """A path that is not absolute, or leads up, is refused by the reader if the writer does not refuse it."""
    with pytest.raises(PolicyInvalid):
        decode(encode({**FIELDS, "files.read": [path]} if path else FIELDS, {} if not path else PROGRAMS, told()))


def test_a_nul_has_no_place() -> None:
    """A text that a starter would read only in part is not written."""
    with pytest.raises(PolicyInvalid, match="NUL"):
        encode({**FIELDS, "function": "some\0other"}, PROGRAMS, told())


@pytest.mark.parametrize("day", ["never", "9999-99-9", "zzzz-zz-zz", "2030-02-30"])
def test_days_are_days(day: str) -> None:
    """What is not a day is not written."""
    with pytest.raises(PolicyInvalid, match="is not a day"):
        encode({**FIELDS, "audit_until": day}, PROGRAMS, told())


@given(st.dates())
def test_each_day_comes_back(day: Any) -> None:
    """From 1970-01-02 on; audit until an earlier one is none."""
    found = decode(encode({**FIELDS, "audit_until": str(day)}, PROGRAMS, told())).audit_until
    assert found == (str(day) if str(day) > "1970-01-01" else "")


@pytest.mark.parametrize("table", [b"\1\0\0\0", b"\1\0\0\0" * 2, b"\1\0\0\0" * 2 + b"\6\0\0\0" + bytes(16)])
def test_tables_of_calls_have_their_shape(table: bytes) -> None:
    """A table of calls that ends too early, or compares an argument that no call has, is PolicyInvalid."""
    policy = decode(small())
    policy._init_calls = policy._path_calls = policy._served_calls = table
    with pytest.raises(PolicyInvalid, match=r"says nothing of the init phase.*\n.*sandbox compile"):
        assert policy.init_calls
    with pytest.raises(PolicyInvalid, match="says nothing of paths"):
        assert policy.path_calls


@pytest.mark.parametrize(
    "change",
    [
        {"runtime-api": None}, {"init": []}, {"init": {"x86_64": {"read": "x"}}},
        {"sockets": {"x86_64": [[["a", 0, 0]]]}}, {"sockets": None}, {"messages": "yes"}, {"destinations": [7]},
        {"brokered": None}, {"terminate": {}}, {"responses": {"read": 1}}, {"denied": {"read": [None]}},
        {"never-granted": [[]]},
    ],
)  # fmt: skip
def test_what_a_supervisor_is_told_has_its_shape(change: dict[str, Any]) -> None:
    """Another shape of any part is PolicyInvalid with what to do next, and so is a part that is missing."""
    assert decode(encode(FIELDS, PROGRAMS, told())).supervision.runtime_api is True
    wrong = rf"says nothing for a supervisor: {next(iter(change))} is not as this version writes it\n.*sandbox compile"
    with pytest.raises(PolicyInvalid, match=wrong):
        decode(encode(FIELDS, PROGRAMS, told() | change))
    found = told()
    for name in change:
        del found[name]
    with pytest.raises(PolicyInvalid, match="says nothing for a supervisor"):
        decode(encode(FIELDS, PROGRAMS, found))


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"null", b"1", b"[]", b"{}", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 50_000,
        b"NaN", b"1" * 10_000, b"{'a': 1}", b'"\\ud800"', b"\0", b"{} {}",
    ],
)  # fmt: skip
def test_what_is_not_an_object(text: bytes) -> None:
    """Text that is not JSON, or JSON that is not an object, in place of what a supervisor is told, is PolicyInvalid."""
    found = body(small())
    inside = json.dumps(told(), separators=(",", ":")).encode()
    data = signed(found[: -len(inside) - 4] + len(text).to_bytes(4, "little") + text)
    with pytest.raises(PolicyInvalid, match="says nothing for a supervisor"):
        decode(data)


def test_every_cut_of_what_a_supervisor_is_told() -> None:
    """The scanner behind json raises SystemError for some text that ends early: it is ValueError all the same."""
    inside = json.dumps(told(), indent=2)
    for length in range(len(inside)):
        with pytest.raises(ValueError, match="JSON"):
            plain_json.parse(inside[:length])


def test_an_architecture_that_was_not_compiled() -> None:
    """The message names the architectures that the bundle has."""
    with pytest.raises(PolicyInvalid, match="has a filter for x86_64, not for aarch64"):
        decode(small(), "aarch64")
    with pytest.raises(PolicyInvalid, match="has a filter for no architecture, not for aarch64"):
        decode(encode(FIELDS, {}, told()), "aarch64")


def test_what_is_not_a_file_of_a_policy(tmp_path: Path) -> None:
    """Missing, too large, a folder, a FIFO, a name that no file can have: PolicyInvalid."""
    file = tmp_path / bundle.FILE
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        bundle.read(str(tmp_path), "x86_64")
    file.write_bytes(bytes(bundle.LARGEST + 1))
    with pytest.raises(PolicyInvalid, match="larger than"):
        bundle.read(str(tmp_path), "x86_64")
    file.unlink()
    file.mkdir()
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        bundle.read(str(tmp_path), "x86_64")
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(PolicyInvalid, match="is not a policy"):
        bundle.read(str(tmp_path), "x86_64")
    for name in ("nul\0byte", "x" * 5000):
        with pytest.raises(PolicyInvalid):
            bundle.read(str(tmp_path / name), "x86_64")


@given(st.binary(max_size=4), st.integers(0, 1 << 20), st.integers(0, 4))
def test_damage_under_a_right_digest(new: bytes, at: int, old: int) -> None:
    """Bytes changed anywhere under a right digest are PolicyInvalid, or a policy that decides by known words."""
    data = body(small())
    at %= len(data)
    try:
        policy = decode(signed(data[:at] + new + data[at + old :]))
    except PolicyInvalid:
        return
    for name, kind, words in bundle.FIELDS:
        if kind == "choice":
            assert getattr(policy, name) in words
    assert 0 < policy.head < len(policy.program)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(signed))
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes are PolicyInvalid."""
    with pytest.raises(PolicyInvalid):
        decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_the_small_parser_reads_what_json_writes(data: Any) -> None:
    """The scanner that the bootstrap borrows from json agrees with it (NaN apart, which equals nothing)."""
    text = json.dumps(data)
    assert json.dumps(plain_json.parse(text)) == text


@given(st.binary(max_size=300))
def test_digest(data: bytes) -> None:
    """The interpreter's small module gives the digest that hashlib gives."""
    assert bundle.sha256(data) == hashlib.sha256(data).hexdigest()
