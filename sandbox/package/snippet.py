"""What to paste into a deployment: templates with the user's names filled in.

A line of a template that ends with $audit is there where the function starts in audit mode, one with $shared where its
layer or image holds the policies of several functions, one with $variables where it has a variable at all.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sandbox.errors import UsageError
from sandbox.package.contents import policy_folder

_FOLDER = Path(__file__).with_name("snippets")


class Kind(enum.StrEnum):
    """What there is a template for."""

    sam = "sam"
    sam_fragment = "sam-fragment"
    cdk = "cdk"
    cdk_python = "cdk-python"
    terraform = "terraform"
    serverless = "serverless"
    dockerfile = "dockerfile"
    dockerfile_lambda = "dockerfile-lambda"
    microvm = "microvm"
    k8s = "k8s"
    kustomize = "kustomize"
    knative = "knative"


TEMPLATES: Mapping[str, str] = {
    Kind.sam: "sam.yaml",
    Kind.sam_fragment: "sam-fragment.yaml",
    Kind.cdk: "cdk.ts",
    Kind.cdk_python: "cdk-python",
    Kind.terraform: "terraform.tf",
    Kind.serverless: "serverless.yml",
    Kind.dockerfile: "dockerfile",
    Kind.dockerfile_lambda: "dockerfile-lambda",
    Kind.microvm: "microvm",
    Kind.k8s: "k8s.yaml",
    Kind.kustomize: "kustomize.yaml",
    Kind.knative: "knative.yaml",
}
_LAMBDA = (r"[A-Za-z0-9_-]{1,64}", "letters, digits, - and _, 64 at most")
_LABEL = (r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "lower-case letters, digits and -, a letter first, 63 at most")
NAMES = {
    "sam": _LAMBDA, "sam-fragment": _LAMBDA, "cdk": _LAMBDA, "cdk-python": _LAMBDA, "terraform": _LAMBDA,
    "serverless": (r"[A-Za-z][A-Za-z0-9-]{0,63}", "letters, digits and -, a letter first, 64 at most"),
    "k8s": _LABEL, "kustomize": _LABEL, "knative": _LABEL,
}  # fmt: skip
"""What each takes as the name of a function: AWS Lambda's CreateFunction, Serverless' `service`, RFC 1035 labels."""
LAMBDA_ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}
CDK_ARCH = {"x86_64": "X86_64", "aarch64": "ARM_64"}
WRAPPED = ("sam", "sam-fragment", "cdk", "cdk-python", "terraform", "serverless")
"""Deployments of a managed runtime with a layer."""
AUDITED = re.compile(r"python3\.1[1-9]")
"""Managed runtimes with a Python in which the supervisor can audit; Lambda's others have none."""


@dataclass(frozen=True)
class Names:
    """What a template is filled with. `container` is Kubernetes' name of the function's container, `guard_image` an
    image that holds the guard and cp, `command` the program and its arguments, a blank between them,
    `shared` whether the layer or the image of the guard holds several functions' policies.
    """

    name: str
    handler: str = "app.handler"
    runtime: str = "python3.13"
    arch: str = "x86_64"
    code: str = "."
    layer: str = "sandbox.zip"
    image: str = "example.org/function:1"
    guard_image: str = "example.org/sandbox:1"
    container: str = "function"
    command: str = "/app/bootstrap"
    shared: bool = False


def snippet(kind: str, names: Names, mode: str = "") -> str:
    """The text for one of TEMPLATES, which starts the function in `mode` (audit or enforce; '' for audit where its
    runtime allows that). Raises UsageError for values that would not stay inside their quotes, for names that the
    platform would refuse, and for a mode or a wrapper that the runtime cannot have.
    """
    texts = {field: value for field, value in vars(names).items() if isinstance(value, str)}
    words = names.command.split(" ")
    texts["command"] = words[0]
    for key, value in (*texts.items(), *(("command", word.lstrip("-")) for word in words[1:])):
        if not re.fullmatch(r"[A-Za-z0-9_./:@][A-Za-z0-9_.\-/:@]*", value):
            raise UsageError(
                f"{value!r} holds what a template cannot hold",
                where="NAME" if key == "name" else f"--{key.replace('_', '-')}",
                todo="use letters, digits and _.-/:@",
            )  # fmt: skip
    texts["command"] = '", "'.join(words)
    _check_runtime(kind, names.runtime, mode)
    pattern, allowed = NAMES.get(kind, (".*", ""))
    if not re.fullmatch(pattern, names.name):
        raise UsageError(f"{names.name!r} is not a name for {kind}", where="NAME", todo=f"use {allowed}")
    audit = mode == "audit" or (not mode and (kind not in WRAPPED or bool(AUDITED.match(names.runtime))))
    lines = [
        line for line in (_FOLDER / TEMPLATES[kind]).read_text().splitlines(keepends=True)
        if (audit or "$audit" not in line) and (names.shared or "$shared" not in line)
        and (audit or names.shared or "$variables" not in line)
    ]  # fmt: skip
    return Template("".join(lines)).substitute(
        texts, audit="", shared="", variables="", policy=policy_folder(names.name), lambda_arch=LAMBDA_ARCH[names.arch],
        cdk_arch=CDK_ARCH[names.arch], tar=f"{os.path.basename(names.layer.removesuffix('.zip'))}.tar",
    )  # fmt: skip


def _check_runtime(kind: str, runtime: str, mode: str) -> None:
    if kind in WRAPPED and runtime.startswith("provided"):
        raise UsageError(
            f"{runtime} starts no exec wrapper, so that the function would run without its policy", where="--runtime",
            todo="repack it: `sandbox package runtime POLICY ZIP --output FILE`, and deploy that file as it was",
        )  # fmt: skip
    if kind in WRAPPED and mode == "audit" and not AUDITED.match(runtime):
        raise UsageError(
            f"{runtime} has no Python 3.11, in which the supervisor audits: the function would not start",
            where="--mode audit", todo="try it under its policy first: `sandbox invoke`, then use --mode enforce",
        )  # fmt: skip
