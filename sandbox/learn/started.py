"""What training notes of a program that is started: where it really lies, its content, and what interprets it."""

from __future__ import annotations

import os

from sandbox.behaviour.access import Access
from sandbox.behaviour.content import Digests, Opened
from sandbox.confine import landlock_rules
from sandbox.kernel.task import Task
from sandbox.learn.records import Program

USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"


class Started:
    """The programs of one environment."""

    def __init__(self) -> None:
        self._digests = Digests()
        self._by_env: set[str] = set()

    def program(self, path: str, asked: Access, task: Task) -> Program | None:
        """The fact that a task starts a program by this path; None for what env(1) starts as a script's interpreter.

        That is no program of the function's own: it comes with the script.
        """
        if path in self._by_env and _is_env(task):
            return None
        real = "" if asked.thing == path else asked.thing
        if asked.unsure or not asked.thing.startswith("/"):
            return Program(path)  # nothing is opened behind a server that may hang
        try:
            with Opened(asked.thing) as file:
                if file.identity != asked.identity:
                    raise FileNotFoundError  # replaced meanwhile
                digest, script = self._digests.of(file), os.pread(file.fd, 2, 0) == b"#!"
        except OSError:  # the task may read it, this process may not
            return Program(path, real=real)
        others = list(landlock_rules.chain(asked.thing, _search(task) if script else ""))[1:]
        interpreters = tuple(other for other, is_loader in others if not is_loader)
        if any(os.path.basename(other) == "env" for other in interpreters):
            self._by_env.update(interpreters)
        loader = "" if script else next((other for other, _ in others), "")
        return Program(path, "exec", real, digest, interpreters, loader)


def _is_env(task: Task) -> bool:
    try:
        return os.path.basename(os.readlink(f"/proc/{task.tid}/exe")) == "env"
    except OSError:
        return False


def _search(task: Task) -> str:
    """The PATH of a task, in which env(1) looks for an interpreter: the one it was started with."""
    try:
        with open(f"/proc/{task.tid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return USUAL_PATH
    return next((os.fsdecode(entry[5:]) for entry in entries if entry.startswith(b"PATH=")), USUAL_PATH)
