"""Is the host still the one that the profile was learned on? Compared at start, told in the status line."""

from __future__ import annotations

import os

from sandbox.bundle import sha256
from sandbox.errors import PolicyStale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LOCKS = (
    "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.lock", "requirements.txt", "package-lock.json",
    "go.sum", "Cargo.lock",
)  # fmt: skip
DIGITS = 16
"""How much of a SHA-256 digest profiles show."""
LARGE = 1 << 20
"""Bytes from which on loading OpenSSL (3 ms) is quicker than the interpreter's small module (4 ms for 1 MiB)."""


def libc() -> str:
    """`glibc 2.36`, `musl`, or ''."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return "musl"


def handler_file(path: str, handler: str, root: str) -> str:
    """The handler's module (a/b.py of `a/b.function` or `a.b.function`), else the program that is started."""
    module = os.path.join(root, handler.rpartition(".")[0].replace(".", "/") + ".py")
    return module if handler and os.path.isfile(module) else path


def lock_file(root: str) -> str:
    """The first lock file that the function's folder has, or ''."""
    for name in LOCKS:
        path = os.path.join(root, name)
        if os.path.isfile(path):
            return path
    return ""


def digest(path: str) -> str:
    """The beginning of a file's SHA-256, '' where it cannot be read."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < LARGE:
                return sha256(file.read())[:DIGITS]
            import hashlib

            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
    except OSError:
        return ""


def differences(provenance: Mapping[str, list[str]], path: str, environment: Mapping[str, str]) -> list[str]:
    """What differs between the trainings and this start, in words. A fact that no training knew is not compared."""
    root = environment.get("LAMBDA_TASK_ROOT") or os.getcwd()
    uname = os.uname()
    now = {
        "libc": libc(),
        "kernel": _series(uname.release),
        "architecture": uname.machine,
        "python": _python(path),
        "handler_digest": digest(handler_file(path, environment.get("_HANDLER", ""), root)),
        "lock_digest": digest(lock_file(root)),
    }
    found = []
    for fact, value in now.items():
        learned = provenance.get(fact) or []
        if fact in ("kernel", "python"):
            learned = [_series(text) for text in learned]
        if learned and value and value not in learned:
            found.append(f"{fact.replace('_', ' ')}: learned on {', '.join(learned)}, here {value}")
    return found


def _series(release: str) -> str:
    """6.18 of 6.18.44-vendor, 3.11 of 3.11.2."""
    return ".".join(release.split(".")[:2])


def _python(path: str) -> str:
    """3.11 of /usr/bin/python3 -> python3.11; '' for what is no Python."""
    name = os.path.basename(os.path.realpath(path))
    return name[6:] if name.startswith("python") and "." in name else ""


def refuse(differing: list[str]) -> PolicyStale:
    """The error of SANDBOX_STALE=refuse."""
    return PolicyStale(
        "; ".join(differing), where="SANDBOX_STALE=refuse",
        todo="learn again on this host (`sandbox learn ... --merge`), or set SANDBOX_STALE=warn",
    )  # fmt: skip
