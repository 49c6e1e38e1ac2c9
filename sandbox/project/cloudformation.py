"""Functions of a SAM template, or of one that CDK wrote: AWS::Serverless::Function and AWS::Lambda::Function."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sandbox.project.dockerfile import read_image
from sandbox.project.documents import Resolver, Table, parse, table
from sandbox.project.files import Folder
from sandbox.project.function import Described

SERVERLESS = "AWS::Serverless::Function"
LAMBDA = "AWS::Lambda::Function"
NESTED = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}
DEEPEST, MOST = 3, 20
"""Templates within one another, and within one."""
Templates = tuple[str, ...]
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}


def functions(document: Table, source: str, folder: Folder, above: Templates = ()) -> Iterator[Described]:
    """The functions of a template, in its order, and of nested ones. `source` is its path below the folder.

    `above` are the templates that it is nested in: one that holds itself ends there.
    """
    tool = "cdk" if source.startswith("cdk.out") else "sam"
    common = table(document, "Globals", "Function")
    known = Resolver(table(document, "Parameters"))
    nested: list[str] = []
    for name, resource in table(document, "Resources").items():
        kind = table(resource).get("Type")
        kind = kind if isinstance(kind, str) else ""
        location = known.text(table(resource, "Properties").get(NESTED[kind])) if kind in NESTED else None
        path = folder.inside(os.path.dirname(source), location) if location else ""
        if path not in ("", *nested, *above, source) and folder.is_file(path) and len(above) < DEEPEST:
            nested.append(path)  # once, however often it is used
        if kind in (SERVERLESS, LAMBDA):
            yield _Reader(tool, source, folder, known, common if kind == SERVERLESS else Table()).read(name, resource)
    for path in nested[:MOST]:
        inner = parse(folder.text(path), os.path.join(folder.path, path))
        if isinstance(inner, Table):
            yield from functions(inner, path, folder, (*above, source))


def with_image(found: Described, path: str, folder: Folder) -> Described:
    """The same with what the Dockerfile at a path starts."""
    image = read_image(folder.text(path), path)
    return replace(
        found, code=os.path.dirname(path) or ".", command=image.command, handler=image.handler, image=image.image,
        runtime=image.runtime, missing=(*found.missing, *image.missing),
    )  # fmt: skip


class _Reader:
    def __init__(self, tool: str, source: str, folder: Folder, known: Resolver, common: Table) -> None:
        self.tool, self.source, self.folder, self.known, self.common = tool, source, folder, known, common
        self.beside = os.path.dirname(source)

    def read(self, name: str, resource: Table) -> Described:
        properties = table(resource, "Properties")
        said = self.known.text(properties.get("FunctionName"))
        line = f":{resource.line}" if resource.line else ""
        found = Described(self.tool, f"{self.source}{line}", said or name)
        found = replace(
            found,
            architecture=self._architecture(properties),
            variables=tuple(sorted({**self._variables(self.common), **self._variables(properties)})),
        )
        if self._value("PackageType", properties) == "Image" or "ImageUri" in table(properties, "Code"):
            return self._image(found, resource, properties)
        return self._zip(found, resource, properties)

    def _zip(self, found: Described, resource: Table, properties: Table) -> Described:
        for key, field in (("Runtime", "runtime"), ("Handler", "handler")):
            value = self._value(key, properties)
            if value is None:
                found = found.without(f"its {field} is not in {self.source} itself: pass it by hand")
            else:
                found = replace(found, **{field: value})  # type: ignore[arg-type]
        asset = table(resource, "Metadata").get("aws:asset:path")
        if "InlineCode" in properties or "ZipFile" in table(properties, "Code"):
            return found.without("its code stands in the template: put it into a file to train it")
        own = properties.get("Code" if "Code" in properties else "CodeUri", self.common.get("CodeUri", "."))
        code = asset if asset is not None else own
        return self._with_code(found, self.known.text(code))

    def _with_code(self, found: Described, code: str | None) -> Described:
        if code is None or "://" in code:
            return found.without(f"its code is not in this folder ({code or 'only a deployment knows where'})")
        path = self.folder.inside(self.beside, code)
        if not path:
            return found.without(f"its code lies outside this folder ({code})")
        if path.endswith((".zip", ".jar")):
            return replace(found, code=path).without(f"its code is packed in {path}: unpack it to train it")
        if not self.folder.is_folder(path):
            return replace(found, code=path).without(f"the folder of its code, {path}, is not there: build it first")
        return replace(found, code=path)

    def _image(self, found: Described, resource: Table, properties: Table) -> Described:
        metadata = table(resource, "Metadata")
        context = self.known.text(metadata.get("DockerContext", metadata.get("aws:asset:path", ".")))
        file = self.known.text(metadata.get("Dockerfile", metadata.get("aws:asset:dockerfile-path", "Dockerfile")))
        path = self.folder.inside(self.beside, context, file) if context and file else ""
        if not path or not self.folder.is_file(path):
            return found.without("its Dockerfile is not in this folder: train it in its image")
        found = with_image(found, path, self.folder)
        command = table(properties, "ImageConfig").get("Command")
        if isinstance(command, list) and command and isinstance(command[0], str):
            found = replace(found, handler=command[0])
        return found

    def _value(self, key: str, properties: Table) -> str | None:
        return self.known.text(properties.get(key, self.common.get(key)))

    def _architecture(self, properties: Table) -> str:
        listed = properties.get("Architectures", self.common.get("Architectures"))
        first = self.known.text(listed[0]) if isinstance(listed, list) and listed else None
        return ARCHITECTURES.get(first or "", "x86_64")

    def _variables(self, properties: Table) -> Table:
        return table(properties, "Environment", "Variables")
