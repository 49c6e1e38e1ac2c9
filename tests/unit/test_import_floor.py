"""Imports run only downward: what each package may know of the others, read from the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sandbox

HOME = Path(sandbox.__file__).parent

MAY = {
    "errors": set[str](),
    "plain_json": set[str](),
    "remember": set[str](),
    "bundle": {"errors", "plain_json"},
    "kernel": {"errors", "plain_json", "remember"},
    "runtime_api": {"errors"},
    "probe": {"errors", "kernel"},
    "doctor": {"errors", "kernel"},
    "profile": {"errors", "kernel", "violations", "plain_json", "remember"},
    "policy": {"errors", "kernel", "profile", "bundle"},
    "enforce": {"errors", "kernel", "bundle", "plain_json"},
}
"""The packages that each package may import from, besides itself (DESIGN.md section 2)."""

NEVER = {
    "learn": {"policy", "cli", "package", "report", "probe"},
    "supervise": {"policy", "cli", "package", "report", "probe", "runtime_api"},
    "violations": {"policy", "learn", "cli", "package", "report", "probe", "runtime_api", "supervise", "enforce"},
}
"""What the other packages must not import; above them there is only cli."""

SWITCH = {("sandbox.enforce.launch", "sandbox.learn.observe"), ("sandbox.enforce.launch", "sandbox.supervise.start")}
"""The two modes of the bootstrap that it loads when it is in them: inside a function, never with the module."""

LIBRARIES = {
    "yaml": {"sandbox.profile"},
    "jsonschema": {"sandbox.profile", "sandbox.policy.oci_import"},
    "pyseccomp": {"sandbox.policy.compiler"},
    "cryptography": {"sandbox.package.manifest"},
    "cyclonedx": {"sandbox.package.bom"},
    "typer": {"sandbox.cli"},
    "rich": {"sandbox.cli"},
    "h11": {"sandbox.runtime_api"},
    "dnslib": {"sandbox.supervise.questions"},
}
"""The only places of each library."""


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, and whether it runs with the module or later in a function."""

    module: str
    imported: str
    late: bool


def _imports(path: Path) -> Iterator[Import]:
    module = ".".join(("sandbox", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")
    tree = ast.parse(path.read_text())
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
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
            if id(node) not in typing_only:
                yield Import(module, name, id(node) in late)


IMPORTS = [found for path in sorted(HOME.rglob("*.py")) for found in _imports(path)]


def package(module: str) -> str:
    """`kernel` of `sandbox.kernel.bpf`; empty for the package itself (its version)."""
    return (*module.split("."), "")[1]


def within(name: str) -> list[Import]:
    """The imports of the project's own modules that a package makes."""
    return [found for found in IMPORTS if package(found.module) == name and found.imported.split(".")[0] == "sandbox"]


@pytest.mark.parametrize("name", MAY)
def test_lower_floors_know_nothing_above(name: str) -> None:
    """A package imports from the packages below it and from no other."""
    assert within(name) or not MAY[name]
    for found in within(name):
        if (found.module, found.imported) in SWITCH:
            assert found.late
            continue
        assert package(found.imported) in MAY[name] | {name, ""}, found


@pytest.mark.parametrize("name", NEVER)
def test_upper_floors_keep_their_direction(name: str) -> None:
    """The guard never loads the compiler, and nothing loads the command line."""
    for found in within(name):
        assert package(found.imported) not in NEVER[name], found


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
    """No module needs itself to be loaded, through however many others."""
    needs: dict[str, set[str]] = {}
    for found in IMPORTS:
        if not found.late and found.imported.startswith("sandbox."):
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
