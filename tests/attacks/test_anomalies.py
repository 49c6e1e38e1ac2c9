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
import yaml
from supervised_programs import NATIVE, PLAIN_HOSTS, SOCKETS, Done, Supervision, bench_for

from sandbox.errors import FunctionTerminated
from sandbox.violations import reader

bench = bench_for([PLAIN_HOSTS[0], NATIVE[-1]])

APP = '''\
import dataclasses, os, pickle, socket, string, sys, threading
sys.path += [SITE]

at = ("127.0.0.1", int(sys.argv[2]))

class Thief:
    def __reduce__(self):
        return socket.create_connection, (at,)

@dataclasses.dataclass
class Client:
    name: str = ""
    session: object = dataclasses.field(default_factory=lambda: socket.create_connection(at))

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

PICKLE = pickle.dumps(Thief())

def handler(name):
    try:
        globals()[name]()
    except OSError as error:
        print(error.errno, flush=True)

handler(sys.argv[1])
'''
LINE = APP.splitlines().index("    pickle.loads(PICKLE)") + 1
LOADED = (*SOCKETS, "epoll_create1", "clone thread", "mmap exec-anon", "mmap exec-write")
ATTACKS = {
    "pickled": ("library-misuse", f"below _pickle.loads line {LINE}: deserialiser, python-pickle"),
    "loaded": ("library-misuse", "in pickle.py load_reduce line"),
    "documented": ("library-misuse", "in yaml/constructor.py make_python_instance line"),
    "evaluated": ("code-from-string", "below <string> line 1"),
    "injected": ("foreign-memory", "the system call instruction lies in memory that can be written: "),
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
    path = bench.new(".py")
    path.write_text(APP.replace("SITE", repr(os.path.dirname(os.path.dirname(yaml.__file__)))))
    path.chmod(0o755)
    return path


def test_what_is_allowed_is_refused_below_misuse(bench: Supervision, app: Path) -> None:
    """Each attack connects bare; with `deny` it gets EPERM, and the line names the detector; what is meant connects."""
    command = ("/usr/bin/python3", "-I", "-S", str(app))
    with service() as (server, port):
        bundle = bench.bundle(*LOADED, network=[f"tcp://127.0.0.1:{port}"], on_anomaly={"all": "deny"})
        for name, (detector, detail) in ATTACKS.items():
            bench.bare(*command, name, port)
            assert reached(server) == 1, name
            done = bench.run(bundle, *command, name, port)
            assert (reached(server), done.stdout) == (0, "1\n"), done.stderr
            (line,) = done.of("connect")
            assert (line["anomaly"], line["verdict"], line["errno"]) == (detector, "denied", "EPERM")
            assert line["detail"].startswith(detail)
            assert line["reason"] == f"{detector}: {line['detail']}"
            assert line["allow"] == f"on-anomaly: {{{detector}: report}}"
        meant = bench.run(bundle, *command, "meant", port)
        assert (reached(server), meant.stdout) == (2, ""), meant.stderr
        assert not [event for event in meant.events if "anomaly" in event]


def anomalies(done: Done) -> list[dict[str, Any]]:
    """The lines of what was let through and suspected."""
    return [event for event in done.events if event["event"] == "anomaly"]


def test_each_response(bench: Supervision, app: Path) -> None:
    """Report lets through with a line, off without, terminate ends the function, and audit only reports."""
    command = ("/usr/bin/python3", "-I", "-S", str(app), "pickled")
    with service() as (server, port):
        network = [f"tcp://127.0.0.1:{port}"]

        def run(more: Mapping[str, str] = MappingProxyType({}), **on_anomaly: str) -> tuple[int, Done]:
            settings = {name.replace("_", "-"): answer for name, answer in on_anomaly.items()}
            bundle = bench.bundle(*LOADED, network=network, on_anomaly=settings)
            done = bench.run(bundle, *command, port, more=more)
            return reached(server), done

        for made, done in (run(all="report"), run({"SANDBOX_MODE": "audit"}, all="terminate")):
            (line,) = anomalies(done)
            assert (made, done.stdout, done.of("connect")) == (1, "", [])
            assert (line["anomaly"], line["target"], line["syscall"]) == ("library-misuse", network[0], "connect")
            assert line["by"]["handler"] == {"file": str(app), "function": "pickled", "line": LINE}
            (said,) = reader.parse(json.dumps(line).encode())
            assert said.call
            assert reader.explained(said.call) == f"let through, suspected: library-misuse: {line['detail']}"
        made, done = run(all="terminate", library_misuse="off")
        assert (made, anomalies(done), done.violations, done.stdout) == (1, [], [], "")
        made, done = run(all="off", library_misuse="terminate")
        assert (made, done.code) == (0, FunctionTerminated.exit_code), done.stderr
        assert [(line["verdict"], line["anomaly"]) for line in done.of("connect")] == [("terminated", "library-misuse")]
        # Without a word in the profile what a table answers is not judged; a busy host may be too slow for the rest.
        runs = [run() for _ in range(1 if bench.native else 3)]
        assert all((made, done.violations) == (1, []) for made, done in runs)
        assert any(anomalies(done) for _, done in runs) == (not bench.native)
