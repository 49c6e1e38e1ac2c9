"""`sandbox package` and `sandbox verify`: build what a platform takes, and check that it is unchanged."""

from __future__ import annotations

import enum
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from sandbox import bundle
from sandbox.cli.arguments import Arch
from sandbox.cli.output import emit, progress, say, write_file
from sandbox.cli.sources import SUFFIX, named, policy_of, profile_of
from sandbox.errors import PackageInvalid, UsageError
from sandbox.kernel import tables
from sandbox.package import archive, contents, entry, manifest, snippet
from sandbox.package import runtime as runtimes
from sandbox.package.bom import bom
from sandbox.package.contents import EXECUTABLE, File, Guard
from sandbox.policy import build
from sandbox.profile import document

LAYER, IMAGE = "sandbox", "opt/sandbox"
NATIVE = "install the wheel for Linux, which holds the launchers, or run tools/release in a checkout"
LEARNING = "learning"
"""Stands for the function in a package without a policy."""
PLAIN_NAME = re.compile(r"[\w.-]+")
"""What stays one name in a path and in a shell word."""
PLACES = (runtimes.FOLDER, IMAGE, LAYER)
"""Where the guard folder lies in each package."""


USUAL = snippet.Names("NAME")
"""What a snippet says where nobody said otherwise."""


class StartMode(enum.StrEnum):
    """What --mode takes."""

    audit = "audit"
    enforce = "enforce"


Policy = Annotated[str, typer.Argument(help="A profile (YAML) or a compiled bundle", metavar="POLICY")]
Policies = Annotated[list[str] | None, typer.Argument(help="Profiles (YAML) or compiled bundles", metavar="POLICY...")]
Learn = Annotated[bool, typer.Option("--learn", help="Without a policy, for SANDBOX_MODE=learn and no other mode")]
Output = Annotated[str, typer.Option(help="The file to write", metavar="FILE")]
Sign = Annotated[str, typer.Option(help="Sign the manifest with this Ed25519 key (PEM)", metavar="KEY")]
Python = Annotated[
    str, typer.Option("--compile-for", help="Add bytecode for this interpreter, which halves the start", metavar="EXE")
]
OnlyPython = Annotated[bool, typer.Option("--no-launcher", help="Leave the native launcher out: Python starts it")]


def layer(
    output: Output, policy: Policies = None, learn: Learn = False, sign: Sign = "", compile_for: Python = "",
    python: OnlyPython = False,
) -> None:  # fmt: skip
    """Build a Lambda layer: AWS_LAMBDA_EXEC_WRAPPER=/opt/sandbox/wrapper starts the function under its policy.

    Several functions can share one: each starts under the policy whose name is its own, or which SANDBOX_POLICY names.

    Example: sandbox package layer profiles/hello.yaml --output sandbox.zip
    """
    policies = _chosen(policy or (), learn)
    guard, files = _guarded(policies, sign, compile_for, native=not python)
    write_file(output, archive.zipped(file.under(LAYER) for file in files))
    todo = "set AWS_LAMBDA_EXEC_WRAPPER=/opt/sandbox/wrapper on the function, and add the layer"
    if len(policies) > 1:
        folder = f"/opt/{LAYER}/{contents.policy_folder('NAME')}"
        todo += f"; set SANDBOX_POLICY={folder} where the platform's name of a function is not its profile's"
    _say(output, guard, f"{todo}; start it with SANDBOX_MODE=learn" if learn else todo)


def runtime(
    policy: Policy,
    package: Annotated[str, typer.Argument(help="The function's own zip, with a `bootstrap`", metavar="ZIP")],
    output: Output, sign: Sign = "", compile_for: Python = "", python: OnlyPython = False,
) -> None:  # fmt: skip
    """Repack a provided.* function: our `bootstrap` starts its own, renamed `bootstrap.handler`.

    Example: sandbox package runtime profiles/hello.yaml function.zip --output guarded.zip
    """
    if os.path.exists(output) and os.path.samefile(package, output):
        raise UsageError("is the function's own package", where=f"--output {output}", todo="write to another file")
    original = archive.unzipped(package)
    guard, files = _guarded((policy,), sign, compile_for, native=not python, start=runtimes.start(original))
    if not python and (missing := runtimes.lacks(original, guard.launchers)):
        raise PackageInvalid(
            f"would hold no launcher for {missing}: provided.* has no Python that could start it", where=output,
            todo=f"{NATIVE}; or give --no-launcher where the function brings a Python 3.11 or newer",
        )  # fmt: skip
    write_file(output, archive.zipped(runtimes.repacked(original, files, package)))
    kept = runtimes.compare(original, archive.unzipped(output), output)
    say(f"{kept} of {kept} members of {package} are in it, unchanged")
    if guard.launchers:
        say("without a Python 3.11 on the platform the launcher enforces without a supervisor, and says so")
    _say(output, guard, "deploy it in place of the other")


