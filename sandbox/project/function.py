"""A function as a project describes it: what training and deployment must know of it, and what nobody could find."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace

from sandbox.project.files import Folder

PYTHON = "python"


@dataclass(frozen=True)
class Described:
    """`tool` is sam, serverless, cdk or dockerfile; `source` the file, with a line where it is known.

    `code` is the folder of its code, relative to the project's. `runtime` is Lambda's name for one, '' for an image;
    `command` starts an image's program, `python` is a virtual environment, `options` are more of `sandbox learn`.
    `missing` are sentences about what could not be found; it is `trainable` where the command can work as it stands.
    """

    tool: str
    source: str
    name: str
    code: str = "."
    runtime: str = ""
    handler: str = ""
    command: tuple[str, ...] = ()
    architecture: str = "x86_64"
    variables: tuple[str, ...] = ()
    image: str = ""
    events: str = ""
    python: str = ""
    options: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())

    @property
    def trainable(self) -> bool:
        """Whether there is something to start."""
        return bool(self.handler if self.runtime.startswith((PYTHON, "nodejs")) else self.command or self.is_program)

    @property
    def is_program(self) -> bool:
        """Whether its package holds the program that starts it (`provided.*`)."""
        return self.runtime.startswith("provided")

    def without(self, *sentences: str) -> Described:
        """The same, with more that could not be found."""
        return replace(self, missing=(*self.missing, *sentences))


def profile_name(name: str) -> str:
    """The name of a function as a profile may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:120].strip("-.") or "function"


def with_events(one: Described, folder: Folder, alone: bool) -> Described:
    """The same with where its sample events lie: a folder of its own, of its code, or the project's."""
    places = [
        os.path.join("events", one.name), os.path.join("events", f"{one.name}.json"),
        os.path.join("events", f"{one.name}.jsonl"), os.path.join(one.code, "events"),
        os.path.join(one.code, "event.json"), "events", os.path.join("tests", "events"), "event.json",
    ]  # fmt: skip
    for place in dict.fromkeys(map(os.path.normpath, places)):
        if folder.is_file(place) or any(name.endswith(".json") for name in folder.names(place)):
            found = replace(one, events=place)
            shared = not alone and place in ("events", "event.json", os.path.join("tests", "events"))
            own = os.path.join("events", one.name)
            told = (f"{place} may hold other functions' events: move its own to {own}",) if shared else ()
            return found.without(*told)
    where = os.path.join("events", one.name)
    if one.tool == "dockerfile" and not one.handler:
        return one  # a server or a program takes none
    return replace(one, events=where).without(f"no sample events: put JSON files, one an event, into {where}")


def with_python(one: Described, folder: Folder) -> Described:
    """The same with the virtual environment that lies beside its code, or in the project."""
    if not one.runtime.startswith(PYTHON):
        return one
    places = [os.path.normpath(os.path.join(*parts)) for parts in ((one.code, ".venv"), (".venv",), ("venv",))]
    return replace(one, python=next((place for place in places if "python" in folder.names(place, "bin")), ""))
