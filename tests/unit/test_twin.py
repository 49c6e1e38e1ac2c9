"""policy.bin: it says what policy.json says, and the launcher's reader takes nothing else for it."""

from __future__ import annotations

import functools
import hashlib
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_strategies import profiles

from sandbox import bundle
from sandbox.errors import PolicyInvalid
from sandbox.launcher import HERE
from sandbox.policy import build, twin
from sandbox.profile.model import Profile

CORPUS = Path(__file__).parent.parent / "corpus" / "twin"
COMPARED = ("function", "exec", "signals", "network", "bind", "audit-until", "files", "filters")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(max_uses=6, compiled=True))
def test_the_twin_says_the_same(profile: Profile) -> None:
    """Each field of a description comes back from its twin, and the digest is that of the policy.json beside it."""
    built = build.build(profile, ("x86_64", "aarch64"))
    data = built.files[bundle.FILE]
    said, found = bundle.parse_json(data.decode(), ""), twin.decode(built.files[twin.FILE])
    for name in ("read", "write"):  # what lies in a folder and what lies below it is one to Landlock
        said["files"][name] = [re.sub(r"/\*$", "/**", place) for place in said["files"][name]]
    assert {key: found[key] for key in COMPARED} == {key: said[key] for key in COMPARED}
    assert found["described"] == hashlib.sha256(data).hexdigest()
    for fact, values in found["provenance"].items():
        known = [value.replace("\0", "\ufffd") for value in said["provenance"][fact]]
        assert values == ([bundle.series(value) for value in known] if fact in ("kernel", "python") else known)


@functools.cache
def whole() -> bytes:
    """A twin."""
    return (CORPUS / "both").read_bytes()


@given(st.integers(0, 1 << 20), st.integers(1, 255))
def test_no_byte_can_change(at: int, by: int) -> None:
    """A twin with one byte changed is none."""
    data = bytearray(whole())
    data[at % len(data)] ^= by
    with pytest.raises(PolicyInvalid):
        twin.decode(bytes(data))


@given(st.integers(0, 1 << 20))
def test_nothing_can_be_cut_off(at: int) -> None:
    """A twin that ends early is none."""
    with pytest.raises(PolicyInvalid):
        twin.decode(whole()[: at % len(whole())])


def test_a_nul_has_no_place() -> None:
    """A text that the launcher would read only in part is not written."""
    description = twin.decode(whole())
    description["function"] = "some\0other"
    with pytest.raises(PolicyInvalid):
        twin.encode(description, b"")


def reader(folder: Path, *options: str) -> Path:
    """The launcher's reader as a program under sanitizers."""
    program = folder / ("reader" + "".join(options))
    command = ["cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DREPLAY", *options]
    subprocess.run([*command, "-o", str(program), str(HERE / "fuzz.c")], check=True)
    return program


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_launcher_reads_no_damaged_twin() -> None:
    """The kept corpus and random mutations: each is refused, and with a right digest none gets past a bound."""
    seeded = random.Random(4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = sorted(CORPUS.iterdir())
        mutated = []
        for number in range(400):
            data = bytearray(seeded.choice(kept).read_bytes())
            for _ in range(seeded.randint(1, 4)):
                at = seeded.randrange(len(data) + 1)
                length = seeded.choice((1, 1, 2, 4, 32))
                new = bytes(seeded.choice((0, 1, 0x7F, 0xFF, seeded.randrange(256))) for _ in range(length))
                data[at : at + seeded.choice((0, length))] = new
            mutated.append(folder / f"{number:03}")
            mutated[-1].write_bytes(data)
        originals = {(CORPUS / name).read_bytes() for name in ("small", "both")}
        for options in ((), ("-DUNSEALED",)):
            command = [str(reader(folder, *options)), *map(str, [*kept, *mutated])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said = done.stdout.splitlines()
            assert len(said) == len(kept) + len(mutated)
            pairs = zip([*kept, *mutated], said, strict=True)
            taken = {path.read_bytes() for path, line in pairs if line == "is a twin"}
            assert originals <= taken
            assert options or taken == originals


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(max_uses=6, compiled=True))
def test_the_launcher_reads_every_twin(profile: Profile) -> None:
    """What `sandbox compile` writes, the launcher's reader takes."""
    built = build.build(profile, ("x86_64",))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "twin"
        path.write_bytes(built.files[twin.FILE])
        done = subprocess.run([str(shared()), str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "is a twin\n"


@functools.cache
def shared() -> Path:
    """One reader for all examples."""
    folder = tempfile.TemporaryDirectory()
    _KEPT.append(folder)
    return reader(Path(folder.name))


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
