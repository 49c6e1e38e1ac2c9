"""The place of a start, asked of the kernel: each refusal is named, and nothing of a mount reaches the host."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from child_processes import in_child
from refusing_filters import refuse
from users_and_folders import HOME, NOBODY, place

from sandbox.kernel import landlock
from sandbox.learn.place import StartPlace, prepare

REFUSALS = [
    ({"unshare": errno.EPERM}, None, "unshare(CLONE_NEWNS): Operation not permitted"),
    ({"unshare": errno.ENOSYS}, None, "unshare(CLONE_NEWNS): Function not implemented"),
    ({"mount": errno.EPERM}, None, "mount(MS_PRIVATE): Operation not permitted"),
    ({"mount": errno.EACCES}, None, "mount(MS_PRIVATE): Permission denied"),
    ({"unshare": errno.EPERM}, NOBODY, "unshare(CLONE_NEWUSER): Operation not permitted"),
    ({"unshare": errno.ENOSPC}, NOBODY, "unshare(CLONE_NEWNS): No space left on device"),
]
"""What Docker's filter, gVisor, AppArmor, Ubuntu's restriction and user.max_user_namespaces answer."""


def prepared(folder: Path) -> StartPlace:
    """The place of a start in a folder of its own."""
    root, scratch = folder / "root", tempfile.mkdtemp(dir=folder)
    root.mkdir(exist_ok=True)
    return prepare(root=str(root), closed=True, named=(), scratch=scratch)


def mounts() -> str:
    """What is mounted here, as this process sees it."""
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(("refused", "uid", "step"), REFUSALS, ids=[f"{r[2]} as {r[1] or 'own'}" for r in REFUSALS])
def test_each_refusal_is_named(refused: dict[str, int], uid: int | None, step: str) -> None:
    """A filter refuses one step: the place says which, each start has a TMPDIR of its own, nothing stays mounted."""
    if uid is not None and os.geteuid() != 0:
        pytest.skip("only root can be another user")
    if uid is None and os.geteuid() != 0:
        pytest.skip("another user makes a user namespace first")
    before = mounts()

    def ask() -> tuple[str, tuple[str, ...], bool, str]:
        refuse(refused)
        found = prepared(folder)
        return found.refused, found.command, os.path.isdir(found.variables("1")["TMPDIR"]), str(found)

    with place(uid, below="/var/tmp") as folder:
        if uid and not os.access(HOME, os.R_OK):
            pytest.skip("the checkout cannot be read by others")
        told, command, made, text = in_child(ask, uid)
    assert told == step
    assert command == ()
    assert made
    assert text.startswith(f"/tmp is the host's ({step})")
    assert mounts() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts without a user namespace")
def test_mounts_come_before_landlock() -> None:
    """In a Landlock domain nothing can be mounted, and the place says so; outside of one the host sees no mount."""
    if not landlock.abi_version():
        pytest.skip("needs Landlock")

    def ask() -> str:
        os.environ["PATH"] = os.defpath
        landlock.restrict(network=0, ports={}, scoped=0, files=landlock.ACCESS_FS_MAKE_BLOCK, beneath=[])
        return prepared(folder).refused

    before = mounts()
    with place(None, below="/var/tmp") as folder:
        assert in_child(ask, None).startswith("mount(MS_PRIVATE): Operation not permitted")
        assert prepared(folder).clean
    assert mounts() == before
