"""The manifest of a guard folder: a digest of every file in it, and optionally a signature over the manifest.

    {"format": 1, "function": "thumbnail", "files": {"policy/policy.bin": {"sha256": "...", "mode": "644"}, ...}}

The bootstrap compares the policy's files with it at each start; with a public key (SANDBOX_VERIFY_KEY) it checks the
signature and all files. Who can replace the package can replace the manifest too: the anchor is the key, and it must
come from somewhere else (sandbox/start/integrity.py, docs/security.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from sandbox.errors import UsageError, missing_extra
from sandbox.package.contents import File

FORMAT = 1
NAME = "manifest.json"
SIGNATURE = "manifest.sig"
"""64 bytes, Ed25519 (RFC 8032) over the manifest's bytes."""


def manifest(function: str, files: Iterable[File]) -> File:
    """The manifest of a guard folder's other files."""
    entries = {
        file.path: {"sha256": hashlib.sha256(file.data).hexdigest(), "mode": f"{file.mode:o}"}
        for file in sorted(files, key=lambda file: file.path)
    }
    text = json.dumps({"format": FORMAT, "function": function, "files": entries}, indent=1)
    return File(NAME, f"{text}\n".encode())


def signature(signed: File, key_file: str) -> File:
    """The signature of a manifest by a private key (Ed25519, PEM). Raises UsageError or ExtraMissing."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise missing_extra("cryptography, which signs manifests", "package", error) from error
    todo = "make one: openssl genpkey -algorithm ed25519 -out key.pem"
    try:
        with open(key_file, "rb") as file:
            key = load_pem_private_key(file.read(), password=None)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=key_file, todo=todo) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"is not an unencrypted private key: {error}", where=key_file, todo=todo) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError("is not an Ed25519 key", where=key_file, todo=todo)
    return File(SIGNATURE, key.sign(signed.data))
