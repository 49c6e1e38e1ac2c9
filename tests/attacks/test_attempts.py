"""The attempts are live without a filter, refused under one, and never take a crash for a refusal."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import signal
import struct
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sandbox.errors import SandboxError, UsageError
from sandbox.probe import ATTEMPTS, Attempt, Effect, Result, run_attempt
from sandbox.probe.attempt import GROUPS, AttemptEnd, judge
from sandbox.probe.calls import load_calls
from sandbox.probe.evidence import KINDS
from sandbox.probe.raw import LIBC, NUMBERS
from sandbox.probe.scene import PREFERRED_FOLDERS, Scene, become

BY_ID = {attempt.id: attempt for attempt in ATTEMPTS}
IS_ROOT = os.geteuid() == 0
NOBODY = 65534
USERS = [None, NOBODY] if IS_ROOT else [None]
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
CLONE_THREAD = 0x10000
NARROW = ("read", "write", "close", "exit_group", "exit", "futex", "brk", "munmap", "rt_sigreturn", "madvise")

REQUIRED_CALLS = (
    "fork",
    "vfork",
    "clone",
    "clone3",
    "execve",
    "execveat",
    "connect",
    "sendto",
    "sendmsg",
    "socket",
    "bind",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_open",
    "pidfd_getfd",
    "kcmp",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "add_key",
    "keyctl",
    "request_key",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_by_handle_at",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "reboot",
    "swapon",
    "setuid",
    "setresuid",
    "setgroups",
    "capset",
    "personality",
    "openat",
    "symlinkat",
    "linkat",
    "fchmodat",
    "renameat2",
    "unlinkat",
    "mknodat",
    "mmap",
    "mprotect",
    "process_madvise",
    "kill",
    "tkill",
    "tgkill",
    "pidfd_send_signal",
    "prlimit64",
    "ioctl",
    "seccomp",
    "prctl",
)

Instruction = tuple[int, int, int, int]


def install(program: list[Instruction]) -> None:
    """Put these instructions (code, jt, jf, k) in force for this process."""
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("=H6xQ", len(program), ctypes.addressof(buffer))
    if LIBC.prctl(22, 2, ctypes.c_char_p(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def head(foreign: int) -> list[Instruction]:
    """Load the architecture, then the number; `foreign` answers another architecture and x32."""
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT_ARCH), (0x06, 0, 0, foreign), (0x20, 0, 0, 0)]
    if platform.machine() == "x86_64":
        program += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, foreign)]
    return program


def answer(names: Iterable[str], action: int) -> list[Instruction]:
    """`action` for each of these calls that this architecture has."""
    rules: list[Instruction] = []
    for name in names:
        if name in NUMBERS:
            rules += [(0x15, 0, 1, NUMBERS[name]), (0x06, 0, 0, action)]
    return rules


def when_set(name: str, argument: int, bits: int, then: int, otherwise: int) -> list[Instruction]:
    """`then` for this call if a bit of the argument's low half is set, else `otherwise`."""
    low = 16 + 8 * argument
    body = [(0x20, 0, 0, low), (0x45, 0, 1, bits), (0x06, 0, 0, then), (0x06, 0, 0, otherwise)]
    return [(0x15, 0, len(body), NUMBERS[name]), *body]


def no_new_process() -> None:
    """No fork, no exec, no foreign architecture; all else is allowed."""
    refused = ("fork", "vfork", "execve", "execveat")
    program = head(KILL) + answer(refused, ERRNO | errno.EPERM) + answer(["clone3"], ERRNO | errno.ENOSYS)
    install([*program, *when_set("clone", 0, CLONE_THREAD, ALLOW, ERRNO | errno.EPERM), (0x06, 0, 0, ALLOW)])


def hardly_anything() -> None:
    """Reading, writing and leaving; memory without PROT_EXEC."""
    program = head(KILL) + answer(NARROW, ALLOW) + answer(["clone3", "io_uring_setup"], ERRNO | errno.ENOSYS)
    program += when_set("mmap", 2, 4, ERRNO | errno.EPERM, ALLOW)
    install([*program, (0x06, 0, 0, ERRNO | errno.EPERM)])


def lie() -> None:
    """Answer success without doing it, to everything but what an attempt needs to report."""
    program = head(KILL) + answer((*NARROW, "mmap"), ALLOW)
    install([*program, (0x06, 0, 0, ERRNO)])


def run_all(install: Callable[[], None] | None, uid: int | None) -> dict[str, Result]:
    """Every attempt's result by id."""
    return {attempt.id: run_attempt(attempt, install=install, uid=uid) for attempt in ATTEMPTS}


def not_live(results: dict[str, Result]) -> list[Result]:
    """Bare results that neither succeeded nor are a refusal that the attempt's own row explains."""
    return [
        result
        for result in results.values()
        if result.verdict != "succeeded"
        and not (
            result.verdict == "blocked" and getattr(errno, result.errno) in BY_ID[result.attempt].refused
        )
        and result.detail != "kernel has no x32"
    ]


