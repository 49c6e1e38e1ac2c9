"""All functions that a project's templates describe, with their events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sandbox.project import cloudformation, serverless
from sandbox.project.dockerfile import read_image
from sandbox.project.documents import Table, parse
from sandbox.project.files import Folder
from sandbox.project.function import Described, profile_name, with_events, with_python

UNREAD = ("serverless.ts", "serverless.js")
"""Programs that make a template: nothing of a project is run to read it."""


def functions(folder: Folder) -> tuple[Described, ...]:
    """The functions, with names of their own. Raises UsageError, located, for a template that cannot be read."""
    found = [one for path in folder.templates() for one in _of_template(path, folder)]
    if any(one.tool != "dockerfile" for one in found):  # whose images are built by it
        found = [one for one in found if one.tool != "dockerfile"]
    named: list[Described] = []
    taken: set[str] = set()
    for one in found:
        name = _free(profile_name(one.name), taken)
        taken.add(name)
        named.append(replace(one, name=name))
    return tuple(with_python(with_events(one, folder, len(named) == 1), folder) for one in named)


def unread(folder: Folder) -> Iterator[str]:
    """What lies there and is not read, with what to do instead."""
    for name in UNREAD:
        if folder.is_file(name):
            yield f"{name} is a program, and is not run: `serverless print > serverless.yml` writes what it makes"
    if folder.is_file("cdk.json") and not folder.is_folder("cdk.out"):
        yield "cdk.out is not there: `cdk synth` writes the templates"


def _of_template(path: str, folder: Folder) -> Iterator[Described]:
    text = folder.text(path)
    name = os.path.basename(path)
    if name in ("Dockerfile", "Containerfile"):
        yield _of_image(text, path, folder)
        return
    document = parse(text, os.path.join(folder.path, path))
    if not isinstance(document, Table):
        return
    if name.startswith("serverless"):
        yield from serverless.functions(document, path, folder)
    else:
        yield from cloudformation.functions(document, path, folder)


def _of_image(text: str, path: str, folder: Folder) -> Described:
    image = read_image(text, path)
    name = os.path.basename(os.path.abspath(folder.path))
    found = Described(
        "dockerfile", path, name, runtime=image.runtime, handler=image.handler, command=image.command,
        image=image.image, options=("--stop-signal", image.stop_signal) if image.stop_signal else (),
        missing=image.missing,
    )  # fmt: skip
    if image.ports and not image.handler:
        ports = ", ".join(image.ports[:8])
        return found.without(f"it listens on {ports}: give `--drive COMMAND` what asks it, or end it by Ctrl-C")
    return found


def _free(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
