"""init: what a project's templates say is found, what they do not say is told, and what is hostile is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from sandbox.cli.loading import app
from sandbox.errors import UsageError
from sandbox.project import documents, finding, writing
from sandbox.project.dockerfile import read_image
from sandbox.project.files import Folder
from sandbox.project.function import Described

SAM = """\
Transform: AWS::Serverless-2016-10-31
Parameters: {Version: {Type: String, Default: python3.12}, Mode: {Type: String}}
Globals: {Function: {Runtime: !Ref Version, Architectures: [arm64], Environment: {Variables: {STAGE: test}}}}
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: src/orders/, Handler: app.handler, FunctionName: !Sub "${AWS::StackName}-orders"}
  Lost:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ../elsewhere, Handler: !Sub "${Mode}.handler", Environment: {Variables: {TABLE: !Ref T}}}
  Image:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image}
    Metadata: {DockerContext: image, Dockerfile: Dockerfile}
  Inline:
    Type: AWS::Lambda::Function
    Properties: {Runtime: python3.13, Handler: index.handler, Code: {ZipFile: "def handler(e, c): pass"}}
  Table: {Type: AWS::DynamoDB::Table}
"""
DOCKERFILE = """\
ARG VERSION=3.12
FROM public.ecr.aws/lambda/python:${VERSION}-arm64 AS base
RUN <<EOF
CMD ["wrong.handler"]
EOF
FROM base
# CMD ["wrong.handler"]
CMD \\
  ["main.handler"]
"""
SERVERLESS = """\
service: shop
provider: {name: aws, runtime: nodejs22.x, environment: &all {STAGE: test}}
functions:
  orders: {handler: src/orders.handler, runtime: python3.13, architecture: arm64, environment: {<<: *all, TABLE: t}}
  stock: {handler: src/stock.main}
  render: {image: {name: renderer}}
  staged: {handler: "${self:custom.module}.main"}
"""


def init(folder: Path, *options: str) -> Result:
    """The command's result; an error that the command prints for people is raised as it is."""
    result = CliRunner().invoke(app, ("init", str(folder), *options))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def found(folder: Path) -> dict[str, Described]:
    """The functions of a folder by name."""
    return {one.name: one for one in finding.functions(Folder(str(folder)))}


def test_a_sam_template(tmp_path: Path) -> None:
    """Globals, defaults of parameters, an image and inline code; what a deployment alone knows is told."""
    (tmp_path / "template.yaml").write_text(SAM)
    (tmp_path / "src" / "orders" / "events").mkdir(parents=True)
    (tmp_path / "src" / "orders" / "events" / "a.json").write_text("{}")
    (tmp_path / "src" / "orders" / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "src" / "orders" / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "image").mkdir()
    for dockerfile in (tmp_path / "image" / "Dockerfile", tmp_path / "Dockerfile"):
        dockerfile.write_text(DOCKERFILE)
    functions = found(tmp_path)
    assert [*functions] == ["Orders", "Lost", "Image", "Inline"]
    assert functions["Orders"] == Described(
        "sam", "template.yaml:6", "Orders", os.path.join("src", "orders"), "python3.12", "app.handler",
        architecture="aarch64", variables=("STAGE",), events=os.path.join("src", "orders", "events"),
        python=os.path.join("src", "orders", ".venv"),
    )  # fmt: skip
    assert functions["Lost"].missing == (
        "its handler is not in template.yaml itself: pass it by hand",
        "its code lies outside this folder (../elsewhere)",
        "no sample events: put JSON files, one an event, into events/Lost",
    )
    assert functions["Lost"].variables == ("STAGE", "TABLE")
    assert (functions["Image"].handler, functions["Image"].runtime, functions["Image"].code) == (
        "main.handler", "python3.12", "image",
    )  # fmt: skip
    assert "its code stands in the template: put it into a file to train it" in functions["Inline"].missing


def test_nested_templates(tmp_path: Path) -> None:
    """A template beside is read with its own folder as its place; one that holds itself ends."""
    (tmp_path / "more" / "code").mkdir(parents=True)
    nested = "Resources: {N: {Type: AWS::Serverless::Application, Properties: {Location: %s}}"
    (tmp_path / "template.yaml").write_text(nested % "more/template.yaml" + "}\n")
    function = "F: {Type: AWS::Lambda::Function, Properties: {Runtime: python3.13, Handler: app.handler, Code: code}}"
    (tmp_path / "more" / "template.yaml").write_text(nested % "template.yaml" + f", {function}}}\n")
    functions = found(tmp_path)
    assert {one.code for one in functions.values()} == {os.path.join("more", "code")}
    assert [*functions] == ["F"]


