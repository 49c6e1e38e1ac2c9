"""What the parent looks for after an attempt: in the scene, and in /proc while the attempt is held.

Each kind of evidence answers True (it took place), False (it did not) or None (nothing left to look at).
A kind may carry a word after a colon: `ns:net`, `fd:userfaultfd`, `exec:writable_page`.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.probe.scene import (
    LIMITS,
    MARK,
    ORIGINAL,
    ORIGINAL_MODE,
    SECRET_SIZE,
    STOLEN,
    TARGET,
    WRITTEN,
    Scene,
)

Look = Callable[[Scene, int, str], "bool | None"]


def observe(evidence: str, scene: Scene, pid: int, *, patience: float) -> bool | None:
    """Whether the evidence is there, looked for during at most `patience` seconds; None if evidence is ""."""
    if not evidence:
        return None
    kind, _, word = evidence.partition(":")
    look = KINDS[kind]
    end = time.monotonic() + patience
    while True:
        seen = look(scene, pid, word)
        if seen or time.monotonic() >= end:
            return seen
        time.sleep(0.002)


def _marker(scene: Scene, pid: int, word: str) -> bool:
    return scene.marker.exists()


def _child(scene: Scene, pid: int, word: str) -> bool:
    return scene.page[MARK] == 1


def _arrived(scene: Scene, pid: int, word: str) -> bool:
    return scene.readable(0)


def _listening(scene: Scene, pid: int, word: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", scene.free_port)) == 0


def _namespace(scene: Scene, pid: int, word: str) -> bool | None:
    ours = Path(f"/proc/self/ns/{word}").readlink()
    try:
        return Path(f"/proc/{pid}/ns/{word}").readlink() != ours
    except FileNotFoundError:
        # A new pid namespace has no name until its first process (fs/nsfs.c, kernel/pid_namespace.c).
        return Path(f"/proc/{pid}/ns/user").is_symlink() or None
    except OSError:
        return None


def _descriptor(scene: Scene, pid: int, word: str) -> bool | None:
    if not Path(f"/proc/{pid}/fd").exists():
        return None
    try:
        link = Path(f"/proc/{pid}/fd/{scene.returned()}").readlink()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return word in str(link)


def _executable(scene: Scene, pid: int, word: str) -> bool | None:
    where = scene.words[word] if word else scene.returned()
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        span, permissions, *_ = line.split()
        start, end = (int(bound, 16) for bound in span.split("-"))
        if start <= where < end:
            return "x" in permissions
    return None if not lines else False


def _tracing(scene: Scene, pid: int, word: str) -> bool | None:
    """The victim is traced by the attempt, or (`self`) the attempt by us."""
    traced, tracer = (pid, os.getpid()) if word == "self" else (scene.victim, pid)
    try:
        status = Path(f"/proc/{traced}/status").read_text()
    except OSError:
        return None
    # A thread may have forked the attempt, and TracerPid names the thread group's leader or that thread.
    found = int(next(line.split()[1] for line in status.splitlines() if line.startswith("TracerPid:")))
    return found != 0 if word == "self" else found == tracer


def _stolen(scene: Scene, pid: int, word: str) -> bool:
    return bytes(scene.page[STOLEN : STOLEN + SECRET_SIZE]) == scene.secret


def _overwritten(scene: Scene, pid: int, word: str) -> bool:
    return bytes(scene.page[TARGET : TARGET + len(WRITTEN)]) == WRITTEN


def _dead(scene: Scene, pid: int, word: str) -> bool:
    return scene.victim_dead()


def _limited(scene: Scene, pid: int, word: str) -> bool:
    # Not prlimit(2), which needs CAP_SYS_RESOURCE for a process of another uid: a reader of /proc does not.
    lines = Path(f"/proc/{scene.victim}/limits").read_text().splitlines()
    limits = next(line for line in lines if line.startswith("Max open files")).split()[3:5]
    return tuple(int(limit) for limit in limits) == LIMITS


def _personality(scene: Scene, pid: int, word: str) -> bool | None:
    try:
        theirs = Path(f"/proc/{pid}/personality").read_text()
        return theirs != Path("/proc/self/personality").read_text()
    except OSError:
        return None


def _typed(scene: Scene, pid: int, word: str) -> bool:
    return scene.typed()


def _created(scene: Scene, pid: int, word: str) -> bool:
    return os.path.lexists(scene.new)


def _gone(scene: Scene, pid: int, word: str) -> bool:
    return not scene.file.exists()


def _changed(scene: Scene, pid: int, word: str) -> bool:
    return not scene.file.exists() or scene.file.read_bytes() != ORIGINAL


def _mode(scene: Scene, pid: int, word: str) -> bool:
    return stat.S_IMODE(scene.file.stat().st_mode) != ORIGINAL_MODE


KINDS: dict[str, Look] = {
    "marker": _marker,
    "child": _child,
    "arrived": _arrived,
    "listening": _listening,
    "ns": _namespace,
    "fd": _descriptor,
    "exec": _executable,
    "traced": _tracing,
    "stolen": _stolen,
    "overwritten": _overwritten,
    "dead": _dead,
    "limited": _limited,
    "personality": _personality,
    "typed": _typed,
    "created": _created,
    "gone": _gone,
    "changed": _changed,
    "mode": _mode,
}
