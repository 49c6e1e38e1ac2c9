"""What a package holds: files with their modes, and where they come from. Nothing here knows how archives are written.

A guard folder is the same in every package:

    wrapper  bootstrap  sandbox/...  dnslib/...  launcher.x86_64  launcher.aarch64  policy/...  manifest.json  bom.json

One that several functions share holds policy-NAME/... of each. They stay beside the manifest, where both starters look
for it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import sandbox
from sandbox import bundle, tripwire
from sandbox.errors import SandboxError, UsageError
from sandbox.kernel import tables
from sandbox.launcher import binary

HOME = Path(sandbox.__file__).resolve().parent
ROOTS = ("sandbox.start", "sandbox.supervise")
"""What the bootstrap runs, observing in SANDBOX_MODE=learn with it. Generalising and compiling are not shipped."""
NOT_SHIPPED = ("sandbox.policy", "sandbox.cli", "sandbox.package", "sandbox.probe", "sandbox.runtime_api")
NOT_NEEDED = ("signatures.json", "groups.json", "newer.json", "schema.json")
SCHEMA = ".schema.json"
"""How descriptions of outputs end."""
"""Data that only tools and code that is not shipped read."""

PLAIN, EXECUTABLE = 0o644, 0o755


@dataclass(frozen=True)
class File:
    """One member: its path with `/`, its bytes (of a symbolic link its target, of a folder none), the permission bits
    of its mode, and what it is: S_IFREG, S_IFLNK or S_IFDIR (man 7 inode).
    """

    path: str
    data: bytes
    mode: int = PLAIN
    kind: int = stat.S_IFREG

    def under(self, folder: str) -> File:
        """The same below a folder."""
        return replace(self, path=f"{folder}/{self.path}")


@dataclass(frozen=True)
class Guard:
    """The files of a guard folder, and what people should know about it."""

    files: tuple[File, ...]
    launchers: tuple[str, ...]
    notes: tuple[str, ...]


def policy_folder(function: str) -> str:
    """The folder of a bundle in a guard folder: of this function where several share it, '' for the only one."""
    return f"policy-{function}" if function else "policy"


def guard(bundles: Mapping[str, str], *, native: bool, python: str = "") -> Guard:
    """The guard folder for compiled bundles by their folder in it, without its manifest.

    With `native` the launchers that are built go in. `python` is an interpreter for which byte code is added, so that
    the start on a read-only file system takes half the time. Raises UsageError, or PolicyInvalid for a damaged bundle.
    """
    notes: list[str] = []
    launchers = dict(_launchers(notes)) if native else {}
    policies = [file for folder, bundle_ in bundles.items() for file in _policy(bundle_, folder)]
    files = [*policies, *modules(), *_libraries(), *_tripwires(notes)]
    if python:
        files += _byte_code(files, python)
    files += [File(f"launcher.{arch}", data, EXECUTABLE) for arch, data in launchers.items()]
    if not launchers:
        notes.append("no native launcher is in it: the platform's image needs a Python 3.11 or newer")
    return Guard(tuple(sorted(files, key=lambda file: file.path)), tuple(launchers), tuple(notes))


def _launchers(notes: list[str]) -> Iterator[tuple[str, bytes]]:
    for arch in tables.ARCHES:
        try:
            yield arch, binary(arch)
        except SandboxError as error:
            notes.append(f"no launcher for {arch} is in it; to have one: {error.todo}")


def _tripwires(notes: list[str]) -> Iterator[File]:
    """The libraries, where a start looks for them (sandbox/start/wire.py)."""
    for arch in tables.ARCHES:
        try:
            path = tripwire.path(arch)
        except SandboxError as error:
            notes.append(f"no tripwire for {arch} is in it; to have one: {error.todo}")
            continue
        yield File(str(path.relative_to(HOME.parent)), path.read_bytes())


def _policy(directory: str, folder: str) -> Iterator[File]:
    if not os.path.isfile(os.path.join(directory, bundle.FILE)):
        raise UsageError(
            f"is not a bundle: it has no {bundle.FILE}", where=directory, todo="make one: `sandbox compile PROFILE`"
        )
    bundle.arches(directory)
    for name in sorted(os.listdir(directory)):
        path = Path(directory, name)
        if path.is_file() and name != bundle.PROFILE:  # for reviewers, and not for the function to read
            yield File(f"{folder}/{name}", path.read_bytes())


@functools.cache
def modules() -> tuple[File, ...]:
    """`bootstrap` and every module that it or the supervisor may import, with the data beside them."""
    found: dict[str, Path] = {}
    waiting = [name for root in ROOTS for name in _submodules(root)]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in found or path is None or name.startswith(NOT_SHIPPED):
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imports(path)]
    folders = {path.parent for path in found.values()}
    patterns = ("*.json", "data/*.json", "data/*.bpf")
    data = [path for folder in folders for path in sorted(path for one in patterns for path in folder.glob(one))]
    needed = (path for path in data if path.name not in NOT_NEEDED and not path.name.endswith(SCHEMA))
    files = [
        File(str(path.relative_to(HOME.parent)), path.read_bytes()) for path in (*found.values(), *needed)
    ]
    return (File("bootstrap", _bootstrap().read_bytes(), EXECUTABLE), *files)


def _bootstrap() -> Path:
    # In a checkout and in an installation it lies beside the package.
    return HOME.parent / "bootstrap"


def _submodules(name: str) -> list[str]:
    folder = HOME.parent / name.replace(".", "/")
    return [f"{name}.{path.stem}".removesuffix(".__init__") for path in folder.glob("*.py")]


def _source(name: str) -> Path | None:
    if not name.startswith("sandbox"):
        return None
    base = HOME.parent / name.replace(".", "/")
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _libraries() -> Iterator[File]:
    """dnslib, which the supervisor loads for profiles with host names: pure Python."""
    spec = importlib.util.find_spec("dnslib")
    for place in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(place).glob("*.py")):
            if not path.name.startswith("test"):
                yield File(f"dnslib/{path.name}", path.read_bytes())


def _byte_code(files: Iterable[File], python: str) -> list[File]:
    """The files' byte code for an interpreter, of the kind that is not compared with its source again."""
    with tempfile.TemporaryDirectory() as name:
        sources = [file for file in files if file.path.endswith(".py")]
        for file in sources:
            path = Path(name, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
        command = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", name, name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            todo = "name an interpreter"
            raise UsageError(f"cannot be started: {error.strerror}", where=python, todo=todo) from error
        if done.returncode:
            raise UsageError(
                f"could not compile the guard: {(done.stdout + done.stderr).strip()[-300:]}", where=python,
                todo="name a Python 3.11 or newer",
            )  # fmt: skip
        made = sorted(Path(name).glob("**/*.pyc"))
        if len(made) != len(sources):
            raise UsageError("is not a Python: it compiled nothing", where=python, todo="name a Python 3.11 or newer")
        return [File(str(path.relative_to(name)), path.read_bytes()) for path in made]


def by_path(files: Iterable[File]) -> Mapping[str, File]:
    """The files by their path."""
    return {file.path: file for file in files}
