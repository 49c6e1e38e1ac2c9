"""The bundle on disk: it comes back as it was written, and whatever is damaged is PolicyInvalid, never a traceback."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_strategies import profiles

from sandbox import bundle
from sandbox.bundle import Policy
from sandbox.errors import PolicyInvalid
from sandbox.kernel import tables
from sandbox.policy import build
from sandbox.policy.build import Bundle
from sandbox.profile.model import Function, Profile, Use

DECISIONS = tuple(sorted(set(Policy.__slots__) - {"digest", "source"}))
"""All that a policy says."""

@functools.cache
def built() -> Bundle:
    """One bundle for both architectures."""
    uses = frozenset({Use("invoke", "openat", "read", 3), Use("invoke", "clone", "thread", 1)})
    return build.build(Profile(Function("some", "app.handler"), uses))


def decode(description: bytes, arch: str = "x86_64", changed: Mapping[str, bytes] = MappingProxyType({})) -> Policy:
    """The policy in these bytes; `changed` replaces files."""
    files = dict(built().files) | dict(changed)

    def file(name: str) -> bytes:
        if name not in files:
            raise PolicyInvalid("is not there", where=name)
        return files[name]

    return bundle.decode(description, file, arch, "policy.json")


def decisions(policy: Policy) -> tuple[object, ...]:
    """What the policy decides."""
    return tuple(plainly(getattr(policy, name)) for name in DECISIONS)


def plainly(value: Any) -> Any:
    """A typed record as its fields and values."""
    names = getattr(value, "__slots__", None)
    return {name: plainly(getattr(value, name)) for name in names} if names else value


def description() -> dict[str, Any]:
    """A fresh copy of what policy.json says."""
    found: dict[str, Any] = json.loads(built().files[bundle.FILE])
    del found["digest"]
    return found


def encode(data: Any) -> bytes:
    """As JSON with its digest, so that only what it says can be wrong."""
    return bundle.seal(json.dumps(data, indent=2))


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
        assert policy.program == (folder / f"{arch}.bpf").read_bytes()


def test_files_are_readable_by_the_function(tmp_path: Path) -> None:
    """The files can be read by any user and be written by their owner only."""
    build.write(built(), str(tmp_path))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_every_turned_byte_of_the_description_is_refused() -> None:
    """No byte of policy.json can be changed, one bit or all of it, added or taken away."""
    data = built().files[bundle.FILE]
    assert decode(data).function == "some"
    for at in range(len(data)):
        for byte in {data[at] ^ 1 << at % 8, ord('"'), ord(" "), ord("9")} - {data[at]}:
            with pytest.raises(PolicyInvalid):
                decode(data[:at] + bytes([byte]) + data[at + 1 :])
        with pytest.raises(PolicyInvalid):
            decode(data[:at] + data[at + 1 :])
    for other in (data + b"\n", b"\n" + data, data + data, data.replace(b"\n", b"\r\n")):
        with pytest.raises(PolicyInvalid):
            decode(other)


@pytest.mark.parametrize("file", ["x86_64.bpf", "x86_64.supervised.bpf"])
def test_every_turned_byte_of_a_program_is_refused(file: str) -> None:
    """No byte of a program can be changed, added or taken away."""
    data = built().files[file]
    text = built().files[bundle.FILE]
    for at in range(len(data)):
        with pytest.raises(PolicyInvalid):
            decode(text, changed={file: data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]})
    for other in (b"", data[:-8], data[:-1], data + b"\0" * 8, data + data):
        with pytest.raises(PolicyInvalid):
            decode(text, changed={file: other})


def test_truncated_descriptions_are_refused() -> None:
    """A description that was cut anywhere before its end is no policy."""
    data = built().files[bundle.FILE]
    for length in range(len(data)):
        with pytest.raises(PolicyInvalid):
            decode(data[:length])


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1}, {"format": None}, {"format": "1"}, {"function": None}, {"function": 7}, {"exec": "always"},
        {"exec": None}, {"exec": ["granted"]}, {"signals": {}}, {"network": "all"}, {"bind": "yes"}, {"bind": None},
        {"canary": "read"}, {"audit-until": None}, {"audit-until": 9999}, {"audit-until": "never"},
        {"audit-until": "9999-99-9"}, {"audit-until": "zzzz-zz-zz"}, {"provenance": None}, {"provenance": {"libc": 7}},
        {"filters": None}, {"filters": []}, {"filters": {}}, {"filters": {"x86_64": "x86_64.bpf"}},
        {"filters": {"x86_64": {}}}, {"filters": {"aarch64": {}}}, {"supervision": None},
    ],
)  # fmt: skip
def test_descriptions_of_another_shape_are_refused(change: dict[str, Any]) -> None:
    """Another format, an unknown word or a missing part is PolicyInvalid with what to do next."""
    with pytest.raises(PolicyInvalid, match="sandbox compile"):
        decode(encode(description() | change))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "../x86_64.bpf", "a/b", "nul\0byte", "\ud800", "x" * 5000, 7, None, ["x"]]
)
def test_names_of_programs_are_plain(tmp_path: Path, name: Any) -> None:
    """A description cannot name a file elsewhere, and a name that no file can have is no traceback."""
    build.write(built(), str(tmp_path))
    changed = description()
    changed["filters"]["x86_64"]["file"] = name
    (tmp_path / bundle.FILE).write_bytes(encode(changed))
    with pytest.raises(PolicyInvalid):
        bundle.read(str(tmp_path), "x86_64")


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"null", b"1", b"[]", b"{}", b"{", b'{"format": 1}', b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 100_000,
        b'{"a":' * 50_000, b'{"format": 1e999}', b"NaN", b"1" * 10_000, b'{"format": 1} more', b"{'format': 1}",
        b'"\\ud800"', b'{"format": 1, "function": "\\ud800"}', b"\0",
    ],
)  # fmt: skip
def test_what_is_no_description(text: bytes) -> None:
    """Text that is no JSON, or JSON that is no policy, is PolicyInvalid."""
    with pytest.raises(PolicyInvalid):
        decode(text)


def test_an_architecture_that_was_not_compiled() -> None:
    """The message names the architectures that the bundle has."""
    changed = description()
    del changed["filters"]["aarch64"]
    with pytest.raises(PolicyInvalid, match="has a filter for x86_64, not for aarch64"):
        decode(encode(changed), "aarch64")


def test_missing_and_oversized_files(tmp_path: Path) -> None:
    """A folder without a description, without a program, or with one beyond any program is PolicyInvalid."""
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        bundle.read(str(tmp_path), "x86_64")
    build.write(built(), str(tmp_path))
    (tmp_path / "x86_64.bpf").write_bytes(bytes(bundle.LARGEST + 1))
    with pytest.raises(PolicyInvalid, match="larger than"):
        bundle.read(str(tmp_path), "x86_64")
    (tmp_path / "x86_64.bpf").unlink()
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        bundle.read(str(tmp_path), "x86_64")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A description in which one value anywhere became something else, or went away."""
    found: Any = description()
    at: Any = found
    while True:
        key = draw(st.sampled_from(sorted(at)))
        if isinstance(at[key], dict) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        if draw(st.booleans()):
            at[key] = draw(JSON)
        else:
            del at[key]
        return found


@given(damaged())
def test_damaged_descriptions(data: Any) -> None:
    """A changed value under a right digest is PolicyInvalid, or lets the policy decide by a known word."""
    try:
        policy = decode(encode(data))
    except PolicyInvalid:
        return
    for key, choices in bundle.CHOICES.items():
        assert getattr(policy, key) in choices
    assert policy.program == built().files["x86_64.bpf"]


@given(st.binary(max_size=200) | JSON.map(encode) | JSON.map(lambda data: json.dumps(data).encode()))
def test_any_bytes_as_description(data: bytes) -> None:
    """Arbitrary bytes and arbitrary JSON are PolicyInvalid."""
    with pytest.raises(PolicyInvalid):
        decode(data)


@given(JSON)
def test_the_small_parser_reads_what_json_writes(data: Any) -> None:
    """The scanner that the bootstrap borrows from json agrees with it (NaN apart, which equals nothing)."""
    text = json.dumps(data)
    assert json.dumps(bundle.parse_json(text, "here")) == text


@given(st.binary(max_size=300))
def test_digest(data: bytes) -> None:
    """The interpreter's small module gives the digest that hashlib gives."""
    assert bundle.sha256(data) == hashlib.sha256(data).hexdigest()
