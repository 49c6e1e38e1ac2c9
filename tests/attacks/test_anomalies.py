"""What only misuse tells from use: attacks that reach what the profile allows alone, and the same access meant."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import vulnerable_library as library
import yaml
from supervised_programs import NATIVE, PLAIN_HOSTS, SOCKETS, Done, Supervision, bench_for

from sandbox.errors import FunctionTerminated
from sandbox.profile.model import UsedBy
from sandbox.violations import reader

bench = bench_for([PLAIN_HOSTS[0], NATIVE[-1]])

APP = '''\
import dataclasses, os, pickle, socket, string, subprocess, sys, threading
sys.path += [SITE, os.path.dirname(__file__) + "/site-packages"]

at = ("127.0.0.1", int(sys.argv[1]) if sys.argv[1].isdecimal() else 0)

class Thief:
    def __reduce__(self):
        return socket.create_connection, (at,)

@dataclasses.dataclass
class Client:
    name: str = ""
    session: object = dataclasses.field(default_factory=lambda: socket.create_connection(at))

class Starter:
    def __reduce__(self):
        return subprocess.call, (["/bin/mkdir", sys.argv[1]],)

class Document:
    """What an honest function keeps in a pickle."""

def meant():
    pickle.loads(pickle.dumps(Document()))
    string.Template("$name").substitute(name="f")
    exec("made = 1 + 1")
    Client()
    thread = threading.Thread(target=socket.create_connection, args=(at,))
    thread.start()
    thread.join()

def pickled():
    pickle.loads(PICKLE)

def loaded():
    pickle._loads(PICKLE)

def documented():
    import yaml
    yaml.unsafe_load(f"!!python/object/apply:socket.create_connection [[127.0.0.1, {at[1]}]]")

def evaluated():
    eval("__import__('socket').create_connection(at)")

def injected():
    import ctypes, mmap, struct
    memory = mmap.mmap(-1, 4096, prot=7)
    code = {"x86_64": "b82a0000000f05c3", "aarch64": "681980d2010000d4c0035fd6"}  # connect(2), and back
    memory.write(bytes.fromhex(code[os.uname().machine]))
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    address = struct.pack("=H", 2) + struct.pack(">H", at[1]) + bytes([127, 0, 0, 1]) + bytes(8)
    made = socket.socket()
    result = call(ctypes.addressof(ctypes.c_char.from_buffer(memory)))(made.fileno(), address, 16)
    if result:
        raise OSError(-result, "refused")

def by_another():
    from tagload.constructor import construct_apply
    construct_apply("socket.create_connection", at)

def started():
    pickle.loads(pickle.dumps(Starter()))

def starts():
    subprocess.call(["/bin/mkdir", sys.argv[1]])

PICKLE = pickle.dumps(Thief())

def handler(name):
    try:
        globals()[name]()
        print(name, flush=True)
    except OSError as error:
        print(name, error.errno, flush=True)

for name in sys.argv[2:]:
    handler(name)
'''
LINE = APP.splitlines().index("    pickle.loads(PICKLE)") + 1
LOADED = (*SOCKETS, "epoll_create1", "clone thread", "mmap exec-anon", "mmap exec-write")
ATTACKS = {
    "pickled": ("library-misuse", f"below _pickle.loads line {LINE}: deserialiser, python-pickle"),
    "loaded": ("library-misuse", "in pickle.py load_reduce line"),
    "documented": ("library-misuse", "in yaml/constructor.py make_python_instance line"),
    "evaluated": ("code-from-string", "below <string> line 1"),
    "injected": ("foreign-memory", "the system call instruction lies in memory that can be written: "),
    "by_another": ("late-load", f"in tagload/constructor.py of {library.NAME} {library.VERSION}, which training never"),
}


@contextmanager
def service() -> Iterator[tuple[socket.socket, str]]:
    """A listener that the profile allows, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server, str(server.getsockname()[1])


def reached(server: socket.socket) -> int:
    """How many have connected since the last time."""
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.fixture(scope="module")
def app(bench: Supervision) -> Path:
    """The function."""
    folder = bench.new("")
    folder.mkdir()
    path = library.install(folder)
    path.write_text(APP.replace("SITE", repr(os.path.dirname(os.path.dirname(yaml.__file__)))))
    return path


