"""The look at files: what the path calls that wait ask for, and what of it the rules on files refuse.

It refuses nothing that Landlock holds: where that is in force the wall decides, and in audit there is none. A path is
what the function's memory says at this moment: a hostile thread can hide a line, or forge one. Of what Landlock has no
right for (attributes) the look alone decides, and so no such call goes on as it stands: changing.py makes it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from sandbox.behaviour import access, arguments, spelling
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import below, is_one_owners
from sandbox.behaviour.permissions import Permissions, Verdict, allows
from sandbox.behaviour.proc import is_listed, of_others
from sandbox.confine import landlock_rules
from sandbox.confine.parent import above
from sandbox.kernel import abi, landlock, tables
from sandbox.kernel.notification import CallTable
from sandbox.kernel.task import Tasks
from sandbox.names.resolver import HOME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.behaviour.access import Access
    from sandbox.bundle import Policy
    from sandbox.confine import Command
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.task import Task
    from sandbox.supervise.activity import Follower
    from sandbox.supervise.decision import Decider
    from sandbox.supervise.executing import Report


OWN = ("comm", "coredump_filter", "oom_score_adj", "timerslack_ns")
"""What runtimes set of their own process and its threads (man 5 proc). Landlock refuses these, and they do without: a
rule on a file of /proc is lost with the kernel's cache of it, and one on a folder would open all processes."""


RULE = struct.Struct("<QQII")
"""A rule as the launcher tells it (landlock.c: struct rule): st_dev and st_ino of a file, or 0, rights, length of the
path, which follows with a NUL, up to a multiple of 8 bytes."""
RULES = 64 << 10
"""Bytes of all it tells: a head, and rules behind each other."""
_RULES = struct.Struct("<IIII")
"""The head: rights that are handled, bytes of the rules, whether some are missing, nothing."""

CHECKOUT = HOME if os.path.exists(os.path.join(HOME, "pyproject.toml")) else ""
"""The folder of this project, where it is not an installed one. It stands on the path of every interpreter of its
virtual environment (`pip install --editable`), which lists it and does without."""


