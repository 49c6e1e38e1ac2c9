"""Imports run only downward: what each package may know of the others, read from the sources."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sandbox

HOME = Path(sandbox.__file__).parent

FLOORS = (
    ("ci", "cli", "pytest_plugin"),
    ("alerts", "fleet", "package", "probe", "doctor", "project", "pytest_coverage", "report", "watch"),
    ("start", "review"),
    ("learn", "supervise"),
    ("policy", "egress", "logs"),
    ("profile", "names", "sensor", "tripwire"),
    ("violations",),
    ("behaviour", "confine", "launcher", "provenance", "runtime_api"),
    ("bundle", "kernel"),
    ("supervised",),
    ("errors", "memo", "plain_json"),
)
"""From the top. A package imports from lower floors and from itself, early, late or for types alone."""

HEIGHT = {name: len(FLOORS) - number for number, floor in enumerate(FLOORS) for name in floor}

RUNTIME_SIDE = (
    "start", "supervise", "egress", "names", "sensor", "violations", "behaviour", "confine", "provenance", "bundle",
    "kernel", "supervised",
)  # fmt: skip
BUILD_SIDE = {
    "profile", "policy", "package", "probe", "doctor", "cli", "launcher", "runtime_api", "tripwire", "alerts",
    "ci", "pytest_coverage", "pytest_plugin", "report", "logs", "fleet", "watch",
}  # fmt: skip
"""What runs beside strangers' code loads nothing of what makes profiles and packages; they meet in the bundle."""

LIBRARIES = {
    "yaml": {"sandbox.profile", "sandbox.project.documents"},
    "jsonschema": {"sandbox.profile", "sandbox.policy.oci_file"},
    "pyseccomp": {"sandbox.policy.compiler"},
    "cryptography": {"sandbox.package.manifest"},
    "cyclonedx": {"sandbox.package.bom"},
    "packageurl": {"sandbox.package.bom"},
    "pytest": {"sandbox.pytest_plugin"},
    "typer": {"sandbox.cli"},
    "rich": {"sandbox.cli", "sandbox.watch.view"},
    "textual": {"sandbox.watch.view"},
    "h11": {"sandbox.runtime_api"},
    "altair": {"sandbox.report.charts"},
    "vl_convert": {"sandbox.report.charts"},
    "jinja2": {"sandbox.report.page"},
    "markupsafe": {"sandbox.report.page"},
    "dotenv": {"sandbox.runtime_api.variables"},
    "dnslib": {"sandbox.names.questions"},
    "pyarrow": {"sandbox.fleet"},
    "duckdb": {"sandbox.fleet"},
    "ibis": {"sandbox.fleet"},
    "fsspec": {"sandbox.fleet.sources"},
    "pyspark": {"sandbox.fleet.engines"},
}
"""The only places of each library."""


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, and whether it is for types alone and never runs."""

    module: str
    imported: str
    typing_only: bool


def _imports(path: Path) -> Iterator[Import]:
    module = ".".join(("sandbox", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module
            # `from sandbox import bundle` imports sandbox.bundle, `from sandbox.errors import X` sandbox.errors.
            for alias in node.names:
                submodule = HOME.parent.joinpath(*node.module.split("."), alias.name)
                is_module = submodule.with_suffix(".py").exists() or submodule.is_dir()
                found.append(f"{node.module}.{alias.name}" if is_module else node.module)
        for name in found:
            yield Import(module, name, id(node) in typing_only)


IMPORTS = [found for path in sorted(HOME.rglob("*.py")) for found in _imports(path)]


def package(module: str) -> str:
    """`kernel` of `sandbox.kernel.bpf`; empty for the package itself (its version)."""
    return (*module.split("."), "")[1]


def within(name: str) -> list[Import]:
    """The imports of the project's own modules that a package makes."""
    return [found for found in IMPORTS if package(found.module) == name and found.imported.split(".")[0] == "sandbox"]


def test_every_package_has_its_floor() -> None:
    """No package or module stands outside of the floors, and no floor holds one that is not there."""
    assert {package(found.module) for found in IMPORTS} - {"", "__main__"} <= set(HEIGHT)
    assert all((HOME / name).is_dir() or (HOME / f"{name}.py").is_file() for name in HEIGHT)


@pytest.mark.parametrize("name", HEIGHT)
def test_imports_run_down(name: str) -> None:
    """A package knows the floors below it and nothing beside or above it, whenever it imports."""
    for found in within(name):
        other = package(found.imported)
        assert other in (name, "") or HEIGHT[other] < HEIGHT[name], found


@pytest.mark.parametrize("name", RUNTIME_SIDE)
def test_the_runtime_side_never_loads_the_build_side(name: str) -> None:
    """What runs in production imports neither profiles nor the compiler nor the tools around them."""
    for found in within(name):
        assert package(found.imported) not in BUILD_SIDE, found


def test_the_verifier_never_sees_the_compiler() -> None:
    """Nothing that the verifier loads, directly or not, is the compiler or libseccomp."""
    seen, todo = set[str](), ["sandbox.policy.verify"]
    while todo:
        module = todo.pop()
        for found in IMPORTS:
            if found.module == module and found.imported not in seen:
                seen.add(found.imported)
                todo.append(found.imported)
    assert "sandbox.policy.simulator" in seen
    assert not seen & {"sandbox.policy.compiler", "sandbox.policy.build", "pyseccomp"}


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """No module needs itself, through however many others, at whatever time; types alone may refer to each other."""
    needs: dict[str, set[str]] = {}
    for found in IMPORTS:
        if not found.typing_only and found.imported.startswith("sandbox."):
            needs.setdefault(found.module, set()).add(found.imported)
    state: dict[str, int] = {}

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert state.get(module) != 1, " -> ".join((*way, module))
        if module in state:
            return
        state[module] = 1
        for other in sorted(needs.get(module, ())):
            walk(other, (*way, module))
        state[module] = 2

    for module in sorted(needs):
        walk(module, ())


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_have_their_places(library: str) -> None:
    """Each library is used where it belongs and nowhere else."""
    users = {found.module for found in IMPORTS if found.imported.split(".")[0] == library}
    assert users, "declared and not used"
    for user in users:
        assert any(user == place or user.startswith(place + ".") for place in LIBRARIES[library]), user


def test_no_other_libraries() -> None:
    """Everything else comes from the standard library."""
    known = {*sys.stdlib_module_names, "_sha256", "_sha2", "sandbox", *LIBRARIES}
    assert {found.imported.split(".")[0] for found in IMPORTS} - known <= {"awslambdaric", "prctl"}

def test_the_picture_of_the_floors_is_that_of_the_imports() -> None:
    """docs/design.md draws FLOORS, from the top."""
    text = (HOME.parent / "docs" / "design.md").read_text()
    drawn = re.findall(r"^ {4} ?\d+  ((?:\w+  )+)", text, re.MULTILINE)
    assert [tuple(line.split()) for line in drawn] == [tuple(floor) for floor in FLOORS]
