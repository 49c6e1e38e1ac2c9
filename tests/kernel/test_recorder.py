"""The observer on real programs, by `SANDBOX_MODE=learn ./bootstrap`: processes, files, refusals, signals, phases."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
from pathlib import Path

import pytest
from observed_programs import PYTHON, Bench, result

from sandbox.kernel import abi
from sandbox.learn.records import Program


def test_threads_are_no_processes(bench: Bench) -> None:
    """clone3's flags are read from memory: a thread is told from a process, and its calls count."""
    found = bench.serve("threads.handler", {"threads": 3}, {"threads": 2})
    assert [result(outcome)["threads"] for outcome in found.outcomes] == [3, 2]
    started = {item for item in found.items("invoke") if item.startswith("clone")}
    assert started
    assert started <= {"clone thread", "clone3 thread"}
    number = sum(found.count(("invoke", name, "thread")) for name in ("clone", "clone3"))
    assert number >= 5
    assert not found.cold_start.processes


def test_a_child_process_and_the_program_that_it_becomes(bench: Bench) -> None:
    """A process is told from a thread, and the path of its exec is known."""
    found = bench.serve("subprocess_one.handler", {}, {"stdin": "text"})
    assert [result(outcome)["status"] for outcome in found.outcomes] == [0, 0]
    assert {program.path for program in found.cold_start.processes} == {"/bin/true", "/usr/bin/gzip"}
    assert "execve" in found.items("invoke")
    assert {"vfork process", "clone process", "clone3 process", "fork process"} & found.items("invoke")


@pytest.mark.parametrize(("how", "item"), [
    ("os.posix_spawn('/bin/true', ['true'], {})", "clone3 process"), ("os.fork() or os._exit(0)", "clone process"),
])  # fmt: skip
def test_each_way_to_make_a_process_has_its_class(bench: Bench, how: str, item: str) -> None:
    """posix_spawn goes through clone3, whose flags lie in memory, fork through clone."""
    found = bench.python(f"{how}\nos.wait()")
    assert item in found.items()
    assert not {"clone3 thread", "clone thread"} & found.items()


def test_grandchildren_are_observed(bench: Bench) -> None:
    """What a child's child opens and execs belongs to the function."""
    (bench.folder / "deep.txt").write_text("deep")
    found = bench.run("/bin/sh", "-c", "/bin/sh -c '/bin/cat deep.txt; :'; :")
    assert found.output == "deep"
    assert {program.path for program in found.cold_start.processes} >= {"/bin/sh", "/bin/cat"}
    assert str(bench.folder / "deep.txt") in found.cold_start.reads


def test_programs_that_a_search_only_tried_are_not_told(bench: Bench) -> None:
    """execvp tries each folder of PATH; only what exists is a program that was started."""
    found = bench.python("os.environ['PATH'] = '/nowhere:/usr/bin:/bin'\nos.execvp('true', ['true'])")
    assert {program.path for program in found.cold_start.processes} == {"/usr/bin/true"}


def test_files_by_class_and_path(bench: Bench) -> None:
    """Reading, writing and creating are told apart; relative paths and directory descriptors become absolute ones."""
    work = bench.folder / "files"
    found = bench.python(
        """
        import sys
        work = sys.argv[1]
        os.mkdir(work)
        os.chdir(work)
        os.close(os.open("made", os.O_WRONLY | os.O_CREAT, 0o600))
        os.close(os.open("made", os.O_RDONLY))
        os.mkdir("inner")
        folder = os.open("inner", os.O_RDONLY | os.O_DIRECTORY)
        os.close(os.open("far", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=folder))
        os.close(os.open("../made", os.O_WRONLY, dir_fd=folder))
        os.chdir(folder)
        try:
            os.open("missing", os.O_RDONLY)
        except FileNotFoundError:
            pass
        os.close(os.open("../inner/./far", os.O_RDONLY))
        """,
        str(work),
    )
    assert {"openat read", "openat write", "openat create"} <= found.items()
    ours = {path for path in found.cold_start.writes if path.startswith(str(work))}
    assert ours == {f"{work}/made", f"{work}/inner/far"}
    read = {path for path in found.cold_start.reads if path.startswith(str(work))}
    assert read == {f"{work}/made", f"{work}/inner", f"{work}/inner/far"}
    assert found.count(("run", "openat", "create")) == 2
    assert found.count(("run", "openat", "write")) == 1


