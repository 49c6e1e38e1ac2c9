"""Whose a file is: by RECORD and by names, beside the function or in a folder of libraries; and how a line says it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.sensor import files
from sandbox.sensor.distributions import Distributions, Owner
from sandbox.violations import origin
from sandbox.violations.origin import Frame, Origin


def installed(folder: Path, info: str, *modules: str, record: bool = True, **more: str) -> None:
    """A distribution with its metadata and the files that RECORD lists."""
    for module in modules:
        (folder / module).parent.mkdir(parents=True, exist_ok=True)
        (folder / module).write_text("")
    home = folder / info
    home.mkdir(parents=True)
    name, version = info.rpartition(".")[0].split("-")
    (home / ("METADATA" if info.endswith("dist-info") else "PKG-INFO")).write_text(
        f"Metadata-Version: 2.1\nName: {more.pop('name', name)}\nVersion: {version}\n\nName: not this\n"
    )
    if record:
        (home / "RECORD").write_text("".join(f"{module},sha256=x,1\n" for module in modules))
    for file, text in more.items():
        (home / f"{file}.txt").write_text(text)


VERSION = (3, 11, 2)


def owner(
    path: Path | str, known: Distributions | None = None, patience: float = 10.0,
    version: tuple[int, int, int] = VERSION,
) -> Owner:  # fmt: skip
    """Of a file as it is to this process."""
    found = (known or Distributions()).owner(os.getpid(), str(path), version, time.monotonic() + patience)
    assert found
    return found


def said(found: Owner) -> tuple[str, str, str, bool]:
    """What it is, to compare."""
    return found.distribution, found.version, found.module, found.installed


@pytest.mark.parametrize("site", ["lib/python3.11/site-packages", "dist-packages", ""])
def test_a_record_decides(tmp_path: Path, site: str) -> None:
    """Of one folder of many distributions, and of one name shared by two, each file has its own; the function none."""
    folder = tmp_path / site
    installed(folder, "PyYAML-6.0.1.dist-info", "yaml/__init__.py", "yaml/constructor.py")
    installed(folder, "google_cloud_storage-2.1.dist-info", "google/cloud/storage/blob.py", name="google-cloud-storage")
    installed(folder, "protobuf-5.0.dist-info", "google/protobuf/message.py")
    installed(folder, "six-1.16.dist-info", "six.py")
    known = Distributions()
    for module, name, version in (
        ("yaml/constructor.py", "PyYAML", "6.0.1"), ("google/cloud/storage/blob.py", "google-cloud-storage", "2.1"),
        ("google/protobuf/message.py", "protobuf", "5.0"), ("six.py", "six", "1.16"),
    ):  # fmt: skip
        assert said(owner(folder / module, known)) == (name, version, module, True)
    app = tmp_path / "app.py"
    app.write_text("")
    assert said(owner(app, known)) == ("", "", str(app), False)


def test_names_decide_where_no_record_does(tmp_path: Path) -> None:
    """Debian's packages and stripped layers have no RECORD; what is known by no name is called after its folder."""
    site = tmp_path / "site-packages"
    installed(site, "Brotli-1.0.egg-info", "brotli.py", record=False)
    installed(site, "PyYAML-6.0.egg-info", "yaml/loader.py", record=False, top_level="_yaml\nyaml\n")
    (site / "idna-3.3.egg-info").write_text("Metadata-Version: 2.1\nName: idna\nVersion: 3.3\n")
    (site / "idna").mkdir()
    (site / "nameless").mkdir()
    for module, name, version in (
        ("brotli.py", "Brotli", "1.0"), ("yaml/loader.py", "PyYAML", "6.0"), ("idna/core.py", "idna", "3.3"),
        ("nameless/x.py", "nameless", ""), ("single.py", "single", ""),
    ):  # fmt: skip
        assert said(owner(site / module)) == (name, version, module, True)


