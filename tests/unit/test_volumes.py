"""Volumes that are turned over, as the recorder sees them."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.learn.volumes import Replaced, volume


def publish(mount: Path, version: str, name: str = "app.yaml") -> None:
    """Turn a volume over as Kubernetes does."""
    (mount / version).mkdir(parents=True)
    (mount / version / name).write_text(version)
    (mount / "..next").symlink_to(version)
    (mount / "..next").rename(mount / "..data")
    if not (mount / name).is_symlink():
        (mount / name).symlink_to(f"..data/{name}")


def test_a_volume_that_is_turned_over(tmp_path: Path) -> None:
    """Links of a folder's own on the way to a file below it; not a library's, and none that lead out of it."""
    mount, other = tmp_path / "mount", tmp_path / "other"
    publish(mount, "..2026_11_30")
    other.mkdir()
    (other / "plain").touch()
    (other / "libz.so.1.2").touch()
    (other / "libz.so.1").symlink_to("libz.so.1.2")
    (other / "libz.so").symlink_to("libz.so.1")
    (other / "out").symlink_to("../mount/..data/app.yaml")
    (other / "releases" / "20261130").mkdir(parents=True)
    (other / "releases" / "20261130" / "x").touch()
    (other / "current").symlink_to("releases/20261130")
    (other / "fixed").symlink_to("releases")

    def found(name: Path) -> str:
        return volume(str(name), os.path.realpath(name))

    assert found(mount / "app.yaml") == found(mount / "..data" / "app.yaml") == str(mount)
    assert found(other / "current" / "x") == str(other)
    for name in ("plain", "libz.so", "libz.so.1", "out", "fixed/20261130/x", "releases/20261130/x", "gone"):
        assert found(other / name) == "", name
    assert volume("/proc/self/exe", "/usr/bin/python3") == ""


def test_files_that_others_replace() -> None:
    """The folder of a name that leads to another file now; not one of many owners, or in which the function writes."""
    found = Replaced()
    assert found.opened("/srv/conf/app", (1, 1)) == ""
    assert found.opened("/srv/conf/app", (1, 1)) == ""
    assert found.opened("/srv/conf/app", (1, 2)) == "/srv/conf"
    assert found.opened("/srv/conf/app", (1, 2)) == ""
    for path in ("/etc/resolv.conf", "/home/me/notes", "/var/log/app.log", "/tmp/x", "/proc/7/status", "pipe:[7]"):
        found.opened(path, (1, 1))
        assert found.opened(path, (1, 2)) == ""
    found.made("/srv/work/state.json")
    found.opened("/srv/work/state.json", (1, 1))
    assert found.opened("/srv/work/state.json", (1, 2)) == ""
