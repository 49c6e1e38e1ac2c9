"""What is written in C: shipped with a release, built by the system's cc where its sources have changed."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError, UsageError

ARCHES = ("x86_64", "aarch64")
BUILD = "install the wheel for Linux, which holds both, or run tools/release in a checkout"


@dataclass(frozen=True)
class Native:
    """One thing that is built, for each architecture in a file of its own.

    `word` is what errors call it, `name` what its file is called, with `{arch}`. `source` is what it begins with, in
    whose folder the compiler runs: `arguments` name no place of this host, since they are part of the digest. `parts`
    gives all files that it is made of, and `finish` changes what was linked.
    """

    word: str
    name: str
    built: Path
    arguments: tuple[str, ...]
    source: Path
    parts: Callable[[], Sequence[Path]]
    finish: Callable[[bytes], bytes] | None = None

    def path(self, arch: str) -> Path:
        """Where it lies for `x86_64` or `aarch64`, built where it can and must be.

        Raises UsageError for another architecture, SandboxError where neither it nor a compiler for it is there.
        """
        if arch not in ARCHES:
            raise UsageError(f"{arch!r} is not one of {', '.join(ARCHES)}", where=self.word, todo="name another one")
        found = self.built / self.name.format(arch=arch)
        mark = found.with_name(f"{found.name}.sources")
        try:
            if found.is_file() and (not mark.is_file() or mark.read_text() == self.sources()):
                found.open("rb").close()
                return found
        except OSError as error:
            todo = "let all users read the installation: chmod -R a+rX, or install it anew with umask 022"
            raise SandboxError(f"cannot be read: {error.strerror}", where=str(found), todo=todo) from error
        if arch != platform.machine():
            raise SandboxError(f"a {self.word} for {arch} is missing", where=str(found), todo=BUILD)
        self.build(("cc",), found)
        return found

    def sources(self) -> str:
        """SHA-256 of all that it is made of."""
        parts = [repr(self.arguments).encode(), *(path.read_bytes() for path in self.parts())]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def build(self, compiler: Sequence[str], found: Path) -> None:
        """Compile and link into `found`, in one step for whoever looks.

        Raises SandboxError with what the compiler said.
        """
        todo = f"{BUILD}; with a compiler it is built where it is asked for"
        try:
            found.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=found.parent) as folder:
                made = Path(folder) / found.name
                command = [*compiler, *self.arguments, "-o", str(made), str(self.source)]
                done = subprocess.run(command, cwd=self.source.parent, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SandboxError(f"cannot be built:\n{done.stderr.strip()}", where=self.word, todo=todo)
                if self.finish:
                    made.write_bytes(self.finish(made.read_bytes()))
                made.chmod(0o755)
                os.replace(made, found)
            found.with_name(f"{found.name}.sources").write_text(self.sources())
        except OSError as error:
            raise SandboxError(f"cannot be built: {error.strerror}", where=str(error.filename), todo=todo) from error
