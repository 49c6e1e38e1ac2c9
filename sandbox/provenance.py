"""Is the host still the one that the profile was learned on? Compared at start, told in the status line."""

from __future__ import annotations

import os

from sandbox.bundle import FACTS, series, sha256
from sandbox.errors import PolicyStale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOCKS = (
    "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.lock", "requirements.txt", "package-lock.json",
    "go.sum", "Cargo.lock",
)  # fmt: skip
PART = 64 << 10
"""Bytes of each end of a large file that its fingerprint covers."""
ELF_PART = 4 << 10
"""The same of a compiled program: the ids of its build and the places of its sections lie at its ends (man 5 elf)."""
DIGITS = 16
"""How much of a SHA-256 digest profiles show."""


def libc() -> str:
    """`glibc 2.36`, `musl`, or ''."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return "musl"


def handler_file(path: str, handler: str, root: str) -> str:
    """The handler's module (a/b.py of `a/b.function` or `a.b.function`), else the program that is started.

    '' for a bare interpreter: its version is compared, and reading its megabytes would double the time of a start.
    """
    module = os.path.join(root, handler.rpartition(".")[0].replace(".", "/") + ".py")
    if handler and os.path.isfile(module):
        return module
    return "" if _python(path) else path


def lock_file(root: str) -> str:
    """The first lock file that the function's folder has, or ''."""
    for name in LOCKS:
        path = os.path.join(root, name)
        if os.path.isfile(path):
            return path
    return ""


def digest(path: str) -> str:
    """A short fingerprint of a file, '' where it cannot be read: SHA-256, of a large file its size and both its ends.

    It tells whether a file changed by a new build, not whether somebody forged it; reading a whole interpreter would
    take longer than all the rest of the launch.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            part = ELF_PART if file.read(4) == b"\x7fELF" else PART
            file.seek(0)
            if size <= 2 * part:
                return sha256(file.read())[:DIGITS]
            first = file.read(part)
            file.seek(size - part)
            return sha256(str(size).encode() + first + file.read(part))[:DIGITS]
    except OSError:
        return ""


def differences(provenance: Mapping[str, Sequence[str]], path: str, handler: str, root: str) -> list[str]:
    """What differs between the trainings and this start, in words. A fact that no training knew is not compared.

    `path` is the program that is started, `handler` what _HANDLER says, `root` the function's folder.
    """
    uname = os.uname()
    now = {
        "libc": libc(),
        "kernel": series(uname.release),
        "architecture": uname.machine,
        "python": _python(path),
        "handler_digest": digest(handler_file(path, handler, root)),
        "lock_digest": digest(lock_file(root)),
    }
    found = []
    for fact in FACTS:
        learned, value = provenance.get(fact, ()), now[fact]
        if fact in ("kernel", "python"):
            learned = [series(text) for text in learned]
        if learned and value and value not in learned:
            found.append(f"{fact.replace('_', ' ')}: learned on {', '.join(learned)}, here {value}")
    return found


def _python(path: str) -> str:
    """3.11 of /usr/bin/python3 -> python3.11; '' for what is no Python."""
    name = os.path.basename(os.path.realpath(path))
    return name[6:] if name.startswith("python") and "." in name else ""


def stale(differing: list[str]) -> PolicyStale:
    """The error of SANDBOX_STALE=refuse."""
    return PolicyStale(
        "; ".join(differing), where="SANDBOX_STALE=refuse",
        todo="learn again on this host (`sandbox learn ... --merge`), or set SANDBOX_STALE=warn",
    )  # fmt: skip
