"""Whose call it is in gevent's greenlets, in a thread that gRPC has made, and in a program of Go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from waiting_programs import asked, waiting

from sandbox.sensor.origins import Sensor

START = """\
import ctypes

wait, byte = ctypes.CDLL(None).read, ctypes.create_string_buffer(1)

def stop():
    wait(0, byte, 1)
"""
GREENLETS = f"""\
from gevent import monkey
monkey.patch_all()
import gevent
{START}
def worker():
    gevent.sleep(0.01)
    stop()

def other():
    gevent.sleep(60)

def handler():
    gevent.joinall([gevent.spawn(other), gevent.spawn(worker)], count=1)

handler()
"""
IN_THE_HUB = f"""\
import gevent
{START}
def handler():
    gevent.get_hub().loop.run_callback(stop)
    gevent.sleep(0.01)

handler()
"""
CHANNEL = f"""\
import grpc
{START}
channel = grpc.insecure_channel("127.0.0.1:1")
grpc.channel_ready_future(channel)
stop()
"""
MODULE = "module example.com/app\n\ngo 1.18\n\nrequire example.com/asks v1.2.3\n\nreplace example.com/asks => ./asks\n"
PROGRAM = """\
package main

import "example.com/asks"

//go:noinline
func handler() { asks.For() }

func main() { handler() }
"""
LIBRARY = """\
package asks

import "os"

//go:noinline
func For() { os.Stdin.Read(make([]byte, 1)) }
"""


@pytest.mark.parametrize(
    ("source", "callers"), [(GREENLETS, ["worker"]), (IN_THE_HUB, ["Hub.run"])], ids=["greenlet", "hub"]
)
def test_a_greenlet_has_its_own_stack(clients: Path, tmp_path: Path, source: str, callers: list[str]) -> None:
    """What one calls is not of another one, nor of the code that waits for them all; a hub's is gevent's."""
    app = tmp_path / "app.py"
    app.write_text(source)
    sensor = Sensor()
    with waiting([clients / "bin" / "python", "-I", app]) as (tid, pid):
        reading = sensor.reading(tid, pid)
        assert reading
        names = [frame.function for frame in reading.frames]
    sensor.close()
    assert names == ["stop", *callers]


def test_a_thread_of_grpc_is_of_grpc(clients: Path, tmp_path: Path) -> None:
    """A thread that has no Python on its stack is of the distribution that made it."""
    app = tmp_path / "app.py"
    app.write_text(CHANNEL)
    sensor = Sensor()
    with waiting([clients / "bin" / "python", "-I", app]) as (tid, pid):
        others = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != tid]
        found = [by for other in others if (by := sensor.origin(other, pid))]
    sensor.close()
    assert "grpcio" in {by.distribution for by in found}
    assert {(by.distribution, bool(by.version), by.handler) for by in found} == {("grpcio", True, None)}


def test_a_program_of_go_names_its_modules(tmp_path: Path) -> None:
    """Module, version and function of the library, and the program's own function; stripped, too."""
    go = shutil.which("go")
    if not go:
        pytest.skip("there is no Go (go)")
    (tmp_path / "asks").mkdir()
    (tmp_path / "go.mod").write_text(MODULE)
    (tmp_path / "app.go").write_text(PROGRAM)
    (tmp_path / "asks" / "go.mod").write_text("module example.com/asks\n\ngo 1.18\n")
    (tmp_path / "asks" / "asks.go").write_text(LIBRARY)
    subprocess.run([go, "build", "-mod=mod", "-ldflags=-s -w", "-o", "app", "."], cwd=tmp_path, check=True)
    found = asked([tmp_path / "app"])
    assert found
    assert found.library
    assert found.handler
    assert (found.distribution, found.version) == ("example.com/asks", "v1.2.3")
    assert (found.library.file, found.library.function) == ("example.com/asks", "For")
    assert found.handler.function == "main.handler"
