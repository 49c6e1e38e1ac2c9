"""What a tripwire refuses, way by way and runtime by runtime, and what passes it: the table of docs/security.md.

UPDATE_PLATFORMS=1 writes the table; otherwise it is compared.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from guests import LOADING, profile
from tripwire_hosts import FILES, PASSES, SOCKETS, WAYS, Host
from users_and_folders import HOME, place

from sandbox import tripwire
from sandbox.kernel import abi

PAGE = HOME / "docs" / "security.md"
BEGIN, END = "<!-- ways: tests/clients/test_ways.py -->\n", "<!-- end -->"
RUNTIME = (
    *LOADING, *SOCKETS, *FILES, "clone thread", "mmap exec-anon", "mmap exec-write", "mprotect exec",
    "mprotect exec-write", "socket AF_INET6 SOCK_STREAM", "socket AF_INET6 SOCK_DGRAM", "eventfd2", "pipe2", "bind",
    "prctl PR_SET_NAME", "sched_getaffinity", "prlimit64", "tgkill", "ftruncate", "madvise", "capget", "getrlimit",
)  # fmt: skip
"""What runtimes that compile code need besides; there a process, a connection and a file are the ways."""
TOLD: dict[str, list[str]] = {}


@dataclasses.dataclass(frozen=True)
class Language:
    """A program of ways: how it is started, and the bundle that it starts under."""

    name: str
    program: str
    words: tuple[str, ...]
    bundle: str = "runtimes"


LANGUAGES = (
    Language("Python", "python3", ("-I", str(WAYS / "ways.py")), "bundle"),
    Language("C", "cc", (), "bundle"),
    Language("C, static", "cc", ("-static", "-DSTATIC"), "bundle"),
    Language("Node", "node", (str(WAYS / "ways.mjs"),)),
    Language("Ruby", "ruby", (str(WAYS / "ways.rb"),), "bundle"),
    Language("Java", "java", ("-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-cp", "{folder}", "Ways")),
)


@pytest.fixture(scope="session", autouse=True)
def clients() -> None:
    """No environment of clients is needed here."""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One for all."""
    tripwire.path(abi.MACHINE)
    with place(None) as folder:
        found = Host(folder)
        writes, reads = frozenset({f"{folder}/open/**"}), frozenset({"/**"})
        some = profile(*RUNTIME, network=("tcp://127.0.0.2:9",))
        found.make("runtimes", dataclasses.replace(some, writes=writes, reads=reads))
        yield found


def command_of(language: Language, folder: Path) -> tuple[str, ...]:
    """What to start; skips where the runtime is not installed."""
    program = shutil.which(language.program)
    if not program or (language.program == "java" and not shutil.which("javac")):
        pytest.skip(f"{language.program} is not installed")
    if language.program == "cc":
        made = folder / f"ways{len(language.words)}"
        subprocess.run([program, "-O1", "-w", *language.words, "-o", str(made), str(WAYS / "ways.c")], check=True)
        return (str(made),)
    if language.program == "java":
        subprocess.run(["javac", "-d", str(folder), str(WAYS / "Ways.java")], check=True)
    return ("/usr/bin/python3" if language.program == "python3" else program,
            *(word.format(folder=folder) for word in language.words))  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_ways(host: Host, language: Language) -> None:
    """Bare each way has its effect; with the tripwire none has, but what makes system calls itself."""
    command = command_of(language, host.folder)
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        stream.listen(64)
        datagrams.bind(stream.getsockname())
        words = (*command, str(host.folder), str(stream.getsockname()[1]))
        bare = host.tried(subprocess.run(words, capture_output=True, timeout=60, check=True).stdout)
        assert set(bare.outcomes.values()) == {"happened"}
        static = language.name.endswith("static")
        more = {"SANDBOX_POLICY": str(host.folder / language.bundle), "SANDBOX_ON_UNAVAILABLE": "best"}
        found = host.tried(host.start("launcher", *words, more=more).output)
    assert found.outcomes.keys() == bare.outcomes.keys()
    happened = {said for said, text in found.outcomes.items() if text == "happened"}
    assert happened == (bare.outcomes.keys() if static else bare.outcomes.keys() & PASSES)
    assert found.of("sandbox")[0]["tier"] == ("nothing" if static else "detects")
    if static:
        TOLD[language.name] = [f"| {language.name} | every way | happened: the status line says `tier: nothing` |"]
        return
    errnos = {said: text for said, text in found.outcomes.items() if said not in happened}
    TOLD[language.name] = [
        f"| {language.name} | {said} | {'refused' if said in errnos else 'happened'} |" for said in found.outcomes
    ]
    assert len(found.of("violation")) >= len(errnos)