def test_a_service(tmp_path: Path) -> None:
    """The provider's settings, a function's own, merge keys, and variables that are known at deployment alone."""
    (tmp_path / "serverless.yml").write_text(SERVERLESS)
    functions = found(tmp_path)
    orders = functions["orders"]
    assert (orders.runtime, orders.handler, orders.architecture) == ("python3.13", "src/orders.handler", "aarch64")
    assert orders.variables == ("STAGE", "TABLE")
    assert writing.command(functions["stock"])[-4:] == ["--", "npx", "aws-lambda-ric", "src/stock.main"]
    assert functions["render"].image == "renderer"
    assert functions["staged"].missing[0] == "its handler is not in serverless.yml itself: pass it by hand"
    (tmp_path / "render").mkdir()
    (tmp_path / "render" / "Dockerfile").write_text(DOCKERFILE)
    images = "provider: {name: aws, ecr: {images: {renderer: {path: ./render}}}}"
    lists = "service: shop\n" + images + "\nfunctions: ['${file(../x.yml)}', '${file(more.yml):all}']\n"
    (tmp_path / "serverless.yml").write_text(lists)
    (tmp_path / "more.yml").write_text("all: {render: {image: {name: renderer, command: [other.handler]}}}\n")
    functions = found(tmp_path)
    assert "stand in ${file(../x.yml)}" in functions["shop"].missing[0]
    render = functions["render"]
    assert (render.handler, render.runtime, render.code) == ("other.handler", "python3.12", "render")
    assert render.source == "more.yml:1"


def test_what_cdk_wrote(tmp_path: Path) -> None:
    """Functions with their assets below cdk.out; without the folder the command that writes it is named."""
    (tmp_path / "cdk.json").write_text("{}")
    assert [*finding.unread(Folder(str(tmp_path)))] == ["cdk.out is not there: `cdk synth` writes the templates"]
    (tmp_path / "cdk.out" / "asset.1").mkdir(parents=True)
    function = {
        "Type": "AWS::Lambda::Function", "Metadata": {"aws:asset:path": "asset.1"},
        "Properties": {"Runtime": "python3.13", "Handler": "app.handler", "Code": {"S3Bucket": {"Fn::Sub": "b"}}},
    }  # fmt: skip
    named = {**function, "Properties": {**function["Properties"], "FunctionName": {"Ref": "Name"}}}  # type: ignore[dict-item]
    text = json.dumps({"Resources": {"A1": function, "B2": named}})
    (tmp_path / "cdk.out" / "Stack.template.json").write_text(text)
    (tmp_path / "cdk.out" / "assembly-Test").mkdir()
    (tmp_path / "cdk.out" / "assembly-Test" / "S.template.json").write_text(text.replace("asset.1", "../asset.1"))
    functions = found(tmp_path)
    assert [*functions] == ["A1", "B2", "A1-2", "B2-2"]
    assert functions["A1-2"].code == functions["A1"].code
    assert functions["A1"].code == os.path.join("cdk.out", "asset.1")
    assert functions["A1"].runtime == "python3.13"


@pytest.mark.parametrize(
    ("text", "command", "handler"),
    [
        ('FROM python:3.13\nENTRYPOINT ["/usr/bin/python3", "-m", "awslambdaric"]\nCMD ["app.handler"]',
         ("/usr/bin/python3", "-m", "awslambdaric", "app.handler"), "app.handler"),
        ("FROM node:22\nCMD node server.js --port 80", ("node", "server.js", "--port", "80"), ""),
        ("FROM debian\nCMD exec ./run $PORT", ("sh", "-c", "exec ./run $PORT"), ""),
        ('FROM debian\nENTRYPOINT ["/x"]\nFROM debian\nCMD ["y", ]', ("sh", "-c", '["y", ]'), ""),
        ("FROM debian", (), ""),
    ],
)  # fmt: skip
def test_what_an_image_starts(text: str, command: tuple[str, ...], handler: str) -> None:
    """ENTRYPOINT and CMD of the last stage, in either form; a Runtime API client's argument is the handler."""
    image = read_image(text, "Dockerfile")
    assert (image.command, image.handler) == (command, handler)


def test_a_server_in_an_image(tmp_path: Path) -> None:
    """A Dockerfile alone is a program: its command, its signal, and that it listens, which training must be told of."""
    text = "FROM python:3.13\nEXPOSE 8080/tcp\nSTOPSIGNAL SIGINT\nCMD gunicorn -b :8080 app:app"
    (tmp_path / "Dockerfile").write_text(text)
    ((name, one),) = found(tmp_path).items()
    command = ["sandbox", "learn", name, "--stop-signal", "SIGINT", "--", "gunicorn", "-b", ":8080", "app:app"]
    assert writing.command(one) == command
    assert one.missing == ("it listens on 8080: give `--drive COMMAND` what asks it, or end it by Ctrl-C",)
    assert "FROM python:3.13" in (init(tmp_path), (tmp_path / writing.DEPLOYMENT).read_text())[1]


