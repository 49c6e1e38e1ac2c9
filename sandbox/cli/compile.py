"""`sandbox compile`: compile a profile into a verified bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from sandbox import bundle
from sandbox.cli.arguments import ALL, Arches, ProfileFile, arches
from sandbox.cli.output import progress, say
from sandbox.cli.sources import profile_of
from sandbox.policy import build
from sandbox.profile import document


def compile_(
    profile: ProfileFile,
    output: Annotated[str, typer.Option(help="Folder for the bundle", metavar="DIR")],
    arch: Arches = ALL,
) -> None:
    """Compile a profile to seccomp filters, verify them against it, and write the bundle.

    Example: sandbox compile profiles/hello.yaml --output build/hello
    """
    read = document.read(profile_of(profile)).checked().profile
    with progress(f"compiling {read.function.name}"):
        built = build.build(read, chosen := arches(arch))
    build.write(replace(built, files={**built.files, bundle.PROFILE: document.write(read).encode()}), output)
    for name in chosen:
        evidence, policy = built.evidence[name], built.policy(name)
        say(
            f"{output}: {name}, {len(policy.program) // 8} instructions, verified on {evidence.calls} calls, "
            f"at most {evidence.longest} for one call"
        )
