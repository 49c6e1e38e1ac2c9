"""A profile becomes a bundle: compile, verify, and only then write. The same profile gives the same bytes.

In what the policy says of files `{root}`, `{python}` and `{venv}` stay names: a starter knows what they are here.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandbox import bundle
from sandbox.behaviour import anomaly, arguments, proc
from sandbox.behaviour.path import check, outermost
from sandbox.errors import SandboxError, UsageError, debugging, trace
from sandbox.kernel import bpf, tables
from sandbox.policy import attended, executables, ports, supervision
from sandbox.policy.compiler import halves
from sandbox.policy.encode import Calls, Compiled, encode
from sandbox.policy.listing import listing
from sandbox.policy.rules import Rules, exec_granted, signals_granted
from sandbox.policy.verify import Evidence, verify
from sandbox.profile import base
from sandbox.profile.model import Profile


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle by name, and what the verifier saw for each architecture."""

    files: Mapping[str, bytes]
    rules: Mapping[str, Rules]
    evidence: Mapping[str, Evidence]

    def policy(self, arch: str) -> bundle.Policy:
        """The policy as a starter would read it back from disk."""
        return bundle.decode(self.files[bundle.FILE], arch, bundle.FILE)


def build(profile: Profile, arches: Sequence[str] = tables.ARCHES) -> Bundle:
    """Compile and verify. Raises ProfileError, KernelUnsupported (no libseccomp) or PolicyUnverified."""
    filters = {arch: supervision.filters(profile, arch) for arch in arches}
    rules = {arch: both.plain for arch, both in filters.items()}
    evidence: dict[str, Evidence] = {}
    programs: dict[str, bpf.Program] = {}
    compiled: dict[str, tuple[Compiled, Compiled, Calls, Calls, Calls]] = {}
    for arch, both in filters.items():
        plain, programs[arch], evidence[arch] = _compiled(both.plain)
        supervised, *_ = _compiled(both.supervised)
        early = supervision.init_calls(both, supervision.receiving_calls(profile))
        served = supervision.served_calls(profile, both)
        compiled[arch] = plain, supervised, early, supervision.path_calls(profile, both), served
    unsupervised = ports.open_kinds(profile)
    if exec_granted(profile) and profile.processes:
        unsupervised += executables.description(profile).unsupervised
    if any(answer != anomaly.OFF for _, answer in profile.on_anomaly):
        unsupervised += ["anomalies: no detector is asked"]
    values = {
        "function": profile.function.name,
        "exec": "granted" if exec_granted(profile) else "single-use",
        "signals": "any" if signals_granted(profile) else "self",
        "audit_until": profile.audit_until,
        "provenance": _provenance(profile),
        **ports.description(profile),
        "unsupervised": unsupervised,
        "limits_proc": _limits_proc(profile),
        "looked": looked(profile),
        "unlooked": unlooked(profile),
        **{f"files.{name}": value for name, value in file_fields(profile).items()},
    }
    told = supervision.description(profile, filters)
    values["reads_netlink"] = supervision.reads_netlink(profile, filters.values())
    values["connects"] = supervision.connects(told)
    values["names_keep"] = profile.names_kept()
    values["names_receives"] = supervision.receiving_calls(profile)
    values.update(attended.description(profile))
    values["looks"] = supervision.looks(profile, filters.values())
    values["decider"] = "early" if supervision.needs_decider(profile) else "when-needed"
    files = {
        bundle.FILE: encode(values, compiled, told),
        bundle.LISTING: listing(profile, values, told, rules, programs, evidence).encode(),
    }
    return Bundle(files, rules, evidence)


def _compiled(rules: Rules) -> tuple[Compiled, bpf.Program, Evidence]:
    """Compile and verify a program: its bytes and the length of its head, itself, and what the verifier saw."""
    head, rest = halves(rules)
    program = head + rest
    return (bpf.pack(program), len(head)), program, verify(program, rules)


def _provenance(profile: Profile) -> dict[str, list[str]]:
    """On what the profile was learned, for a start to compare: all values of all trainings."""
    return {
        fact: sorted({value for training in profile.trainings for value in getattr(training, fact).split(", ")} - {""})
        for fact in bundle.FACTS
    }


