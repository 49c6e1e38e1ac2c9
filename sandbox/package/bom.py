"""The bill of materials of a guard folder: CycloneDX 1.6, JSON, without a date or a random number in it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from collections.abc import Sequence

import sandbox
from sandbox.errors import UsageError
from sandbox.package.contents import File

NAME = "bom.json"


def bom(function: str, files: Sequence[File]) -> File:
    """What the folder holds: ourselves, the libraries, and each file with its digest. Raises UsageError."""
    try:
        from cyclonedx.model import HashAlgorithm, HashType
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.contact import OrganizationalEntity
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise UsageError(
            f"the bill of materials needs cyclonedx-python-lib ({error})", where="sandbox package",
            todo="pip install 'seccomp-bootstrap[package]'",
        ) from error  # fmt: skip

    digest = hashlib.sha256(b"".join(file.path.encode() + hashlib.sha256(file.data).digest() for file in files))
    found = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest.hexdigest()))
    ours = OrganizationalEntity(name="seccomp-bootstrap")
    found.metadata.component = Component(
        name=function, type=ComponentType.APPLICATION, bom_ref="function", supplier=ours,
        version=digest.hexdigest()[:12],
    )  # fmt: skip
    libraries = {"seccomp-bootstrap": sandbox.__version__}
    if any(file.path.startswith("dnslib/") for file in files):
        libraries["dnslib"] = importlib.metadata.version("dnslib")
    for name, version in libraries.items():
        found.components.add(Component(name=name, version=version, type=ComponentType.LIBRARY, bom_ref=name))
    for file in files:
        found.components.add(
            Component(
                name=file.path, type=ComponentType.FILE, bom_ref=f"file:{file.path}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(file.data).hexdigest())],
            )
        )  # fmt: skip
    found.register_dependency(found.metadata.component, found.components)
    text = _without_moment(JsonV1Dot6(found).output_as_string(indent=1))
    return File(NAME, text.encode())


def _without_moment(text: str) -> str:
    """The document without its time stamp, which would make each package another."""
    document = json.loads(text)
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
