"""Runs one attempt in a fresh process: fork, take on the uid, install, attack, report; looks for the effect.

What the child needs after install is imported, resolved and allocated before the fork; its report is one
write and its end one exit_group, so that it works under a filter that allows hardly anything else.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import termios
import time
from collections.abc import Callable

from sandbox.errors import UsageError
from sandbox.probe import raw
from sandbox.probe.attempt import Attempt, AttemptEnd, Effect, Result, judge
from sandbox.probe.evidence import observe
from sandbox.probe.scene import Scene, become

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
REPORT_SIZE = 4096  # PIPE_BUF: one write of at most this size is atomic (pipe(7))
NO_REPORT = 70


def run_attempt(
    attempt: Attempt,
    *,
    install: Callable[[], None] | None,
    uid: int | None = None,
    timeout: float = 10.0,
    patience: float = 2.0,
) -> Result:
    """What became of the attempt in a fresh process under `install` (None: bare) and `uid` (None: as it is).

    The process has no-new-privileges set before install() is called. `timeout` in seconds bounds the attempt,
    `patience` the look for an effect that it claims. Raises UsageError if the uid cannot be taken on,
    InstallRefused if the scene cannot be made. An install() that raises gives an inconclusive result that
    carries its message.
    """
    if uid is not None and uid != os.geteuid() and os.geteuid() != 0:
        raise UsageError(
            f"only root can run attempts as uid {uid}", where="probe", todo="run as root or leave the uid out"
        )
    deadline = time.monotonic() + timeout
    with Scene(uid) as scene:
        report, report_end = os.pipe()
        release_end, release = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(report)
                os.close(release)
                _attack(attempt, scene, install, report_end, release_end)
            finally:
                os._exit(NO_REPORT)
        os.close(report_end)
        os.close(release_end)
        try:
            outcome = _watch(attempt, scene, pid, report, release, deadline, patience)
        finally:
            os.close(report)
            _end(pid)
        return judge(attempt, outcome, bare=install is None)


def _attack(
    attempt: Attempt, scene: Scene, install: Callable[[], None] | None, report: int, release: int
) -> None:
    """The child's whole life."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.setsid()
    if scene.tty >= 0:
        fcntl.ioctl(scene.tty, termios.TIOCSCTTY, 0)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    become(scene.uid)
    scene.pid = os.getpid()
    raw.call("prctl", PR_SET_NO_NEW_PRIVS, 1)
    # A collection at a bad moment would run finalizers (and their system calls) of the parent's objects.
    gc.disable()
    gc.freeze()
    _encode({"effect": [True, None, "warm up the encoder before a filter limits what it may load"]})
    try:
        if install is not None:
            install()
    # Whatever keeps a filter from being installed is this attempt's result, not the probe's end.
    except Exception as error:
        message = _encode({"failure": f"install failed: {type(error).__name__}: {error}"})
    else:
        message = _perform(attempt, scene)
    os.write(report, message)
    try:
        # Held here, the process can be inspected; a filter may refuse the read, which only ends it sooner.
        os.read(release, 1)
    finally:
        os._exit(0)


def _perform(attempt: Attempt, scene: Scene) -> bytes:
    try:
        effect = attempt.run(scene)
    except OSError as error:
        effect = Effect(False, error.errno, error.strerror or str(error))
    # An attempt that breaks in its own code says nothing about the filter.
    except Exception as error:
        return _encode({"failure": f"the attempt itself failed: {type(error).__name__}: {error}"})
    return _encode({"effect": [effect.happened, effect.errno, effect.detail[:500]]})


def _encode(report: dict[str, object]) -> bytes:
    return json.dumps(report).encode()[:REPORT_SIZE]


def _watch(
    attempt: Attempt, scene: Scene, pid: int, report: int, release: int, deadline: float, patience: float
) -> AttemptEnd:
    """Read the report, look for the evidence while the child is held, then let it go."""
    try:
        ready, _, _ = select.select([report], [], [], max(0.0, deadline - time.monotonic()))
        message = os.read(report, REPORT_SIZE) if ready else b""
        if message:
            said = json.loads(message)
            if "failure" in said:
                return AttemptEnd(None, None, failure=str(said["failure"]))
            happened, number, detail = said["effect"]
            effect = Effect(bool(happened), number, str(detail))
            wait = patience if effect.happened else 0.0
            return AttemptEnd(effect, observe(attempt.evidence, scene, pid, patience=wait))
    finally:
        os.close(release)
    status = _ended(pid, deadline)
    seen = observe(attempt.evidence, scene, pid, patience=0.0) or None
    if status is None:
        return AttemptEnd(None, seen)
    if os.WIFSIGNALED(status):
        return AttemptEnd(None, seen, signal=os.WTERMSIG(status))
    code = os.WEXITSTATUS(status)
    if code == NO_REPORT:
        return AttemptEnd(None, seen, failure="the attempt could not report")
    return AttemptEnd(None, seen, exit_status=code)


def _ended(pid: int, deadline: float) -> int | None:
    """The wait status of the child, which stays a zombie so that its process group keeps its name."""
    while True:
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is not None:
            return info.si_status << 8 if info.si_code == os.CLD_EXITED else info.si_status & 0x7F
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


def _end(pid: int) -> None:
    """Give the child a moment to leave, then end it and whatever it left behind in its process group."""
    _ended(pid, time.monotonic() + 0.5)
    for kill in (os.kill, os.killpg):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(pid, 0)