def write(built: Bundle, directory: str) -> None:
    """Write the files, each in one step for whoever reads: a policy is the old one or the new one, whole.

    Raises UsageError when the directory cannot be written.
    """
    new = _first_missing(os.path.abspath(directory))
    try:
        os.makedirs(directory, exist_ok=True)
        for name in sorted(built.files):
            with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
                try:
                    file.write(built.files[name])
                    file.close()
                    os.chmod(file.name, 0o644)
                    os.replace(file.name, os.path.join(directory, name))
                except BaseException:
                    os.unlink(file.name)
                    raise
    except OSError as error:
        if new:
            shutil.rmtree(new, ignore_errors=True)
        raise UsageError(
            f"cannot be written: {error.strerror}", where=error.filename or directory, todo="choose another --output"
        ) from error


def _first_missing(directory: str) -> str:
    """The outermost folder that is to be made for a path, '' where all are there."""
    found = ""
    while not os.path.lexists(directory):
        found, directory = directory, os.path.dirname(directory)
    return found


def close(directory: str) -> None:
    """Take away everybody's right to write to a bundle: a function's user could own it."""
    for name in os.listdir(directory):
        os.chmod(os.path.join(directory, name), 0o444)
    os.chmod(directory, 0o555)


def compile_for_start() -> None:
    """Compile a profile for one architecture to standard output, for a starter that was given no bundle.

    argv: PROFILE ARCH. Exits with the error's own code and its message on standard error.
    """
    from sandbox.profile import document

    try:
        built = build(document.read(sys.argv[1]).checked().profile, (sys.argv[2],))
    except SandboxError as error:
        sys.stderr.write(f"sandbox: {error}\n" + (trace(error) if debugging(os.environ) else ""))
        sys.exit(error.exit_code)
    sys.stdout.buffer.write(built.files[bundle.FILE])


MAKES_PROGRAMS = "memfd_create"
"""Makes files outside every folder, on which Landlock has no rule (security/landlock/fs.c: MNT_INTERNAL)."""

RENAMES = ("rename", "renameat", "renameat2")


def file_fields(profile: Profile) -> dict[str, object]:
    """What a policy says of files, by the names of FileRules.

    Raises ProfileError for a pattern that no rule can express.

    `listed` is False for a profile that names no file at all (an imported one): then nothing is known, and nothing is
    limited. `limited` is False where no program is to be told from another: exec is closed whole, or the profile lists
    none. `memfd` is whether the function can start a program that lies in no folder, `renames` whether it can put one
    folder in the place of another.
    """
    where = profile.function.name
    reads = [check(pattern, where) for pattern in profile.reads]
    writes = [check(pattern, where) for pattern in profile.writes]
    programs = executables.description(profile)
    listed = bool(reads or writes)
    write = outermost([*writes, *(place.path for place in base.writable())])
    limited = exec_granted(profile) and bool(profile.processes)
    syscalls = _syscalls(profile)
    function = profile.function.runtime_api
    starts = any(arguments.classification(use.syscall) == "clone" for use in profile.uses) or exec_granted(profile)
    groups = {"connected": function or profile.network or "socket" in syscalls, "runtime": function or starts}
    added = base.readable(*(group for group, wanted in groups.items() if wanted))
    read = outermost([*reads, *(place.path for place in added)]) - write
    return {
        "listed": listed,
        "read": sorted(read) if listed else [],
        "write": sorted(write) if listed else [],
        "limited": limited,
        "programs": programs.rules if limited else [],
        "memfd": MAKES_PROGRAMS in syscalls,
        "renames": any(syscall in RENAMES for syscall in syscalls),
    }


def looked(profile: Profile) -> list[str]:
    """What a look at files holds that Landlock has no right for: lines for the status line."""
    found = []
    if _changes_attributes(profile):
        found.append("files: mode, owner, times and attributes by a path, not by a descriptor")
    if _limits_proc(profile):
        found.append("files: /proc of other processes and /proc/net, by the path alone, which code can race")
    return found


def unlooked(profile: Profile) -> list[str]:
    """What of files stays open, in spite of the rules, where no supervisor looks: lines for the status line."""
    changes = _changes_attributes(profile)
    found = ["files: mode, owner, times and attributes can be changed by any path"] if changes else []
    return [*found, *(["files: /proc shows command lines of other processes, and /proc/net"] * _limits_proc(profile))]


def _limits_proc(profile: Profile) -> bool:
    return not proc.is_open((*profile.reads, *profile.writes))


def _changes_attributes(profile: Profile) -> bool:
    return bool(_syscalls(profile) & {*tables.ATTRIBUTES})


def _syscalls(profile: Profile) -> set[str]:
    return {use.syscall for use in profile.uses} | {grant.syscall for grant in profile.grants}
