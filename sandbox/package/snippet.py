"""What to paste into a deployment: templates with the user's names filled in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template

from sandbox.errors import UsageError

_FOLDER = Path(__file__).with_name("snippets")
TEMPLATES = {
    "sam": "sam.yaml",
    "cdk": "cdk",
    "terraform": "terraform.tf",
    "serverless": "serverless.yml",
    "dockerfile": "dockerfile",
    "dockerfile-lambda": "dockerfile-lambda",
    "k8s": "k8s.yaml",
    "knative": "knative.yaml",
}
_LAMBDA = (r"[A-Za-z0-9_-]{1,64}", "letters, digits, - and _, 64 at most")
_LABEL = (r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "lower-case letters, digits and -, a letter first, 63 at most")
NAMES = {
    "sam": _LAMBDA, "cdk": _LAMBDA, "terraform": _LAMBDA,
    "serverless": (r"[A-Za-z][A-Za-z0-9-]{0,63}", "letters, digits and -, a letter first, 64 at most"),
    "k8s": _LABEL, "knative": _LABEL,
}  # fmt: skip
"""What each takes as the name of a function: AWS Lambda's CreateFunction, Serverless' `service`, RFC 1035 labels."""
LAMBDA_ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}
CDK_ARCH = {"x86_64": "X86_64", "aarch64": "ARM_64"}


def snippet(
    kind: str, *, name: str, handler: str, runtime: str, arch: str, layer: str, image: str, command: str
) -> str:
    """The text for one of TEMPLATES. Raises UsageError for values that would not stay inside their quotes, and for
    names that the platform would refuse.
    """
    values = {
        "name": name, "handler": handler, "runtime": runtime, "layer": layer, "image": image, "command": command,
        "tar": os.path.basename(layer.removesuffix(".zip")) + ".tar", "lambda_arch": LAMBDA_ARCH[arch],
        "cdk_arch": CDK_ARCH[arch],
    }  # fmt: skip
    for key, value in values.items():
        if not re.fullmatch(r"[A-Za-z0-9_./:@][A-Za-z0-9_.\-/:@]*", value):
            raise UsageError(
                f"{value!r} holds what a template cannot hold", where="NAME" if key == "name" else f"--{key}",
                todo="use letters, digits and _.-/:@",
            )  # fmt: skip
    if kind in ("sam", "cdk", "terraform", "serverless") and runtime.startswith("provided"):
        raise UsageError(
            f"{runtime} starts no exec wrapper, so that the function would run without its policy", where="--runtime",
            todo="repack it: `sandbox package runtime POLICY ZIP --output FILE`, and deploy that file as it was",
        )  # fmt: skip
    pattern, allowed = NAMES.get(kind, (".*", ""))
    if not re.fullmatch(pattern, name):
        raise UsageError(f"{name!r} is not a name for {kind}", where="NAME", todo=f"use {allowed}")
    return Template((_FOLDER / TEMPLATES[kind]).read_text()).substitute(values)
