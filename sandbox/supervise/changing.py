"""Changes of attributes by a path (tables.ATTRIBUTES): decided by the rules on files, and made in the task's place.

Landlock has no right for mode, owner, times and extended attributes, so nothing behind the supervisor holds them. The
path in the function's memory may be another one a moment after the look: no such call goes on as it stands. It is made
on the file that was walked to, with what was read, and with the task's own ids.
"""

from __future__ import annotations

import errno

from sandbox.behaviour import access, attributes
from sandbox.behaviour.walker import Acting
from sandbox.errors import shortage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.behaviour.access import Access
    from sandbox.behaviour.call import Call
    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.task import Task
    from sandbox.supervise.look import Look

UNREAD = "a path in memory that is shown to nobody"
OTHER_IDS = "for a user that the supervisor cannot be"


def answer(
    listener: Listener, call: Notification, asked: Call, task: Task, look: Look, phase: str,
    refuses: Callable[[Access, str], bool],
) -> None:  # fmt: skip
    """Answer a call that `look` decides about. Raises OSError where a limit of this process is in the way.

    `refuses` reports an access that the profile does not allow, with the reason, and says whether it is refused.
    """
    if attributes.by_descriptor(asked.syscall, call.args):
        listener.let_through(call.id)  # on what is open already
        return
    try:
        with Acting(task.tid) as acting:
            goes_on = _change(listener, call, asked, task, look, phase, refuses, acting)
    except OSError as error:
        if shortage(error):
            raise
        listener.refuse(call.id, error.errno or errno.EPERM)
        return
    if goes_on:
        listener.let_through(call.id)
    else:
        listener.answer(call.id, 0)


def _change(
    listener: Listener, call: Notification, asked: Call, task: Task, look: Look, phase: str,
    refuses: Callable[[Access, str], bool], acting: Acting,
) -> bool:  # fmt: skip
    """Make the change. False where it is made, True where it may go on as it stands. Raises OSError with its errno."""
    (one,), walked = access.of_change(asked, call.args, task, phase)
    if walked is None:
        if refuses(one, UNREAD):
            raise _number(errno.EPERM)
        return True
    try:
        change = attributes.read(asked.syscall, call.args, task)
        if change.kept:
            return False
        if walked.error:
            raise _number(walked.error)
        verdict = look.judge((one,))
        if verdict.errno:
            # What the file system refuses by itself is nothing to report.
            for foreseen in access.of_call(asked, call.args, task, phase):
                if foreseen.error:
                    raise _number(foreseen.error)
            if refuses(one, look.reason(one, verdict)):
                raise _number(verdict.errno)
        if walked.fd < 0:
            return True  # behind a server that may hang: decided by its text
        if not listener.is_valid(call.id):
            return False  # the task is gone, and what was read is not its own
        may = acting.may and (acting.fully or _is_plain(change))
        if not may and refuses(one, OTHER_IDS):
            raise _number(errno.EPERM)
        change.make(walked.fd)
        return False
    finally:
        walked.close()


def _number(number: int) -> OSError:
    return OSError(number, "refused")


def _is_plain(change: attributes.Change) -> bool:
    """Whether the rights over files are all that a change asks for."""
    return change.attribute is None or change.attribute.startswith((b"user.", b"system."))
