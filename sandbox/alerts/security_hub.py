"""Findings in the format of AWS Security Hub (ASFF, schema 2018-10-08), in batches that BatchImportFindings takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from sandbox.alerts import attack
from sandbox.alerts.finding import PRODUCT, title, uid
from sandbox.alerts.resource import Resource
from sandbox.errors import printable
from sandbox.violations.reader import Line, explained, moment
from sandbox.violations.record import Suspected, Violation, cut

MOST = 100
"""Findings in one call of BatchImportFindings."""
LONGEST = 120_000
"""Bytes of one batch: an argument of a program holds 131,072 (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h)."""
LABELS = {"high": "HIGH", "medium": "MEDIUM", "low": "LOW"}
TACTICS = frozenset({
    "Initial Access", "Execution", "Persistence", "Privilege Escalation", "Defense Evasion", "Credential Access",
    "Discovery", "Lateral Movement", "Collection", "Command and Control",
})  # fmt: skip
"""What ASFF's types know below `TTPs`."""
UNUSUAL = "Unusual Behaviors/Process"
"""The type of what serves another tactic."""


def finding(line: Line, resource: Resource) -> dict[str, object] | None:
    """The finding of a line; None for a line that tells of no call."""
    record = line.call
    if record is None:
        return None
    at = moment(record.time)
    told = {
        "Phase": record.phase, "Request": record.request or "", "Call": str(record.call), "Target": record.target,
        "Verdict": record.verdict if isinstance(record, Violation) else "", "Technique": record.technique,
        "Detector": record.anomaly, "Allow": record.allow, "By": str(record.by or ""),
    }  # fmt: skip
    return {
        "SchemaVersion": "2018-10-08", "Id": f"{resource.arn}/{PRODUCT}/{uid(line)}", "ProductArn": resource.product,
        "GeneratorId": f"{PRODUCT}/{record.anomaly or 'profile'}", "AwsAccountId": resource.account,
        "Types": sorted(_types(record)), "CreatedAt": at, "UpdatedAt": at,
        "Severity": {"Label": LABELS.get(record.risk, "INFORMATIONAL")}, "Title": cut(title(record), 256),
        "Description": cut(printable(explained(record)) or title(record), 1024),
        "ProductFields": {f"sandbox/{key}": cut(printable(text), 1024) for key, text in told.items() if text},
        "Process": {"Name": cut(printable(record.comm), 64) or "unknown", "Pid": record.pid},
        "Resources": [{
            "Type": "AwsLambdaFunction" if resource.service == "lambda" else "Other", "Id": resource.arn,
            "Partition": resource.partition, "Region": resource.region,
        }],
        "RecordState": "ACTIVE", "Workflow": {"Status": "NEW"},
    }  # fmt: skip


def batches(lines: Iterable[Line], resource: Resource) -> Iterator[list[Mapping[str, object]]]:
    """The findings of the lines, as many together as one call takes."""
    batch: list[Mapping[str, object]] = []
    size = 0
    for line in lines:
        found = finding(line, resource)
        if found is None:
            continue
        length = len(json.dumps(found)) + 2
        if batch and (len(batch) == MOST or size + length > LONGEST):
            yield batch
            batch, size = [], 0
        batch.append(found)
        size += length
    if batch:
        yield batch


def _types(record: Violation | Suspected) -> set[str]:
    found = attack.technique(record.technique)
    if found is None:
        return {UNUSUAL}
    name = found.technique.name.replace("/", " or ")  # a slash separates the parts of a type
    return {f"TTPs/{one.name}/{name}" if one.name in TACTICS else UNUSUAL for one in found.tactics}