def attempt_of(run: Callable[[Scene], Effect], *, group: str = "process", evidence: str = "") -> Attempt:
    """An attempt made for a test."""
    return Attempt("made-up", group, "made up", "", "getpid", (), run, "it runs", evidence=evidence)


def as_nobody(work: Callable[[], object]) -> object:
    """What `work` gives (as JSON) in a process that is nobody's from the start."""
    answer_end, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become(NOBODY)
            os.write(told, json.dumps(work()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(told)
    with open(answer_end, "rb") as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return json.loads(text)


def test_the_registry_is_complete() -> None:
    """Every call that an attacker is known to try is there, with an id, a group and a technique."""
    assert len(BY_ID) == len(ATTEMPTS) >= 45
    assert {name for name in REQUIRED_CALLS if name in NUMBERS} <= {attempt.syscall for attempt in ATTEMPTS}
    for attempt in ATTEMPTS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", attempt.id)
        assert attempt.group in GROUPS
        assert attempt.evidence == "" or attempt.evidence.partition(":")[0] in KINDS
        assert re.fullmatch(r"T\d{4}(\.\d{3})?", attempt.technique)
        assert attempt.title
        assert attempt.live
        assert all(0 <= argument < 1 << 64 for argument in attempt.args)
        assert not set(attempt.reached) & {errno.EPERM, errno.EACCES}
    assert {attempt.group for attempt in ATTEMPTS} >= set(GROUPS) - {"abi"}


@pytest.mark.parametrize("uid", USERS)
def test_each_attempt_is_live_without_a_filter(uid: int | None) -> None:
    """Bare, an attempt succeeds or meets a refusal of the kernel itself that its own row explains."""
    assert not_live(run_all(None, uid)) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_each_attempt_is_live_for_an_unprivileged_caller() -> None:
    """The probe needs no privilege of its own: the same holds where the caller itself is nobody."""
    rows = as_nobody(lambda: [asdict(result) for result in run_all(None, None).values()])
    assert isinstance(rows, list)
    results = {row["attempt"]: Result(**row) for row in rows}
    assert len(results) == len(ATTEMPTS)
    assert not_live(results) == []


def test_a_bare_run_leaves_the_machine_as_it_was() -> None:
    """Mounts, namespaces, descriptors, children and folders are the same after all attempts as before."""

    def state() -> list[object]:
        namespaces = [os.readlink(entry) for entry in sorted(Path("/proc/self/ns").iterdir())]
        folders = [
            entry
            for folder in PREFERRED_FOLDERS
            if Path(folder).is_dir()
            for entry in Path(folder).glob("sandbox-probe-*")
            if entry.stat().st_uid == os.geteuid()
        ]
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
        return [mounts, namespaces, os.uname(), sorted(os.listdir("/proc/self/fd")), children, folders]

    before = state()
    run_all(None, None)
    assert state() == before


@pytest.mark.parametrize("uid", USERS)
def test_a_filter_against_new_processes_blocks_just_these(uid: int | None) -> None:
    """Process, exec and foreign architectures are blocked; the neighbours still take place."""
    for attempt in ATTEMPTS:
        if attempt.group in ("process", "exec"):
            result = run_attempt(attempt, install=no_new_process, uid=uid)
            wanted = "ENOSYS" if attempt.syscall == "clone3" else "EPERM"
            assert (result.verdict, result.errno) == ("blocked", wanted), result
        elif attempt.group == "abi":
            result = run_attempt(attempt, install=no_new_process, uid=uid)
            assert (result.verdict, result.detail) == ("blocked", "killed by SIGSYS"), result
    for neighbour in ("net-connect-ipv4", "net-udp-sendto", "file-create", "mem-protect-exec", "signal-kill"):
        assert run_attempt(BY_ID[neighbour], install=no_new_process, uid=uid).verdict == "succeeded"


@pytest.mark.parametrize("uid", USERS)
def test_a_very_narrow_filter_blocks_every_attempt(uid: int | None) -> None:
    """Under hardly more than read, write and exit each attempt still runs, reports, and is blocked."""
    results = run_all(hardly_anything, uid)
    assert [result for result in results.values() if result.verdict != "blocked"] == []


def test_a_filter_that_lies_is_not_believed() -> None:
    """Where a call returns 0 and nothing happened, the parent's look decides: no success and no block."""
    for name in (
        "signal-kill",
        "file-unlink",
        "file-chmod",
        "unshare-network",
        "mem-protect-exec",
        "filter-seccomp",
        "net-udp-sendto",
        "ptrace-attach",
        "process-vm-readv",
        "pidfd-open",
        "tiocsti",
    ):
        result = run_attempt(BY_ID[name], install=lie, patience=0.1)
        assert result.verdict == "inconclusive", result


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGKILL, signal.SIGSYS])
@pytest.mark.parametrize("group", ["process", "exec", "memory"])
def test_a_crash_is_inconclusive(signum: signal.Signals, group: str) -> None:
    """An attempt that dies proves nothing, not even of SIGSYS where a kill is not the designed answer."""

    def crash(scene: Scene) -> Effect:
        signal.signal(signum, signal.SIG_DFL) if signum != signal.SIGKILL else None
        os.kill(os.getpid(), signum)
        return Effect(True)

    result = run_attempt(attempt_of(crash, group=group), install=None)
    assert (result.verdict, result.detail) == ("inconclusive", f"died of {signum.name}")


