"""Archives of the same bytes for the same input: sorted members, one date, fixed modes and owners."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Sequence

from sandbox.errors import UsageError
from sandbox.package.contents import File

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can say."""
UNIX = 3
LARGEST = 250 << 20
"""Bytes that a function's code may take unzipped on AWS Lambda, and so the most that is read of one."""


def zipped(files: Iterable[File]) -> bytes:
    """A zip; folders have no members of their own."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(files, key=lambda file: file.path):
            info = zipfile.ZipInfo(file.path, EPOCH)
            info.create_system = UNIX
            info.compress_type = zipfile.ZIP_DEFLATED
            kind = stat.S_IFLNK if file.link else stat.S_IFREG
            info.external_attr = (kind | file.mode) << 16
            archive.writestr(info, file.data)
    return out.getvalue()


def tarred(files: Iterable[File]) -> bytes:
    """A tar that can be an image's layer: owner root, folders with members of their own."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders: set[str] = set()
        for file in sorted(files, key=lambda file: file.path):
            parts = file.path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    archive.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
            member = _member(file.path, tarfile.SYMTYPE if file.link else tarfile.REGTYPE, file.mode)
            if file.link:
                member.linkname = file.data.decode()
                archive.addfile(member)
            else:
                member.size = len(file.data)
                archive.addfile(member, io.BytesIO(file.data))
    return out.getvalue()


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, mode, 0
    member.uname = member.gname = "root"
    return member


def unzipped(path: str) -> Sequence[File]:
    """The members of a zip that is to be repacked.

    Raises UsageError for what is no zip, for encrypted, repeated, absolute and climbing members, and for more than a
    platform would unpack.
    """
    todo = "make the package again with your build tool"
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            names = [member.filename for member in members]
            for member in members:
                _check(path, member)
            if len(set(names)) != len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise UsageError(f"holds {', '.join(twice[:3])} more than once", where=path, todo=todo)
            if sum(member.file_size for member in members) > LARGEST:
                raise UsageError(f"unpacks to more than {LARGEST >> 20} MiB", where=path, todo=todo)
            return [_file(member, archive.read(member)) for member in members]
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=path, todo="name a zip file") from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise UsageError(f"is no zip that can be read: {error}", where=path, todo=todo) from None


def _check(path: str, member: zipfile.ZipInfo) -> None:
    name = member.filename
    if member.flag_bits & 1:
        raise UsageError(f"holds {name!r} encrypted", where=path, todo="platforms cannot unpack that either")
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in member.orig_filename:
        raise UsageError(f"holds {name!r}, which leads out of its folder", where=path, todo="do not use this package")


def _file(member: zipfile.ZipInfo, data: bytes) -> File:
    mode = member.external_attr >> 16
    if member.create_system != UNIX or not mode:
        return File(member.filename, data)
    return File(member.filename, data, stat.S_IMODE(mode) & 0o777, stat.S_ISLNK(mode))


def untarred(path: str) -> Sequence[File]:
    """The members of a tar that `sandbox package image` wrote. Raises UsageError."""
    try:
        with tarfile.open(path) as archive:
            found = []
            for member in archive.getmembers():
                name = member.name
                if name.startswith("/") or ".." in name.split("/"):
                    raise UsageError(f"holds {name!r}, which leads out of its folder", where=path, todo="do not use it")
                data = archive.extractfile(member) if member.isreg() else None
                if data:
                    found.append(File(name, data.read(LARGEST), member.mode))
            return found
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"is no tar that can be read: {error}", where=path, todo="name a tar file") from None
