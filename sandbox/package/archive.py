"""Archives of the same bytes for the same input: sorted members, one date, fixed modes and owners."""

from __future__ import annotations

import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence

from sandbox.errors import UsageError
from sandbox.package.contents import EXECUTABLE, PLAIN, File

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can say."""
UNIX = 3
DOS_FOLDER = 0x10
"""FILE_ATTRIBUTE_DIRECTORY, by which some programs know a folder."""
KINDS = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)
LARGEST = 250 << 20
"""Bytes that a function's code may take unzipped on AWS Lambda, and so the most that is read of one."""


def zipped(files: Iterable[File]) -> bytes:
    """A zip; only folders that are given have members of their own."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(files, key=lambda file: file.path):
            folder = file.kind == stat.S_IFDIR
            info = zipfile.ZipInfo(file.path + "/" * folder, EPOCH)
            info.create_system = UNIX
            info.compress_type = zipfile.ZIP_STORED if folder else zipfile.ZIP_DEFLATED
            info.external_attr = (file.kind | file.mode) << 16 | DOS_FOLDER * folder
            archive.writestr(info, file.data)
    return out.getvalue()


def tarred(files: Iterable[File]) -> bytes:
    """A tar of plain files that can be an image's layer: owner root, folders with members of their own."""
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
            member = _member(file.path, tarfile.REGTYPE, file.mode)
            member.size = len(file.data)
            archive.addfile(member, io.BytesIO(file.data))
    return out.getvalue()


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, mode, 0
    member.uname = member.gname = "root"
    return member


def unzipped(path: str) -> Sequence[File]:
    """The members of a zip that is to be repacked, folders included.

    Raises UsageError for what is not a zip, for names that are not UTF-8, for encrypted, absolute and climbing members,
    for devices, for members of which one would take another's place, and for more than a platform would unpack.
    """
    todo = "make the package again with your build tool"
    found: dict[str, File] = {}
    try:
        with zipfile.ZipFile(path, metadata_encoding="utf-8") as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LARGEST:
                raise UsageError(f"unpacks to more than {LARGEST >> 20} MiB", where=path, todo=todo)
            for member in members:
                file = _file(path, archive, member)
                if not file.path:  # the folder itself
                    continue
                if file.path in found:
                    raise UsageError(f"holds {file.path!r} more than once", where=path, todo=todo)
                found[file.path] = file
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=path, todo="name a zip file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"holds a name that is not UTF-8: {error.object!r}", where=path, todo=todo) from error
    except (
        zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, IndexError, OverflowError, struct.error,
        zlib.error, lzma.LZMAError,
    ) as error:  # fmt: skip
        raise UsageError(f"cannot be read as a zip: {error}", where=path, todo=todo) from error
    for name in found:
        folder = name.rpartition("/")[0]
        while folder:
            if folder in found and found[folder].kind != stat.S_IFDIR:
                raise UsageError(f"holds {name!r} below {folder!r}, which is not a folder", where=path, todo=todo)
            folder = folder.rpartition("/")[0]
    return list(found.values())


def _file(path: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> File:
    """A member as it would lie on a platform: its name without empty parts and dots. Raises UsageError."""
    name = member.filename
    if member.flag_bits & 1:
        raise UsageError(f"holds {name!r}, which is encrypted", where=path, todo="platforms cannot unpack that either")
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in member.orig_filename:
        raise UsageError(f"holds {name!r}, which leads out of its folder", where=path, todo="do not use this package")
    mode = member.external_attr >> 16 if member.create_system == UNIX else 0
    kind = stat.S_IFMT(mode) or (stat.S_IFDIR if member.is_dir() else stat.S_IFREG)
    if kind not in KINDS or (kind == stat.S_IFDIR) != member.is_dir():
        todo = "package files, folders and symbolic links"
        raise UsageError(f"holds {name!r}, which is neither a file nor a folder", where=path, todo=todo)
    standard = EXECUTABLE if kind == stat.S_IFDIR else PLAIN
    with archive.open(member) as file:
        data = file.read(member.file_size)  # a read without a size would unpack what the size belies
    name = "/".join(part for part in name.split("/") if part not in ("", "."))
    return File(name, data, stat.S_IMODE(mode) if mode else standard, kind)


def untarred(path: str) -> Sequence[File]:
    """The files of a tar that `sandbox package image` wrote.

    Raises UsageError for what that never writes: links, devices, names that come twice or lead out.
    """
    found: dict[str, File] = {}
    total = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name, data = member.name, archive.extractfile(member) if member.isreg() else None
                if name.startswith("/") or ".." in name.split("/"):
                    raise UsageError(f"holds {name!r}, which leads out of its folder", where=path, todo="do not use it")
                if name in found or not (data or member.isdir()):
                    raise UsageError(f"holds {name!r} twice, or as a link", where=path, todo="do not use it")
                total += member.size
                if total > LARGEST:
                    raise UsageError(f"unpacks to more than {LARGEST >> 20} MiB", where=path, todo="do not use it")
                if data:
                    found[name] = File(name, data.read(member.size), member.mode)
            return list(found.values())
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise UsageError(f"cannot be read as a tar: {error}", where=path, todo="name a tar file") from error
