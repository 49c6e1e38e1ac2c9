"""The options that give a function its variables, the same in every command that starts one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from sandbox.runtime_api.variables import variables

Env = Annotated[
    list[str] | None,
    typer.Option("--env", help="A variable of the function; with the name alone, its value here", metavar="NAME=VALUE"),
]
EnvFile = Annotated[
    list[str] | None,
    typer.Option("--env-file", help="Variables: dotenv, or JSON as sam's --env-vars", metavar="FILE"),
]
AwsCredentials = Annotated[
    bool, typer.Option("--aws-credentials", help="Hand on AWS credentials and region from here")
]


def chosen(
    function: str, env: Sequence[str] | None, env_file: Sequence[str] | None, credentials: bool
) -> dict[str, str]:
    """The variables that the options give to a function. Raises UsageError."""
    return variables(function, env or (), env_file or (), credentials=credentials, here=os.environ)