def test_what_is_allowed_is_refused_below_misuse(bench: Supervision, app: Path) -> None:
    """Each attack connects bare; with `deny` it gets EPERM, and the line names the detector; what is meant connects."""
    command = ("/usr/bin/python3", "-I", "-S", str(app))
    with service() as (server, port):
        network = [f"tcp://127.0.0.1:{port}"]
        assert bench.bare(*command, port, *ATTACKS).split() == list(ATTACKS)
        assert reached(server) == len(ATTACKS)
        bundle = bench.bundle(*LOADED, network=network, on_anomaly={"all": "deny"}, libraries=["pyyaml"])
        done = bench.run(bundle, *command, port, *ATTACKS, "meant")
        assert done.stdout.splitlines() == [*(f"{name} 1" for name in ATTACKS), "meant"], done.stderr
        assert reached(server) == 2
        lines = [event for event in done.events if "anomaly" in event]
        for line, (detector, detail) in zip(lines, ATTACKS.values(), strict=True):
            assert (line["event"], line["syscall"], line["verdict"]) == ("violation", "connect", "denied")
            assert (line["anomaly"], line["errno"], line["target"]) == (detector, "EPERM", network[0])
            assert line["detail"].startswith(detail)
            assert line["reason"] == f"{detector}: {line['detail']}"
            assert line["allow"] == f"on-anomaly: {{{detector}: report}}"
        # Training knows the library, and another that has made this access.
        by = [UsedBy("network", network[0], name) for name in ("urllib3", "python")]
        bundle = bench.bundle(*LOADED, network=network, on_anomaly={"all": "deny"}, libraries=["tagload"], by=by)
        done = bench.run(bundle, *command, port, "by_another", "meant")
        assert (done.stdout, reached(server)) == ("by_another 1\nmeant\n", 2), done.stderr
        (line,) = [event for event in done.events if "anomaly" in event]
        assert line["anomaly"] == "new-library-for-access"
        assert line["detail"] == "by tagload, in training by python, urllib3"


def test_a_program_that_is_allowed_does_not_start_below_misuse(bench: Supervision, app: Path) -> None:
    """Its child is refused the exec, by the stack of the thread that made it; started on purpose the program runs."""
    command = ("/usr/bin/python3", "-I", "-S", str(app))
    made = bench.new("")
    bench.bare(*command, str(made), "started")
    assert made.is_dir()
    made.rmdir()
    items = ("clone process", "vfork", "fork", "wait4", "waitid", "execve", "pipe2", "dup2", "mkdir", "close_range")
    bundle = bench.bundle(*LOADED, *items, on_anomaly={"all": "deny"})
    done = bench.run(bundle, *command, str(made), "started")
    assert done.stdout == "started 1\n", done.stderr
    assert not made.exists()
    (line,) = [event for event in done.events if "anomaly" in event]
    assert (line["syscall"], line["anomaly"], line["errno"]) == ("execve", "library-misuse", "EPERM")
    assert line["target"].endswith("/bin/mkdir")
    done = bench.run(bundle, *command, str(made), "starts")
    assert made.is_dir(), done.stderr
    assert not [event for event in done.events if "anomaly" in event]


def anomalies(done: Done) -> list[dict[str, Any]]:
    """The lines of what was let through and suspected."""
    return [event for event in done.events if event["event"] == "anomaly"]


def test_each_response(bench: Supervision, app: Path) -> None:
    """Report, off, terminate and audit do what they say; without a supervisor the status line says who is lacking."""
    command = ("/usr/bin/python3", "-I", "-S", str(app))
    with service() as (server, port):
        network = [f"tcp://127.0.0.1:{port}"]

        def run(more: Mapping[str, str] = MappingProxyType({}), **on_anomaly: str) -> tuple[int, Done]:
            settings = {name.replace("_", "-"): answer for name, answer in on_anomaly.items()}
            bundle = bench.bundle(*LOADED, network=network, on_anomaly=settings)
            done = bench.run(bundle, *command, port, "pickled", more=more)
            return reached(server), done

        for made, done in (run(all="report"), run({"SANDBOX_MODE": "audit"}, all="terminate")):
            (line,) = anomalies(done)
            assert (made, done.stdout, done.of("connect")) == (1, "pickled\n", [])
            assert (line["anomaly"], line["target"], line["syscall"]) == ("library-misuse", network[0], "connect")
            assert line["by"]["handler"] == {"file": str(app), "function": "pickled", "line": LINE}
            (said,) = reader.parse(json.dumps(line).encode())
            assert said.call
            assert reader.explained(said.call) == f"let through, suspected: library-misuse: {line['detail']}"
        made, done = run(all="terminate", library_misuse="off")
        assert (made, anomalies(done), done.violations) == (1, [], [])
        made, done = run(all="off", library_misuse="terminate")
        assert (made, done.code) == (0, FunctionTerminated.exit_code), done.stderr
        assert [(line["verdict"], line["anomaly"]) for line in done.of("connect")] == [("terminated", "library-misuse")]
        made, done = run({"SANDBOX_SUPERVISE": "0"}, all="deny")
        assert (made, "anomalies: no detector is asked" in done.stderr) == (1, True)
        # Without a word in the profile what a table answers is not judged; a busy host may be too slow for the rest.
        runs = [run() for _ in range(1 if bench.native else 3)]
        assert all((made, done.violations) == (1, []) for made, done in runs)
        assert any(anomalies(done) for _, done in runs) == (not bench.native)
