"""Where the forwarder's library comes from, for a bootstrap that has no site-packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox

PACKAGE = Path(sandbox.__file__).parent
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from sandbox.names import resolver
found = resolver.make(lambda name: True, lambda name, kind: None, (), keep=60)
print(found and type(found).__name__, [path for path in sys.path if ".venv" in path], "dnslib" in sys.modules)
"""


def made(home: Path) -> str:
    """What the code says with the package in this folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", CODE, str(home)], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The package alone, as an installation or a package for a function holds it."""
    shutil.copytree(PACKAGE, tmp_path / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def planted(folder: Path) -> None:
    """A .venv beside the package, with a library that is not the one that was meant."""
    library = folder / ".venv" / "lib" / "python3.11" / "site-packages" / "dnslib"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("raise SystemExit('loaded')\n")


def test_an_installed_tree_loads_nothing_from_a_folder_beside_it(tree: Path) -> None:
    """A .venv that stands beside the package in production is not looked into: without dnslib there are no names."""
    planted(tree)
    assert made(tree) == "None [] False"


def test_a_library_beside_the_package_is_enough(tree: Path) -> None:
    """As a package for a function holds it; a .venv changes nothing."""
    import dnslib

    planted(tree)
    shutil.copytree(Path(dnslib.__file__).parent, tree / "dnslib")
    assert made(tree) == "Forwarder [] True"


def test_a_checkout_has_its_own_libraries_for_this_import_alone(tree: Path) -> None:
    """The path to them is gone when the forwarder is there: nothing else of the workshop can be loaded by it."""
    import dnslib

    (tree / "pyproject.toml").touch()
    libraries = tree / ".venv" / "lib" / "python3.11" / "site-packages"
    libraries.mkdir(parents=True)
    shutil.copytree(Path(dnslib.__file__).parent, libraries / "dnslib")
    assert made(tree) == "Forwarder [] True"


def test_training_against_a_fake_needs_names(tree: Path) -> None:
    """Without dnslib the function would ask the real resolver and reach production: it is not started."""
    shutil.copy(PACKAGE.parent / "bootstrap", tree)
    known = {"PATH": "/usr/bin:/bin", "SANDBOX_MODE": "learn"}
    command = [sys.executable, "-I", "-S", str(tree / "bootstrap"), "/bin/echo", "started"]
    for more, status in (({}, 0), ({"SANDBOX_STANDS_FOR": "db.test:5432=127.0.0.1:15432"}, 69)):
        done = subprocess.run(command, env=known | more, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (status, "" if status else "started\n"), done.stderr
    assert "SANDBOX_STANDS_FOR: names cannot be led" in done.stderr
