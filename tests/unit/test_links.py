"""Where a path really leads, as the recorder sees it."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.learn.links import elsewhere


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
    assert elsewhere(str(home / "file")) == str(other / "file")
    assert elsewhere(str(home / "folder" / "file")) == str(other / "file")
    assert elsewhere(str(home / "folder" / "new")) == str(other / "new")
    for name in ("plain", "neighbour", "new"):
        assert elsewhere(str(home / name)) == ""


def test_links_that_are_no_news() -> None:
    """A first part that is a link, as /lib of a merged /usr, is the folder itself; the kernel has links of its own."""
    for top in (f"/{name}" for name in os.listdir("/") if os.path.islink(f"/{name}")):
        for name in os.listdir(top)[:50]:
            if not os.path.islink(f"{top}/{name}"):
                assert elsewhere(f"{top}/{name}") == ""
    assert elsewhere("/proc/self/exe") == ""
    assert elsewhere("/dev/fd/0") == ""
