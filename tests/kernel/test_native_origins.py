"""Whose call it is without Python on the stack: C libraries, threads that a library has made, and Node's packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from waiting_calls import supervised
from waiting_programs import asked

from sandbox.sensor.origins import Sensor
from sandbox.violations.origin import Frame, Origin

LIBRARY = """\
#include <pthread.h>
#include <unistd.h>

static void *waits(void *data) {
    char byte;
    long got = read(0, &byte, 1);
    return got < 0 ? data : 0;
}

void library_waits(void) { waits(0); }

void library_waits_in_a_thread(void) {
    pthread_t thread;
    if (!pthread_create(&thread, 0, waits, 0)) pthread_join(thread, 0);
}
"""
PROGRAM = "void library_waits(void);\nint main(void) { library_waits(); return 0; }\n"
HANDLER = """\
import ctypes, sys

def handler():
    ctypes.CDLL(sys.argv[1]).library_waits_in_a_thread()

handler()
"""


def compiled(folder: Path, name: str, source: str, *options: str) -> Path:
    """A program or library in C."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler (cc)")
    code, made = folder / f"{name}.c", folder / name
    folder.mkdir(parents=True, exist_ok=True)
    code.write_text(source)
    # Without these a call that is the last of a function is none: its caller is not on the stack.
    subprocess.run([compiler, "-O1", "-fno-optimize-sibling-calls", "-o", made, code, *options], check=True)
    return made


def library(folder: Path) -> Path:
    """LIBRARY, which calls itself libwaits.so.7."""
    return compiled(folder, "libwaits.so.7.2", LIBRARY, "-shared", "-fPIC", "-pthread", "-Wl,-soname,libwaits.so.7")


def test_a_shared_library_is_named_as_it_names_itself(tmp_path: Path) -> None:
    """Soname and exported function; a program with nothing but the library of C below it says nothing."""
    made = library(tmp_path)
    program = compiled(tmp_path, "program", PROGRAM, str(made), f"-Wl,-rpath,{tmp_path}")
    os.symlink(made, tmp_path / "libwaits.so.7")
    alone = compiled(tmp_path, "alone", LIBRARY + PROGRAM.partition("\n")[2], "-pthread")
    found = asked([program])
    path = str(tmp_path / "libwaits.so.7.2")
    assert found
    assert found.fields() == Origin("libwaits.so.7", "", Frame(path, "library_waits", 0), None).fields()
    assert str(found) == f"libwaits.so.7 {path} library_waits"
    assert asked([alone]) is None


def test_a_thread_of_a_library_is_of_its_distribution(tmp_path: Path) -> None:
    """A thread without Python, in a process that runs it, is of what pip installed where its library lies."""
    site = tmp_path / "site-packages"
    made = library(site / "waits")
    info = site / "Waits-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: Waits\nVersion: 2.0\n\n")
    (info / "RECORD").write_text("waits/libwaits.so.7.2,,\n")
    app = tmp_path / "app.py"
    app.write_text(HANDLER)
    found = asked(["/usr/bin/python3", "-I", "-S", app, made])
    assert found
    assert (found.distribution, found.version, found.handler) == ("Waits", "2.0", None)
    assert found.library
    assert found.library.file == "waits/libwaits.so.7.2"


def test_a_package_of_node_is_named(tmp_path: Path) -> None:
    """Package, version, function, line and the script that asked; with neither on the stack it is Node."""
    package, node = "@scope/left", shutil.which("node")
    if not node:
        pytest.skip("there is no Node (node)")
    home = tmp_path / "node_modules" / package
    home.mkdir(parents=True)
    (home / "package.json").write_text(json.dumps({"name": package, "version": "3.1.0", "main": "index.js"}))
    (home / "index.js").write_text("exports.pads = () =>\n  require('fs').readSync(0, Buffer.alloc(1));\n")
    app = tmp_path / "app.js"
    app.write_text(f"const left = require('{package}');\nfunction handler() {{ left.pads(); }}\nhandler();\n")
    named = asked([node, app])
    script = Frame(str(app), "handler", 2)
    pads = Frame(f"{package}/index.js", "exports.pads", 1)
    assert named
    assert named.fields() == Origin(package, "3.1.0", pads, script).fields()
    found = asked([node, "-e", "require('fs').readSync(0, Buffer.alloc(1))"])
    assert found
    assert (found.distribution, found.handler) == ("node", None)


def test_a_child_of_node_is_of_the_script_that_made_it(tmp_path: Path) -> None:
    """Before its exec it has its parent's stack, but not the code; behind it, it was started by the same."""
    node = shutil.which("node")
    if not node:
        pytest.skip("there is no Node (node)")
    app = tmp_path / "app.js"
    app.write_text("function handler() {\n  require('child_process').spawnSync('/bin/true');\n}\nhandler();\n")
    sensor = Sensor()
    with supervised(lambda _: os.execv(node, [node, str(app)]), "execve", "exit_group") as other:
        assert other.listener.let_through(other.next().id)
        call = other.next()
        before = sensor.reading(call.pid, call.pid)
        assert before
        sensor.starts(call.pid, before)
        other.listener.let_through(call.id)
        call = other.next()
        behind = sensor.origin(call.pid, call.pid)
        other.listener.let_through(call.id)
        other.listener.let_through(other.next().id)
    sensor.close()
    assert before.origin
    assert before.origin.fields() == {"handler": {"file": str(app), "function": "handler", "line": 1}}
    assert behind
    assert behind.fields() == {**before.origin.fields(), "started": True}
