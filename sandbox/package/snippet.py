"""What to paste into a deployment: templates with the user's names filled in."""

from __future__ import annotations

import os
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
LAMBDA_ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}
CDK_ARCH = {"x86_64": "X86_64", "aarch64": "ARM_64"}


def snippet(
    kind: str, *, name: str, handler: str, runtime: str, arch: str, layer: str, image: str, command: str
) -> str:
    """The text for one of TEMPLATES. Raises UsageError for names that would not stay inside their quotes."""
    values = {
        "name": name, "handler": handler, "runtime": runtime, "layer": layer, "image": image, "command": command,
        "tar": os.path.basename(layer.removesuffix(".zip")) + ".tar", "lambda_arch": LAMBDA_ARCH[arch],
        "cdk_arch": CDK_ARCH[arch],
    }  # fmt: skip
    for key, value in values.items():
        if not value or not all(character.isalnum() or character in "_.-/:@" for character in value):
            raise UsageError(
                f"{value!r} holds what a template cannot hold", where=f"--{key}", todo="use letters, digits and _.-/:@"
            )
    return Template((_FOLDER / TEMPLATES[kind]).read_text()).substitute(values)