def image(
    output: Output, policy: Policies = None, learn: Learn = False, sign: Sign = "", compile_for: Python = "",
    python: OnlyPython = False,
) -> None:  # fmt: skip
    """Build a tar for an image: ADD it to /, and start /opt/sandbox/wrapper with the program as arguments.

    Several functions can share one: SANDBOX_POLICY=/opt/sandbox/policy-NAME says whose it is.

    Example: sandbox package image profiles/hello.yaml --output sandbox.tar
    """
    policies = _chosen(policy or (), learn)
    guard, files = _guarded(policies, sign, compile_for, native=not python)
    write_file(output, archive.tarred(file.under(IMAGE) for file in files))
    todo = f'ADD {os.path.basename(output)} / and ENTRYPOINT ["/opt/sandbox/wrapper"]'
    if learn:
        todo += "; start it with SANDBOX_MODE=learn"
    elif len(policies) > 1:
        folder = f"/{IMAGE}/{contents.policy_folder('NAME')}"
        todo += f", with SANDBOX_POLICY={folder}: see `snippet dockerfile NAME --shared`"
    else:
        todo += ": see `snippet dockerfile`"
    _say(output, guard, todo)


def snippet_(
    kind: Annotated[snippet.Kind, typer.Argument(help="Target", metavar="|".join(snippet.TEMPLATES))],
    name: Annotated[
        str, typer.Argument(help="The function's name, or its profile", metavar="NAME|PROFILE", autocompletion=named)
    ],
    handler: Annotated[str, typer.Option(help="The handler, if not the profile's (app.handler without one)")] = "",
    runtime: Annotated[str, typer.Option(help="Lambda's name for the runtime")] = USUAL.runtime,
    arch: Arch = tables.ARCHES[0],
    code: Annotated[str, typer.Option(help="The function's own code", metavar="PATH")] = USUAL.code,
    layer: Annotated[str, typer.Option(help="What `sandbox package layer` wrote", metavar="FILE")] = USUAL.layer,
    shared: Annotated[bool, typer.Option("--shared", help="The guard holds several functions' policies")] = False,
    image: Annotated[str, typer.Option(help="The image")] = USUAL.image,
    guard_image: Annotated[str, typer.Option(help="An image of the guard, with cp")] = USUAL.guard_image,
    container: Annotated[str, typer.Option(help="Kubernetes' name of the function's container")] = USUAL.container,
    command: Annotated[str, typer.Option(help="The program in the image, and its arguments")] = USUAL.command,
    mode: Annotated[StartMode | None, typer.Option(help="How it starts [default: audit, if there is a Python]")] = None,
) -> None:
    """Print the configuration to paste into a deployment, with your names filled in.

    Example: sandbox package snippet sam hello --runtime python3.13 --arch arm64
    """
    if name in named(name) or os.sep in name or name.endswith(SUFFIX):
        function = document.read(profile_of(name)).profile.function
        name, handler = function.name, handler or function.handler
    handler = handler or USUAL.handler
    names = snippet.Names(
        name=name, handler=handler, runtime=runtime, arch=arch, code=code, layer=layer, shared=shared,
        image=image, guard_image=guard_image, container=container, command=command,
    )  # fmt: skip
    emit(snippet.snippet(kind.value, names, mode.value if mode else ""))


