"""An installation without the extra `fleet`: every other command works, and this one says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sandbox.errors import ExtraMissing, UsageError
from sandbox.fleet import extras


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="the extra is installed here")
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """`sandbox fleet` names the packages and the extra, whatever it was to do, and makes nothing."""
    store = str(tmp_path / "store")
    for arguments in (["ingest", store, str(tmp_path)], ["report", store], ["query", store, "new"]):
        command = [sys.executable, "-m", "sandbox", "fleet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == ExtraMissing.exit_code
        assert "pip install 'seccomp-bootstrap[fleet]'" in done.stderr
        assert "pyarrow" in done.stderr
    assert os.listdir(tmp_path) == []


def test_java_is_there_and_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Java of JAVA_HOME counts; none, and one that is too old for Spark, are errors that say what to install."""
    program = tmp_path / "bin" / "java"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"there is none\n.*openjdk-17"):
        extras.java()
    program.parent.mkdir()
    for version, good in (("1.8.0_392", False), ("11.0.22", False), ("17.0.10", True), ("25", True)):
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")
        program.chmod(0o755)
        if good:
            assert extras.java() == str(program)
        else:
            with pytest.raises(UsageError, match="needs Java 17, and"):
                extras.java()
