"""Where a path really leads, as the recorder sees it."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.behaviour.access import Access
from sandbox.behaviour.call import Call
from sandbox.learn.links import elsewhere, told


def leads(path: str | Path) -> str:
    """Where a path leads, if into another folder."""
    return elsewhere(str(path), os.path.realpath(path))


def test_links_into_other_folders(tmp_path: Path) -> None:
    """A link to a file or through a folder elsewhere is told; a neighbour, a plain file and a new name are not."""
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (other / "file").touch()
    (home / "plain").touch()
    (home / "neighbour").symlink_to("plain")
    (home / "file").symlink_to(other / "file")
    (home / "folder").symlink_to("../other")
    assert leads(home / "file") == str(other / "file")
    assert leads(home / "folder" / "file") == str(other / "file")
    assert leads(home / "folder" / "new") == str(other / "new")
    for name in ("plain", "neighbour", "new"):
        assert leads(home / name) == ""


def test_links_that_are_no_news() -> None:
    """A first part that is a link, as /lib of a merged /usr, is the folder itself; the kernel has links of its own."""
    for top in (f"/{name}" for name in os.listdir("/") if os.path.islink(f"/{name}") and os.path.isdir(f"/{name}")):
        for name in os.listdir(top)[:50]:
            if not os.path.islink(f"{top}/{name}"):
                assert leads(f"{top}/{name}") == ""


def names(name: str, thing: str, *, magic: bool = False) -> tuple[str, ...]:
    """What is told of a file that is read."""
    return told(Access(Call("openat", "read"), "run", "read", thing, name=name, magic=magic))


def test_names_that_are_told() -> None:
    """The name and the file elsewhere; a name through `..` is none; what an open descriptor stands for is its file."""
    assert names("/srv/now/file", "/srv/7/file") == ("/srv/now/file", "/srv/7/file")
    assert names("", "/srv/7/file") == ("/srv/7/file",)
    assert names("/dev/stdout", "pipe:[7]", magic=True) == ("/dev/stdout",)
    assert names("/dev/stdout", "/var/log/own.log", magic=True) == ("/dev/stdout",)
    assert names("/proc/self/fd/1", "/var/log/own.log", magic=True) == ("/proc/self/fd/1",)
    assert names("/proc/self/fd/7", "/srv/7/file", magic=True) == ("/srv/7/file",)
    assert names("/proc/self/root/etc/hosts", "/etc/hosts", magic=True) == ("/etc/hosts",)
    assert names("/proc/self/fd/7", "/tmp/x (deleted)", magic=True) == ("/proc/self/fd/7",)
    assert names("/proc/self/status", "/proc/7/status") == ("/proc/self/status",)
    assert names("", "pipe:[7]", magic=True) == ()