def test_each_event_has_its_accesses_once(bench: Bench) -> None:
    """An event lists what it reached, also what an earlier one had reached, and each thing once however often."""
    found = bench.serve("subprocess_one.handler", {}, {"stdin": "text"}, {})
    true, gzip, again = [sample for sample in found.cold_start.samples if sample.kind == "invocation"]
    started = [{fact.path for fact in sample.facts if isinstance(fact, Program)} for sample in (true, gzip, again)]
    assert started == [{"/bin/true"}, {"/usr/bin/gzip"}, {"/bin/true"}]
    lines = Path(found.cold_start.source).read_text().splitlines()
    assert sum('"value": "/bin/true"' in line for line in lines) == 1


@pytest.mark.parametrize("call", ["ptrace", "unshare", "process_vm_readv"])
def test_hard_denied_calls_are_refused_reported_and_not_learned(bench: Bench, call: str) -> None:
    """The function gets EPERM and goes on; the observation says which call it was."""
    found = bench.serve("hard_denied.handler", {"call": call})
    assert result(found.outcomes[0]) == {"call": call, "result": -1, "errno": errno.EPERM}
    assert found.cold_start.denied == {call}
    assert call not in found.items("init") | found.items("invoke")


def test_a_granted_call_is_let_through(bench: Bench) -> None:
    """What a person granted goes to the kernel, and is neither learned nor reported."""
    found = bench.serve("hard_denied.handler", {"call": "ptrace"}, {"call": "unshare"}, SANDBOX_GRANTS="ptrace")
    assert [result(outcome)["errno"] for outcome in found.outcomes] == [errno.ESRCH, errno.EPERM]
    assert found.cold_start.denied == {"unshare"}
    assert not {"ptrace", "unshare"} & found.items("invoke")


def test_a_grant_of_one_class_lifts_no_other(bench: Bench) -> None:
    """prctl(PR_SET_PTRACER) granted leaves prctl(PR_SET_SECCOMP) refused."""
    found = bench.python(
        """
        def prctl(option, value):
            ctypes.set_errno(0)
            return LIBC.prctl(option, value, 0, 0, 0) and ctypes.get_errno()
        print(prctl(0x59616D61, -1), prctl(22, 2))
        """,
        SANDBOX_GRANTS="prctl PR_SET_PTRACER",
    )
    first, second = map(int, found.output.split())
    assert first in (0, errno.EINVAL)  # EINVAL: a kernel without Yama
    assert second == errno.EPERM
    assert found.cold_start.denied == {"prctl PR_SET_SECCOMP"}


def test_io_uring_is_not_there(bench: Bench) -> None:
    """io_uring_setup and numbers that no kernel has answer ENOSYS, so that libraries fall back."""
    number = {"x86_64": 425, "aarch64": 425}[platform.machine()]
    found = bench.python(
        f"""
        for number in ({number}, 999):
            LIBC.syscall(number, 1, 0)
            print(ctypes.get_errno())
        """
    )
    assert found.output.split() == [str(errno.ENOSYS)] * 2
    assert not {item for item in found.items() if "io_uring" in item}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is x86")
def test_a_foreign_architecture_is_killed(bench: Bench) -> None:
    """i386's getpid by int 0x80 would be another call by its number: the process dies of SIGSYS."""
    found = bench.run(
        PYTHON, "-I", "-S", "-c",
        "import ctypes, mmap; page = mmap.mmap(-1, 4096, prot=7); page.write(bytes.fromhex('b814000000cd80c3'));"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))(); print('lives')",
    )  # fmt: skip
    assert found.status == -signal.SIGSYS
    assert found.output == ""
    assert found.cold_start.status == -signal.SIGSYS


@pytest.mark.parametrize("restart", [True, False])
def test_signals_do_not_count_a_call_twice(bench: Bench, restart: bool) -> None:
    """A timer cuts into 400 mkdir calls: each is made once, and counted once.

    A signal before the observer has taken the call cancels it (kernel/seccomp.c): with SA_RESTART the kernel makes
    it again, without it the program sees EINTR.
    """
    found = bench.python(
        f"""
        import signal
        alarms = 0
        def count(number, frame):
            global alarms
            alarms += 1
        signal.signal(signal.SIGALRM, count)
        signal.siginterrupt(signal.SIGALRM, {not restart})
        os.mkdir("made")
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for n in range(400):
            while True:
                try:
                    os.mkdir(f"made/{{n}}")
                    break
                except InterruptedError:
                    assert {not restart}
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except OSError:  # observed as well, and cut into as well
                assert {not restart}
        print(alarms, len(os.listdir("made")))
        """
    )
    alarms, made = map(int, found.output.split())
    shutil.rmtree(bench.folder / "made")
    assert alarms > 0
    assert made == 400
    assert found.count(("run", "mkdir", "")) + found.count(("run", "mkdirat", "")) == 401


