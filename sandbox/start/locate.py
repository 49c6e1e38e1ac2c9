"""Finding the policy: a bundle, or a profile that is compiled on the spot."""

from __future__ import annotations

import os
import stat
import sys

from sandbox import bundle
from sandbox.confine import Command
from sandbox.confine.landlock_rules import located
from sandbox.errors import PackageInvalid, PolicyInvalid, PolicyNotFound, PolicyWritable, UsageError, printable
from sandbox.kernel import abi, landlock
from sandbox.start.settings import VERIFY_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.start.settings import Settings

MANIFEST = "manifest.json"
"""Beside the bundle in a package (sandbox/package/manifest.py)."""

MAKE = "make one with `sandbox learn` and `sandbox compile`, name one in SANDBOX_POLICY, or set SANDBOX_MODE=learn"


def find(settings: Settings) -> str:
    """The path of the bundle (a directory) or profile (a YAML file) to use. Raises PolicyNotFound or UsageError."""
    named = settings.policy
    if named:
        if os.path.exists(named):
            return named
        raise PolicyNotFound(f"{named} does not exist", where="SANDBOX_POLICY", todo=MAKE)
    function = settings.function
    if not function:
        what = "neither SANDBOX_POLICY nor AWS_LAMBDA_FUNCTION_NAME is set"
        raise PolicyNotFound(what, where="environment", todo=MAKE)
    if os.path.basename(function) != function or function in (".", ".."):
        todo = "name the function"
        raise UsageError(f"{function!r} is not a plain name", where="AWS_LAMBDA_FUNCTION_NAME", todo=todo)
    tried = list(_candidates(settings.task_root, function))
    for path in tried:
        if os.path.isfile(os.path.join(path, bundle.FILE)) or (path.endswith(".yaml") and os.path.isfile(path)):
            return path
    raise PolicyNotFound(f"no policy for {function} (looked at {', '.join(tried)})", where="bootstrap", todo=MAKE)


def _candidates(root: str, function: str) -> Iterator[str]:
    for directory in (os.path.join(root, "profiles") if root else "", "/opt/profiles", "profiles"):
        if directory:
            yield os.path.join(directory, function)
            yield os.path.join(directory, function + ".yaml")


def load(path: str, verify_key: str | None) -> bundle.Policy:
    """The policy at a path that `find` gave. Compiles a YAML profile and says so. Raises SandboxError.

    A bundle in a package is the one that the package's manifest lists. `verify_key`, the file of a public key, asks for
    a signed one.
    """
    expected = ""
    if verify_key == "":
        raise UsageError("is empty", where=VERIFY_KEY, todo="name the file of a public key, or unset it")
    if verify_key or os.path.exists(os.path.join(_folder(path), MANIFEST)):
        from sandbox.start import integrity

        expected = integrity.listed(path, verify_key or "")
    policy = bundle.read(path, abi.MACHINE) if os.path.isdir(path) else _compile(path)
    # The bytes that hold, not a second reading of them: who may change a file may do it between the two.
    if expected and policy.digest != expected:
        raise PackageInvalid(
            f"is not the policy that {MANIFEST} lists", where=path, todo="package it again: `sandbox package`"
        )
    return policy


def _folder(path: str) -> str:
    """The folder that a bundle lies in by its name, wherever a link leads."""
    return os.path.dirname(os.path.abspath(path))


def _compile(profile: str) -> bundle.Policy:
    """Compile in a child process, over a pipe: nothing is written where the function could reach it later."""
    import subprocess
    import time

    started = time.monotonic()
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.insert(0, {home!r}); from sandbox.policy import build; build.compile_for_start()"
    tried = []
    for python in (os.path.join(home, ".venv", "bin", "python"), sys.executable):
        if not os.path.exists(python):
            continue
        done = subprocess.run([python, "-B", "-P", "-c", code, profile, abi.MACHINE], capture_output=True, check=False)
        if done.returncode == 0:
            took = (time.monotonic() - started) * 1000
            said = f"sandbox: compiled {profile} in {took:.0f} ms; `sandbox compile` does it ahead of time"
            os.write(2, f"{printable(said)}\n".encode())
            return bundle.decode(done.stdout, abi.MACHINE, profile)
        message = done.stderr.decode(errors="replace").strip() or f"{profile}: the compiler ended by {done.returncode}"
        # An error of ours has its own exit code, and under SANDBOX_DEBUG=1 may name an ImportError as its cause.
        if done.returncode != 1 or ("ModuleNotFoundError" not in message and "ImportError" not in message):
            todo = "" if "what to do" in message else bundle.REBUILD
            raise PolicyInvalid(message.removeprefix("sandbox: "), todo=todo)
        tried.append(f"{python}: {message.splitlines()[-1]}")
    raise PolicyInvalid(
        f"{profile} is a profile and cannot be compiled here ({'; '.join(tried)})",
        where="bootstrap", todo="ship the bundle that `sandbox compile` makes, or install seccomp-bootstrap here",
    )  # fmt: skip


