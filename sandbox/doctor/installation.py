"""Each way to install a filter, and each action that one can answer with. Every function here runs in a child.

Sources: man 2 seccomp, linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from functools import partial

from sandbox import bundle
from sandbox.confine import install
from sandbox.doctor.isolate import Failed, signal_name, status_of
from sandbox.errors import InstallRefused
from sandbox.kernel import abi, bpf, seccomp
from sandbox.kernel.bpf import Program
from sandbox.kernel.tables import numbers

PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_GET_NO_NEW_PRIVS = 3, 4, 22, 39  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
MODE_FILTER = 2
FLAG_LOG, FLAG_SPEC_ALLOW = 1 << 1, 1 << 2
ACTIONS = {
    "ERRNO": bpf.ERRNO | errno.EXDEV, "TRAP": bpf.TRAP, "TRACE": 0x7FF00000, "LOG": 0x7FFC0000, "KILL_THREAD": 0,
    "KILL_PROCESS": bpf.KILL_PROCESS,
}  # fmt: skip
PASSED = 254
"""Exit status of a child whose call a filter should have ended."""

ALLOWING: Program = ((bpf.RET_K, 0, 0, bpf.ALLOW),)


def on_getppid(action: int) -> bytes:
    """A filter that answers getppid(2), which nothing needs, with an action, and allows the rest."""
    return bpf.pack(
        (
            (bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), (bpf.JEQ_K, 0, 1, numbers(abi.MACHINE)["getppid"]),
            (bpf.RET_K, 0, 0, action), (bpf.RET_K, 0, 0, bpf.ALLOW),
        )
    )  # fmt: skip


def getppid() -> int:
    """The raw call: libc must not answer from memory. Raises OSError."""
    return abi.syscall(numbers(abi.MACHINE)["getppid"])


def ready() -> None:
    """Set NoNewPrivs where it is not set. Where that is refused the installation itself says what it lacks."""
    try:
        if seccomp.read_status().get("NoNewPrivs") == "1":
            return
    except OSError:
        pass  # no /proc: the call below is right either way
    try:
        seccomp.set_no_new_privs()
    except OSError:
        return


def _prctl(option: int, *arguments: int) -> str:
    abi.syscall(abi.number("prctl"), option, *arguments, *[0] * (4 - len(arguments)))
    return ""


def _no_new_privs() -> str:
    return "set" if abi.syscall(abi.number("prctl"), PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) else "not set"


def _by_prctl() -> str:
    ready()
    program = ctypes.create_string_buffer(bpf.pack(ALLOWING))
    prog = ctypes.create_string_buffer(16)  # struct sock_fprog: a length, padding, a pointer
    ctypes.c_ushort.from_buffer(prog, 0).value = len(ALLOWING)
    ctypes.c_void_p.from_buffer(prog, 8).value = ctypes.addressof(program)
    abi.syscall(abi.number("prctl"), PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(prog), 0, 0)
    return ""


def _by_seccomp(flags: int) -> str:
    ready()
    seccomp.install(bpf.pack(ALLOWING), flags)
    return ""


def _action(name: str) -> str:
    ready()
    program = on_getppid(ACTIONS[name])
    if name in ("TRAP", "KILL_THREAD", "KILL_PROCESS"):
        return _ends(program)
    seccomp.install(program)
    try:
        getppid()
    except OSError as error:
        wanted = {"ERRNO": errno.EXDEV, "TRACE": errno.ENOSYS}.get(name)
        if error.errno != wanted:
            raise
        return f"the call answered {errno.errorcode[error.errno or 0]}"
    if name != "LOG":
        raise Failed("the installation succeeded, and the call passed all the same")
    return "the call passed; whether it is logged, the platform's log says"


def _ends(program: bytes) -> str:
    def call() -> int:
        try:
            seccomp.install(program)
        except OSError as error:
            return error.errno or PASSED
        try:
            getppid()
        except OSError:
            return PASSED
        return PASSED

    found = status_of(call, 3)
    if os.WIFSIGNALED(found):
        number = os.WTERMSIG(found)
        if number == signal.SIGSYS:
            return f"ended by {signal_name(number)}"
        raise Failed(f"ended by {signal_name(number)}, not by SIGSYS")
    code = os.WEXITSTATUS(found)
    if code == PASSED:
        raise Failed("the installation succeeded, and the call was not its end")
    raise OSError(code, os.strerror(code))


def _whole() -> str:
    """The installation of a start, with a policy that refuses seccomp(2) alone: what it read back and tried."""
    policy = bundle.Policy()
    policy.files = bundle.FileRules()
    policy.files.listed = policy.files.limited = policy.files.memfd = False
    policy.exec, policy.signals, policy.network, policy.bind, policy.abstract = "granted", "any", "family", "any", "any"
    policy.reads_netlink = False
    policy.network_ports = policy.bind_ports = policy.unsupervised = policy.unlooked = ()
    policy.network_shown = policy.bind_shown = ""
    head: Program = ((bpf.LD_ABS, 0, 0, bpf.OFFSET_NR),)
    rest: Program = (
        (bpf.JEQ_K, 0, 1, numbers(abi.MACHINE)["seccomp"]), (bpf.RET_K, 0, 0, bpf.ERRNO | errno.EPERM),
        (bpf.RET_K, 0, 0, bpf.ALLOW),
    )  # fmt: skip
    policy.program, policy.head = bpf.pack(head + rest), 8 * len(head)
    try:
        found = install.install(policy, (0, 0, 0), None)
    except InstallRefused as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise Failed(error.what) from error
    return f"{found.filters} filters are in force" if found.filters else "a filter is in force"


LISTENER = "seccomp(2) NEW_LISTENER"
KILLABLE = "seccomp(2) NEW_LISTENER WAIT_KILLABLE_RECV"
IN_FORCE = "action ERRNO"

ROUTES = {
    "seccomp(2)": 0, "seccomp(2) TSYNC": seccomp.FLAG_TSYNC, "seccomp(2) LOG": FLAG_LOG,
    "seccomp(2) SPEC_ALLOW": FLAG_SPEC_ALLOW, LISTENER: seccomp.FLAG_NEW_LISTENER,
    KILLABLE: seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV,
    "seccomp(2) NEW_LISTENER TSYNC TSYNC_ESRCH": (
        seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_TSYNC | seccomp.FLAG_TSYNC_ESRCH
    ),
}  # fmt: skip

PROBES: dict[str, Callable[[], str]] = {
    "prctl GET_NO_NEW_PRIVS": _no_new_privs,
    "prctl SET_NO_NEW_PRIVS": partial(_prctl, seccomp.PR_SET_NO_NEW_PRIVS, 1),
    "prctl SET_SECCOMP": _by_prctl,
    **{name: partial(_by_seccomp, flags) for name, flags in ROUTES.items()},
    **{f"action {name}": partial(_action, name) for name in ACTIONS},
    "the whole installation": _whole,
    "prctl SET_DUMPABLE": partial(_prctl, PR_SET_DUMPABLE, 0),
    "prctl SET_CHILD_SUBREAPER": partial(_prctl, PR_SET_CHILD_SUBREAPER, 1),
}