def test_interrupted_waits_go_on(bench: Bench) -> None:
    """A handler whose sleep, select and read are cut into by a timer gets its answer."""
    found = bench.serve("signals.handler", {"seconds": 0.05})
    answer = result(found.outcomes[0])
    assert answer["read"] == "x"
    assert answer["alarms"] > 0


def test_the_launchers_own_calls_are_not_learned(bench: Bench, plain_c: Path) -> None:
    """A small C program's observation holds what it does and nothing of the Python that started it."""
    file = bench.folder / "written"
    found = bench.run(str(plain_c), str(file))
    assert found.status == 0
    assert not {path for path in found.cold_start.reads if "python" in path or "sandbox/" in path}
    assert found.cold_start.writes == {str(file)}
    assert "openat create" in found.items()
    assert "mmap exec-file" in found.items()
    strange = {"execve", "seccomp", "getcwd", "clone process", "clone3 process", "vfork process", "getdents64"}
    assert not strange & found.items()
    assert not {item for item in found.items() if item.startswith(("prctl", "clone", "socket", "connect"))}
    assert found.count(("run", "openat", "create")) == 1
    assert not found.cold_start.processes
    assert not found.cold_start.network


def test_a_thread_of_a_c_program(bench: Bench, plain_c: Path) -> None:
    """pthread_create is a thread, and what the thread opens is seen."""
    file = bench.folder / "written-by-thread"
    found = bench.run(str(plain_c), str(file), "thread")
    assert found.status == 0
    assert {"clone3 thread", "clone thread"} & found.items()
    assert str(file) in found.cold_start.writes


def test_phases_split_at_the_first_connection_to_the_runtime_api(bench: Bench) -> None:
    """Imports are init; the connection and what comes after it are invoke; each invocation is a sample."""
    found = bench.serve("hello.handler", {"n": 1}, {"n": 2}, {"n": 3})
    assert "connect" not in found.items("init")
    assert "sendto connected" not in found.items("init")
    assert "connect" in found.items("invoke")
    assert "sendto connected" in found.items("invoke")
    assert "mmap exec-file" in found.items("init")
    assert not found.items("run")
    kinds = [sample.kind for sample in found.cold_start.samples]
    assert kinds[:1] == ["init"]
    assert kinds.count("invocation") == 3
    requests = [line["request"] for line in found.lines if line["event"] == "invocation"]
    assert requests == [outcome.request_id for outcome in found.outcomes]
    assert all(sample.outcome == "ok" for sample in found.cold_start.samples)


def test_something_that_only_the_second_event_needs(bench: Bench) -> None:
    """The sample of the second invocation holds the thread, those of the others do not."""
    found = bench.serve("late_thread.handler", {}, {}, {})
    threads = [
        any(syscall in ("clone", "clone3") for _, syscall, _ in sample.items)
        for sample in found.cold_start.samples
        if sample.kind == "invocation"
    ]
    assert threads == [False, True, False]


def test_a_failed_invocation_is_told_with_the_last_calls(bench: Bench) -> None:
    """The request id, and what the function did just before."""
    found = bench.serve("fails.handler", {}, {"fail": True})
    (failure,) = found.cold_start.failures
    assert failure.label == found.outcomes[1].request_id
    assert len(failure.last) > 3
    outcomes = [sample.outcome for sample in found.cold_start.samples if sample.kind == "invocation"]
    assert outcomes == ["ok", "error"]


def test_entries_that_were_made_and_removed(bench: Bench) -> None:
    """Folders, links, sockets, renames and removals are told as entries; what was there, or is not, is none."""
    work = bench.folder / "entries"
    found = bench.python(
        """
        import socket, sys
        work = sys.argv[1]
        os.mkdir(work)
        os.chdir(work)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o600))
        os.close(os.open("/dev/null", os.O_WRONLY | os.O_CREAT, 0o600))
        os.truncate("file", 0)
        os.symlink("file", "symlink")
        os.link("file", "hard")
        os.rename("hard", "moved")
        os.unlink("moved")
        os.mkfifo("fifo")
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(work + "/socket")
        for missing in ("missing", "/tmp/nowhere/missing"):
            try:
                os.unlink(missing)
            except FileNotFoundError:
                pass
        try:
            os.mkdir("/tmp")
        except FileExistsError:
            pass
        """,
        str(work),
    )
    ours = {path for path in found.cold_start.entries if path.startswith(str(bench.folder))}
    names = ("file", "symlink", "hard", "moved", "fifo", "socket")
    assert ours == {str(work), *[f"{work}/{name}" for name in names]}
    assert not {"/dev/null", "/tmp", "/tmp/nowhere/missing"} & found.cold_start.entries
    assert f"{work}/file" in found.cold_start.writes


