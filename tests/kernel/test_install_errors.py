"""Installing on hosts that refuse something: filters above us, written by hand, answer as the platforms do."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from child_processes import in_child
from guests import notifying, policy, profile, refuse, refusing

from sandbox.confine.install import InForce, install
from sandbox.errors import InstallRefused
from sandbox.kernel import abi, bpf, landlock, seccomp
from sandbox.policy.build import build
from sandbox.probe import raw

ROOT = os.geteuid() == 0
EPERM = -errno.EPERM
POLICY = policy("openat read")


@dataclass(frozen=True)
class Outcome:
    """How an installation went: the error's class ('' for none), its exit code and text, and the report."""

    error: str
    code: int
    text: str
    requested: list[str]
    enforced: list[str]
    degraded: list[str]
    filters: int | None
    socket: int


def tried() -> Outcome:
    """Install a policy in this process, and see what a call that it denies gives."""
    report = InForce()
    error, code, text = "", 0, ""
    try:
        install(POLICY, (1, 2, 3), None, report)
    except InstallRefused as refused:
        error, code, text = type(refused).__name__, refused.exit_code, str(refused)
    denied = raw.call("socket", 40, 1, 0)
    return Outcome(error, code, text, report.requested, report.enforced, report.degraded, report.filters, denied)


def below(errnos: Mapping[str, int]) -> Outcome:
    """The same below a host's filter that answers with these errnos; NoNewPrivs is set, as it is there."""
    refuse(errnos)
    return tried()


def test_where_nothing_stands_above(uid: int | None) -> None:
    """On a host that refuses nothing everything that was asked for is in force."""
    found = in_child(tried, uid)
    assert (found.error, found.socket) == ("", EPERM)
    assert {"syscalls", "exec: single-use", "signals: self"} <= set(found.enforced)
    assert set(found.degraded) == set() or all(line.startswith("network") for line in found.degraded)


def test_prctl_is_not_needed_where_the_bit_is_set(uid: int | None) -> None:
    """A host that refuses prctl, as Lambda does, and has set NoNewPrivs already: the policy goes into force."""
    found = in_child(lambda: below({"prctl": errno.EPERM, "clone3": errno.ENOSYS, "ptrace": errno.EPERM}), uid)
    assert (found.error, found.socket) == ("", EPERM)
    assert "syscalls" in found.enforced


@pytest.mark.skipif(not ROOT, reason="only root can install a filter without NoNewPrivs")
def test_prctl_is_refused_and_the_bit_is_not_set(uid: int | None) -> None:
    """Without the bit and without prctl nothing can be installed: InstallRefused says which bit and how to get it."""
    found = in_child(tried, uid, before=lambda: seccomp.install(refusing({"prctl": errno.EPERM})))
    assert (found.error, found.code) == ("InstallRefused", 69)
    assert "NoNewPrivs is not set" in found.text
    assert "allowPrivilegeEscalation" in found.text
    assert found.enforced == []
    assert found.socket != EPERM


@pytest.mark.parametrize(
    ("number", "error", "code", "says"),
    [
        (errno.EPERM, "InstallRefused", 69, "a filter above this process refuses seccomp(2)"),
        (errno.EACCES, "InstallRefused", 69, "NoNewPrivs is not set"),
        (errno.ENOSYS, "KernelUnsupported", 70, "no seccomp filters"),
        (errno.EBUSY, "ListenerBusy", 71, "a notification listener stands above"),
        (errno.EINVAL, "InstallRefused", 69, "Invalid argument"),
        (errno.ENOMEM, "InstallRefused", 69, "Cannot allocate memory"),
    ],
)
def test_seccomp_is_refused(uid: int | None, number: int, error: str, code: int, says: str) -> None:
    """Each errno of seccomp(2) is an error that says what refused and what to do; nothing is claimed."""
    found = in_child(lambda: below({"seccomp": number}), uid)
    assert (found.error, found.code) == (error, code)
    assert says in found.text
    assert "SANDBOX_ON_UNAVAILABLE=warn" in found.text
    assert not {"syscalls", "exec: single-use", "signals: self"} & set(found.enforced)
    assert "syscalls" in found.requested


def test_a_seccomp_that_only_pretends(uid: int | None) -> None:
    """A host on which seccomp(2) says success and does nothing is found out: no filter is in force, and we say so."""
    found = in_child(lambda: below({"seccomp": 0}), uid)
    assert (found.error, found.code) == ("CanaryPassed", 72)
    assert "syscalls" not in found.enforced


def test_a_listener_above_does_not_disturb(uid: int | None) -> None:
    """Below a supervisor that holds a listener the policy goes into force: it needs none of its own."""

    def attempt() -> Outcome:
        seccomp.set_no_new_privs()
        seccomp.install(notifying("mount"), seccomp.FLAG_NEW_LISTENER)
        return tried()

    found = in_child(attempt, uid)
    assert (found.error, found.socket) == ("", EPERM)


