"""The files of a project that may be read: regular ones inside its folder, of a size that a template has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.errors import UsageError

LARGEST = 1 << 20
"""Bytes; CloudFormation takes no larger template."""
MOST = 2000
"""Entries of a folder that are looked at."""


@dataclass(frozen=True)
class Folder:
    """A project's folder, by its path as it was given."""

    path: str

    def inside(self, *parts: str) -> str:
        """The path of something below, relative to the folder; '' where it lies outside, also by a link."""
        if any("\0" in part for part in parts):
            return ""
        base = os.path.realpath(self.path)
        target = os.path.realpath(os.path.join(base, *parts))
        if target != base and not target.startswith(base.rstrip("/") + "/"):
            return ""
        found = os.path.normpath(os.path.join(*parts)) if parts else "."
        return "" if found.startswith(("..", "/")) else found

    def is_file(self, *parts: str) -> bool:
        """Whether there is such a file inside."""
        return bool(found := self.inside(*parts)) and os.path.isfile(os.path.join(self.path, found))

    def is_folder(self, *parts: str) -> bool:
        """Whether there is such a folder inside."""
        return bool(found := self.inside(*parts)) and os.path.isdir(os.path.join(self.path, found))

    def names(self, *parts: str) -> list[str]:
        """The names in a folder inside, in order; none where there is no such folder."""
        if not self.is_folder(*parts):
            return []
        try:
            with os.scandir(os.path.join(self.path, *parts)) as entries:
                return sorted(entry.name for entry, _ in zip(entries, range(MOST), strict=False))
        except OSError:
            return []

    def text(self, path: str) -> str:
        """The text of a file inside. Raises UsageError for one that lies outside, is none, or is no text."""
        where = os.path.join(self.path, path)
        if not self.inside(path):
            raise UsageError("lies outside the project, by a link", where=where, todo="give the folder where it lies")
        try:
            descriptor = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", where=where, todo="check its mode") from error
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError("is not a file", where=where, todo="remove it, or give another folder")
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UsageError(f"larger than {LARGEST} bytes", where=where, todo="this is not a template")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError("is not UTF-8 text", where=where, todo="save it as UTF-8") from error

    def templates(self) -> Iterator[str]:
        """The files that say what is deployed, those of one tool together."""
        names = self.names()
        for name in ("template.yaml", "template.yml", "sam.yaml", "sam.yml"):
            if name in names:
                yield name
        for name in ("serverless.yml", "serverless.yaml", "serverless.json"):
            if name in names:
                yield name
        stages = [name for name in self.names("cdk.out") if name.startswith("assembly-")]
        for place in ("cdk.out", *(os.path.join("cdk.out", stage) for stage in stages)):
            for name in self.names(place):
                if name.endswith(".template.json"):
                    yield os.path.join(place, name)
        for name in ("Dockerfile", "Containerfile"):
            if name in names:
                yield name
