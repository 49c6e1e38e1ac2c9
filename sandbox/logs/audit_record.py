"""The kernel's own record of a call that seccomp ended or logged: `type=1326`, in a log of auditd, dmesg or journald.

    audit: type=1326 audit(1700000000.123:45): auid=0 uid=0 gid=0 ses=1 pid=7 comm="sh" exe="/bin/dash" sig=31
    arch=c000003e syscall=101 compat=0 ip=0x7f12 code=0x80000000

It says neither of which function nor of which filter: an engine's counts like ours (kernel/seccomp.c, seccomp_log;
kernel/auditsc.c, audit_seccomp). So function and phase are empty, and no line of a profile is proposed.
"""

from __future__ import annotations

import re

from sandbox.kernel import tables
from sandbox.plain_json import encode
from sandbox.violations.reader import LATEST, Line
from sandbox.violations.record import DENIED, REPORTED, TERMINATED, Violation

BEGIN = re.compile(rb"(?:\btype=(?:1326|SECCOMP)\b|\bSECCOMP(?= auid=))")
NOT_READ = "a record of type 1326 that is cut"
LONGEST = 8192
"""Bytes of a record with two paths of 4096 in hexadecimal at least: MAX_AUDIT_MESSAGE_LENGTH (linux/audit.h)."""
_FIELD = re.compile(rb'(\w+)=("[^"]*"|[^\s"]+)')
_MOMENT = re.compile(rb"audit\((\d{1,12}(?:\.\d{1,6})?):\d+\)")
_ARCHES = {number: arch for arch, number in tables.AUDIT_ARCH.items()}
_CODES = {
    0x80000000: ("SECCOMP_RET_KILL_PROCESS", TERMINATED), 0: ("SECCOMP_RET_KILL_THREAD", TERMINATED),
    0x30000: ("SECCOMP_RET_TRAP", DENIED), 0x50000: ("SECCOMP_RET_ERRNO", DENIED),
    0x7FC00000: ("SECCOMP_RET_USER_NOTIF", REPORTED), 0x7FF00000: ("SECCOMP_RET_TRACE", REPORTED),
    0x7FFC0000: ("SECCOMP_RET_LOG", REPORTED),
}  # fmt: skip
"""Actions of seccomp(2), and what became of the call."""


def parse(text: bytes, number: int, time: float | None) -> Line | None:
    """The record that a text begins with, as BEGIN finds it; None for one that is cut or altered.

    `time` is the envelope's, for a text that names none.
    """
    text = text[:LONGEST]
    moment = _MOMENT.search(text)
    time = float(moment[1]) if moment else time
    said = {match[1].decode(): match[2].decode("utf-8", "replace") for match in _FIELD.finditer(text)}
    try:
        arch, syscall, code = int(said["arch"], 16), int(said["syscall"]), int(said["code"], 16)
        pid = int(said["pid"])
    except (KeyError, ValueError):
        return None
    if time is None or not 0 <= time <= LATEST or code & 0xFFFF0000 not in _CODES or pid < 0:
        return None
    action, verdict = _CODES[code & 0xFFFF0000]
    known = _ARCHES.get(arch)
    name = tables.names(known).get(syscall, "") if known else ""
    record = Violation(
        function="", phase="", request=None, pid=pid, tid=pid, comm=_text(said.get("comm", "")),
        syscall=name or f"syscall-{syscall}-of-{known or f'{arch:x}'}", arg_class="", args=[], target="",
        verdict=verdict, errno="", reason=f"the kernel's record of {action}, by {_text(said.get('exe', '?'))}",
        allow="", time=time,
    )  # fmt: skip
    fields = {"event": record.event, "time": record.time, **record.fields()}
    return Line(number, encode(fields), record, None, None, 0, fields)


def _text(value: str) -> str:
    """What a process named: in quotes, or in hexadecimal where a character could be taken for the record's own."""
    if value.startswith('"'):
        return value.strip('"')
    try:
        return bytes.fromhex(value).decode("utf-8", "replace")
    except ValueError:
        return value
