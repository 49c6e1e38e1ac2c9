"""The doctor on this machine and below filters: what it says is so, and nothing ends it or holds it up."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import in_child
from guests import notifying, policy, refuse
from users_and_folders import HOME, USERS, identity, place

from sandbox import tripwire
from sandbox.confine.install import install
from sandbox.doctor import examine, judge
from sandbox.doctor.examination import PROBES
from sandbox.doctor.measured import Measured
from sandbox.kernel import abi, bpf, landlock, seccomp, tables

PYTHON = "/usr/bin/python3"
tripwire.path(abi.MACHINE)  # built here where a checkout has none yet

by_user = pytest.mark.parametrize("uid", USERS, ids=lambda uid: str(uid or "self"))


@by_user
def test_this_machine(uid: int | None) -> None:
    """The doctor agrees with what the tests of the kernel's mechanisms rest on, and stays what it was."""

    def look() -> tuple[Measured, dict[str, str], dict[str, str], list[str]]:
        before = seccomp.read_status()
        found = examine()
        left = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return found, before, seccomp.read_status(), left

    found, before, after, left = in_child(look, uid)
    assert list(found.probes) == list(PROBES)
    assert judge(found).tier == "kernel + supervisor"
    assert all(found.works(f"action {name}") for name in ("ERRNO", "TRAP", "TRACE", "KILL_THREAD", "KILL_PROCESS"))
    assert found.probes["Landlock"].detail == (f"ABI {landlock.abi_version()}" if landlock.abi_version() else "")
    assert found.facts.uid == (os.geteuid() if uid is None else uid)
    assert all(before[key] == after[key] for key in ("NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "FDSize"))
    assert left == []


SMALL = {
    "prctl": errno.EPERM, "pidfd_open": errno.ENOSYS, "clone3": errno.ENOSYS, "memfd_create": errno.EACCES,
    "ptrace": errno.EPERM, "io_uring_setup": errno.ENOSYS, "landlock_create_ruleset": errno.ENOSYS,
    "process_vm_readv": errno.EPERM, "unshare": errno.EPERM,
}  # fmt: skip


@by_user
def test_refusals_are_told(uid: int | None) -> None:
    """Below a filter each refused call is named with its errno, and the tier is what is left."""

    def look() -> Measured:
        refuse(SMALL)
        return examine()

    found = in_child(look, uid)
    said = {name: probed.errno for name, probed in found.probes.items() if not probed.works}
    assert said == {
        "prctl GET_NO_NEW_PRIVS": "EPERM", "prctl SET_NO_NEW_PRIVS": "EPERM", "prctl SET_SECCOMP": "EPERM",
        "prctl SET_DUMPABLE": "EPERM", "prctl SET_CHILD_SUBREAPER": "EPERM", "pidfd_open": "ENOSYS",
        "pidfd_getfd": "ENOSYS", "process_vm_readv": "EPERM", "ptrace SEIZE": "EPERM", "Landlock": "ENOSYS",
        "clone3": "ENOSYS", "user namespace": "EPERM", "mount namespace": "EPERM", "io_uring": "ENOSYS",
        "memfd_create": "EACCES",
    }  # fmt: skip
    assert judge(found).tier == "kernel + supervisor"
    assert any("the supervisor makes the function's sockets" in note for note in judge(found).notes)


@pytest.mark.parametrize(("number", "outcome"), [(errno.EPERM, "refused"), (errno.ENOSYS, "refused"), (0, "fails")])
def test_a_refused_seccomp_is_told(number: int, outcome: str) -> None:
    """Below a filter that refuses seccomp(2), or pretends that it worked, there is no filter."""

    def look() -> Measured:
        refuse({"seccomp": number})
        return examine()

    found = in_child(look, None)
    assert {found.probes[f"action {name}"].outcome for name in ("ERRNO", "TRAP", "KILL_PROCESS")} == {outcome}
    assert judge(found).tier == "detects"


def test_what_kills_is_told() -> None:
    """A platform that ends a process for a call ends the probe's, and the doctor goes on."""

    def put() -> None:
        nr = tables.numbers(abi.MACHINE)["memfd_create"]
        kill = ((bpf.JEQ_K, 0, 1, nr), (bpf.RET_K, 0, 0, bpf.KILL_PROCESS), (bpf.RET_K, 0, 0, bpf.ALLOW))
        seccomp.set_no_new_privs()
        seccomp.install(bpf.pack(((bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), *kill)))

    found = in_child(examine, None, before=put)
    assert (found.probes["memfd_create"].outcome, found.probes["memfd_create"].detail) == ("killed", "by SIGSYS")
    assert judge(found).tier == "kernel + supervisor"


def test_what_never_answers_is_told() -> None:
    """A call that a supervisor above never answers costs its own limit and nothing else."""

    def look() -> Measured:
        seccomp.set_no_new_privs()
        seccomp.install(notifying("memfd_create"), seccomp.FLAG_NEW_LISTENER)  # nobody reads what arrives there
        return examine()

    found = in_child(look, None)
    assert found.probes["memfd_create"].outcome == "no answer"
    assert found.probes["seccomp(2) NEW_LISTENER"].errno == "EBUSY"
    assert judge(found).tier == "kernel only"
    assert found.probes["Python audit hook"].works


def test_the_time_that_is_given_is_all_that_is_used() -> None:
    """What does not fit into the budget is not tried and says so."""
    found = in_child(lambda: examine(0.0), None)
    assert {probed.outcome for probed in found.probes.values()} == {"not tried"}
    assert "the time was over" in found.probes["seccomp(2)"].detail
    assert found.facts.kernel == f"Linux {os.uname().release}"


@by_user
def test_where_no_process_can_be_made(uid: int | None) -> None:
    """Under a policy of ours the doctor can start nothing: it says so, and claims nothing."""

    def look() -> Measured:
        install(policy("openat read", "pipe2", "fcntl F_SETFD", "prlimit64 get", "uname", "select"), (1, 2, 3), None)
        return examine()

    found = in_child(look, uid)
    assert {(probed.outcome, probed.errno) for probed in found.probes.values()} == {("not tried", "EPERM")}
    assert judge(found).tier == "not known"
    assert found.facts.seccomp == 2


HANDLE = """
import json, sys
bare = set(sys.modules)
sys.path.insert(0, sys.argv[1])
from importlib import import_module
name, _, function = "sandbox.doctor.handler".rpartition(".")
class Context:
    def get_remaining_time_in_millis(self): return 30000
answer = getattr(import_module(name), function)({}, Context())
loaded = {name.partition(".")[0] for name in set(sys.modules) - bare}
print(json.dumps({"answer": answer, "other": sorted(loaded - set(sys.stdlib_module_names) - {"sandbox"}),
                  "ours": sorted(name for name in sys.modules if name.startswith("sandbox."))}))
"""


@by_user
def test_as_a_handler_it_needs_the_standard_library_alone(uid: int | None) -> None:
    """A copy of the package, a bare interpreter, the handler's name: an answer for JSON, and the report in the log."""
    with place(uid) as folder:
        shutil.copytree(HOME / "sandbox", folder / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        command = [PYTHON, "-I", "-S", "-c", HANDLE, str(folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, cwd="/", env={}, **identity(uid)
        )
    said = json.loads(done.stdout)
    assert said["other"] == []
    assert {name.split(".")[1] for name in said["ours"]} <= {
        "bundle", "confine", "doctor", "errors", "kernel", "memo", "plain_json",
    }  # fmt: skip
    confine = {name.removeprefix("sandbox.confine") for name in said["ours"] if name.startswith("sandbox.confine")}
    assert confine == {"", ".child", ".install", ".landlock_rules", ".parent", ".single_exec", ".tripwire"}
    assert said["answer"]["event"] == "doctor"
    assert list(said["answer"]["probes"]) == list(PROBES)
    assert f"verdict: {said['answer']['verdict']['tier']}" in done.stderr.splitlines()


def test_the_command() -> None:
    """Exit 0 where a filter works, 1 where none does; --json is one object with the same verdict."""
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.defpath, "PYTHONPATH": str(HOME), "LANG": "C.UTF-8"}
        return subprocess.run(
            [sys.executable, "-m", "sandbox", "doctor", *options], capture_output=True, text=True, timeout=60,
            check=False, env=environment, cwd="/",
        )  # fmt: skip

    done = run("--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]["tier"]) == (0, "kernel + supervisor")
    plain = run()
    assert plain.stdout.splitlines()[-2:] == ["  set: SANDBOX_SUPERVISE=1", "  set: SANDBOX_ON_UNAVAILABLE=fail"]
    refused = in_child(run, None, before=lambda: refuse({"seccomp": errno.EPERM}))
    assert refused.returncode == 1
    assert "verdict: detects" in refused.stdout
    assert "  set: SANDBOX_ON_UNAVAILABLE=detect" in refused.stdout
    assert "  missing: seccomp(2): refused EPERM" in refused.stdout