class Look:
    """One policy's look. `unread`: something could not be read so far; `tells`: that is still to be said, once.

    `accesses` are those of the call that was judged last.
    """

    def __init__(
        self, permissions: Permissions, calls: CallTable, names: Sequence[tuple[str, str]], *, audit: bool,
        proc: Sequence[str] = ("/proc/**",),
    ) -> None:  # fmt: skip
        """`calls` are the path calls of the profile after the init phase, `names` those of landlock_rules.named.

        `proc` is what may be read of others there (sandbox/behaviour/proc.py).
        """
        self.calls = calls
        self.unread = False
        self.audit = audit
        self.accesses: Sequence[Access] = ()
        self.tells = audit
        self._permissions = permissions
        self._names = names
        self._proc = proc
        self._roots = os.getpid(), above()
        self._tasks = Tasks()

    def decides(self, syscall: str) -> bool:
        """Whether the rules on files are asked here and nowhere else: Landlock has no right for it, or not yet."""
        return not self.audit and (syscall in tables.ATTRIBUTES or self._is_free(syscall))

    def _is_free(self, syscall: str) -> bool:
        return syscall == "truncate" and not self._permissions.handled & landlock.ACCESS_FS_TRUNCATE

    def judge(self, accesses: Sequence[Access]) -> Verdict:
        """What the rules say to the accesses of one call."""
        self.accesses = accesses
        for one in accesses:
            if one.rights and self._is_free(one.call.syscall):
                one.rights = landlock.ACCESS_FS_WRITE_FILE
        return allows(self._permissions, accesses)

    def is_quiet(self, call: Notification, *, early: bool) -> bool:
        """Whether a call of the first phase may go on without anybody's line; `early`: that phase has it."""
        syscall = tables.names(abi.MACHINE).get(call.nr, "")
        if syscall not in tables.BY_PATH:
            return early
        if self.decides(syscall) or not (early or self.calls.allows(call)):
            return False
        task = self._tasks.take(call.pid)
        try:
            asked = Call(syscall, arguments.classify(syscall, call.args, abi.MACHINE))
            return not self.ask(asked, call.args, task, "init").errno and not (self.unread and self.tells)
        finally:
            self._tasks.done(task)

    def ask(self, asked: Call, args: Sequence[int], task: Task, phase: str) -> Verdict:
        """What the rules on files say to a call that waits; allowed where it cannot work, and where nobody can tell."""
        accesses = access.of_call(asked, args, task, phase, foresee=False)
        verdict = self.judge(accesses)
        if verdict.errno and all(_is_own(one, task) or _lists_checkout(one) for one in accesses):
            return Verdict()
        if verdict.errno or any(one.unsure for one in accesses):
            # Rarely, and so worth the errno: what the file system refuses by itself is nothing to report.
            accesses = access.of_call(asked, args, task, phase)
            verdict = self.judge(accesses)
            if any(one.unsure and not one.error for one in accesses):
                self.unread = True
                return Verdict()
        return verdict if verdict.errno else self._of_others(asked, args, task, phase, accesses)

    def _of_others(
        self, asked: Call, args: Sequence[int], task: Task, phase: str, accesses: Sequence[Access]
    ) -> Verdict:  # fmt: skip
        """What /proc shows of others and no rule of Landlock tells apart: refused here, by the path alone."""
        for one in accesses:
            path = of_others(one.thing, task, *self._roots)
            if path and not (is_listed(path, self._proc) or is_listed(one.thing, self._proc)):
                foreseen = access.of_call(asked, args, task, phase)
                if not any(other.error for other in foreseen):
                    return Verdict(errno.EACCES, [one], by_look=path)
        return Verdict()

    def reason(self, refused: Access, verdict: Verdict) -> str:
        """Why, in a few words."""
        if verdict.by_look:
            return "what /proc shows of others"
        if self._is_stale(refused):
            return "a file that was put in the place of the one that the profile means, while the function ran"
        if verdict.errno == errno.EXDEV:
            return "a file that may not come to lie in another folder"
        return "a place that the profile does not write" if refused.changes else "a file that the profile does not read"

    def spelled(self, refused: Access, of_others: str = "") -> str:
        """The text of a profile that allows what was refused: the file that is read, the folder that is written in."""
        if of_others or not refused.thing:
            return spelling.of_entry("files.read", of_others) if of_others else ""
        place = spelling.below_named(refused.thing, self._names)
        if self._is_stale(refused):
            # Only a rule on the folder holds what is put there later; one of many owners is not opened for one file.
            folder = os.path.dirname(refused.thing)
            if not is_one_owners(folder):
                return ""
            place = below(spelling.below_named(folder, self._names))
        elif refused.changes and refused.folder and not refused.entry and refused.call.syscall in tables.OPENS:
            place += "/*"
        elif refused.changes and refused.entry and place.count("/") > 1:
            place = os.path.dirname(place) + "/*"
        return spelling.of_entry("files.write" if refused.changes else "files.read", place)

    def _is_stale(self, refused: Access) -> bool:
        return not refused.entry and self._permissions.is_stale(refused.thing, refused.identity)


