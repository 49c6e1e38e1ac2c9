"""What the bootstrap loads on its way to the handler, exactly: each module costs every cold start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import sandbox
from sandbox.policy import build
from sandbox.profile.model import Profile, ProfiledFunction, Use

BOOTSTRAP = Path(sandbox.__file__).parent.parent / "bootstrap"

OURS = {
    "sandbox",
    "sandbox.confine",
    "sandbox.start",
    "sandbox.bundle",
    "sandbox.confine.landlock_rules",
    "sandbox.confine.install",
    "sandbox.start.launch",
    "sandbox.start.locate",
    "sandbox.start.settings",
    "sandbox.confine.single_exec",
    "sandbox.provenance",
    "sandbox.errors",
    "sandbox.kernel",
    "sandbox.kernel.abi",
    "sandbox.kernel.bpf",
    "sandbox.kernel.landlock",
    "sandbox.kernel.seccomp",
    "sandbox.plain_json",
}
STANDARD = {"__future__", "_ctypes", "_json", "_sha2", "_sha256", "_struct", "ctypes", "ctypes._endian", "errno",
            "mmap", "struct", "types", "os", "os.path", "stat", "_stat", "posixpath", "genericpath",
            "_collections_abc"}  # fmt: skip
"""On top of what `python3 -I -S -c pass` loads: ctypes, which makes the raw calls and is nearly all of the time, and os
with its own, which -S leaves out."""

BESIDE = {"sandbox.supervise", "sandbox.supervise.start", "sandbox.supervise.attend", "sandbox.supervise.opening",
          "sandbox.supervise.guardian", "sandbox.supervised"}  # fmt: skip
"""The supervisor of a function that does nothing which needs an answer."""

SLOW = {"json", "re", "typing", "dataclasses", "yaml", "typer", "pyseccomp", "socket", "subprocess", "enum",
        "collections", "functools", "hashlib", "signal", "tempfile", "pathlib", "logging", "argparse"}  # fmt: skip

LOADING = (("mmap", "exec-file"), ("openat", "read"), ("access", ""), ("arch_prctl", "ARCH_SET_FS"))
"""What a dynamic loader does on top of the floor."""

# Ends with the module names on standard output instead of the exec that would lose them.
_MEASURE = """
import sys
bare = set(sys.modules)
import os
sys.argv = [{bootstrap!r}, "/bin/true"]
sys.path.insert(0, {home!r})
from sandbox.start import launch
from sandbox.confine import single_exec
class Reached(Exception): pass
def stop(self):
    raise Reached
single_exec.Launch.exec = stop
try:
    launch.main()
except Reached:
    os.write(1, "\\n".join(sorted(set(sys.modules) - bare)).encode())
os._exit(0)
"""


def start(program: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed."""
    return subprocess.run(
        program, env=dict(environment), capture_output=True, text=True, check=True, timeout=60
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled bundle that lets /bin/true run."""
    uses = {Use("init", *item) for item in LOADING}
    folder = tmp_path_factory.mktemp("ceiling")
    build.write(build.build(Profile(ProfiledFunction("ceiling"), frozenset(uses))), str(folder))
    return folder


@pytest.fixture(scope="module")
def loaded(bundle: Path) -> set[str]:
    """The modules that are loaded when the exec is reached, beyond those of the bare interpreter."""
    code = _MEASURE.format(bootstrap=str(BOOTSTRAP), home=str(BOOTSTRAP.parent))
    environment = {"PATH": os.defpath, "SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": "0"}
    done = start([sys.executable, "-I", "-S", "-c", code], environment)
    assert all(missing.startswith("network") for missing in json.loads(done.stderr)["degraded"])
    return set(done.stdout.split())


def test_the_list_of_modules(loaded: set[str]) -> None:
    """Exactly the listed modules are loaded: ours all, of the standard library no other."""
    assert {name for name in loaded if name.split(".")[0] == "sandbox"} == OURS
    assert {name for name in loaded if name.split(".")[0] != "sandbox"} <= STANDARD


def test_what_a_runtime_api_adds(bundle: Path) -> None:
    """Where there is one to tell of errors, what tells it is loaded before the filters, and nothing else."""
    environment = {
        "PATH": os.defpath, "SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": "0",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
    }  # fmt: skip
    code = _MEASURE.format(bootstrap=str(BOOTSTRAP), home=str(BOOTSTRAP.parent))
    names = start([sys.executable, "-I", "-S", "-c", code], environment).stdout.split()
    assert {name for name in names if name.split(".")[0] == "sandbox"} == OURS | {"sandbox.start.init_error"}
    assert {name for name in names if name.split(".")[0] != "sandbox"} <= STANDARD


def test_nothing_slow(loaded: set[str]) -> None:
    """None of the modules that cost more than the whole launch."""
    assert not {name.split(".")[0] for name in loaded} & SLOW


def test_the_ceiling(loaded: set[str]) -> None:
    """However modules are cut, there are not many of them."""
    assert len(loaded) <= 36


def test_the_real_bootstrap_loads_nothing_else(bundle: Path) -> None:
    """The interpreter's own account of the real bootstrap up to the exec agrees with the list."""
    environment = {"PATH": os.defpath, "SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": "0"}
    bare = _accounted(start([sys.executable, "-I", "-S", "-X", "importtime", "-c", "pass"], environment).stderr)
    python = [sys.executable, "-I", "-S", "-X", "importtime"]
    found = _accounted(start([*python, str(BOOTSTRAP), "/bin/true"], environment).stderr) - bare
    assert "sandbox.confine.install" in found
    assert found <= OURS | STANDARD


def test_a_quiet_function_loads_little_of_the_supervisor(bundle: Path) -> None:
    """Until a call needs its answer, the supervisor of a function is a loop: none of what decides and reports loads."""
    environment = {"PATH": os.defpath, "SANDBOX_POLICY": str(bundle), "SANDBOX_SUPERVISE": "1"}
    python = [sys.executable, "-I", "-S", "-X", "importtime"]
    found = _accounted(start([*python, str(BOOTSTRAP), "/bin/true"], environment).stderr)
    assert not found & SLOW
    assert {name for name in found if name.startswith(("sandbox.supervise", "sandbox.violations"))} == BESIDE


def test_a_supervisor_loads_nothing_slow_for_what_it_decides() -> None:
    """Nor is anything slow among what decides on programs, listeners and sockets, and writes the lines of refusals."""
    modules = [f"sandbox.supervise.{name}" for name in ("supervisor", "reports", "programs", "executing", "look")]
    modules += ["sandbox.sensor.origins", "sandbox.egress.listen", "sandbox.egress.owned", "sandbox.violations.sink"]
    home = str(BOOTSTRAP.parent)
    code = f"import sys; sys.path.insert(0, {home!r}); import {', '.join(modules)}; print(*sys.modules)"
    found = start([sys.executable, "-I", "-S", "-c", code], {}).stdout.split()
    assert "sandbox.supervise.executing" in found
    assert not set(found) & SLOW


def _accounted(text: str) -> set[str]:
    """Module names of a -X importtime account."""
    return {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}
