"""A violation or an anomaly as a Detection Finding of OCSF 1.5.0 (class 2004), for Security Lake and SIEMs.

Numbers and captions are those of the schema's `detection_finding` with the profiles `security_control` and, where the
resource is known, `cloud`.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sandbox import __version__
from sandbox.alerts import attack
from sandbox.alerts.resource import Resource
from sandbox.behaviour import destination
from sandbox.errors import ProfileError, printable
from sandbox.violations.reader import Line, describe, explained, moment
from sandbox.violations.record import DENIED, REPORTED, TERMINATED, Suspected, Violation

VERSION = "1.5.0"
FINDINGS, DETECTION_FINDING, CREATE = 2, 2004, 1
SEVERITIES = {"low": (2, "Low"), "medium": (3, "Medium"), "high": (4, "High")}
UNRATED = (0, "Unknown")
ACTIONS = {
    DENIED: ((2, "Denied"), (2, "Blocked")), TERMINATED: ((2, "Denied"), (2, "Blocked")),
    REPORTED: ((3, "Observed"), (15, "Detected")),
}  # fmt: skip
"""What became of a call, as (action, disposition), each with its number."""
LET_THROUGH = ACTIONS[REPORTED]
RULE, BEHAVIORAL = (1, "Rule"), (2, "Behavioral")
AWS_ACCOUNT = (10, "AWS Account")
PRODUCT = "seccomp-bootstrap"


def uid(line: Line) -> str:
    """A name that no other line has, the same however often the log is read."""
    if line.supervisor and line.seq is not None:
        return f"{line.supervisor}-{line.seq}"
    return hashlib.sha256(line.text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def title(record: Violation | Suspected) -> str:
    """`openat read of /etc/passwd denied`, safe to print."""
    what = f"{record.call} of {record.target}" if record.target else str(record.call)
    return printable(f"{what} {record.verdict if isinstance(record, Violation) else 'suspected'}")


def finding(line: Line, resource: Resource | None = None) -> dict[str, object] | None:
    """The finding of a line, times in milliseconds since 1970; None for a line that tells of no call."""
    record = line.call
    if record is None:
        return None
    milliseconds = round(record.time * 1000)
    severity = SEVERITIES.get(record.risk, UNRATED)
    action, disposition = ACTIONS.get(record.verdict, LET_THROUGH) if isinstance(record, Violation) else LET_THROUGH
    attacks = list(attack.attacks(record.technique))
    analytic = BEHAVIORAL if record.anomaly else RULE
    sequence = {} if line.seq is None else {"sequence": line.seq}
    return {
        "activity_id": CREATE, "activity_name": "Create", "category_uid": FINDINGS, "category_name": "Findings",
        "class_uid": DETECTION_FINDING, "class_name": "Detection Finding",
        "type_uid": DETECTION_FINDING * 100 + CREATE, "type_name": "Detection Finding: Create",
        "time": milliseconds, "severity_id": severity[0], "severity": severity[1], "status_id": 1, "status": "New",
        "action_id": action[0], "action": action[1], "disposition_id": disposition[0], "disposition": disposition[1],
        "is_alert": True, "message": describe(record),
        "metadata": {
            "version": VERSION, "uid": uid(line), "profiles": ["security_control", *(["cloud"] if resource else [])],
            "product": {"name": PRODUCT, "vendor_name": PRODUCT, "version": __version__}, **sequence,
            "original_time": moment(record.time), "log_name": "supervisor",
        },
        "finding_info": {
            "uid": uid(line), "title": title(record), "desc": printable(explained(record)),
            "created_time": milliseconds, "types": [type(record).event],
            "analytic": {
                "uid": record.anomaly or "profile", "name": record.anomaly or "profile", "type_id": analytic[0],
                "type": analytic[1],
            },
            **({"attacks": attacks} if attacks else {}),
        },
        **({"attacks": attacks} if attacks else {}),
        "evidences": [_evidence(line, record)],
        "resources": [_resource(record, resource)],
        **({"cloud": _cloud(resource)} if resource else {}),
        "unmapped": {
            "phase": record.phase, "request": record.request, "class": record.arg_class, "target": record.target,
            "allow": record.allow,
        },
    }  # fmt: skip


def _evidence(line: Line, record: Violation | Suspected) -> dict[str, object]:
    process = {"pid": record.pid, "tid": record.tid, **({"name": record.comm} if record.comm else {})}
    errno = record.errno if isinstance(record, Violation) else ""
    response = {"response": {"error": errno}} if errno else {}
    found: dict[str, object] = {
        "api": {"operation": record.syscall, "service": {"name": "kernel"}, **response},
        "process": process, "data": {"args": list(record.args), "by": line.fields.get("by")},
    }  # fmt: skip
    if record.target.startswith("/"):
        name = record.target.rstrip("/").rpartition("/")[2] or "/"
        found["file"] = {"name": name, "path": record.target, "type_id": 0}
    elif record.target and (endpoint := _endpoint(record.target)):
        found["dst_endpoint"] = endpoint
    return found


def _endpoint(target: str) -> dict[str, Any]:
    """The network endpoint that a destination names; empty for anything else."""
    try:
        entry = destination.parse(target)
    except ProfileError:
        return {}
    if entry.kind not in ("address", "name"):
        return {}
    value = entry.value
    host = {"ip": destination.written(value)} if isinstance(value, bytes) else {"hostname": value}
    return host if entry.port == destination.ANY_PORT else {**host, "port": entry.port}


def _resource(record: Violation | Suspected, resource: Resource | None) -> dict[str, object]:
    name = record.function or "unknown"
    if resource is None:
        return {"name": name, "type": "function"}
    return {
        "name": name, "type": "AWS::Lambda::Function" if resource.service == "lambda" else resource.service,
        "uid": resource.arn, "cloud_partition": resource.partition, "region": resource.region,
    }  # fmt: skip


def _cloud(resource: Resource) -> dict[str, object]:
    account = {"uid": resource.account, "type_id": AWS_ACCOUNT[0], "type": AWS_ACCOUNT[1]}
    return {
        "provider": "AWS", "region": resource.region, "cloud_partition": resource.partition, "account": account,
    }  # fmt: skip
