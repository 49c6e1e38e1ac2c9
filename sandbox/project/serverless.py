"""Functions of a serverless.yml (Serverless Framework)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sandbox.project.cloudformation import ARCHITECTURES
from sandbox.project.documents import Table, table
from sandbox.project.files import Folder
from sandbox.project.function import Described


def functions(document: Table, source: str, folder: Folder) -> Iterator[Described]:
    """The functions of a service, in its order; one that stands in another file is named, and not read."""
    provider = table(document, "provider")
    listed = document.get("functions")
    for one in listed if isinstance(listed, list) else [listed]:
        if isinstance(one, str) and one:
            yield Described("serverless", source, _name(document)).without(
                f"its functions stand in {one}: pass handler and code by hand"
            )
        for name, body in table(one).items():
            yield _function(name, body, provider, source, folder)


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
        image = own["image"] if isinstance(own["image"], str) else table(own, "image").get("name")
        return replace(found, image=_known(image)).without(
            "it is an image: train it in its own, or give the folder of its Dockerfile"
        )
    runtime, handler = _known(own.get("runtime", provider.get("runtime"))), _known(own.get("handler"))
    for value, what in ((runtime, "runtime"), (handler, "handler")):
        if not value:
            found = found.without(f"its {what} is not in {source} itself: pass it by hand")
    found = replace(found, runtime=runtime, handler=handler)
    module = _known(own.get("module"))
    return replace(found, code=os.path.normpath(module)) if module and folder.is_folder(module) else found


def _known(value: object) -> str:
    """A text without variables; '' for anything else: `${...}` is known at deployment alone."""
    return value if isinstance(value, str) and "${" not in value else ""


def _name(document: Table) -> str:
    service = document.get("service")
    return _known(service) or _known(table(service).get("name")) or "service"
