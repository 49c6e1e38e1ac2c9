"""Of what the recorder asks whose call waits: of each thing that is reached, and each dangerous call, a few times.

A stack takes as long to read as a call to note, so of each thread the first few calls to each thing in a span are read:
one event may reach it through two libraries. Of the files that are written in one folder the first few are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from sandbox.behaviour.call import Call
from sandbox.kernel.notification import Notification
from sandbox.kernel.task import Task
from sandbox.learn.denials import DATA
from sandbox.learn.records import Loaded, MadeBy
from sandbox.learn.whose import Whose

MOST_ASKED = 4_000
"""Things, each with a thread, that are asked for in one span: an invocation, the init phase, a whole run."""
REPEATS = 4
"""Calls of a thread to one thing in a span that are read."""
IN_FOLDER = 4
"""Files of one folder that a thread writes in a span, as many as have lines of their own, and one."""
DEVICES = "/dev/"
SHARED_MEMORY = "/dev/shm/"


class Users:
    """What was asked in this span, and what the call that is noted now has to be asked for."""

    def __init__(self) -> None:
        self.whose: Callable[[Notification, int], Whose | None] = lambda call, process: None
        """Whose code waits in a call of this process; None also where the call does not wait any more."""
        self.becomes: Callable[[int], None] = lambda process: None
        """A process is about to run another program."""
        self.dangerous: set[int] = set()
        """The items, by their ids, of which it is asked who makes them."""
        self._dangers = dangerous()
        self._asked: dict[tuple[int, int], int] = {}
        self._folders: dict[tuple[str, int], int] = {}
        self._facts: list[int] = []
        self._folder = ""

    def heard(self, item: int, call: Call) -> None:
        """A call was seen for the first time in its phase."""
        classes = self._dangers.get(call.syscall)
        if classes is not None and (not classes or call.arg_class in classes):
            self.dangerous.add(item)

    def reached(self, ids: Sequence[int], written: str = "") -> None:
        """The call that is noted now reaches a fact, the first of these ids; a file that is `written`, its path."""
        if written.startswith(DEVICES) and not written.startswith(SHARED_MEMORY):
            return
        self._folder = self._folder or os.path.dirname(written)
        self._facts += ids[:1]

    def asks(self, item: int) -> bool:
        """Whether the call, of this item, has anything to be asked for."""
        return bool(self._facts) or item in self.dangerous

    def answers(self, call: Notification, task: Task, item: int) -> Iterator[MadeBy | Loaded]:
        """Who made the call, of this item, that the task waits in: of each thing that it reaches, and of the item.

        And the libraries on its stack.
        """
        facts, folder, self._facts, self._folder = self._facts, self._folder, [], ""
        tid = call.pid
        asked = [fact for fact in facts if self._asked.get((fact, tid), 0) < REPEATS]
        if not asked and (item not in self.dangerous or self._asked.get((~item, tid), 0) >= REPEATS):
            return
        written = self._folders.get((folder, tid), 0)
        if len(self._asked) > MOST_ASKED or (folder and written >= IN_FOLDER):
            return
        found = self.whose(call, task.process())
        if folder:
            self._folders[folder, tid] = written + 1
        for of in (*asked, ~item):
            self._asked[of, tid] = self._asked.get((of, tid), 0) + 1
        if found:
            yield from (MadeBy(fact, False, found.by, found.library) for fact in asked)
            yield from (Loaded(name, version, "executed") for name, version in found.libraries)
            if item >= 0:
                yield MadeBy(item, True, found.by, found.library)

    def forget(self) -> None:
        """A span has ended."""
        self._asked.clear()
        self._folders.clear()


def dangerous() -> Mapping[str, frozenset[str]]:
    """The classes of each syscall that a reviewer must not overlook, none for all: data/dangerous.json."""
    with open(os.path.join(DATA, "dangerous.json"), encoding="utf-8") as file:
        return {syscall: frozenset(classes) for syscall, classes in json.load(file).items()}