def test_rights_come_from_effects(bench: Bench) -> None:
    """What cannot be made, changed, moved or removed is told as no right, nor what is not there to be read."""
    work = bench.folder / "effects"
    found = bench.python(
        """
        import contextlib, sys
        work = sys.argv[1]
        os.makedirs(work + "/there")
        os.close(os.open(work + "/file", os.O_WRONLY | os.O_CREAT, 0o600))
        attempts = (
            lambda: os.open("/var/lib/not-there/clock.txt", os.O_RDWR | os.O_CREAT, 0o660),
            lambda: os.open(work + "/not-there/new", os.O_WRONLY | os.O_CREAT),
            lambda: os.open(work + "/file/new", os.O_WRONLY | os.O_CREAT),
            lambda: os.open(work + "/file", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
            lambda: os.open(work + "/there", os.O_WRONLY),
            lambda: os.open("/etc/not-there", os.O_RDONLY),
            lambda: os.mkdir("/usr/lib"),
            lambda: os.rename("/usr/lib/not-there", work + "/moved"),
            lambda: os.rmdir("/etc/hosts"),
            lambda: os.unlink("/usr/lib"),
            lambda: os.link("/etc/not-there", work + "/linked"),
            lambda: os.truncate("/usr/lib", 0),
        )
        for attempt in attempts:
            with contextlib.suppress(OSError):
                attempt()
                print("worked")
        """,
        str(work),
    )
    assert found.output == ""
    seen = found.cold_start
    assert {path for path in seen.writes | seen.entries if not path.startswith(str(bench.folder))} <= {"/dev/null"}
    assert {path.removeprefix(str(work)) for path in seen.writes if path.startswith(str(work))} == {"/file"}
    assert {path.removeprefix(str(work)) for path in seen.entries if path.startswith(str(work))} == {
        "", "/there", "/file",
    }  # fmt: skip
    assert "/etc/not-there" not in seen.reads


def test_paths_are_the_kernels(bench: Bench) -> None:
    """Up from a link, below another thread's folder, before a missing page and undumpable: the file that is reached."""
    work = bench.folder / "paths"
    found = bench.python(
        """
        import mmap, sys
        work = sys.argv[1]
        for folder in ("here", "there/deep", "there/work"):
            os.makedirs(f"{work}/{folder}")
        os.symlink("../there/deep", work + "/here/link")
        for name in ("data", "behind", "last"):
            open(f"{work}/there/{name}", "w").close()
        open(work + "/here/link/../data").close()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(work + "/here/link/../s.sock")
        listener.listen()
        socket.socket(socket.AF_UNIX).connect(work + "/here/link/../s.sock")
        page = LIBC.mmap
        page.restype = ctypes.c_void_p
        at = page(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
        LIBC.munmap(ctypes.c_void_p(at + 4096), ctypes.c_size_t(4096))
        text = os.fsencode(work + "/here/link/../behind") + bytes(1)
        ctypes.memmove(at + 4096 - len(text), text, len(text))
        assert LIBC.open(ctypes.c_void_p(at + 4096 - len(text)), 0) > 0
        os.chdir(work + "/here/link/../work")
        LIBC.prctl(4, 0, 0, 0, 0)
        open(work + "/here/link/../last").close()
        open("../new", "w").close()
        """,
        str(work),
    )
    assert found.status == 0, found.output
    seen = found.cold_start
    ours = {path.removeprefix(str(work)) for path in seen.reads if path.startswith(str(work))}
    assert {"/there/data", "/there/behind", "/there/last"} <= ours
    assert not {path for path in ours if path.startswith("/here/") and path != "/here/link"}
    assert seen.network == {f"unix:{work}/there/s.sock"}
    assert f"{work}/there/s.sock" in seen.entries
    # Relative to a folder that an undumpable task shows to root alone.
    assert f"{work}/there/new" in seen.entries or bench.uid


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_rights_are_asked_for_with_the_ids_of_the_moment(bench: Bench) -> None:
    """A thread that gives its rights up and takes them back learns what it could write then, not between."""
    if bench.uid:
        pytest.skip("has no rights to give up")
    (bench.folder / "shut").mkdir(mode=0o700)
    number = abi.number("setfsuid")
    found = bench.python(f"""
        def attempt(name):
            try:
                open(f"shut/{{name}}", "w").close()
            except PermissionError:
                print("refused")
        attempt("first")
        os.setresuid(65534, 65534, 0)
        attempt("no-resuid")
        os.setresuid(0, 0, 0)
        attempt("second")
        LIBC.syscall({number}, 65534)
        attempt("no-fsuid")
        LIBC.syscall({number}, 0)
        attempt("third")
    """)
    assert found.output.split() == ["refused"] * 2
    assert {Path(path).name for path in found.cold_start.writes if "shut/" in path} == {"first", "second", "third"}
