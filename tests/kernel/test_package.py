"""A packaged guard at its start: damage, signatures and bundles that the function could change."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import guests
import pytest
from supervised_programs import PLAIN_HOSTS, Supervision, bench_for
from users_and_folders import identity, place

from sandbox.errors import PackageInvalid
from sandbox.kernel import abi, landlock
from sandbox.package import archive
from sandbox.policy import build
from sandbox.profile import writing
from sandbox.profile.model import Profile, ProfiledFunction
from sandbox.start.integrity import verify

bench = bench_for(PLAIN_HOSTS)


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


@pytest.fixture(scope="module")
def package(bench: Supervision, keys: tuple[Path, Path]) -> Path:
    """A signed image."""
    package = bench.new(".tar")
    subprocess.run(
        [sys.executable, "-m", "sandbox", "package", "image", str(bench.bundle()), "--output", str(package),
         "--no-launcher", "--sign", str(keys[0])],
        check=True, capture_output=True, cwd=bench.home,
    )  # fmt: skip
    return package


@pytest.fixture
def guard(bench: Supervision, package: Path) -> Path:
    """Its guard folder, unpacked, that belongs to root."""
    folder = bench.new("")
    folder.mkdir(mode=0o755)
    subprocess.run(["tar", "--no-same-owner", "-xpf", str(package), "-C", str(folder)], check=True)
    return folder / "opt" / "sandbox"


def started(
    bench: Supervision, guard: Path, *command: str, wrapper: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """The packaged wrapper, by its path if not by another name, with a program that says what it was given."""
    environment = {"PATH": "/usr/bin:/bin", "SANDBOX_PYTHON": "/usr/bin/python3", **more}
    return subprocess.run(
        [wrapper or str(guard / "wrapper"), *(command or ("/bin/echo", "ran"))], env=environment, cwd=guard,
        capture_output=True, text=True, check=False, timeout=60, **identity(bench.uid),
    )  # fmt: skip


def test_a_packaged_guard_starts(bench: Supervision, guard: Path, keys: tuple[Path, Path]) -> None:
    """From its folder alone, with and without asking for the signature."""
    for more in ({}, {"SANDBOX_VERIFY_KEY": str(keys[1])}):
        done = started(bench, guard, **more)
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
        assert '"mode": "enforce"' in done.stderr


def test_a_packaged_guard_learns(bench: Supervision, guard: Path) -> None:
    """SANDBOX_MODE=learn works where a package is deployed: its log is what `sandbox learn --from` reads.

    It says that the policy which is there is not in force; a misspelled mode starts nothing.
    """
    done = started(bench, guard, SANDBOX_MODE="learn")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [lines[0]["event"], lines[1]["event"], lines[-1]["event"]] == ["sandbox", "start", "end"]
    assert lines[0]["enforced"] == ["hard deny"]
    assert f"policy: {guard}/policy is here, and is not in force" in lines[0]["degraded"]
    assert "item" in {line["event"] for line in lines}
    assert started(bench, guard, SANDBOX_MODE="Learn").returncode == 64


def test_nothing_to_confine_with(bench: Supervision, guard: Path) -> None:
    """Without a launcher for the machine and without a Python the function is not started."""
    done = subprocess.run(
        ["/bin/sh", str(guard / "wrapper"), "/bin/echo", "ran"], env={"PATH": "/nonexistent"}, capture_output=True,
        text=True, check=False, **identity(bench.uid),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (69, ""), done.stderr
    assert "Runtime.SandboxInstallRefused" in done.stderr
    (guard / "bootstrap").unlink()
    done = started(bench, guard)
    assert (done.returncode, done.stdout) == (69, ""), done.stderr
    assert "Runtime.SandboxInstallRefused: neither a launcher" in done.stderr


ODD = ("two words", "", "a\nb", "$(id)", "*", "-x", "it's", "\\")


@pytest.mark.parametrize("theirs", ['exec "$@"', 'exec /bin/sh -c \'exec "$0" "$@"\' "$@"', 'cd / && "$@"; exit $?'])
def test_another_wrapper_comes_first(bench: Supervision, guard: Path, theirs: str) -> None:
    """Theirs gets ours as its command, whatever words follow, and starts it by exec, another shell or as a child."""
    wrapper = bench.new(" of theirs.sh")
    wrapper.write_text(f'#!/bin/sh\necho "theirs: $#, ${{SANDBOX_NEXT_WRAPPER-gone}}"\n{theirs}\n')
    wrapper.chmod(0o755)
    for ours in (str(guard / "wrapper"), "./wrapper"):
        done = started(bench, guard, "/usr/bin/printf", "[%s]", *ODD, wrapper=ours, SANDBOX_NEXT_WRAPPER=str(wrapper))
        told = "".join(f"[{word}]" for word in ODD)
        assert (done.returncode, done.stdout) == (0, f"theirs: {len(ODD) + 3}, gone\n{told}"), done.stderr
        assert done.stderr.count('"mode": "enforce"') == 1


@pytest.mark.parametrize("kind", ["missing", "a folder", "not executable", "without its interpreter"])
def test_a_wrapper_that_cannot_be_started(bench: Supervision, guard: Path, kind: str) -> None:
    """Then nothing is started, and an error says so, to the Runtime API too."""
    wrapper = bench.new(".sh")
    if kind == "a folder":
        wrapper.mkdir(mode=0o755)
    elif kind != "missing":
        wrapper.write_text("#!/nonexistent/sh\n")
        wrapper.chmod(0o755 if kind == "without its interpreter" else 0o644)
    done = started(bench, guard, SANDBOX_NEXT_WRAPPER=str(wrapper))
    assert done.stdout == ""
    assert f"SANDBOX_NEXT_WRAPPER: {wrapper}" in done.stderr
    assert (done.returncode, "Runtime.SandboxHandlerNotFound" in done.stderr) == (73, True), done.stderr


def test_another_policy_is_refused(bench: Supervision, guard: Path) -> None:
    """A bundle that is whole, but not the one that was packaged, does not start."""
    other = build.build(guests.profile(*guests.LOADING, "umask"), (abi.MACHINE,))
    build.write(other, str(guard / "policy"))
    done = started(bench, guard)
    assert done.returncode == 79
    assert "Runtime.SandboxPackageInvalid" in done.stderr
    assert "ran" not in done.stdout


def test_a_link_to_another_policy_is_refused(bench: Supervision, guard: Path) -> None:
    """The manifest counts that lies where the policy is named, not one where a link leads."""
    other = bench.new("") / "policy"
    build.write(build.build(guests.profile(*guests.LOADING, "umask"), (abi.MACHINE,)), str(other))
    shutil.rmtree(guard / "policy")
    (guard / "policy").symlink_to(other)
    done = started(bench, guard)
    assert (done.returncode, "ran" in done.stdout) == (79, False), done.stderr


@pytest.mark.parametrize("damage", ["module", "signature", "manifest", "removed", "added", "launcher", "link", "key"])
def test_with_a_key_everything_is_checked(
    bench: Supervision, guard: Path, keys: tuple[Path, Path], damage: str
) -> None:
    """A changed module, signature or manifest, none, what nobody listed, a link, and another key stop the start."""
    key = keys[1]
    if damage == "module":
        module = guard / "sandbox" / "confine" / "landlock_rules.py"
        module.write_text("\n" + module.read_text())
    elif damage == "signature":
        (guard / "manifest.sig").write_bytes(bytes(64))
    elif damage == "manifest":
        (guard / "manifest.json").write_text((guard / "manifest.json").read_text() + " ")
    elif damage == "removed":
        (guard / "manifest.json").unlink()
    elif damage == "added":
        (guard / "sandbox" / "more.py").write_text("")
    elif damage == "launcher":
        (guard / "launcher.other").write_text("#!/bin/sh")
    elif damage == "link":
        (guard / "sandbox").rename(guard.parent / "sandbox-elsewhere")
        (guard / "sandbox").symlink_to(guard.parent / "sandbox-elsewhere")
    else:
        key = keys[0]
    done = started(bench, guard, SANDBOX_VERIFY_KEY=str(key))
    assert (done.returncode, "ran" in done.stdout) == (79, False), done.stderr
    assert "Runtime.SandboxPackageInvalid" in done.stderr


@pytest.mark.parametrize("kind", ["bundle", "profile"])
def test_with_a_key_nothing_else_is_a_policy(
    bench: Supervision, guard: Path, keys: tuple[Path, Path], kind: str
) -> None:
    """A bundle or a profile that somebody put beside the signed one does not start, even where the rest is whole."""
    other = guard / "other"
    if kind == "bundle":
        build.write(build.build(guests.profile(*guests.LOADING), (abi.MACHINE,)), str(other))
    else:
        other = other.with_suffix(".yaml")
        other.write_text(writing.write(guests.profile(*guests.LOADING)))
    done = started(bench, guard, SANDBOX_VERIFY_KEY=str(keys[1]), SANDBOX_POLICY=str(other))
    assert (done.returncode, "ran" in done.stdout) == (79, False), done.stderr
    done = started(bench, guard, SANDBOX_POLICY=str(other))
    assert (done.returncode, "ran" in done.stdout) == (79, False), done.stderr


def test_verification_names_the_file(guard: Path, keys: tuple[Path, Path]) -> None:
    """`verify` gives what it checked, and says which file is another."""
    assert "sandbox/start/launch.py" in verify(str(guard), str(keys[1]))
    (guard / "policy" / "listing.txt").write_text("another")
    with pytest.raises(PackageInvalid, match=r"listing\.txt"):
        verify(str(guard))


def test_a_layer_that_functions_share(bench: Supervision) -> None:
    """Each function starts under the policy that has its name, or that is named; another one does not start."""
    profiles = []
    for name, items in (("umasks", ("umask",)), ("plain", ())):
        profile = guests.profile(*guests.LOADING, *items)
        path = bench.new(".yaml")
        path.write_text(writing.write(dataclasses.replace(profile, function=ProfiledFunction(name))))
        profiles.append(str(path))
    package = bench.new(".zip")
    subprocess.run(
        [sys.executable, "-m", "sandbox", "package", "layer", *profiles, "--output", str(package), "--no-launcher"],
        check=True, capture_output=True, cwd=bench.home,
    )  # fmt: skip
    folder = bench.new("")
    for file in archive.unzipped(str(package)):
        path = folder / file.path
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
    guard = folder / "sandbox"
    shell = ("/bin/sh", "-c", "umask 27; umask")
    named = {"SANDBOX_POLICY": str(guard / "policy-umasks")}
    for more, function, denied in (
        ({"AWS_LAMBDA_FUNCTION_NAME": "umasks"}, "umasks", False),
        ({"AWS_LAMBDA_FUNCTION_NAME": "plain"}, "plain", True),
        ({"AWS_LAMBDA_FUNCTION_NAME": "stack-umasks-1", **named}, "umasks", False),
    ):
        done = started(bench, guard, *shell, **more)
        assert f'"function": "{function}"' in done.stderr
        assert (done.stdout != "0027\n", '"errno": "EPERM"' in done.stderr) == (denied, denied), done.stderr
    for more in ({"AWS_LAMBDA_FUNCTION_NAME": "other"}, {}):
        done = started(bench, guard, *shell, **more)
        assert (done.returncode, done.stdout) == (67, ""), done.stderr
        assert f"{guard}/policy-{more.get('AWS_LAMBDA_FUNCTION_NAME', '')} does not exist" in done.stderr
    (guard / "policy-plain" / "policy.bin").write_bytes((guard / "policy-umasks" / "policy.bin").read_bytes())
    assert started(bench, guard, *shell, AWS_LAMBDA_FUNCTION_NAME="plain").returncode == 79


def writing_below(pattern: str, *items: str) -> Profile:
    """A profile that reads what a shell needs and writes there."""
    return dataclasses.replace(
        guests.profile(*guests.LOADING, *items), reads=frozenset({"/usr/**", "/lib/**", "/lib64/**", "/etc/**"}),
        writes=frozenset({pattern}),
    )  # fmt: skip


def open_bundle(bench: Supervision, profile: Profile) -> Path:
    """A bundle that everybody may write to."""
    bundle = bench.new(".bundle")
    build.write(build.build(profile, (abi.MACHINE,)), str(bundle))
    for path in (bundle, *bundle.iterdir()):
        path.chmod(0o777)
    return bundle


def test_a_bundle_that_the_function_may_write(bench: Supervision) -> None:
    """Its own user could change it: no start, or with a warning where that is asked for."""
    bundle = open_bundle(bench, writing_below(f"{bench.folder}/**"))
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


def test_a_bundle_that_the_function_may_replace(bench: Supervision) -> None:
    """A bundle that is read-only, in a folder where its user may rename: no start for a function that renames."""
    profile = writing_below(f"{bench.folder}/**", "rename")
    folder = bench.new(".folder")
    folder.mkdir()
    found: dict[tuple[str, int], int] = {}
    for name, one in (
        ("renames", profile),
        ("writes", dataclasses.replace(profile, uses=guests.profile(*guests.LOADING).uses)),
    ):
        build.write(build.build(one, (abi.MACHINE,)), str(folder / name))
        build.close(str(folder / name))
    for mode in (0o777, 0o1777):
        folder.chmod(mode)
        found |= {(name, mode): bench.run(folder / name, "/bin/echo", "ran").code for name in ("renames", "writes")}
    refused = 0 if bench.uid is None else 80
    assert found == {
        ("renames", 0o777): refused, ("writes", 0o777): 0, ("renames", 0o1777): refused, ("writes", 0o1777): 0,
    }  # fmt: skip


@pytest.mark.skipif(not landlock.abi_version(), reason="without Landlock every writable bundle counts")
def test_a_bundle_outside_its_places(bench: Supervision) -> None:
    """Where Landlock keeps the function from it, its user may own the bundle."""
    bundle = open_bundle(bench, writing_below("/var/tmp/elsewhere/**"))
    done = bench.run(bundle, "/bin/echo", "ran")
    assert (done.code, done.stdout) == (0, "ran\n"), done.stderr
    assert "policy: the function could change" not in done.stderr
