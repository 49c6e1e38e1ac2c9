"""What `sandbox package snippet` prints, before the judges of the formats: hadolint, kubectl, the API's schema, tsc."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from users_and_folders import HOME

ENVIRONMENT = HOME / ".cache" / "deploy"
NEEDED = pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason=".cache/deploy is missing: tools/environment deploy")


def snippet(kind: str, *options: str) -> str:
    """The text for a function `resize`."""
    command = [sys.executable, "-m", "sandbox", "package", "snippet", kind, "resize", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def judged(*command: str | Path, cwd: Path) -> str:
    """What a judge printed that had no objection."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@NEEDED
@pytest.mark.parametrize("kind", ["dockerfile", "dockerfile-lambda", "microvm"])
def test_a_dockerfile_passes_hadolint(tmp_path: Path, kind: str) -> None:
    """In audit mode and enforcing, for images with a tag of their own."""
    for mode in ("audit", "enforce"):
        (tmp_path / mode).write_text(snippet(kind, "--mode", mode))
    judged(ENVIRONMENT / "bin" / "hadolint", "audit", "enforce", cwd=tmp_path)


@NEEDED
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_guard_comes_to_a_deployment(tmp_path: Path) -> None:
    """Kustomize patches a Deployment that knows nothing of us, and what comes out is what Kubernetes' schema takes."""
    (tmp_path / "deployment.yaml").write_text(json.dumps({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "resize"},
        "spec": {
            "selector": {"matchLabels": {"app": "resize"}},
            "template": {
                "metadata": {"labels": {"app": "resize"}},
                "spec": {"containers": [{"name": "web", "image": "example.org/resize:7", "env": [{"name": "A"}]}]},
            },
        },
    }))  # fmt: skip
    (tmp_path / "kustomization.yaml").write_text(snippet("kustomize", "--container", "web", "--command", "/app/serve"))
    built = judged("kubectl", "kustomize", ".", cwd=tmp_path)
    (tmp_path / "built.yaml").write_text(built)
    judged(ENVIRONMENT / "bin" / "kubernetes-validate", "--strict", "-k", "1.32", "built.yaml", cwd=tmp_path)
    for wanted in ("example.org/resize:7", "/opt/sandbox/wrapper", "/app/serve", "initContainers", "name: A"):
        assert wanted in built


@NEEDED
def test_a_deployment_is_what_kubernetes_takes(tmp_path: Path) -> None:
    """The API's own schema, with no key that it does not know."""
    (tmp_path / "deployment.yaml").write_text(snippet("k8s"))
    judged(ENVIRONMENT / "bin" / "kubernetes-validate", "--strict", "-k", "1.32", "deployment.yaml", cwd=tmp_path)


@NEEDED
@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
def test_the_stack_compiles_and_makes_a_template(tmp_path: Path) -> None:
    """CDK's types take the TypeScript, its library makes a template of it, and cfn-lint has nothing against that."""
    (tmp_path / "node_modules").symlink_to(ENVIRONMENT / "node_modules")
    (tmp_path / "function.ts").write_text(snippet("cdk", "--shared", "--code", "code"))
    (tmp_path / "app.ts").write_text(
        'import { App } from "aws-cdk-lib";\nimport { SandboxedFunction } from "./function";\n'
        'const app = new App({ outdir: "out" });\nnew SandboxedFunction(app, "resize");\napp.synth();\n'
    )
    (tmp_path / "code").mkdir()
    (tmp_path / "sandbox.zip").write_bytes(b"")
    options = {"strict": True, "skipLibCheck": True, "target": "es2022", "module": "node16", "types": []}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["app.ts"]}))
    judged("node", "node_modules/typescript/bin/tsc", cwd=tmp_path)
    judged("node", "app.js", cwd=tmp_path)
    template = "out/resize.template.json"
    # W3005 is of a DependsOn that CDK itself writes.
    lint = (Path(sys.executable).with_name("cfn-lint"), "--regions", "eu-west-1", "--ignore-checks", "W3005")
    judged(*lint, "--", template, cwd=tmp_path)
    properties = [
        resource["Properties"] for resource in json.loads((tmp_path / template).read_text())["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    ]  # fmt: skip
    assert [each["Environment"]["Variables"] for each in properties] == [{
        "AWS_LAMBDA_EXEC_WRAPPER": "/opt/sandbox/wrapper", "SANDBOX_POLICY": "/opt/sandbox/policy-resize",
        "SANDBOX_MODE": "audit",
    }]  # fmt: skip
