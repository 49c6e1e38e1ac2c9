"""Whether a policy is what was packaged: asked before anything is installed, where it lies in a package.

Without a key the manifest beside the policy says whether the two belong together, which tells damage and mix-ups. With
a public key from outside the package (SANDBOX_VERIFY_KEY) its signature and every file it lists are checked, by the
libcrypto that the interpreter brings.
"""

from __future__ import annotations

import os

from sandbox.bundle import FILE, nonblocking_opener, sha256
from sandbox.errors import PackageInvalid, UsageError
from sandbox.plain_json import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
AGAIN = "package it again: `sandbox package`"
LARGEST = 1 << 22

_ED25519 = 1087  # openssl/obj_mac.h: NID_ED25519
_DER = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410)."""


def listed(path: str, key: str) -> str:
    """The digest of a bundle's policy, as the manifest of the package says in which it lies.

    With `key`, the file of a public key, the whole package is verified first. Raises PackageInvalid, also for what is
    no bundle of the package.
    """
    folder, name = os.path.split(os.path.abspath(path))
    files = verify(folder, key) if key else files_of(folder, _read(os.path.join(folder, MANIFEST)))
    return _listed(folder, files, f"{name}/{FILE}")


class Listed:
    """One file of a manifest: its digest in hexadecimal, and its permissions in octal."""

    __slots__ = ("mode", "sha256")

    def __init__(self, sha256: str, mode: str) -> None:
        self.sha256 = sha256
        self.mode = mode


def files_of(folder: str, data: bytes) -> Mapping[str, Listed]:
    """What the manifest of a guard folder lists, by path. Raises PackageInvalid."""
    try:
        found = parse(data.decode())
        entries = found["files"]
        if found["format"] != 1 or not all(isinstance(entry["sha256"], str) for entry in entries.values()):
            raise ValueError("another format")
        files = {path: Listed(entry["sha256"], str(entry.get("mode", ""))) for path, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        where = os.path.join(folder, MANIFEST)
        raise PackageInvalid("is not a manifest that this version reads", where=where, todo=AGAIN) from error
    return files


def verify(folder: str, key_file: str = "") -> Mapping[str, Listed]:
    """Check that a guard folder holds what its manifest lists and nothing else, and with a public key who signed it.

    What the manifest lists. Raises PackageInvalid, also for links: what they lead to is somebody else's to change.
    """
    data = _read(os.path.join(folder, MANIFEST))
    if key_file and not os.path.exists(os.path.join(folder, SIGNATURE)):
        raise PackageInvalid("is not signed", where=folder, todo="package it with --sign, or ask for no signature")
    if key_file and not _signed(data, _read(os.path.join(folder, SIGNATURE)), _public_key(key_file)):
        raise PackageInvalid(
            "the signature is not of this manifest and key", where=os.path.join(folder, SIGNATURE),
            todo="do not start this package; fetch it again from where it was signed",
        )  # fmt: skip
    files = files_of(folder, data)
    for path in files:
        _compare(folder, files, path)
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            where = os.path.join(place, name)
            path = os.path.relpath(where, folder)
            if os.path.islink(where):
                raise PackageInvalid("is a link", where=where, todo="unpack the package as it is")
            if name in names and path not in files and path not in (MANIFEST, SIGNATURE):
                raise PackageInvalid("is not in the manifest", where=where, todo="remove it")
    return files


def _compare(folder: str, files: Mapping[str, Listed], path: str) -> None:
    where = os.path.join(folder, path)
    if sha256(_read(where)) != _listed(folder, files, path):
        raise PackageInvalid(f"is not what {MANIFEST} lists", where=where, todo=AGAIN)


def _listed(folder: str, files: Mapping[str, Listed], path: str) -> str:
    if path not in files:
        raise PackageInvalid(f"is not in {MANIFEST}", where=os.path.join(folder, path), todo=AGAIN)
    return files[path].sha256


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", opener=nonblocking_opener) as file:
            return file.read(LARGEST)
    except OSError as error:
        raise PackageInvalid(f"cannot be read: {error.strerror}", where=path, todo=AGAIN) from error


def _public_key(path: str) -> bytes:
    """The 32 bytes of an Ed25519 public key in PEM (openssl pkey -pubout)."""
    import binascii

    try:
        with open(path, "rb") as file:
            lines = file.read(LARGEST).split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path, todo="name the public key's file") from error
    try:
        data = binascii.a2b_base64(b"".join(line for line in lines if line and not line.startswith(b"-----")))
    except binascii.Error:
        data = b""
    if len(data) != len(_DER) + 32 or not data.startswith(_DER):
        raise PackageInvalid(
            "is no Ed25519 public key in PEM", where=path, todo="openssl pkey -in key.pem -pubout -out public.pem"
        )
    return data[len(_DER) :]


def _signed(data: bytes, signature: bytes, key: bytes) -> bool:
    """Ed25519 by OpenSSL's EVP interface (man 3 EVP_DigestVerify). Raises PackageInvalid where it is not there."""
    import ctypes

    for name in ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"):
        try:
            crypto = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        raise PackageInvalid("no libcrypto is here to verify with", where="SANDBOX_VERIFY_KEY", todo="install OpenSSL")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    crypto.EVP_PKEY_new_raw_public_key.restype = crypto.EVP_MD_CTX_new.restype = pointer
    crypto.EVP_PKEY_new_raw_public_key.argtypes = (ctypes.c_int, pointer, ctypes.c_char_p, size)
    crypto.EVP_DigestVerifyInit.argtypes = (pointer,) * 5
    crypto.EVP_DigestVerify.argtypes = (pointer, ctypes.c_char_p, size, ctypes.c_char_p, size)
    public, context = crypto.EVP_PKEY_new_raw_public_key(_ED25519, None, key, len(key)), crypto.EVP_MD_CTX_new()
    if not public or not context or crypto.EVP_DigestVerifyInit(context, None, None, None, public) != 1:
        raise PackageInvalid(
            "this libcrypto knows no Ed25519", where="SANDBOX_VERIFY_KEY", todo="use OpenSSL 1.1.1 or newer"
        )
    return bool(crypto.EVP_DigestVerify(context, signature, len(signature), data, len(data)) == 1)
