"""The cloud resource that a function is, as --resource names it: an ARN."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.errors import UsageError

_ARN = re.compile(r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]+):([0-9]{12}):([\x21-\x7e]{1,512})")


@dataclass(frozen=True)
class Resource:
    """An Amazon Resource Name and its parts."""

    arn: str
    partition: str
    service: str
    region: str
    account: str

    @property
    def product(self) -> str:
        """The ARN under which Security Hub takes findings that an account sends itself."""
        return f"arn:{self.partition}:securityhub:{self.region}:{self.account}:product/{self.account}/default"


def resource(arn: str) -> Resource:
    """The parts of an ARN. Raises UsageError for what is not one, and for one without region and account."""
    found = _ARN.fullmatch(arn)
    if not found:
        todo = "write it as arn:aws:lambda:REGION:ACCOUNT:function:NAME"
        raise UsageError(f"{arn!r} is not the ARN of a function", where="--resource", todo=todo)
    return Resource(arn, found[1], found[2], found[3], found[4])
