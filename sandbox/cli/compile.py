"""`sandbox compile`: compile a profile into a verified bundle."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import Annotated

import typer

from sandbox import bundle
from sandbox.cli.output import say
from sandbox.cli.sources import profile_of
from sandbox.kernel import tables
from sandbox.policy import build
from sandbox.profile import document


class ArchOrAll(enum.StrEnum):
    """What --arch takes."""

    x86_64 = "x86_64"
    aarch64 = "aarch64"
    all = "all"


def compile_(
    profile: Annotated[str, typer.Argument(help="The profile (YAML)", metavar="PROFILE")],
    output: Annotated[str, typer.Option(help="Folder for the bundle", metavar="DIR")],
    arch: Annotated[ArchOrAll, typer.Option(help="Architecture")] = ArchOrAll.all,
) -> None:
    """Compile a profile to seccomp filters, verify them against it, and write the bundle."""
    arches = tables.ARCHES if arch is ArchOrAll.all else (arch.value,)
    read = document.read(profile_of(profile)).checked().profile
    built = build.build(read, arches)
    build.write(replace(built, files={**built.files, bundle.PROFILE: document.write(read).encode()}), output)
    for name in arches:
        evidence, policy = built.evidence[name], built.policy(name)
        say(
            f"{output}: {name}, {len(policy.program) // 8} instructions, verified on {evidence.calls} calls, "
            f"at most {evidence.longest} for one call"
        )