def test_notification_is_not_needed(uid: int | None) -> None:
    """Where seccomp(2) takes no flags, as in gVisor, the policy goes into force: it asks for no listener."""
    flags = bpf.arg_offset(1, high=False)
    guest: bpf.Program = (
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), (bpf.JEQ_K, 0, 3, abi.number("seccomp")), (bpf.LD_ABS, 0, 0, flags),
        (bpf.JEQ_K, 1, 0, 0), (bpf.RET_K, 0, 0, bpf.ERRNO | errno.EINVAL), (bpf.RET_K, 0, 0, bpf.ALLOW),
    )  # fmt: skip

    def attempt() -> tuple[Outcome, int]:
        seccomp.set_no_new_privs()
        seccomp.install(bpf.pack(guest))
        try:
            seccomp.install(refusing({}), seccomp.FLAG_NEW_LISTENER)
        except OSError as error:
            return tried(), error.errno or 0
        return tried(), 0

    found, number = in_child(attempt, uid)
    assert (found.error, found.socket, number) == ("", EPERM, errno.EINVAL)


def test_many_filters_above(uid: int | None) -> None:
    """Filters that stand already are counted: two more than before, whatever before was."""

    def attempt() -> tuple[Outcome, int]:
        seccomp.set_no_new_privs()
        for _ in range(5):
            seccomp.install(refusing({"acct": errno.EPERM}))
        before = int(seccomp.read_status()["Seccomp_filters"])
        return tried(), before

    found, before = in_child(attempt, uid)
    assert found.error == ""
    assert found.filters == before + 1


def test_several_threads(uid: int | None) -> None:
    """A process with a second thread is refused, since that thread would stay free, and no filter was installed."""

    def attempt() -> tuple[Outcome, str]:
        done = threading.Event()
        thread = threading.Thread(target=done.wait, args=(20,))
        thread.start()
        try:
            return tried(), seccomp.read_status()["Seccomp"]
        finally:
            done.set()
            thread.join()

    found, mode = in_child(attempt, uid)
    assert (found.error, found.code) == ("InstallRefused", 69)
    assert "2 threads" in found.text
    assert mode == "0"


@pytest.mark.skipif(landlock.abi_version() < 4, reason="this kernel cannot limit ports")
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_landlock_the_network_is_said_to_be_open(uid: int | None, number: int) -> None:
    """Where Landlock is missing, switched off or refused, the filter stands and the report says what is missing."""
    names = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
    found = in_child(lambda: below(dict.fromkeys(names, number)), uid)
    assert (found.error, found.socket) == ("", EPERM)
    assert [line.split(" (")[0] for line in found.degraded] == ["network: by family only"]
    assert not any(line.startswith("network") for line in found.enforced)


@pytest.mark.skipif(landlock.abi_version() < 4, reason="this kernel cannot limit ports")
def test_landlock_that_refuses_halfway(uid: int | None) -> None:
    """Where rules can be made but not put in force, the installation is refused instead of half done."""
    found = in_child(lambda: below({"landlock_restrict_self": errno.E2BIG}), uid)
    assert (found.error, found.code) == ("InstallRefused", 69)
    assert "Landlock" in found.text
    assert found.socket != EPERM


@pytest.mark.skipif(not ROOT, reason="only root can take /proc away")
def test_without_proc(uid: int | None) -> None:
    """Where /proc is not mounted the policy goes into force, and the report says that it was not read back."""

    def before() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
        assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0

    found = in_child(tried, uid, before=before)
    assert (found.error, found.socket) == ("", EPERM)
    assert any(line.startswith("read-back: /proc is not mounted") for line in found.degraded)
    assert found.filters is None


def test_an_invalid_program(uid: int | None) -> None:
    """A program that the kernel does not take is refused, whatever the digest in its bundle said."""

    def attempt() -> tuple[str, int]:
        broken = policy("openat read", "getcwd")
        broken.program = broken.program[:-8]
        try:
            install(broken, (1, 2, 3), None)
        except InstallRefused as refused:
            return str(refused), refused.exit_code
        return "", 0

    text, code = in_child(attempt, uid)
    assert "the kernel refused it: Invalid argument" in text
    assert code == 69


def test_profiles_compile_on_any_host(uid: int | None) -> None:
    """Where seccomp(2) is refused or missing a profile still compiles, to the same bytes."""
    wanted = dict(build(profile("openat read", "clone thread")).files)

    def attempt() -> bool:
        seccomp.set_no_new_privs()
        seccomp.install(refusing({"seccomp": errno.ENOSYS, "prctl": errno.EPERM}))
        done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, check=True, timeout=60)
        return bool(pickle.loads(done.stdout) == wanted)

    assert in_child(attempt, uid)


COMPILE = f"""
import pickle, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from guests import profile
from sandbox.policy.build import build
sys.stdout.buffer.write(pickle.dumps(dict(build(profile("openat read", "clone thread")).files)))
"""
