"""`sandbox completion`: what bash, zsh and fish ask for commands, options and names of profiles."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # as typer itself imports it

from sandbox.cli.loading import COMPLETE
from sandbox.cli.output import emit


class Shell(enum.StrEnum):
    """What `completion` takes."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that reads it")]) -> None:
    """Print what makes a shell complete `sandbox`: commands, options, their values, names of profiles, and files.

    Example: eval "$(sandbox completion bash)"
    """
    emit(get_completion_script(prog_name="sandbox", complete_var=COMPLETE, shell=shell.value) + "\n")
