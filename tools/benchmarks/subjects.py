"""What is measured: the bootstrap of this checkout, interpreters, and bundles that are learned for the occasion."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sandbox.kernel import tables
from sandbox.learn.generalise import generalise
from sandbox.learn.training import TrainingPlan, train
from sandbox.policy import build
from sandbox.policy.build import Bundle
from sandbox.profile import document
from sandbox.profile.model import Profile
from sandbox.runtime_api import Invocation
from sandbox.runtime_api.events import load_events
from tools.benchmarks.measure import BenchmarkFailed

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
TRUE = "/usr/bin/true"


def launcher(python: str) -> list[str]:
    """The bootstrap under an interpreter, as its first line starts it."""
    return [python, "-I", "-S", str(ROOT / "bootstrap")]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment, the same for all cases, and without bytecode files that only the first run would write."""
    ours = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**ours, **(extra or {})}


def unsupervised(policy: Path) -> dict[str, str]:
    """Variables that make the bootstrap enforce a bundle or profile and exec, with no process left beside it."""
    return {"SANDBOX_POLICY": str(policy), "SANDBOX_SUPERVISE": "0"}


def version(python: str) -> str:
    """`Python 3.11.2`, from the interpreter itself. Raises BenchmarkFailed when there is none."""
    try:
        done = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchmarkFailed(f"{python} is not a usable interpreter ({error}); name another with --python") from error
    return done.stdout.strip()


def learn_program(command: tuple[str, ...], scratch: Path) -> tuple[Path, Path]:
    """Learn a plain program in one run and compile it: (profile, bundle directory)."""
    name = Path(command[0]).name
    return _write(TrainingPlan(name=name, root=str(scratch), command=command, cold_starts=1), scratch)


def learn_handler(example: str, python: str, scratch: Path) -> tuple[Path, Path]:
    """Learn a Python handler of examples/ in one cold start and compile it: (profile, bundle directory)."""
    root = EXAMPLES / example
    plan = TrainingPlan(
        name=example, root=str(root), handler="app.handler", events=load_events(str(root / "events")), cold_starts=1,
        python=python,
    )  # fmt: skip
    return _write(plan, scratch)


NAMED = """
import boto3

table = boto3.resource(
    "dynamodb", region_name="eu-west-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="example"
).Table("orders")


def handler(event, context):
    return table.name
"""
"""A function that makes a client while it is loaded, as most on AWS do, and asks it for nothing."""


def learn_named(python: str, scratch: Path) -> tuple[Path, Path]:
    """Learn NAMED and compile it with its destination, by name: (the function's root, bundle directory)."""
    root = scratch / "named"
    root.mkdir()
    (root / "app.py").write_text(NAMED)
    plan = TrainingPlan(
        name="named", root=str(root), handler="app.handler", events=(Invocation(b"{}"),), cold_starts=1, python=python
    )
    trained = _trained(plan)
    profile = replace(trained, network=trained.network | {"dynamodb.eu-west-1.amazonaws.com:443"})
    directory = scratch / "named-bundle"
    build.write(build.build(profile, (tables.machine(),)), str(directory))
    return root, directory


def learn_runtime(example: str, command: tuple[str, ...], scratch: Path) -> tuple[Path, Path]:
    """Learn a custom runtime of examples/, started by a command, in one cold start: (profile, bundle directory)."""
    root = EXAMPLES / example
    events = load_events(str(root / "events"))
    return _write(TrainingPlan(name=example, root=str(root), command=command, events=events, cold_starts=1), scratch)


def _trained(plan: TrainingPlan) -> Profile:
    trained = train(plan, lambda step: None)
    if trained.failures:
        raise BenchmarkFailed(f"{plan.name} could not be learned: {trained.failures[0].error}")
    return generalise(trained.cold_starts, plan.name).profile


def _write(plan: TrainingPlan, scratch: Path) -> tuple[Path, Path]:
    profile = _trained(plan)
    path = scratch / f"{plan.name}.yaml"
    path.write_text(document.write(profile), encoding="utf-8")
    directory = scratch / plan.name
    build.write(compiled(path), str(directory))
    return path, directory


def compiled(profile: Path) -> Bundle:
    """The bundle of a profile, for this machine's architecture."""
    return build.build(document.read(str(profile)).profile, (tables.machine(),))


def c_program(source: str, scratch: Path, *flags: str) -> str:
    """A C file beside this one, compiled into the scratch folder: its path. Raises BenchmarkFailed."""
    compiler = shutil.which("cc")
    if not compiler:
        raise BenchmarkFailed("there is no C compiler (cc); install gcc")
    target = scratch / "programs" / Path(source).stem
    target.parent.mkdir(exist_ok=True)
    command = [compiler, "-O2", *flags, "-o", str(target), str(Path(__file__).with_name(source))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"{source} does not compile: {done.stderr.strip()[-400:]}")
    return str(target)
