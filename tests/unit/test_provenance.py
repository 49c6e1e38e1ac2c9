"""Staleness: what differs between the training's host and this one is named, and a fact nobody knew is not compared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import provenance


def now(path: Path) -> dict[str, list[str]]:
    """The provenance of a training on this very host."""
    return {
        "libc": [provenance.libc()],
        "kernel": [os.uname().release],
        "architecture": [os.uname().machine],
        "python": [],
        "handler_digest": [provenance.digest(str(path / "app.py"))],
        "lock_digest": [],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A function's folder."""
    (tmp_path / "app.py").write_text("def handler(event, context): return 1\n")
    return tmp_path


def test_the_same_host_and_function_are_not_stale(root: Path) -> None:
    """Nothing differs on the host of the training."""
    assert provenance.differences(now(root), "/usr/bin/python3", "app.handler", str(root)) == []


@pytest.mark.parametrize(
    ("fact", "other"), [("libc", "glibc 2.17"), ("kernel", "4.14.1"), ("architecture", "riscv64"), ("python", "3.1.4")]
)
def test_each_fact_is_compared(root: Path, fact: str, other: str) -> None:
    """A fact that no training had is named with both values."""
    found = provenance.differences(now(root) | {fact: [other]}, "/usr/bin/python3", "app.handler", str(root))
    assert len(found) == 1
    assert found[0].startswith(fact.split("_")[0])
    assert other.rpartition(".")[0] in found[0] or other in found[0]


def test_one_of_several_trainings_is_enough(root: Path) -> None:
    """A profile that was trained on two kernels fits both."""
    both = now(root) | {"kernel": ["5.10.0", os.uname().release]}
    assert provenance.differences(both, "/usr/bin/python3", "app.handler", str(root)) == []


def test_a_changed_handler_and_lock_file_are_seen(root: Path) -> None:
    """An edit of the handler's file, and a new lock file, differ from the training."""
    known = now(root)
    (root / "requirements.txt").write_text("requests==1\n")
    known["lock_digest"] = [provenance.digest(str(root / "requirements.txt"))]
    (root / "app.py").write_text("def handler(event, context): return 2\n")
    (root / "requirements.txt").write_text("requests==2\n")
    found = provenance.differences(known, "/usr/bin/python3", "app.handler", str(root))
    assert [text.split(":")[0] for text in found] == ["handler digest", "lock digest"]


def test_large_files_have_a_fingerprint_of_size_and_ends(tmp_path: Path) -> None:
    """A change at either end, or of the length, shows; a missing file has no fingerprint."""
    file = tmp_path / "program"
    seen = set()
    for data in (b"a" * 300_000, b"b" + b"a" * 299_999, b"a" * 299_999 + b"b", b"a" * 300_001):
        file.write_bytes(data)
        seen.add(provenance.digest(str(file)))
    assert len(seen) == 4
    assert provenance.digest(str(tmp_path / "none")) == ""
