"""What crosses a package is a typed value: no signature that another package may call says `Mapping[str, Any]`.

And a type is what its name says: no two public classes have one name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import sandbox

HOME = Path(sandbox.__file__).parent

ALLOWED = {
    "sandbox.supervised": "the parts of policy.json, of which it makes the records that others get",
    "sandbox.profile.document": "the YAML tree of a profile, which the lint and the places of errors need",
}
"""Modules that may, each with its reason."""


def module_of(path: Path) -> str:
    """`sandbox.kernel.bpf` of its file."""
    return ".".join(("sandbox", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")


def package(module: str) -> str:
    """`kernel` of `sandbox.kernel.bpf`."""
    return (*module.split("."), "")[1]


SOURCES = {module_of(path): ast.parse(path.read_text()) for path in sorted(HOME.rglob("*.py"))}


def used_abroad() -> dict[str, set[str]]:
    """Of each module that some other package imports, the names that are used there."""
    found: dict[str, set[str]] = {}
    for module, tree in SOURCES.items():
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.module or package(node.module) == package(module):
                continue
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in SOURCES and package(whole) != package(module):
                    modules[alias.asname or alias.name] = whole
                    found.setdefault(whole, set())
                elif node.module in SOURCES:
                    found.setdefault(node.module, set()).add(alias.name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                found[modules[node.value.id]].add(node.attr)
    return found


def shown(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """(name, annotation) of one statement: parameters and result of a function, an attribute, an alias."""
    if isinstance(node, ast.FunctionDef):
        every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        yield from ((node.name, argument.annotation) for argument in every if argument.annotation)
        if node.returns:
            yield node.name, node.returns
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.target).removeprefix("self."), node.annotation
    elif isinstance(node, ast.Assign):
        yield ast.unparse(node.targets[0]), node.value


def untyped(tree: ast.Module, used: set[str]) -> set[str]:
    """What a module shows that is a mapping from names to anything.

    Of functions and aliases those that are used; of public classes all, since their values go round without the name.
    """
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                parts = [part for part in ast.walk(node) if isinstance(part, ast.FunctionDef | ast.AnnAssign)]
                inner = [each for part in parts for each in shown(part)]
                found |= {(f"{node.name}.{name}", name, annotation) for name, annotation in inner}
        else:
            found |= {(name, name, annotation) for name, annotation in shown(node) if name in used}
    return {
        whole for whole, name, annotation in found
        if (not name.startswith("_") or name == "__init__") and "[str, Any]" in ast.unparse(annotation)
    }  # fmt: skip


def test_what_crosses_a_package_is_typed() -> None:
    """What other packages get of a module is no mapping from names to anything, but for those with a reason."""
    found = {module: untyped(SOURCES[module], used) for module, used in used_abroad().items() if module not in ALLOWED}
    assert {module: names for module, names in found.items() if names} == {}


def test_the_reasons_are_needed() -> None:
    """No module is excused that need not be."""
    used = used_abroad()
    assert {module for module in ALLOWED if untyped(SOURCES[module], used.get(module, set()))} == set(ALLOWED)


def test_no_class_name_means_two_things() -> None:
    """Every public class has a name of its own."""
    homes: dict[str, list[str]] = {}
    for module, tree in SOURCES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_an_untyped_signature_is_found() -> None:
    """The reading of the sources sees parameters, results, attributes and aliases, and leaves private ones alone."""
    tree = ast.parse(
        "Event = Mapping[str, Any]\n"
        "def taken(value: dict[str, Any]) -> None: ...\n"
        "def given(*, number: int) -> Mapping[str, Any] | None: ...\n"
        "def inside(value: dict[str, Any]) -> None: ...\n"
        "class Shown:\n"
        "    tree: Mapping[str, Any]\n"
        "    _rest: Mapping[str, Any]\n"
        "    def __init__(self) -> None:\n"
        "        self.files: dict[str, Any] = {}\n"
        "        self._other: dict[str, Any] = {}\n"
        "    def read(self) -> list[dict[str, Any]]: ...\n"
        "class _Hidden:\n"
        "    tree: Mapping[str, Any]\n"
    )
    used = {"Event", "taken", "given", "Shown"}
    assert untyped(tree, used) == {"Event", "taken", "given", "Shown.tree", "Shown.files", "Shown.read"}