def test_sigsys_is_a_block_for_a_foreign_architecture_only() -> None:
    """The same death is the designed answer to int 0x80 and x32."""
    attempt = attempt_of(lambda scene: Effect(True), group="abi")
    killed = AttemptEnd(None, None, signal=signal.SIGSYS)
    assert judge(attempt, killed, bare=False).verdict == "blocked"
    assert judge(attempt, replace(killed, signal=signal.SIGSEGV), bare=False).verdict == "inconclusive"


def test_a_time_out_is_inconclusive() -> None:
    """An attempt that hangs is ended and says nothing."""

    def hang(scene: Scene) -> Effect:
        while True:
            signal.pause()

    result = run_attempt(attempt_of(hang), install=None, timeout=0.3)
    assert (result.verdict, result.detail) == ("inconclusive", "no report in time")


def test_an_install_that_fails_is_inconclusive() -> None:
    """No attack is made under a filter that is not there."""

    def refuse() -> None:
        raise OSError(errno.EINVAL, "no such filter")

    result = run_attempt(BY_ID["file-create"], install=refuse)
    assert result.verdict == "inconclusive"
    assert "no such filter" in result.detail


def test_an_attempt_that_breaks_is_inconclusive() -> None:
    """An error in the attempt's own code is neither a block nor a success."""

    def broken(scene: Scene) -> Effect:
        raise ValueError("broken")

    result = run_attempt(attempt_of(broken), install=None)
    assert result.verdict == "inconclusive"
    assert "broken" in result.detail


def test_a_claim_without_evidence_is_inconclusive() -> None:
    """The parent believes what it sees, not what the attempt says."""
    attempt = attempt_of(lambda scene: Effect(True, None, "trust me"), evidence="dead")
    result = run_attempt(attempt, install=None, patience=0.1)
    assert result.verdict == "inconclusive"
    assert "trust me" in result.detail


def test_an_effect_that_is_not_claimed_is_a_success_of_the_attacker() -> None:
    """An errno does not hide what took place."""

    def sly(scene: Scene) -> Effect:
        scene.marker.touch()
        return Effect(False, errno.EPERM, "nothing to see")

    assert run_attempt(attempt_of(sly, evidence="marker"), install=None).verdict == "succeeded"


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (errno.EPERM, "blocked"),
        (errno.EACCES, "blocked"),
        (errno.ENOSYS, "inconclusive"),
        (errno.ENOENT, "inconclusive"),
        (errno.ECONNREFUSED, "inconclusive"),
        (errno.EFAULT, "succeeded"),
        (None, "inconclusive"),
    ],
)
def test_what_an_errno_means(number: int | None, verdict: str) -> None:
    """EPERM and EACCES refuse, an errno from beyond the filter gives it away, the rest says nothing."""
    attempt = replace(attempt_of(lambda scene: Effect(False)), reached=(errno.EFAULT,))
    outcome = AttemptEnd(Effect(False, number), None)
    assert judge(attempt, outcome, bare=False).verdict == verdict
    if number == errno.ENOSYS:
        assert judge(replace(attempt, enosys=True), outcome, bare=False).verdict == "blocked"


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_another_uid_needs_root() -> None:
    """An unprivileged caller who asks for another uid is told so."""

    def ask() -> str:
        try:
            run_attempt(BY_ID["file-create"], install=None, uid=1)
        except UsageError as error:
            return str(error)
        return ""

    assert "only root" in str(as_nobody(ask))


@pytest.mark.parametrize(
    "change",
    ['group = "nonsense"', "args = [1, 2, 3, 4, 5, 6, 7]", 'reached = ["ENONSENSE"]', "surprise = 1"],
)
def test_a_malformed_row_is_named(change: str) -> None:
    """A mistake in the table of calls gives an error that names the row."""
    row = {"id": '"a"', "group": '"files"', "title": '"t"', "technique": '""', "syscall": '"getpid"'}
    row |= {"args": "[]", "live": '"l"'}
    key, _, value = change.partition(" = ")
    text = "\n".join(["[[call]]", *(f"{name} = {text}" for name, text in (row | {key: value}).items())])
    with pytest.raises(SandboxError, match=r"calls\.toml, call 'a'"):
        load_calls(text)
