"""A Lambda Runtime API on loopback, and the life of the process that speaks to it.

with Environment(Function(command=("./bootstrap",), root="/srv/task")) as environment:
    outcome = environment.invoke(Invocation(payload=b"{}"))
"""

from sandbox.runtime_api.environment import Environment
from sandbox.runtime_api.model import PAYLOAD_LIMIT, STREAM_LIMIT, Function, Invocation, Outcome

__all__ = ["PAYLOAD_LIMIT", "STREAM_LIMIT", "Environment", "Function", "Invocation", "Outcome"]
