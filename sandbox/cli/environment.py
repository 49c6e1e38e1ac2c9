"""The options that give a function its variables and its local fakes, the same in every command that starts one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import typer

from sandbox.behaviour.destination import canonical_name
from sandbox.behaviour.stand_ins import StandIns
from sandbox.errors import UsageError
from sandbox.learn.training import TrainingFailure
from sandbox.runtime_api.variables import masked, variables

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


On = Annotated[str, typer.Option("--platform", help="What to imitate: lambda, container or host", metavar="NAME")]
StandsFor = Annotated[
    list[str] | None,
    typer.Option("--stands-for", help="A local fake for a destination of production", metavar="HOST:PORT=ADDRESS:PORT"),
]


def stand_ins(texts: Sequence[str] | None) -> StandIns:
    """What the options say stands for destinations; a fake may be named, and is resolved now. Raises UsageError."""
    return StandIns([_resolved(text) for text in texts or ()], "--stands-for")


def _resolved(text: str) -> str:
    production, _, fake = text.rpartition("=")
    host, _, port = fake.rpartition(":")
    if not (production and host) or canonical_name(host) != host:
        return text
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        what = f"{host!r} cannot be resolved: {error.strerror}"
        raise UsageError(what, where="--stands-for", todo="give the fake's address") from error
    address = str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])
    return f"{production}={f'[{address}]' if ':' in address else address}:{port}"


def without_values(failures: Sequence[TrainingFailure], variables: Mapping[str, str]) -> list[TrainingFailure]:
    """The failures with the names of variables in place of their values: a traceback may print what is secret."""

    def plain(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(masked(text, variables) for text in texts)

    return [
        replace(
            failure, error=masked(failure.error, variables), last=plain(failure.last), log=plain(failure.log),
            error_type=masked(failure.error_type, variables),
        )
        for failure in failures
    ]  # fmt: skip


def chosen(
    function: str, env: Sequence[str] | None, env_file: Sequence[str] | None, credentials: bool
) -> dict[str, str]:
    """The variables that the options give to a function. Raises UsageError."""
    return variables(function, env or (), env_file or (), credentials=credentials, here=os.environ)
