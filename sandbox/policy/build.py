"""A profile becomes a bundle: compile, verify, and only then write. The same profile gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandbox import bundle
from sandbox.errors import UsageError
from sandbox.kernel import bpf, tables
from sandbox.policy import files as file_rules
from sandbox.policy import supervision, twin
from sandbox.policy.compiler import halves
from sandbox.policy.listing import listing
from sandbox.policy.rules import Rules, exec_granted, network_scope, signals_granted
from sandbox.policy.verify import Evidence, verify
from sandbox.profile import document
from sandbox.profile.model import Profile


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle by name, and what the verifier saw for each architecture."""

    files: Mapping[str, bytes]
    rules: Mapping[str, Rules]
    evidence: Mapping[str, Evidence]

    def policy(self, arch: str) -> bundle.Policy:
        """The policy as the launcher would read it back from disk."""
        return bundle.decode(self.files[bundle.FILE], self.files.__getitem__, arch, bundle.FILE)


def build(profile: Profile, arches: Sequence[str] = tables.ARCHES) -> Bundle:
    """Compile and verify. Raises ProfileError, KernelUnsupported (no libseccomp) or PolicyUnverified."""
    files: dict[str, bytes] = {}
    entries: dict[str, dict[str, object]] = {}
    compiled = {arch: supervision.filters(profile, arch) for arch in arches}
    rules = {arch: both.plain for arch, both in compiled.items()}
    programs: dict[str, bpf.Program] = {}
    evidence: dict[str, Evidence] = {}
    for arch, both in compiled.items():
        plain, (programs[arch], evidence[arch]) = _compiled(files, f"{arch}.bpf", both.plain)
        supervised, _ = _compiled(files, f"{arch}.supervised.bpf", both.supervised)
        entries[arch] = plain | {"supervised": supervised}
    description = {
        "format": bundle.FORMAT,
        "function": profile.function.name,
        "profile": hashlib.sha256(document.write(profile).encode()).hexdigest(),
        "exec": "granted" if exec_granted(profile) else "single-use",
        "signals": "any" if signals_granted(profile) else "self",
        "network": network_scope(profile),
        "bind": any(use.syscall in ("bind", "listen") for use in profile.uses),
        "canary": "seccomp",
        "files": file_rules.description(profile),
        "audit-until": profile.audit_until,
        "provenance": _provenance(profile),
        "supervision": supervision.description(profile, compiled),
        "filters": entries,
    }
    files[bundle.FILE] = bundle.seal(json.dumps(description, indent=2))
    files[twin.FILE] = twin.encode(description, files[bundle.FILE])
    files["listing.txt"] = listing(profile, rules, programs, evidence).encode()
    return Bundle(files, rules, evidence)


def _compiled(
    files: dict[str, bytes], name: str, rules: Rules
) -> tuple[dict[str, object], tuple[bpf.Program, Evidence]]:
    """Compile, verify and file a program: what policy.json says of it, itself, and what the verifier saw."""
    head, rest = halves(rules)
    program = head + rest
    evidence = verify(program, rules)
    files[name] = bpf.pack(program)
    digest = hashlib.sha256(files[name]).hexdigest()
    entry = {"file": name, "instructions": len(program), "head": len(head), "sha256": digest}
    return entry, (program, evidence)


def _provenance(profile: Profile) -> dict[str, list[str]]:
    """On what the profile was learned, for the launcher to compare: all values of all trainings."""
    fields = ("libc", "kernel", "architecture", "python", "handler_digest", "lock_digest")
    return {
        field: sorted(
            {value for training in profile.trainings for value in getattr(training, field).split(", ")} - {""}
        )
        for field in fields
    }


def write(built: Bundle, directory: str) -> None:
    """Write the files, policy.json last, so that a reader never sees a new description with old programs.

    Raises UsageError when the directory cannot be written.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        for name in sorted(built.files, key=lambda name: (name == bundle.FILE, name)):
            with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
                file.write(built.files[name])
            os.chmod(file.name, 0o644)
            os.replace(file.name, os.path.join(directory, name))
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror}", where=error.filename or directory, todo="choose another --output"
        ) from error


def close(directory: str) -> None:
    """Take away everybody's right to write to a bundle: a function's user could own it."""
    for name in os.listdir(directory):
        os.chmod(os.path.join(directory, name), 0o444)
    os.chmod(directory, 0o555)
