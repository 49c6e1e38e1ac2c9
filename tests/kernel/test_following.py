"""An exec that the supervisor follows into its program: by any thread, failing, under signals, of the function."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from guests import LOADING, profile
from supervised_programs import PYTHON, Supervision, supervision
from users_and_folders import USERS, user_id

from sandbox.kernel import abi
from sandbox.policy import build
from sandbox.supervise.executing import OPEN_MEMORY, UNSTOPPED

SIGNALS = ("SIGURG", "SIGWINCH", "SIGSTOP", "SIGCONT", "SIGTERM")
STARTS = (
    *LOADING, "execve", "clone process", "clone thread", "wait4", "openat write", "dup2",
    *(f"kill {name} to others" for name in SIGNALS),
)  # fmt: skip
CODE = """
import json, os, signal, sys, threading, time

script, broken, unlisted, indirect = sys.argv[1:]


def tried(act):
    try:
        act()
    except OSError as error:
        os._exit(error.errno)


def forked(act):
    pid = os.fork()
    if pid == 0:
        tried(act)
        os._exit(99)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start(path=script):
    os.execv(path, [path, "7"])


def by_thread():
    threading.Thread(target=tried, args=(start,)).start()
    time.sleep(2)


def among_threads():
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    start()


def signalled(number):
    pid = forked(lambda: (time.sleep(0.01), start()))
    for _ in range(200):
        os.kill(pid, number)
        time.sleep(0.0001)
    return ended(pid)


def terminated():
    # Whatever moment of its exec the signal meets, it ends the process, and is not taken for a refused ptrace(2).
    found = set()
    for delay in range(20):
        pid = forked(fails_and_waits)
        time.sleep(delay * 0.0003)
        os.kill(pid, signal.SIGTERM)
        found.add(ended(pid))
    return sorted(found)


def fails_and_waits():
    try:
        start(broken)
    except OSError:
        time.sleep(1)


def stopped():
    pid = forked(lambda: (os.kill(os.getpid(), signal.SIGSTOP), start()))
    os.waitpid(pid, os.WUNTRACED)
    time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    return ended(pid)


print(json.dumps([
    ended(forked(start)), ended(forked(by_thread)), ended(forked(among_threads)), ended(forked(lambda: start(broken))),
    ended(forked(lambda: start(unlisted))), ended(forked(lambda: start(indirect))),
    ended(forked(lambda: start("/nowhere"))), signalled(signal.SIGURG),
    signalled(signal.SIGWINCH), stopped(), terminated(),
    [ended(pid) for pid in [forked(start) for _ in range(20)]] == [7] * 20,
]), flush=True)
start()
"""


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def bench(request: pytest.FixtureRequest) -> Iterator[Supervision]:
    """Each user."""
    with supervision(request.param) as found:
        yield found


def bundle(bench: Supervision) -> tuple[Path, list[str]]:
    """A bundle and files: a listed script, a file that is no program, a script that is not listed, an indirect one.

    The last is listed, but the function could write its interpreter.
    """
    work = bench.folder / "work"
    work.mkdir(exist_ok=True)
    shutil.copy("/bin/sh", work / "interpreter")
    texts = {
        "script": "#!/bin/sh\nexit $1\n", "broken": "\177ELF, but no more", "unlisted": "#!/bin/sh\nexit 7\n",
        "indirect": f"#!{work}/interpreter\nexit 7\n",
    }  # fmt: skip
    paths = [bench.folder / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
        path.chmod(0o755)
    processes = frozenset(str(path) for path in paths if path.name != "unlisted")
    found = dataclasses.replace(
        profile(*STARTS), processes=processes, reads=frozenset({"/**"}), writes=frozenset({f"{work}/*"})
    )  # fmt: skip
    made = bench.new(".bundle")
    build.write(build.build(found, (abi.MACHINE,)), str(made))
    subprocess.run(["chmod", "-R", "a+rX", str(made)], check=True)
    return made, list(map(str, paths))


NO_PTRACE, NO_LANDLOCK = {"ptrace": errno.EPERM}, {"landlock_create_ruleset": errno.ENOSYS}
REFUSALS: Mapping[str, Mapping[str, int]] = {
    "followed": {}, "no ptrace": NO_PTRACE, "no Landlock": NO_LANDLOCK, "neither": {**NO_PTRACE, **NO_LANDLOCK},
}  # fmt: skip


@pytest.mark.parametrize("host", REFUSALS)
def test_an_exec_ends_as_it_does_bare(bench: Supervision, host: str) -> None:
    """By one thread of several, with signals and stops meanwhile, where it fails, and where the function itself execs.

    Where ptrace is refused, and SIGSTOP does not help as the function may send SIGCONT, the same programs start, and
    the log says what that leaves open. Without Landlock, too, no exec of a process with several threads goes on.
    """
    refused, held = REFUSALS[host], host != "neither"
    made, paths = bundle(bench)
    below = Supervision(bench.uid, bench.home, bench.folder, refused)
    below._numbers = bench._numbers = bench._numbers + 100
    done = below.run(made, *PYTHON, CODE, *paths)
    answers = json.loads(done.stdout)
    by_threads = [7, 7] if held else [errno.EPERM] * 2
    assert answers == [7, *by_threads, errno.ENOEXEC, errno.EPERM, errno.EPERM, errno.ENOENT, 7, 7, 7, [-15], True]
    assert done.code == 7
    assert [line["target"] for line in done.violations] == [paths[0]] * 2 * (not held) + paths[2:]
    degraded = [line["reason"] for line in done.events if line["event"] == "degraded"]
    assert [UNSTOPPED in reason for reason in degraded] == [True] * ("ptrace" in refused)
    assert [OPEN_MEMORY in reason for reason in degraded] == [host == "neither"] * len(degraded)


def test_what_is_followed_leaves_no_descriptor_open(bench: Supervision) -> None:
    """After any number of execs of a script the supervisor has as many descriptors as after the first dozen."""
    code = (
        "import os, sys\n"
        "def start():\n"
        "    if not os.fork(): os.execv(sys.argv[1], [sys.argv[1], '7'])\n"
        "    os.wait()\n"
        "for rounds in (12, 40):\n"  # with a dozen all is full that remembers processes
        "    for _ in range(rounds): start()\n"
        "    print(os.getppid(), flush=True); sys.stdin.readline()\n"
    )
    made, (script, *_) = bundle(bench)
    process, _ = bench.start(made, *PYTHON, code, script, stdin=subprocess.PIPE)
    counts = []
    try:
        assert process.stdin
        assert process.stdout
        for _ in range(2):
            counts.append(len(os.listdir(f"/proc/{process.stdout.readline().strip()}/fd")))
            process.stdin.write("go\n")
            process.stdin.flush()
    finally:
        process.kill()
        process.communicate()
    assert counts[0] == counts[1]
