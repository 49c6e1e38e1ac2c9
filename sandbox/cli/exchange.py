"""`sandbox profile export`, `import` and `bom`: what other tools read and write."""

from __future__ import annotations

import enum
import os
from typing import Annotated

import typer

from sandbox.cli.arguments import ALL, Arches, Output, ProfileFile, arches
from sandbox.cli.output import emit_to, json_text, warn
from sandbox.cli.sources import profile_of
from sandbox.errors import ProfileError, UsageError
from sandbox.package import bom
from sandbox.policy import oci, oci_file, oci_import
from sandbox.profile import document


class Format(enum.StrEnum):
    """What --format takes."""

    oci = "oci"
    spo = "spo"


class Engine(enum.StrEnum):
    """What --engine takes."""

    all = "all"
    no_new_privileges = "no-new-privileges"
    none = "none"


def export(
    file: ProfileFile,
    format_: Annotated[
        Format, typer.Option("--format", help="`linux.seccomp` of OCI, or the Security Profiles Operator's object")
    ] = Format.oci,
    arch: Arches = ALL,
    engine: Annotated[
        Engine, typer.Option(help="What the container engine needs: always, where NoNewPrivs is set, or nothing of it")
    ] = Engine.all,
    output: Output = "",
) -> None:
    """Write what a profile allows for container engines and Kubernetes, with what the engine itself needs, marked.

    Example: sandbox profile export profiles/hello.yaml --output seccomp.json
    """
    profile = document.read(profile_of(file)).profile
    exported = oci.export_oci(profile, arches(arch))
    if engine is not Engine.none:
        exported = oci.with_engine(exported, engine is Engine.no_new_privileges)
    spo = format_ is Format.spo
    written = oci.as_operator_object(exported, profile.function.name) if spo else exported
    emit_to(output, json_text(written, indent=2) + "\n")


def import_(
    file: Annotated[str, typer.Argument(help="OCI seccomp JSON, a config.json, or a SeccompProfile", metavar="FILE")],
    name: Annotated[str, typer.Option(help="Name of the function", metavar="NAME")],
    output: Output = "",
    runtime_api: Annotated[bool, typer.Option(help="The function speaks the Runtime API")] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output")] = False,
) -> None:
    """Make a profile from a container's filter. What it cannot express is left out, with a note on standard error.

    Example: sandbox profile import seccomp.json --name hello --output profiles/hello.yaml
    """
    if output and not force and os.path.lexists(output):
        raise UsageError("already exists", where=output, todo="choose another --output, or pass --force")
    try:
        with open(file, "rb") as stream:
            data = stream.read(document.LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=file, todo="check the name") from error
    if len(data) > document.LARGEST:
        raise ProfileError(f"larger than {document.LARGEST} bytes", where=f"{file}:1:1", todo="this is not a filter")
    imported = oci_import.import_oci(oci_file.load(data, file), name, source=file, runtime_api=runtime_api)
    text = document.write(imported.profile)
    try:
        document.parse(text)  # what we write must be what we accept
    except ProfileError as error:
        raise UsageError(f"is not a function's name: {error.what}", where="--name", todo="choose another") from error
    for note in imported.notes:
        warn(f"{file}: {note}")
    emit_to(output, text)


def bom_(file: ProfileFile, output: Output = "") -> None:
    """Write the libraries that training loaded, and where their code ran, as a CycloneDX bill of materials.

    Example: sandbox profile bom profiles/hello.yaml --output libraries.json
    """
    profile = document.read(profile_of(file)).profile
    if not profile.libraries:
        warn(f"{file} lists no libraries: the bill says nothing of what runs; train a Python function again for them")
    emit_to(output, bom.libraries(profile))