def test_nothing_that_lies_there_hangs(tmp_path: Path) -> None:
    """A pipe for a RECORD, a folder, a device, a link in a circle, endless metadata: the file has no distribution."""
    site = tmp_path / "site-packages"
    makes: list[Callable[[str], None]] = [
        os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda path: os.symlink(path, path),
    ]  # fmt: skip
    for number, make in enumerate(makes):
        info = site / f"odd{number}-1.dist-info"
        info.mkdir(parents=True)
        for name in ("RECORD", "METADATA", "top_level.txt"):
            make(str(info / name))
    started = time.monotonic()
    assert said(owner(site / "odd" / "x.py")) == ("odd", "", "odd/x.py", True)
    assert said(owner(site / "odd0" / "x.py")) == ("odd0", "1", "odd0/x.py", True)  # by the folder's own name
    assert said(owner("/no/such/folder/x.py")) == ("", "", "/no/such/folder/x.py", False)
    assert said(owner("relative/\u6587\udcff.py")) == ("", "", f"{os.getcwd()}/relative/\u6587\udcff.py", False)
    assert owner("/a\0b/site-packages/x/y.py").version == ""
    assert time.monotonic() - started < 5
    assert files.content(os.getpid(), "/dev/zero", 8) == b""


def test_what_took_too_long_is_asked_again(tmp_path: Path) -> None:
    """Behind the deadline no file is opened, and the answer is not remembered."""
    installed(tmp_path, "six-1.16.dist-info", "six.py")
    known = Distributions()
    assert not owner(tmp_path / "six.py", known, patience=-1).installed
    assert owner(tmp_path / "six.py", known).version == "1.16"


def test_the_standard_library_is_told_by_its_landmark(tmp_path: Path) -> None:
    """Python's own files lie below a lib/pythonX.Y that has os.py; libraries there are installed, not standard."""
    home = tmp_path / "lib" / "python3.11"
    home.mkdir(parents=True)
    path = home / "json" / "decoder.py"
    assert said(owner(path)) == ("", "", str(path), False)
    (home / "os.py").write_text("#")
    standard = "standard library", "3.11.2", "json/decoder.py", True
    known = Distributions()
    assert said(owner(path, known)) == said(owner(path, known)) == standard
    assert not owner(path, version=(3, 12, 1)).installed
    assert owner(home / "site-packages" / "x.py").distribution == "x"
    assert said(owner("<frozen os>")) == ("standard library", "3.11.2", "<frozen os>", True)
    assert Distributions().owner(os.getpid(), "<string>", VERSION, time.monotonic() + 1) is None


TEXTS = st.text(max_size=20)
FRAMES = st.builds(Frame, TEXTS, TEXTS, st.integers(0, 1 << 31))


@given(TEXTS, TEXTS, st.none() | FRAMES, st.none() | FRAMES)
def test_what_a_line_says_is_read_back(name: str, version: str, library: Frame | None, handler: Frame | None) -> None:
    """An origin in a line is the same origin out of it; one that says nothing is none."""
    library = library if library and library.file else None
    made = Origin(name if library else "", version if library else "", library, handler)
    found = origin.parse(made.fields())
    if library or handler:
        assert found
        assert (found.fields(), str(found)) == (made.fields(), str(made))
    else:
        assert found is None


KEYS = st.sampled_from(["distribution", "version", "module", "function", "line", "handler", "file"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                      lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=7))  # fmt: skip


@given(VALUES)
def test_whatever_a_log_says_is_no_reason_to_fail(value: Any) -> None:
    """Anybody may have written to a log; what does not fit is no origin."""
    found = origin.parse(value)
    assert found is None or str(found)


def test_how_a_person_reads_it() -> None:
    """Name and version, the file in the library, function and line, and where the function's own code led to it."""
    handler = Frame("/var/task/src/app.py", "handler", 12)
    connection = Frame("urllib3/util/connection.py", "create_connection", 85)
    assert str(Origin("urllib3", "2.2.1", connection, handler)) == (
        "urllib3 2.2.1 util/connection.py create_connection line 85, from app.py handler line 12"
    )
    assert str(Origin("PyYAML", "6.0", Frame("yaml/reader.py", "f", 0), None)) == "PyYAML 6.0 yaml/reader.py f line ?"
    assert str(Origin("", "", None, handler)) == "app.py handler line 12"
