"""Functions of a serverless.yml (Serverless Framework)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace

from sandbox.project.cloudformation import ARCHITECTURES, with_image
from sandbox.project.documents import Table, parse, table
from sandbox.project.files import Folder
from sandbox.project.function import Described

FILE = re.compile(r"\$\{file\(([^)]+)\)(?::(\w+))?\}")


def functions(document: Table, source: str, folder: Folder) -> Iterator[Described]:
    """The functions of a service, in its order, also from another file of the project."""
    provider = table(document, "provider")
    listed = document.get("functions")
    for one in listed if isinstance(listed, list) else [listed]:
        body, where = _in_file(one, folder) if isinstance(one, str) else (one, source)
        if body is None:
            yield Described("serverless", source, _name(document)).without(
                f"its functions stand in {one}: pass handler and code by hand"
            )
        for name, function in table(body).items():
            yield _function(name, function, provider, where, folder)


def _in_file(text: str, folder: Folder) -> tuple[object, str]:
    """What `${file(PATH):KEY}` names, with its path; None where it is no such file of the project."""
    found = FILE.fullmatch(text)
    path = folder.inside(found[1]) if found else ""
    if not found or not path.endswith((".yml", ".yaml", ".json")) or not folder.is_file(path):
        return (None if text else Table()), path
    document = parse(folder.text(path), os.path.join(folder.path, path))
    return (table(document, found[2]) if found[2] else document), path


def _function(name: str, body: object, provider: Table, source: str, folder: Folder) -> Described:
    own = table(body)
    line = f":{own.line}" if own.line else ""
    found = Described("serverless", f"{source}{line}", _known(own.get("name")) or name)
    found = replace(
        found,
        architecture=ARCHITECTURES.get(_known(own.get("architecture", provider.get("architecture"))), "x86_64"),
        variables=tuple(sorted({**table(provider, "environment"), **table(own, "environment")})),
    )
    if own.get("image"):
        return _image(found, own, provider, folder)
    runtime, handler = _known(own.get("runtime", provider.get("runtime"))), _known(own.get("handler"))
    for value, what in ((runtime, "runtime"), (handler, "handler")):
        if not value:
            found = found.without(f"its {what} is not in {source} itself: pass it by hand")
    found = replace(found, runtime=runtime, handler=handler)
    module = _known(own.get("module"))
    return replace(found, code=os.path.normpath(module)) if module and folder.is_folder(module) else found


def _image(found: Described, own: Table, provider: Table, folder: Folder) -> Described:
    named = own["image"] if isinstance(own["image"], str) else table(own, "image").get("name")
    built = table(provider, "ecr", "images").get(_known(named))
    context = _known(built) or _known(table(built).get("path"))
    path = folder.inside(context, _known(table(built).get("file")) or "Dockerfile") if context else ""
    if path and folder.is_file(path):
        command = table(own, "image").get("command")
        of_image = with_image(found, path, folder)
        first = _known(command[0]) if isinstance(command, list) and command else ""
        return replace(of_image, handler=first or of_image.handler)
    return replace(found, image=_known(named)).without(
        "it is an image: train it in its own, or give the folder of its Dockerfile"
    )


def _known(value: object) -> str:
    """A text without variables; '' for anything else: `${...}` is known at deployment alone."""
    return value if isinstance(value, str) and "${" not in value else ""


def _name(document: Table) -> str:
    service = document.get("service")
    return _known(service) or _known(table(service).get("name")) or "service"