def test_init_writes_once(tmp_path: Path) -> None:
    """Three files that parse, a second run that leaves them as they are, and names that a shell takes as text."""
    hostile = "$(touch pwned); `x`\n'q'"
    (tmp_path / "template.yaml").write_text(SAM.replace("Handler: app.handler", f"Handler: {json.dumps(hostile)}"))
    done = init(tmp_path)
    script, job = tmp_path / writing.TRAINING, tmp_path / writing.GITHUB
    assert done.exit_code == 0
    assert "missing: its handler is not in template.yaml itself" in done.stdout
    assert yaml.safe_load(job.read_text())["jobs"]["compare"]["steps"]
    assert os.access(script, os.X_OK)
    line = next(line for line in script.read_text().splitlines() if line.startswith("sandbox learn Orders"))
    assert shlex.split(line)[4] == "$(touch pwned); `x`\\x0a'q'"
    assert line.endswith(' "$@"')
    assert "# needs variables, by --env or --env-file: STAGE\nsandbox learn Orders" in script.read_text()
    assert "sandbox-train.sh with its variables (--env NAME=VALUE, --env-file FILE)" in done.stdout
    assert "# your function's own logical ID" in (tmp_path / writing.DEPLOYMENT).read_text()
    (tmp_path / "sandbox").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "sandbox").chmod(0o755)
    subprocess.run([str(script)], check=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=20)
    assert not [*tmp_path.rglob("pwned")]
    assert "sandbox package layer profiles/Orders.yaml" in (tmp_path / writing.DEPLOYMENT).read_text()
    script.write_text("mine")
    assert f"{script}: is there, and stays as it is" in init(tmp_path).stdout
    assert script.read_text() == "mine"
    (tmp_path / ".gitlab-ci.yml").write_text("{}")
    init(tmp_path)
    assert yaml.safe_load((tmp_path / writing.GITLAB).read_text())["sandbox-profile"]["script"]


def test_nothing_outside_is_read_or_written(tmp_path: Path) -> None:
    """A link that leads out of the project is refused for reading, left out for writing, and no pipe is waited for."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    for folder in (project, outside):
        folder.mkdir()
    (outside / "template.yaml").write_text(SAM)
    (project / "template.yaml").symlink_to(outside / "template.yaml")
    with pytest.raises(UsageError, match="lies outside the project, by a link"):
        init(project)
    (project / "template.yaml").unlink()
    os.mkfifo(project / "template.yaml")
    with pytest.raises(UsageError, match="is not a file"):
        init(project)
    (project / "template.yaml").unlink()
    (project / "template.yaml").write_text(SAM.replace("src/orders/", "link"))
    (project / "link").symlink_to(outside)
    (project / ".github").symlink_to(outside)
    assert found(project)["Orders"].missing[0] == "its code lies outside this folder (link)"
    assert "lies outside the project, by a link" in init(project).stderr
    assert sorted(os.listdir(outside)) == ["template.yaml"]
    with pytest.raises(UsageError, match="describes no function"):
        init(outside / "..")


BOMB = "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)])
KEYS = "\n".join(["k0: &k0 {" + ", ".join(f"x{i}: y" for i in range(3000)) + "}"] + ["k: {<<: *k0}"] * 400)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 5000, "nested too deeply"), ("- " * 3000, "nested too deeply"), ("a: [1", "is not a template"),
        ("a: \0", "a character that YAML forbids"), ("--- a\n--- b", "is not a template"), (KEYS, "holds more than"),
        ("a: *b", "is not a template"), ("<<: &a {<<: *a}", ""), ("Resources: &r {F: *r}", ""), (BOMB, ""),
        ("Resources: [1, 2]", ""), ("Resources: {F: {Type: AWS::Lambda::Function, Properties: []}}", ""),
        ("Globals: !Sub x\nResources: {F: {Type: AWS::Serverless::Function, Properties: !If [a, b, c]}}", ""),
        ("Resources: {F: &f {Type: AWS::Serverless::Function, Properties: &p {CodeUri: !Sub [*p, {}]}}}", ""),
        ("%YAML 9\n---\na: b", "is not a template"), ("", ""), ("? [a]\n: b", ""),
    ],
)  # fmt: skip
def test_hostile_templates(tmp_path: Path, text: str, says: str) -> None:
    """Nesting, bombs of aliases, circles and wrong shapes give a located error, or functions with what is missing."""
    (tmp_path / "template.yaml").write_text(text)
    if not says:
        assert all(one.source.startswith("template.yaml") for one in found(tmp_path).values())
        return
    with pytest.raises(UsageError) as caught:
        found(tmp_path)
    assert says in caught.value.what
    assert caught.value.where.startswith(str(tmp_path / "template.yaml"))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60) | st.text("{}[]:,&*!-? \n<ab", max_size=60))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    """Whatever stands in a template or a Dockerfile, no other exception comes of it."""
    for source in ("template.yaml", "x.template.json"):
        with contextlib.suppress(UsageError):
            documents.parse(text, source)
    read_image(f"FROM a\nCMD {text}", "Dockerfile")