def test_loaders_before_glibc_2_35(host: Host, tmp_path: Path) -> None:
    """Where the loader asks about dlsym(3) alone, all other references are rewritten, and the same is refused."""
    library, program = tmp_path / "older.so", tmp_path / "ways"
    flags = (*tripwire.FLAGS, tripwire.GENERAL_REGISTERS, *tripwire.LINKED, "-DAS_BEFORE_2_35")
    subprocess.run(["cc", *flags, "-o", str(library), str(tripwire.HERE / "tripwire.c")], check=True)
    for binding in ("-Wl,-z,lazy", "-fno-plt"):
        subprocess.run(["cc", "-O1", "-w", binding, "-o", str(program), str(WAYS / "ways.c")], check=True)
        variables = {
            "SANDBOX_TRIPWIRE": f"p {host.folder}/bundle\nm e\nf 1\ni 0\no {program}", "LD_AUDIT": str(library),
            "LD_BIND_NOW": "1", "PATH": os.defpath,
        }  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as stream:
            words = [str(program), str(host.folder), str(stream.getsockname()[1])]
            found = host.tried(subprocess.run(words, env=variables, capture_output=True, timeout=60, check=True).stdout)
        assert {said for said, text in found.outcomes.items() if text == "happened"} == found.outcomes.keys() & PASSES


OLDER = HOME / ".cache" / "clients" / "glibc-2.31" / "root"


@pytest.mark.skipif(not OLDER.is_dir(), reason="tools/clients got no glibc 2.31")
@pytest.mark.parametrize("binding", ["-Wl,-z,lazy,-z,norelro", "-Wl,-z,now,-z,relro"])
def test_a_real_glibc_2_31(host: Host, tmp_path: Path, binding: str) -> None:
    """With the C library and the loader of Debian 11 the same is refused, however the program binds its functions."""
    libraries, linked = OLDER / "lib" / "x86_64-linux-gnu", OLDER / "usr" / "lib" / "x86_64-linux-gnu"
    program, unlinked = host.folder / "older", tmp_path / "ways.o"
    subprocess.run(["cc", "-O1", "-w", "-c", "-o", str(unlinked), str(WAYS / "ways.c")], check=True)
    support = subprocess.run(["cc", "-print-libgcc-file-name"], capture_output=True, text=True, check=True).stdout
    parts = (
        linked / "crt1.o", linked / "crti.o", unlinked, *(libraries / f"lib{name}" for name in ("c.so.6", "dl.so.2")),
        libraries / "libpthread.so.0", linked / "libc_nonshared.a", support.strip(), linked / "crtn.o",
    )  # fmt: skip
    loader = libraries / "ld-linux-x86-64.so.2"
    subprocess.run(
        ["cc", "-nostdlib", "-o", str(program), *map(str, parts), str(loader), binding,
         f"-Wl,--dynamic-linker={loader},-rpath={libraries}"], check=True,
    )  # fmt: skip
    all_but_its_own_calls_are_refused(host, program)


NEXT = HOME / ".cache" / "interpreters" / "debian"
"""The next Debian's files, of which tools/interpreters takes its Python."""


@pytest.mark.skipif(not NEXT.is_dir(), reason="tools/interpreters got nothing of the next Debian")
@pytest.mark.parametrize("binding", ["-Wl,-z,lazy,-z,norelro", "-fno-plt"])
def test_the_next_glibc(host: Host, binding: str) -> None:
    """With a C library and a loader that are newer than this machine's the same is refused."""
    loader, program = next(NEXT.glob("usr/lib*/ld-linux-*.so.*")), host.folder / "newer"
    libraries = os.path.dirname(os.path.realpath(loader))
    led = f"-Wl,--dynamic-linker={libraries}/{loader.name},-rpath={libraries}"
    subprocess.run(["cc", "-O1", "-w", binding, "-o", str(program), str(WAYS / "ways.c"), led], check=True)
    all_but_its_own_calls_are_refused(host, program)


def all_but_its_own_calls_are_refused(host: Host, program: Path) -> None:
    """Of a compiled ways.c."""
    with socket.create_server(("127.0.0.1", 0)) as stream:
        words = (str(program), str(host.folder), str(stream.getsockname()[1]))
        bare = host.tried(subprocess.run(words, capture_output=True, timeout=60, check=True).stdout)
        found = host.tried(host.start("launcher", *words).output)
    assert set(bare.outcomes.values()) == {"happened"}
    assert {said for said, text in found.outcomes.items() if text == "happened"} == bare.outcomes.keys() & PASSES
    assert len(found.of("violation")) == len(found.outcomes) - 1


def test_the_table() -> None:
    """docs/security.md lists each way with its outcome; of at least forty no more than four in forty pass."""
    before, mark, rest = PAGE.read_text().partition(BEGIN)
    told = [row for row in rest[: rest.index(END)].splitlines() if row.startswith("|")][2:]
    rows = [
        row
        for language in LANGUAGES
        for row in TOLD.get(language.name) or [row for row in told if row.startswith(f"| {language.name} |")]
    ]
    dynamic = [row for row in rows if "| every way |" not in row]
    refused = [row for row in dynamic if row.endswith("| refused |")]
    assert len(dynamic) >= 40
    assert len(refused) >= 0.9 * len(dynamic)
    if os.environ.get("UPDATE_PLATFORMS"):
        text = "\n".join(["", "| runtime | way | outcome |", "|---|---|---|", *rows, "", ""])
        PAGE.write_text(before + mark + text + rest[rest.index(END) :])
        return
    assert mark
    assert told == rows
