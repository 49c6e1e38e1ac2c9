"""A packaged guard at its start: damage, signatures and bundles that the function could change."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import guests
import pytest
from supervised import Supervision, supervision
from users import USERS, identity, place

from sandbox.enforce.integrity import files_of, verify
from sandbox.errors import PackageInvalid
from sandbox.kernel import abi, landlock
from sandbox.policy import build


@pytest.fixture(scope="module", params=USERS, ids=lambda uid: "own" if uid is None else f"uid{uid}")
def bench(request: pytest.FixtureRequest) -> Iterator[Supervision]:
    """Each user with a folder of its own."""
    with supervision(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def keys() -> Iterator[tuple[Path, Path]]:
    """A private key and its public one, as openssl writes them."""
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    with place(None) as folder:
        (folder / "key.pem").write_bytes(private)
        (folder / "public.pem").write_bytes(public)
        folder.chmod(0o755)
        yield folder / "key.pem", folder / "public.pem"


@pytest.fixture
def guard(bench: Supervision, keys: tuple[Path, Path]) -> Path:
    """A signed guard folder, unpacked, that belongs to root."""
    bundle = bench.bundle()
    package = bench.new(".tar")
    home = Path(bench.home)
    subprocess.run(
        [sys.executable, "-m", "sandbox", "package", "image", str(bundle), "--output",
         str(package), "--python", "--sign", str(keys[0])],
        check=True, capture_output=True, cwd=home,
    )  # fmt: skip
    folder = bench.new("")
    folder.mkdir(mode=0o755)
    subprocess.run(["tar", "--no-same-owner", "-xpf", str(package), "-C", str(folder)], check=True)
    return folder / "opt" / "sandbox"


def started(bench: Supervision, guard: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The packaged wrapper with a program that says so."""
    environment = {"PATH": "/usr/bin:/bin", "SANDBOX_PYTHON": "/usr/bin/python3", **more}
    return subprocess.run(
        [str(guard / "wrapper"), "/bin/echo", "ran"], env=environment, capture_output=True, text=True, check=False,
        timeout=60, **identity(bench.uid),
    )  # fmt: skip


def test_a_packaged_guard_starts(bench: Supervision, guard: Path, keys: tuple[Path, Path]) -> None:
    """From its folder alone, with and without asking for the signature."""
    for more in ({}, {"SANDBOX_VERIFY_KEY": str(keys[1])}):
        done = started(bench, guard, **more)
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
        assert '"mode": "enforce"' in done.stderr


def test_nothing_to_confine_with(bench: Supervision, guard: Path) -> None:
    """Without a launcher for the machine and without a Python the function is not started."""
    done = subprocess.run(
        ["/bin/sh", str(guard / "wrapper"), "/bin/echo", "ran"], env={"PATH": "/nonexistent"}, capture_output=True,
        text=True, check=False, **identity(bench.uid),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (69, ""), done.stderr
    assert "Runtime.SandboxInstallRefused" in done.stderr


def test_another_policy_is_refused(bench: Supervision, guard: Path) -> None:
    """A bundle that is whole, but not the one that was packaged, does not start."""
    other = build.build(guests.profile(*guests.LOADING, "umask"), (abi.MACHINE,))
    build.write(other, str(guard / "policy"))
    done = started(bench, guard)
    assert done.returncode == 79
    assert "Runtime.SandboxPackageInvalid" in done.stderr
    assert "ran" not in done.stdout


@pytest.mark.parametrize("damage", ["module", "signature", "manifest", "added", "key"])
def test_with_a_key_everything_is_checked(
    bench: Supervision, guard: Path, keys: tuple[Path, Path], damage: str
) -> None:
    """A changed module, signature or manifest, a module that nobody listed, and another key stop the start."""
    key = keys[1]
    if damage == "module":
        (guard / "sandbox" / "enforce" / "files.py").write_text("\n" + (guard / "sandbox/enforce/files.py").read_text())
    elif damage == "signature":
        (guard / "manifest.sig").write_bytes(bytes(64))
    elif damage == "manifest":
        (guard / "manifest.json").write_text((guard / "manifest.json").read_text() + " ")
    elif damage == "added":
        (guard / "sandbox" / "more.py").write_text("")
    else:
        key = keys[0]
    done = started(bench, guard, SANDBOX_VERIFY_KEY=str(key))
    assert (done.returncode, "ran" in done.stdout) == (79, False), done.stderr
    assert "Runtime.SandboxPackageInvalid" in done.stderr


def test_verification_names_the_file(guard: Path, keys: tuple[Path, Path]) -> None:
    """`verify` counts what it checked, and says which file is another."""
    assert verify(str(guard), str(keys[1])) == len(files_of(str(guard)))
    (guard / "policy" / "listing.txt").write_text("another")
    with pytest.raises(PackageInvalid, match=r"listing\.txt"):
        verify(str(guard))


def test_a_bundle_that_the_function_may_write(bench: Supervision) -> None:
    """Its own user could change it: no start, or with a warning where that is asked for."""
    profile = dataclasses.replace(
        guests.profile(*guests.LOADING), reads=frozenset({"/usr/**", "/lib/**", "/lib64/**", "/etc/**"}),
        writes=frozenset({f"{bench.folder}/**"}),
    )  # fmt: skip
    bundle = bench.new(".bundle")
    build.write(build.build(profile, (abi.MACHINE,)), str(bundle))
    for path in (bundle, *bundle.iterdir()):
        path.chmod(0o777)
    done = bench.run(bundle, "/bin/echo", "ran")
    if bench.uid is None:  # root may write everywhere, which says nothing
        assert (done.code, done.stdout) == (0, "ran\n"), done.stderr
        return
    assert (done.code, done.stdout) == (80, "")
    assert "Runtime.SandboxPolicyWritable" in done.stderr
    done = bench.run(bundle, "/bin/echo", "ran", more={"SANDBOX_ON_UNAVAILABLE": "warn"})
    assert (done.code, done.stdout) == (0, "ran\n"), done.stderr
    assert "policy: the function could change" in done.stderr
    build.close(str(bundle))
    done = bench.run(bundle, "/bin/echo", "ran")
    assert (done.code, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.skipif(not landlock.abi_version(), reason="without Landlock every writable bundle counts")
def test_a_bundle_outside_its_places(bench: Supervision) -> None:
    """Where Landlock keeps the function from it, its user may own the bundle."""
    profile = dataclasses.replace(
        guests.profile(*guests.LOADING), reads=frozenset({"/usr/**", "/lib/**", "/lib64/**", "/etc/**"}),
        writes=frozenset({"/var/tmp/elsewhere/**"}),
    )  # fmt: skip
    bundle = bench.new(".bundle")
    build.write(build.build(profile, (abi.MACHINE,)), str(bundle))
    for path in (bundle, *bundle.iterdir()):
        path.chmod(0o777)
    done = bench.run(bundle, "/bin/echo", "ran")
    assert (done.code, done.stdout) == (0, "ran\n"), done.stderr
    assert "policy: the function could change" not in done.stderr
