"""Language runtimes that tests run under the platform's emulator: how each is built, started and found missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from users_and_folders import HOME, TARGETS

EXAMPLES = HOME / "examples"
VENVS = HOME / ".cache" / "runtimes"
"""Virtual environments with awslambdaric, one a Python: python3.12, python3.13 ... (`tools/pythons` makes them)."""


class Missing(Exception):
    """What a runtime needs and this machine has not, for the reason of a skip."""


@dataclass(frozen=True)
class Runtime:
    """A runtime and its handler of the cases.

    `command` builds what is to be built in a folder and returns the command. Raises Missing.
    `error` is the error type that a raised event gives; `hears_signals`: whether a handler of SIGTERM in the
    function is run while it waits for an event. `hot`: after so many events it does whatever it does only later.
    """

    name: str
    command: Callable[[Path], tuple[str, ...]]
    error: str
    timeout: int = 2
    execution: str = ""
    python: bool = False
    streams: bool = False
    hears_signals: bool = True
    hot: int = 20

    def variables(self) -> dict[str, str]:
        """What the platform would set beside the emulator's own."""
        found = {"LAMBDA_TASK_ROOT": str(TARGETS)}
        if self.execution:
            found["AWS_EXECUTION_ENV"] = self.execution
        return found


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise Missing(f"{name} is not installed")
    return found


def _node(_: Path) -> tuple[str, ...]:
    return (_program("node"), str(EXAMPLES / "node-runtime" / "runtime.mjs"), "cases.handler")


def _c(folder: Path) -> tuple[str, ...]:
    target = folder / "c-runtime"
    source = EXAMPLES / "c-runtime" / "runtime.c"
    define = f'-DHANDLER="{TARGETS / "cases.c"}"'
    built = subprocess.run(
        [_program("cc"), "-O2", "-std=c11", "-static", "-w", define, "-o", target, source],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if "cannot find -lc" in built.stderr:
        raise Missing("the C library has no static archive")
    assert built.returncode == 0, built.stderr
    return (str(target),)


def _shell(_: Path) -> tuple[str, ...]:
    _program("curl")
    return (str(EXAMPLES / "shell-runtime" / "bootstrap.handler"), str(TARGETS / "cases.sh"))


def _java(folder: Path) -> tuple[str, ...]:
    compiler, java = _program("javac"), os.path.realpath(_program("java"))
    version = subprocess.run([compiler, "-version"], check=True, capture_output=True, text=True)
    if int(re.findall(r"\d+", version.stdout + version.stderr)[0]) < 17:
        raise Missing("the JDK is older than 17")
    sources = [EXAMPLES / "java-runtime" / "Runtime.java", TARGETS / "Cases.java"]
    subprocess.run([compiler, "--release", "17", "-d", folder / "classes", *sources], check=True)
    quick = ("-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx64m")
    return (java, *quick, "-cp", str(folder / "classes"), "Runtime", "Cases")


def _python(version: str) -> Callable[[Path], tuple[str, ...]]:
    def command(_: Path) -> tuple[str, ...]:
        python = Path(sys.executable)
        if f"{sys.version_info.major}.{sys.version_info.minor}" != version:
            python = VENVS / f"python{version}" / "bin" / "python"
        if not os.access(python, os.X_OK):
            raise Missing(f"{python.relative_to(HOME)} is missing; tools/pythons makes it where there is a {version}")
        return (str(python), "-m", "awslambdaric", "cases_of_python.handler")

    return command


def _pythons() -> list[Runtime]:
    found = {f"{sys.version_info.major}.{sys.version_info.minor}", "3.11", "3.12", "3.13"}
    return [
        Runtime(
            f"python{version}", _python(version), "IndexError", execution=f"AWS_Lambda_python{version}", python=True,
            # Before 3.12 the client waits for events in the main thread, in C: no Python handler runs meanwhile.
            hears_signals=version not in ("3.11",),
        )
        for version in sorted(found, key=lambda version: int(version.partition(".")[2]))
    ]  # fmt: skip


RUNTIMES = (
    *_pythons(),
    Runtime("node", _node, "RangeError", streams=True, hot=600),
    Runtime("c", _c, "Function.Failed"),
    # A shell runs its trap when the program that it waits for has ended, and that is curl in the long poll.
    Runtime("shell", _shell, "Function.Failed", hears_signals=False),
    Runtime("java", _java, "IndexOutOfBoundsException", timeout=4, hot=1500),
)
