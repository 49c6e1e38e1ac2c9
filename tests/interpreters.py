"""The runtimes of test_interpreters.py: how the function of each is built and started, and found missing."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from language_runtimes import EXAMPLES, Missing
from users_and_folders import HOME, TARGETS

FUNCTIONS = TARGETS / "interpreters"
MADE = HOME / ".cache" / "interpreters"
"""What tools/interpreters made: pythonX.Y are virtual environments, debian is the next release's."""
NEW_GO = MADE / "debian" / "usr" / "bin" / "go"
C_RUNTIME = EXAMPLES / "c-runtime" / "runtime.c"


@dataclass(frozen=True)
class Interpreter:
    """A runtime. `build` makes what is to be made in a folder and returns the command; it raises Missing.

    `version` is a command that prints it. `python`: the command is an interpreter with the runtime client, which the
    bootstrap starts for a handler; all others are custom runtimes, which the native launcher starts. `hot`: so many
    events later it has done what it does only then. `not_started` is what it says of a program that is refused.
    """

    name: str
    build: Callable[[Path], tuple[str, ...]]
    version: tuple[str, ...]
    python: bool = False
    hot: int = 5
    not_started: str = str(errno.EPERM)

    @property
    def starter(self) -> str:
        """Which of the two starts it."""
        return "bootstrap" if self.python else "launcher"

    def said_version(self, command: tuple[str, ...]) -> str:
        """Of what is here."""
        arguments = [command[0] if word == "{}" else word for word in self.version]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
        return found[0] if found else "?"


def program(name: str) -> str:
    """Its real path: what links of a distribution lead to has a name of its own."""
    found = shutil.which(name)
    if not found:
        raise Missing(f"{name} is not installed")
    return found


def _made(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        [*map(str, command)], cwd=FUNCTIONS, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise Missing(f"{command[0]} does not build: {done.stderr.strip().splitlines()[-1:]}")


def _python(version: str) -> Callable[[Path], tuple[str, ...]]:
    def build(_: Path) -> tuple[str, ...]:
        python = MADE / f"python{version}" / "bin" / "python"
        if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
            python = Path(sys.executable)
        if not os.access(python, os.X_OK):
            raise Missing(f"{python.relative_to(HOME)} is missing: tools/interpreters had no Python {version}")
        return (str(python),)

    return build


def _go(go: str | Path, *tags: str) -> Callable[[Path], tuple[str, ...]]:
    def build(folder: Path) -> tuple[str, ...]:
        target = folder / "-".join(("function", "new" if go == NEW_GO else "old", *tags))
        cgo = {"CGO_ENABLED": str(int(bool(tags))), "GOCACHE": str(HOME / ".cache" / "go"), "GOTOOLCHAIN": "local"}
        _made(program(str(go)), "build", *tags, "-o", target, "function.go", **cgo)
        return (str(target),)

    return build


def _rust(folder: Path) -> tuple[str, ...]:
    _made(program("rustc"), "-O", "-o", folder / "rust", "function.rs")
    return (str(folder / "rust"),)


def _c(compiler: str, *options: str) -> Callable[[Path], tuple[str, ...]]:
    def build(folder: Path) -> tuple[str, ...]:
        target = folder / "-".join((compiler, *options))
        define = f'-DHANDLER="{FUNCTIONS / "function.c"}"'
        _made(program(compiler), "-O2", "-std=gnu11", "-pthread", "-w", *options, define, "-o", target, C_RUNTIME)
        return (str(target),)

    return build


def _java(folder: Path) -> tuple[str, ...]:
    source = EXAMPLES / "java-runtime" / "Runtime.java"
    _made(program("javac"), "--release", "17", "-d", folder / "classes", source, "Function.java")
    return (os.path.realpath(program("java")), "-Xmx64m", "-cp", str(folder / "classes"), "Runtime", "Function")


def _node(_: Path) -> tuple[str, ...]:
    return (program("node"), str(EXAMPLES / "node-runtime" / "runtime.mjs"), "function.handler")


def _script(name: str, file: str, *options: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda _: (program(name), *options, str(FUNCTIONS / file))


def _pythons() -> Iterator[Interpreter]:
    for version in ("3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t"):
        yield Interpreter(f"Python {version}", _python(version), ("{}", "--version"), python=True)


PYPY_VERSION = "import sys; print(*sys.pypy_version_info[:3], sep='.')"
INTERPRETERS = (
    *_pythons(),
    Interpreter("PyPy", _script("pypy3", "function.py"), ("{}", "-c", PYPY_VERSION), hot=20),
    Interpreter("Node", _node, ("{}", "--version"), hot=20),
    Interpreter("Go, static", _go("go"), ("go", "version")),
    Interpreter("Go, cgo and libc's resolver", _go("go", "-tags", "netcgo"), ("go", "version")),
    Interpreter("Go of the next Debian, static", _go(NEW_GO), (str(NEW_GO), "version")),
    Interpreter("Rust", _rust, ("rustc", "--version")),
    Interpreter("Java", _java, ("{}", "--version"), hot=20),
    Interpreter("Ruby", _script("ruby", "function.rb"), ("{}", "--version")),
    Interpreter("PHP", _script("php", "function.php"), ("{}", "--version"), not_started="status 127"),
    Interpreter("C, glibc", _c("cc"), ("ldd", "--version")),
    Interpreter("C, musl, dynamic", _c("musl-gcc"), ("dpkg-query", "-W", "musl")),
    Interpreter("C, musl, static", _c("musl-gcc", "-static"), ("dpkg-query", "-W", "musl")),
    Interpreter("BusyBox", _script("busybox", "function.sh", "sh"), ("{}",), hot=2),
)
