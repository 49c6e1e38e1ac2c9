"""Each start of a training has a place of its own: nothing is left from another, and nothing stays on the host."""

from __future__ import annotations

import errno
import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from refusing_filters import below
from sandbox_command import Workshop, workshop_of
from users_and_folders import NOBODY, identity

from sandbox.profile import document

MARK = Path("/tmp/looks-around.mark")
LOOKS = ("--handler", "looks_around.handler")
NO_MOUNTS = {"mount": errno.EPERM, "unshare": errno.EPERM}


def learn(workshop: Workshop, path: Path, *more: str | Path) -> list[str]:
    """The command that trains looks_around."""
    arguments = ("learn", "looks", *LOOKS, "--root", workshop.targets, "--output", path, *more)
    return [sys.executable, "-m", "sandbox", *map(str, arguments)]


def mounts() -> list[str]:
    """What is mounted here, as this process sees it."""
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_each_start_finds_an_empty_tmp_and_a_closed_folder(workshop: Workshop) -> None:
    """Three starts and two of the verification: all see nothing in /tmp, EROFS, and leave no file and no mount.

    A restart sees what its own start left, and that alone.
    """
    before = mounts()
    path = workshop.new()
    events = workshop.events({}, {"n": 1})
    done = subprocess.run(
        learn(workshop, path, "--events", events), cwd=workshop.folder, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/tmp and /dev/shm fresh for each start, the function's folder is read-only" in done.stdout
    assert not MARK.exists()
    assert not (workshop.targets / "looks_around.mark").exists()
    assert mounts() == before
    profile = document.read(str(path)).profile
    assert profile.verified
    assert (profile.verified.audit, profile.verified.enforce) == ("ok", "ok")
    assert not [pattern for pattern in profile.writes if not pattern.startswith("/tmp/")]


def test_two_trainings_at_once_do_not_see_each_other(workshop: Workshop) -> None:
    """Both write the same file in /tmp and find their own text in it a second later."""
    events = workshop.events({"wait": 1.0})
    both = [
        subprocess.Popen(
            learn(workshop, workshop.new(), "--events", events, "--cold-starts", "1", "--no-verify"),
            cwd=workshop.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output


def test_what_is_named_below_tmp_is_shown(workshop: Workshop) -> None:
    """A file that a program's arguments name is there, is the host's own, and the report says so."""
    text, other = workshop.new(".txt"), Path(f"/tmp/clean-place-{os.getpid()}.txt")
    text.write_text("shown")
    other.write_text("hidden")
    try:
        program = ("--", "/bin/sh", "-c", f"cat {text} && ! ls /tmp | grep -q ^clean-place- && echo more >> {text}")
        done = workshop.sandbox("learn", "named", "--output", workshop.new(), "--cold-starts", "1", *program)
    finally:
        other.unlink()
    assert f"of this host's they show {workshop.folder}" in done.stdout
    assert text.read_text() == "shown" + "more\n" * 3


def test_variables_are_the_callers(workshop: Workshop) -> None:
    """In the C locale Python gives its own process an LC_CTYPE; what is trained gets none, as in production."""
    program = ("--", "/bin/sh", "-c", 'test -z "${LC_CTYPE-}" && test "$LANG" = C')
    start = ("learn", "locale", "--no-verify", "--output", workshop.new(), "--cold-starts", "1", *program)
    workshop.sandbox(*start, more={"LANG": "C"})


def test_an_empty_folder_that_the_function_is_given(workshop: Workshop) -> None:
    """An empty folder in /tmp that the function's code names is there, empty; one with files in it is not."""
    given, filled = Path(f"/tmp/clean-place-given-{os.getpid()}"), Path(f"/tmp/clean-place-filled-{os.getpid()}")
    root = workshop.folder / "given"
    root.mkdir()
    root.chmod(0o755)
    code = (
        "import os\n\ndef handler(event, context):\n"
        f"    assert os.listdir({str(given)!r}) == []\n    assert not os.path.exists({str(filled)!r})\n"
    )
    (root / "app.py").write_text(code)
    (root / "app.py").chmod(0o644)
    try:
        given.mkdir()
        filled.mkdir()
        (filled / "cache").touch()
        start = ("--handler", "app.handler", "--root", root, "--events", workshop.events({}), "--cold-starts", "1")
        done = workshop.sandbox("learn", "given", "--no-verify", "--output", workshop.new(), *start)
    finally:
        shutil.rmtree(given)
        shutil.rmtree(filled)
    assert f"since its files name them: {given}" in done.stdout


@pytest.mark.parametrize("refused", [NO_MOUNTS, {"mount": errno.EACCES}], ids=["no namespace", "no mount"])
def test_where_nothing_can_be_mounted(workshop: Workshop, refused: dict[str, int]) -> None:
    """Each start has a TMPDIR of its own, which is learned as /tmp, and the report names the step that was refused."""
    path = workshop.new()
    command = learn(workshop, path, "--events", workshop.events({"shared": 1}, {"shared": 1, "n": 1}))
    done = subprocess.run(below(refused, *command), cwd=workshop.folder, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    step = "unshare(CLONE_NEWNS): Operation not permitted" if "unshare" in refused else "mount(MS_PRIVATE): Permission"
    assert f"/tmp is the host's ({step}" in done.stdout
    profile = document.read(str(path)).profile
    assert profile.verified
    assert (profile.verified.audit, profile.verified.enforce) == ("ok", "ok")
    assert {pattern.rstrip("*") for pattern in profile.writes} == {"/tmp/"}
    assert not [pattern for pattern in profile.reads if "sandbox-learn-" in pattern]


def test_what_was_in_tmp_before_counts_as_made(workshop: Workshop) -> None:
    """Without mounts a cache that an earlier run left would hide that the first start writes it."""
    cache = Path(f"/tmp/clean-place-{os.getpid()}.json")
    program = workshop.new(".sh")
    program.write_text(f'cat "$(dirname {cache}x)/{cache.name}"\n')  # the argument names no path below /tmp
    path = workshop.new()
    command = (sys.executable, "-m", "sandbox", "learn", "cache", "--output", str(path), "--cold-starts", "1")
    cache.write_text("left")
    try:
        done = subprocess.run(
            below(NO_MOUNTS, *command, "--", "/bin/sh", str(program)), cwd=workshop.folder, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    finally:
        cache.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert document.read(str(path)).profile.writes == {"/tmp/*"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
def test_a_user_namespace_changes_no_profile() -> None:
    """As uid 65534, in a namespace and where one is refused: chown and the owners of files teach the same."""
    with workshop_of(NOBODY) as workshop:
        make = ("unshare", "--user", "--mount", "true")
        if subprocess.run(make, capture_output=True, check=False, **identity(NOBODY)).returncode:
            pytest.skip("this host lets nobody make a user namespace (in a chroot no kernel does)")
        code = "import os; print(os.stat('/etc').st_uid)\ntry: os.chown('own', 0, 0)\nexcept OSError: pass"
        texts = []
        (workshop.folder / "own").touch()
        (workshop.folder / "own").chmod(0o666)
        for errnos in ({}, NO_MOUNTS):
            path = workshop.new()
            command = (sys.executable, "-m", "sandbox", "learn", "owners", "--output", str(path), "--no-verify")
            program = ("--cold-starts", "1", "--", sys.executable, "-I", "-S", "-c", code)
            environment = {"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": str(workshop.home)}
            done = subprocess.run(
                below(errnos, *command, *program), cwd=workshop.folder, capture_output=True, text=True, check=False,
                env=environment, **identity(NOBODY),
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert ("/tmp and /dev/shm fresh" in done.stdout) == (not errnos), done.stdout
            profile = document.read(str(path)).profile
            texts.append((profile.items(), profile.reads, profile.writes, profile.network))
        assert texts[0] == texts[1]


def test_json_describes_the_place(workshop: Workshop) -> None:
    """An object of its own says how the starts were placed."""
    start = (*LOOKS, "--root", workshop.targets, "--cold-starts", "1", "--no-verify", "--json")
    done = workshop.sandbox("learn", "looks", *start, "--events", workshop.events({}), "--output", workshop.new())
    (line,) = [found for found in map(json.loads, done.stdout.splitlines()) if found["event"] == "place"]
    assert line["description"].startswith("/tmp and /dev/shm fresh for each start")


def test_bytecode_is_used_and_never_left(workshop: Workshop) -> None:
    """Bytecode that is packaged is what a start imports; none is made, and where a start tries to, it is no alarm."""
    root, path, events = workshop.new(""), workshop.new(), workshop.events({})
    root.mkdir(mode=0o755)
    made = root / "packaged.py"
    made.write_text("SAYS = 'bytecode'\n")
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH  # it says otherwise than its source
    packaged = py_compile.compile(str(made), invalidation_mode=unchecked)
    assert packaged
    made.write_text("SAYS = 'source'\n")
    (root / "plain.py").write_text("SAYS = 'plain'\n")
    handler = "import packaged, plain\n\ndef handler(event, context):\n    assert packaged.SAYS == 'bytecode'\n"
    (root / "app.py").write_text(handler)
    before = sorted(Path(packaged).parent.iterdir())
    start = ("--handler", "app.handler", "--root", root, "--events", events)
    workshop.sandbox("learn", "bytecode", *start, "--cold-starts", "1", "--no-verify", "--output", path)
    for mode in ("enforce", "audit"):
        more = {"SANDBOX_MODE": mode}
        served = workshop.sandbox("invoke", path, *start, "--env", "PYTHONDONTWRITEBYTECODE=", more=more)
        assert '"event": "violation"' not in served.stderr
        assert sorted(Path(packaged).parent.iterdir()) == before