def verify(
    package: Annotated[str, typer.Argument(help="A package, or its unpacked sandbox folder", metavar="PATH")],
    key: Annotated[str, typer.Option(help="Public key (PEM) of the signer", metavar="KEY")] = "",
) -> None:
    """Check each file of a package against its manifest, and with --key the signature.

    Example: sandbox verify sandbox.zip --key public.pem
    """
    from sandbox.start import integrity

    others = 0
    if os.path.isdir(package):
        places = (os.path.join(package, place) for place in ("", *PLACES))
        folder = next((place for place in places if os.path.isfile(os.path.join(place, manifest.NAME))), package)
        count = len(integrity.verify(folder, key))
    else:
        files = contents.by_path(archive.untarred(package) if package.endswith(".tar") else archive.unzipped(package))
        with tempfile.TemporaryDirectory() as name:
            folder = str(place := _unpacked(package, files, Path(name)))
            try:
                listed = integrity.verify(folder, key)
            except PackageInvalid as error:
                where = error.where.replace(name, package)
                raise PackageInvalid(error.what, where=where, todo=error.todo) from error
            guard = f"{place.relative_to(name)}/"
            for path, entry in listed.items():
                if f"{files[guard + path].mode:o}" != entry.mode:
                    where = f"{package}/{guard}{path}"
                    raise PackageInvalid(f"does not have the mode {entry.mode}", where=where, todo=integrity.AGAIN)
            ours = (runtimes.ENTRY,) if place.name == runtimes.FOLDER else ()
            count, others = len(listed), sum(not path.startswith(guard) and path not in ours for path in files)
    say(f"{package}: {count} files are what {manifest.NAME} lists" + (", and it is signed by the key" if key else ""))
    if others:
        say(f"{others} more are the function's own: of them the manifest says nothing")


def _unpacked(package: str, files: Mapping[str, File], folder: Path) -> Path:
    """The guard folder of a package, unpacked below a folder."""
    place = next((place for place in PLACES if f"{place}/{manifest.NAME}" in files), None)
    if place is None:
        raise UsageError(f"does not hold a {manifest.NAME}", where=package, todo="name a file of `sandbox package`")
    # Otherwise the function's own bootstrap would start there unconfined.
    if place == runtimes.FOLDER and files.get(runtimes.ENTRY) != runtimes.started(files):
        todo = "package it again: `sandbox package runtime`"
        raise UsageError(f"does not start the sandbox: another {runtimes.ENTRY}", where=package, todo=todo)
    for path, file in files.items():
        if path.startswith(f"{place}/") and file.kind != stat.S_IFDIR:
            if file.kind != stat.S_IFREG:
                raise UsageError(f"holds {path!r}, which is not a file", where=package, todo="do not use it")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
    return folder / place


def _chosen(policies: Sequence[str], learn: bool) -> Sequence[str]:
    """The policies to package, none for learning. Raises UsageError where it is not said which."""
    if bool(policies) == learn:
        todo = "name a profile or bundle, or give --learn where there is none yet"
        raise UsageError("needs a policy, or --learn in place of one", where="sandbox package", todo=todo)
    return policies


def _guarded(
    policies: Sequence[str], sign: str, python: str, *, native: bool, start: File | None = None
) -> tuple[Guard, list[File]]:
    """The whole guard folder for profiles or bundles, or for learning (none); `start` is what the platform starts, the
    wrapper unless it is given.
    """
    shared = len(policies) > 1
    bundles: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, policy in enumerate(map(policy_of, policies)):
            directory = policy
            if not os.path.isdir(policy):
                directory = os.path.join(temporary, str(number))
                read = document.read(policy).checked().profile
                with progress(f"compiling {read.function.name}"):
                    build.write(build.build(read, tables.ARCHES), directory)
            function = bundle.read(directory, tables.machine()).function
            if function in bundles:
                todo = "package it by itself, or name one profile a function"
                raise UsageError(f"is a second policy of {function}", where=policy, todo=todo)
            if shared and not PLAIN_NAME.fullmatch(function):
                raise UsageError(f"{function!r} is not a plain name", where=policy, todo="package it by itself")
            bundles[function] = directory
        # The launcher learns nothing, and would only start Python.
        folders = {contents.policy_folder(name if shared else ""): path for name, path in bundles.items()}
        guard = contents.guard(folders, native=native and bool(policies), python=python)
    function = ", ".join(sorted(bundles)) or LEARNING
    files: list[File] = [*guard.files, start or File("wrapper", entry.wrapper(shared=shared), EXECUTABLE)]
    files.append(bom(function, files))
    listed = manifest.manifest(function, files)
    return guard, [*files, listed, *([manifest.signature(listed, sign)] if sign else [])]


def _say(output: str, guard: Guard, todo: str) -> None:
    notes: Sequence[str] = guard.notes
    say(f"{output}: {os.path.getsize(output)} bytes, launchers: {', '.join(guard.launchers) or 'none'}")
    for note in notes:
        say(f"note: {note}")
    say(f"next: {todo}")
