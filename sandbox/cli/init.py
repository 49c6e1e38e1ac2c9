"""`sandbox init`: from a project's templates to the commands that train, check and deploy its functions."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

import typer

from sandbox.cli.output import say, warn, write_text
from sandbox.errors import UsageError
from sandbox.package import snippet
from sandbox.project import finding, writing
from sandbox.project.files import Folder
from sandbox.project.function import Described


def init(
    folder: Annotated[str, typer.Argument(help="The project's folder", metavar="FOLDER")] = ".",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; print the training script")] = False,
) -> None:
    """Find the functions of a project, and write how to train, check and deploy them; overwrite nothing.

    It reads SAM templates, serverless.yml, cdk.out/*.template.json and a Dockerfile, and runs nothing of the project.

    Example: sandbox init services/orders
    """
    if not os.path.isdir(folder):
        raise UsageError("is not a folder", where=folder, todo="give the folder of a project")
    project = Folder(folder)
    found = tuple(_noted(one) for one in finding.functions(project))
    for note in finding.unread(project):
        warn(f"{folder}: {note}")
    if not found:
        raise UsageError(
            "describes no function: no template.yaml, serverless.yml, cdk.out or Dockerfile does", where=folder,
            todo="give the folder of one, or train by hand: `sandbox learn -h`",
        )  # fmt: skip
    for one in found:
        _tell(one)
    if dry_run:
        say("")
        for line in writing.training(found).splitlines():
            say(line)
        return
    job = writing.GITLAB if project.is_file(".gitlab-ci.yml") else writing.GITHUB
    _write(project, writing.TRAINING, writing.training(found), 0o755)
    _write(project, job, writing.GITLAB_JOB if job == writing.GITLAB else writing.GITHUB_JOB)
    _write(project, writing.DEPLOYMENT, writing.steps(found, [_snippet(one) for one in found]))
    variables = " with its variables (--env NAME=VALUE, --env-file FILE)" if any(one.variables for one in found) else ""
    say(f"next: {'look at what is missing above, then ' if any(one.missing for one in found) else ''}"
        f"run {os.path.join(folder, writing.TRAINING)}{variables}, and review profiles/")  # fmt: skip


def _noted(one: Described) -> Described:
    reason = writing.untrainable(one)
    return one.without(reason) if reason else one


def _tell(one: Described) -> None:
    what = one.runtime or (f"image {one.image}" if one.image else "a program")
    handler = f" {one.handler}" if one.handler else ""
    say(f"{one.name} ({one.source}): {what}{handler}, code in {one.code}, events in {one.events or 'none'}")
    if one.variables:
        say(f"  variables: {', '.join(one.variables)}; give them to training by --env or --env-file")
    for sentence in one.missing:
        say(f"  missing: {sentence}", "yellow")


def _write(project: Folder, name: str, text: str, mode: int = 0o644) -> None:
    """Write one file, unless something of that name is there, or a link leads out of the project."""
    path = os.path.join(project.path, name)
    if os.path.lexists(path):
        say(f"{path}: is there, and stays as it is; remove it to have it written anew")
        return
    if not project.inside(name):
        warn(f"{path}: lies outside the project, by a link, and is not written")
        return
    write_text(path, text)
    os.chmod(path, mode)
    say(f"{path}: written")


def _snippet(one: Described) -> str:
    """What to paste for it; where a template cannot hold its names, the command that says why."""
    kind = writing.snippet_kind(one)
    if not kind:
        return ""
    names = snippet.Names(name=one.name, arch=one.architecture, layer=f"{one.name}.zip")
    names = replace(
        names, handler=one.handler or names.handler, runtime=one.runtime or names.runtime,
        image=one.image or names.image, command=next(iter(one.command), names.command),
    )  # fmt: skip
    try:
        return snippet.snippet(kind, names)
    except UsageError as error:
        return f"sandbox package snippet {kind} NAME: {error.what}"
