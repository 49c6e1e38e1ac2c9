"""Arguments and options that several commands take: one meaning a name."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox.cli.sources import named
from sandbox.kernel import tables

ALL = "all"
ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
"""What container tools and Lambda call the kernel's architectures."""


def _arch(text: str) -> str:
    """One of ARCHES by the kernel's name or by another; '' for none. Raises BadParameter."""
    if not text:
        return text
    found = ALIASES.get(text.lower(), text.lower())
    if found not in tables.ARCHES:
        raise typer.BadParameter(f"{text!r} is not one of x86_64 (amd64) and aarch64 (arm64).")
    return found


def _arch_or_all(text: str) -> str:
    return ALL if text == ALL else _arch(text)


def arches(arch: str) -> tuple[str, ...]:
    """The architectures that `--arch` of several means."""
    return tables.ARCHES if arch == ALL else (arch,)


def seconds(text: str | float) -> float:
    """A finite time of at least 0, in seconds. Raises BadParameter: a NaN is below no limit and above none."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= LONGEST:
        raise typer.BadParameter(f"{text!r} is not a number of seconds from 0 to {LONGEST:g}.")
    return found


LONGEST = 10.0**7
"""Seconds: what a clock of the kernel and of the Runtime API takes with ease."""


def _timeout(text: str | float) -> float:
    found = seconds(text)
    if found < SHORTEST:
        raise typer.BadParameter(f"{text!r} is less than {SHORTEST:g} seconds.")
    return found


SHORTEST = 0.1

Timeout = Annotated[
    float, typer.Option("--timeout", parser=_timeout, help="Time limit of one event", metavar="SECONDS")
]
Arch = Annotated[
    str,
    typer.Option("--arch", parser=_arch, metavar="x86_64|aarch64", help="Architecture; amd64 and arm64 name them, too"),
]
Arches = Annotated[
    str,
    typer.Option(
        "--arch", parser=_arch_or_all, metavar="x86_64|aarch64|all",
        help="Architecture; amd64 and arm64 name them, too",
    ),
]  # fmt: skip
ProfileFile = Annotated[
    str,
    typer.Argument(
        help="A profile: its file, its name, or the folder of its bundle", metavar="PROFILE", autocompletion=named
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text")]
Output = Annotated[
    str, typer.Option("--output", "-o", help="Where to write it; standard output if not given", metavar="FILE")
]
