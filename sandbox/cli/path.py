"""`sandbox path`: where the parts of an installation lie that other tools want to name."""

from __future__ import annotations

import enum
import os
from typing import Annotated

import typer

import sandbox
from sandbox import launcher
from sandbox.cli.arguments import Arch
from sandbox.cli.output import say
from sandbox.errors import HandlerNotFound
from sandbox.kernel import tables
from sandbox.profile.shape import schema_path

AGAIN = "install the package again: what installs it must keep all of its files"


class InstalledPart(enum.StrEnum):
    """What `path` takes."""

    bootstrap = "bootstrap"
    launcher = "launcher"
    schema = "schema"


def path(
    part: Annotated[
        InstalledPart, typer.Argument(help="The starter in Python, the native one, or the JSON schema of profiles")
    ],
    arch: Arch = "",
) -> None:
    """Print where the bootstrap, the native launcher or the schema of profiles lies in this installation.

    Example: SANDBOX_POLICY=profiles/hello.yaml $(sandbox path bootstrap) ./my-program
    """
    if part is InstalledPart.launcher:
        say(str(launcher.path(arch or tables.machine())))
        return
    beside = os.path.dirname(os.path.dirname(os.path.abspath(sandbox.__file__)))
    found = os.path.join(beside, "bootstrap") if part is InstalledPart.bootstrap else str(schema_path())
    if not os.path.isfile(found):
        raise HandlerNotFound("is missing from this installation", where=found, todo=AGAIN)
    say(found)