def writable(path: str, policy: bundle.Policy, task_root: str) -> str:
    """The first place of a bundle that the function's user may write to, or could put another into, '' for none.

    That is the bundle and what is in it, and for a function that can rename each folder on the way to it, but for those
    with the sticky bit (man 7 inode). Where Landlock holds the function's files, only what lies in its own places
    counts. Root may write everywhere, which says nothing.
    """
    if os.geteuid() == 0:
        return ""
    places = [os.path.abspath(path)]
    if os.path.isdir(path):
        places += [os.path.join(places[0], name) for name in sorted(os.listdir(path))]
    folder = places[0]
    while folder != "/" and policy.files.renames:
        folder = os.path.dirname(folder)
        if not os.stat(folder).st_mode & stat.S_ISVTX:
            places.append(folder)
    if policy.files.listed and landlock.abi_version():
        own = _own_places(policy, task_root)
        places = [place for place in places if f"{place.rstrip('/')}/".startswith(own)]
    return next((place for place in places if os.access(place, os.W_OK)), "")


def _own_places(policy: bundle.Policy, task_root: str) -> tuple[str, ...]:
    """Where the function may write as its profile says, each with `/` at its end."""
    command = Command("", (), {}, root=task_root)
    return tuple(f"{located(rule, command).rstrip('/')}/" for rule in policy.files.write)


def reports_writable(path: str, policy: bundle.Policy, task_root: str) -> bool:
    """Whether the function's user may write to a file of reports, or put another in its place.

    Where Landlock holds the function's files, that is a file in one of its own places, for root as well. Elsewhere it
    is every file: the supervisor, which is to write it, is the same user. Root may write everywhere there, which says
    nothing, and a device keeps nothing.
    """
    real = os.path.realpath(path)
    if policy.files.listed and landlock.abi_version():
        own = tuple(f"{os.path.realpath(place).rstrip('/')}/" for place in _own_places(policy, task_root))
        return f"{real}/".startswith(own)
    return os.geteuid() != 0 and not (os.path.exists(real) and stat.S_ISCHR(os.stat(real).st_mode))


def check_events(policy: bundle.Policy, settings: Settings) -> str:
    """What to say of a file of reports that the function could change, '' for none. Raises UsageError."""
    path = settings.events.removeprefix("file:")
    if path == settings.events or not path or not reports_writable(path, policy, settings.task_root):
        return ""
    if settings.on_unavailable != "warn":
        raise UsageError(
            "the function could change its own reports", where=f"SANDBOX_EVENTS={settings.events}",
            todo="name a file outside of the folders that the function writes, on a host with Landlock, or a collector "
            "(unix:PATH, fd:N), or set SANDBOX_ON_UNAVAILABLE=warn to start all the same",
        )  # fmt: skip
    return f"events: the function could change {path}"


def check_writable(path: str, policy: bundle.Policy, settings: Settings) -> str:
    """What to say of a bundle that the function could change, '' for one that it could not. Raises PolicyWritable."""
    place = writable(path, policy, settings.task_root)
    if place and settings.on_unavailable != "warn":
        raise PolicyWritable(
            "the function could change its own policy for the next start", where=place,
            todo="chmod -R a-w it, or let another user own it, or keep it out of the folders that the function writes, "
            "or set SANDBOX_ON_UNAVAILABLE=warn to start all the same",
        )  # fmt: skip
    return f"policy: the function could change {place}" if place else ""