class Looking:
    """Answers the calls that a supervisor's look sees, by what it is given of that.

    `report` writes the line of a violation, `degraded` one of what is not held, `terminate` ends the function,
    `follower` hears of the paths.
    """

    def __init__(
        self, look: Look, decider: Decider, report: Report, *, degraded: Callable[[str], None],
        terminate: Callable[[str], None], follower: Follower | None,
    ) -> None:  # fmt: skip
        self.look = look
        self._decider = decider
        self._report = report
        self._degraded = degraded
        self._terminate = terminate
        self._follower = follower

    def answer(self, listener: Listener, call: Notification, asked: Call, task: Task, phase: str) -> None:
        """Report what the rules on files refuse, and let the call go on: the wall decides. What has none is made."""
        look = self.look
        if look.decides(asked.syscall):
            from sandbox.supervise import changing

            look.accesses = ()
            changing.answer(listener, call, asked, task, look, phase, self._refusing(call, task))
            self._follow(asked, task)
            return
        if number := self._tell_refused(call, asked, task, phase):
            listener.refuse(call.id, number)
        else:
            listener.let_through(call.id)

    def _refusing(self, call: Notification, task: Task) -> Callable[[Access, str], bool]:
        from sandbox.supervise.decision import REPORT, TERMINATE, Decision

        def refuses(one: Access, reason: str) -> bool:
            self.look.accesses = ()
            decision = Decision(self._decider.response(one.call), reason, self.look.spelled(one))
            self._report(call, task, one.call, decision, one.thing, None, errno.EACCES)
            if decision.answer == TERMINATE:
                self._terminate(str(one.call))
            return decision.answer != REPORT

        return refuses

    def _tell_refused(self, call: Notification, asked: Call, task: Task, phase: str) -> int:
        """Report what a look objects to; returns the errno of what no wall refuses, 0 for all else."""
        look = self.look
        verdict = look.ask(asked, call.args, task, phase)
        if look.unread and look.tells:
            look.tells = False
            why = "the path of a call could not be read, or lies where a look might hang: there may be more to report"
            self._degraded(f"files: {why}")
        if not verdict.errno:
            self._follow(asked, task)
            return 0
        from sandbox.supervise.decision import DENY, REPORT, Decision  # what is quiet does without, before the rest too

        answer = REPORT if look.audit else DENY
        for refused in verdict.refused:
            decision = Decision(answer, look.reason(refused, verdict), look.spelled(refused, verdict.by_look))
            self._report(call, task, asked, decision, refused.thing, None, verdict.errno)
        return verdict.errno if verdict.by_look and not look.audit else 0

    def _follow(self, asked: Call, task: Task) -> None:
        """Tell of the paths that were looked at last, which the call may reach."""
        if self._follower:
            for one in self.look.accesses:
                self._follower.looked(asked, one.reach, one.thing, task)


def _is_own(asked: Access, task: Task) -> bool:
    """Whether it writes a file of OWN, of the task's own process."""
    parts = asked.thing.split("/")
    own = parts[1:3] == ["proc", str(task.process())] and parts[-1] in OWN
    return own and (len(parts) == 4 or (len(parts) == 6 and parts[3] == "task"))


def _lists_checkout(asked: Access) -> bool:
    """Whether it lists CHECKOUT."""
    return bool(CHECKOUT) and asked.thing == CHECKOUT and asked.folder and not asked.changes


def prepare(policy: Policy, command: Command, *, audit: bool, rules: int = -1) -> Look | None:
    """The look that a policy asks for on this host; None where nothing is held that it could see.

    `rules` is the descriptor by which the launcher tells what it installed; what it does not tell is looked up anew.
    """
    version = landlock.abi_version()
    if not policy.files.listed or not version:
        return None
    permissions = installed(rules) if rules >= 0 else None
    if permissions is None:
        plan = landlock_rules.plan(policy, version, command)
        try:
            beneath = [(os.readlink(f"/proc/self/fd/{fd}"), rights) for fd, rights in plan.beneath]
            found = [(path, os.fstat(fd)) for (path, _), (fd, _) in zip(beneath, plan.beneath, strict=True)]
        finally:
            plan.close()
        files = {path: (file.st_dev, file.st_ino) for path, file in found if not stat.S_ISDIR(file.st_mode)}
        permissions = Permissions(plan.handled, beneath, files)
    proc = policy.supervision.proc
    return Look(permissions, CallTable(policy.path_calls), landlock_rules.named(command), audit=audit, proc=proc)


def installed(fd: int) -> Permissions | None:
    """The rules that the launcher installed (struct rules of landlock.c); None where it could not tell all of them."""
    data = os.pread(fd, RULES, 0)
    handled, used, incomplete, _ = _RULES.unpack_from(data)
    if incomplete or used + _RULES.size > len(data):
        return None
    rules: list[tuple[str, int]] = []
    files: dict[str, tuple[int, int]] = {}
    at = _RULES.size
    while at < used + _RULES.size:
        device, inode, rights, length = RULE.unpack_from(data, at)
        path = os.fsdecode(data[at + RULE.size : at + RULE.size + length])
        rules.append((path, rights))
        if inode:
            files[path] = device, inode
        at += (RULE.size + length + 8) & ~7
    return Permissions(handled, rules, files)
