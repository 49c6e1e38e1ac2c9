"""The launcher's reader of policies, and its headers: they are those of the Python tables."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from profile_strategies import profiles

from sandbox import bundle
from sandbox.errors import PolicyInvalid
from sandbox.launcher import HERE
from sandbox.policy import build
from sandbox.profile.model import Profile

ROOT = Path(bundle.__file__).parents[1]
CORPUS = ROOT / "tests" / "corpus" / "policy"
POLICIES = ("small", "both", "path-dots", "root-alone", "calls-of-init", "destinations")
"""Those in the corpus that are policies; the others have a right digest and one thing wrong each, but for three."""


def test_the_headers_are_those_of_the_tables() -> None:
    """`tools/header` would change nothing in numbers.h and fields.h."""
    tool = [sys.executable, str(ROOT / "tools" / "header"), "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def reader(folder: Path, *options: str) -> Path:
    """The launcher's reader as a program under sanitizers."""
    program = folder / ("reader" + "".join(options))
    command = ["cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DREPLAY", *options]
    subprocess.run([*command, "-o", str(program), str(HERE / "fuzz.c")], check=True)
    return program


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_launcher_reads_no_damaged_policy() -> None:
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
        originals = {(CORPUS / name).read_bytes() for name in POLICIES}
        for options in ((), ("-DANY_DIGEST",)):
            command = [str(reader(folder, *options)), *map(str, [*kept, *mutated])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said = done.stdout.splitlines()
            assert len(said) == len(kept) + len(mutated)
            pairs = zip([*kept, *mutated], said, strict=True)
            taken = {path.read_bytes() for path, line in pairs if line == "is a policy"}
            assert originals <= taken
            assert options or taken == originals


def test_the_bootstrap_reads_of_the_corpus_what_the_launcher_reads() -> None:
    """Each kept input is a policy for both readers or for neither."""
    taken = set()
    for path in CORPUS.iterdir():
        with contextlib.suppress(PolicyInvalid):
            if bundle.decode(path.read_bytes(), "x86_64", path.name).init_calls is not None:  # parsed when asked for
                taken.add(path.name)
    assert taken == set(POLICIES)


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(max_uses=6, compiled=True))
def test_the_launcher_reads_every_policy(profile: Profile) -> None:
    """What `sandbox compile` writes, the launcher's reader takes."""
    built = build.build(profile, ("x86_64",))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "policy"
        path.write_bytes(built.files[bundle.FILE])
        done = subprocess.run([str(shared()), str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "is a policy\n"


@functools.cache
def shared() -> Path:
    """One reader for all examples."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    return reader(Path(folder.name))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
