"""The launcher's C under the compiler's own analysis and cppcheck's: they find nothing, and would find something."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from sandbox.launcher import FLAGS, HERE

SOURCE = HERE / "launcher.c"
CPPCHECK = (
    "cppcheck", "--quiet", "--std=c11", "--platform=unix64", "--inline-suppr", "--error-exitcode=1",
    "--enable=warning,performance,portability,style",
    "--suppress=redundantContinue",  # `continue` is how an empty loop says that it is meant to be empty
    "--suppress=useStandardLibrary",  # memcpy itself
    "--suppress=variableScope", "--suppress=shadowFunction",
    "--suppress=normalCheckLevelMaxBranches",  # says how it searches, from 2.14 on
)  # fmt: skip
WRONG = """
int launch(int n);
int launch(int n) {
    int *nothing = 0, few[2] = {1, 2};
    return n ? few[n > 5 ? 2 : 1] : *nothing;
}
"""


def found(command: Sequence[str]) -> str:
    """What an analyser has to say; '' where it is content."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def compiled(source: Path) -> list[str]:
    """gcc's analysis of a source, with the launcher's own flags."""
    return ["gcc", *FLAGS, "-fanalyzer", "-c", "-o", "/dev/null", str(source)]


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_the_compiler_finds_no_way_to_fail(tmp_path: Path) -> None:
    """gcc -fanalyzer follows every path of the launcher without a finding; in a program that has a fault it has one."""
    (tmp_path / "wrong.c").write_text(WRONG)
    assert "analyzer-null-dereference" in found(compiled(tmp_path / "wrong.c"))
    assert found(compiled(SOURCE)) == ""


@pytest.mark.skipif(not shutil.which("cppcheck"), reason="needs cppcheck")
def test_cppcheck_is_content(tmp_path: Path) -> None:
    """cppcheck has nothing to say for either architecture; of a program that has a fault it says so."""
    (tmp_path / "wrong.c").write_text(WRONG)
    assert "nullPointer" in found([*CPPCHECK, str(tmp_path / "wrong.c")])
    for arch in ("__x86_64__", "__aarch64__"):
        assert found([*CPPCHECK, f"-D{arch}", str(SOURCE)]) == ""
