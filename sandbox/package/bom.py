"""Bills of materials: of a guard folder, and of the libraries that training met. CycloneDX 1.6, JSON.

Without a date or a random number in it: the same input gives the same text.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from collections.abc import Sequence

import sandbox
from sandbox.errors import missing_extra
from sandbox.package.contents import File
from sandbox.profile.model import Profile

NAME = "bom.json"
PROPERTY = "seccomp-bootstrap:"
"""How the names of our properties begin."""
EXECUTED = "executed"


def bom(function: str, files: Sequence[File]) -> File:
    """What the folder holds: ourselves, the libraries, and each file with its digest. Raises ExtraMissing."""
    _needs_cyclonedx()
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from cyclonedx.output.json import JsonV1Dot6

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


def libraries(profile: Profile) -> str:
    """The libraries that the trainings of a profile met, each with where: the text of the bill. Raises ExtraMissing.

    Properties tell whether its code was opened in the init phase, in events, or in a run, and where it stood on a stack
    that was read. So a scanner's finding in code that nothing loads ranks behind one in code that runs.
    """
    _needs_cyclonedx()
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    known = sorted(profile.libraries)
    digest = hashlib.sha256(repr((profile.function.name, known)).encode())
    found = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest.hexdigest()))
    found.metadata.component = Component(
        name=profile.function.name, type=ComponentType.APPLICATION, bom_ref="function"
    )  # fmt: skip
    phases = ("init", "invoke") if profile.function.runtime_api else ("run",)
    for library in known:
        url = PackageURL("pypi", name=library.name, version=library.version or None)
        met = {phase: getattr(library, phase) for phase in phases}
        executed = ", ".join(phase for phase in phases if met[phase] == EXECUTED)
        told = {**{phase: "loaded" if met[phase] else "no" for phase in phases}, EXECUTED: executed or "no"}
        found.components.add(
            Component(
                name=library.name, version=library.version or None, type=ComponentType.LIBRARY, purl=url,
                bom_ref=url.to_string(),
                properties=[Property(name=f"{PROPERTY}{key}", value=value) for key, value in told.items()],
            )
        )  # fmt: skip
    found.register_dependency(found.metadata.component, found.components)
    return _without_moment(JsonV1Dot6(found).output_as_string(indent=1))


def _needs_cyclonedx() -> None:
    """Raises ExtraMissing where it is not installed."""
    try:
        import cyclonedx  # noqa: F401
    except ImportError as error:
        raise missing_extra("cyclonedx-python-lib, which writes bills of materials", "package", error) from error


def _without_moment(text: str) -> str:
    """The document without its time stamp, which would make each package another."""
    document = json.loads(text)
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
