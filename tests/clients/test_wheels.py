"""The wheels that tools/release makes, as pip and others install them, on a host without a compiler."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.machinery
import importlib.util
import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import sandbox
from sandbox import launcher as native

ROOT = Path(sandbox.__file__).parent.parent
FOREIGN = 60_001
"""A user that nobody is."""


def _release() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("release", str(ROOT / "tools" / "release"))
    spec = importlib.util.spec_from_loader("release", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Those of this checkout by their platforms; what zig builds for a release, the system's cc built here."""
    native.path(os.uname().machine)
    return {
        name.rpartition("none-")[2].removesuffix(".whl"): data
        for name, data in _release().wheels(sys.executable, tmp_path_factory.mktemp("wheels")).items()
    }


def unpack(data: bytes, folder: Path, *, modes: bool = True) -> Path:
    """A wheel's files in a folder, with or without the modes that it records."""
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        wheel.extractall(folder)
        for member in wheel.infolist() if modes else ():
            (folder / member.filename).chmod(stat.S_IMODE(member.external_attr >> 16))
    return folder


def asked(folder: Path, *words: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """`sandbox WORDS` of what was installed in a folder, with the libraries of this environment and no compiler."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from sandbox.cli import main; main()"
    environ = {"PATH": "/nowhere", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environ, cwd="/", timeout=60,
        user=user, group=user, extra_groups=None if user is None else (),
    )  # fmt: skip


def test_each_wheel_holds_what_its_platform_runs(wheels: dict[str, bytes]) -> None:
    """Tags in both forms, programs in those for Linux alone and executable, and a record that each file fits."""
    assert set(wheels) == {
        "manylinux2014_x86_64.manylinux_2_17_x86_64.musllinux_1_1_x86_64",
        "manylinux2014_aarch64.manylinux_2_17_aarch64.musllinux_1_1_aarch64", "any",
    }  # fmt: skip
    for platform, data in wheels.items():
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            (stem,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
            described = wheel.read(f"{stem}/WHEEL").decode().splitlines()
            tags = [line.removeprefix("Tag: ") for line in described if line.startswith("Tag: ")]
            assert tags == [f"py3-none-{tag}" for tag in platform.split(".")]
            assert f"Root-Is-Purelib: {'true' if platform == 'any' else 'false'}" in described
            record = {row[0]: row[1:] for row in csv.reader(wheel.read(f"{stem}/RECORD").decode().splitlines())}
            assert set(record) == set(wheel.namelist())
            for name, (digest, size) in record.items():
                content = wheel.read(name)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert name == f"{stem}/RECORD" or (digest, size) == (f"sha256={found}", str(len(content)))
            native = [name for name in wheel.namelist() if "/built/" in name]
            assert bool(native) == (platform != "any")
            for name in ("bootstrap", *(name for name in native if "/launcher-" in name and "." not in name)):
                assert wheel.getinfo(name).external_attr >> 16 & 0o111 == 0o111


def test_what_is_installed_finds_its_parts(wheels: dict[str, bytes], tmp_path: Path) -> None:
    """pip --target, --user and a zip layer find bootstrap, launcher and schema; a lost execute bit changes nothing that
    is packaged; what a user may not read is one error with what to do.
    """
    machine = os.uname().machine
    platform = next(name for name in wheels if machine in name)
    name = f"seccomp_bootstrap-{sandbox.__version__}-py3-none-{platform}.whl"
    (tmp_path / name).write_bytes(wheels[platform])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(tmp_path / name)]
    subprocess.run([*pip, "--target", str(tmp_path / "target")], check=True, capture_output=True)
    base = {**os.environ, "PYTHONUSERBASE": str(tmp_path / "user")}
    system = [getattr(sys, "_base_executable", sys.executable), *pip[1:], "--user", "--break-system-packages"]
    by_user = subprocess.run([*system, "--ignore-installed"], capture_output=True, env=base, check=False)
    places = [tmp_path / "target", unpack(wheels[platform], tmp_path / "layer" / "python", modes=False)]
    if by_user.returncode == 0:  # this interpreter has a pip of its own
        places += (tmp_path / "user" / "lib").glob("python*/site-packages")
    for place in places:
        shown = [asked(place, "path", part).stdout.strip() for part in ("bootstrap", "launcher", "schema")]
        assert shown == [
            f"{place}/bootstrap", f"{place}/sandbox/launcher/built/launcher-{machine}",
            f"{place}/sandbox/profile/schema.json",
        ]  # fmt: skip
        assert (place / "sandbox" / "launcher" / "built" / f"launcher-{machine}").is_file()
    layer = tmp_path / "layer" / "python"
    packaged = tmp_path / "packaged.zip"
    policy = str(ROOT / "profiles" / "hello.yaml")
    done = asked(layer, "package", "layer", policy, "--output", str(packaged))
    assert f"launchers: {machine}" in done.stdout, done.stderr
    with zipfile.ZipFile(packaged) as archive:
        for member in (f"sandbox/launcher.{machine}", "sandbox/wrapper", "sandbox/bootstrap"):
            assert archive.getinfo(member).external_attr >> 16 & 0o777 == 0o755

    launcher = tmp_path / "target" / "sandbox" / "launcher" / "built" / f"launcher-{machine}"
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents[:-2]):
            folder.chmod(0o755)
        launcher.chmod(0o750)
        done = asked(tmp_path / "target", "path", "launcher", user=FOREIGN)
        assert (done.returncode, done.stdout) == (63, "")
        assert done.stderr.count("\n") == 2
        assert "launcher-" in done.stderr
        assert "Permission denied" in done.stderr
        assert "chmod -R a+rX" in done.stderr


def test_the_pure_wheel_reviews_and_packages_nothing_native(wheels: dict[str, bytes], tmp_path: Path) -> None:
    """Without programs profiles are shown; a package for provided.* is an error, and nothing is written."""
    place = unpack(wheels["any"], tmp_path / "pure")
    policy = str(ROOT / "profiles" / "hello.yaml")
    assert "promise stdio" in asked(place, "profile", "show", policy).stdout
    with zipfile.ZipFile(tmp_path / "function.zip", "w") as function:
        function.writestr("bootstrap", "#!/bin/sh\n")
    output = tmp_path / "guarded.zip"
    words = ("package", "runtime", policy, str(tmp_path / "function.zip"), "--output", str(output))
    done = asked(place, *words)
    assert (done.returncode, done.stdout) == (79, "")
    assert "would hold no launcher for any machine" in done.stderr
    assert "install the wheel for Linux" in done.stderr
    assert not output.exists()
    done = asked(place, *words, "--no-launcher")
    assert done.returncode == 0
    assert "the platform's image needs a Python 3.11 or newer" in done.stdout
