"""Whether anybody but its caller could change a path in memory, where what the path starts cannot be stopped first.

Two things must hold. No other task that runs shares the caller's memory. And the pages that hold the path are its own:
anonymous and private, or a file's that the function cannot write, since a private mapping of a file shows what is
written to the file until the page is written to itself. What is left is /proc/PID/mem, for who may open it for writing.
"""

from __future__ import annotations

import errno
import os
import struct

from sandbox.behaviour.walker import Walker
from sandbox.confine import parent
from sandbox.kernel import abi, tables
from sandbox.kernel.memory import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.kernel.task import Task

KCMP_VM = 1  # linux/kcmp.h
VFORKS = ("vfork", "clone")
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
"""Bits of a page in /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""


def sharer(task: Task) -> str:
    """Who could change the path after the look, in words; '' where nobody can.

    The maker of a vfork child shares its memory and sleeps until the child's exec (man 2 vfork): it may, if it has no
    second thread. kcmp(2) tells the others.
    """
    pid = task.process()
    if _threads(pid) != 1:
        return "another thread shares the caller's memory"
    for other in parent.descendants(os.getpid()):
        if other == pid:
            continue
        try:
            shared = abi.syscall(abi.number("kcmp"), pid, other, KCMP_VM, 0, 0) == 0
        except ProcessLookupError:
            continue
        except OSError as error:
            return f"who shares the caller's memory cannot be told ({error.strerror})"
        if shared and (_threads(other) != 1 or not _waits_for_exec(other)):
            return "another process shares the caller's memory"
    return ""


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _waits_for_exec(pid: int) -> bool:
    """Whether a process sleeps in the call that made a child with its memory."""
    try:
        with open(f"/proc/{pid}/syscall", "rb") as file:
            number = file.read().split()[0]
    except (OSError, IndexError):
        return False
    numbers = tables.numbers(abi.MACHINE)
    return number.isdigit() and int(number) in [numbers[name] for name in VFORKS if name in numbers]


def changeable(task: Task, address: int) -> str:
    """Why the string at an address, which was read before, is not its caller's alone, in words; '' where it is."""
    last = address + len(task.string(address))
    for page in range(address // PAGE, last // PAGE + 1):
        try:
            with open(f"/proc/{task.tid}/pagemap", "rb", buffering=0) as file:
                file.seek(page * 8)
                (bits,) = struct.unpack("<Q", file.read(8))
        except (OSError, struct.error):
            return "what memory the path lies in cannot be told"
        if not bits & _OF_FILE and bits & (_PRESENT | _SWAPPED):
            continue
        file_at = _mapped(task.tid, page * PAGE)
        if not file_at:
            return "the path lies in memory that others can share"
        if not _is_fixed(file_at, task):
            return f"the path lies in {file_at}, which the function could write to"
    return ""


def _mapped(tid: int, address: int) -> str:
    """The file of a private mapping of a task, as the kernel names it; '' where there is none."""
    try:
        with open(f"/proc/{tid}/maps", "rb") as file:
            for line in file:
                fields = line.split(None, 5)
                start, _, end = fields[0].partition(b"-")
                if int(start, 16) <= address < int(end, 16):
                    private = fields[1].endswith(b"p") and len(fields) == 6
                    path = os.fsdecode(fields[5].rstrip(b"\n")) if private else ""
                    return path if path.startswith("/") else ""
    except OSError:
        pass
    return ""


def _is_fixed(path: str, task: Task) -> bool:
    """Whether nobody of the task's user writes to a file: it is another's and closed, or its file system is."""
    asked = Walker(task.tid).walk(None, os.fsencode(path), wanted=os.W_OK)
    if asked.error or asked.unsure:
        return False
    if asked.refused == errno.EROFS:
        return True
    try:
        owner, user = os.stat(path).st_uid, os.stat(f"/proc/{task.tid}").st_uid
    except OSError:
        return False
    return asked.refused == errno.EACCES and owner != user
