"""The parent's side of a supervised start: load, protect itself, find the listener, supervise, end like the handler."""

from __future__ import annotations

import ctypes
import os
import select

from sandbox.enforce import parent
from sandbox.enforce.handover import end_like
from sandbox.errors import FunctionTerminated
from sandbox.kernel import abi
from sandbox.supervise import resolver
from sandbox.supervise.decision import Decider
from sandbox.supervise.destinations import Destinations
from sandbox.supervise.supervisor import Supervisor
from sandbox.violations.journal import Journal
from sandbox.violations.sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.bundle import Policy
    from sandbox.supervise.start import Handover


def attend(pid: int, handover: Handover, policy: Policy, environment: Mapping[str, str], *, audit: bool) -> int:
    """Supervise the child `pid` to its end. Returns the exit status to end with, or ends by the child's signal."""
    wake = parent.wake_descriptor()
    parent.forward_signals(pid)
    parent.set_property(parent.PR_SET_DUMPABLE, 0)
    parent.set_property(parent.PR_SET_CHILD_SUBREAPER, 1)
    key = environment.get("SANDBOX_EVENT_KEY", "")
    forget_environment()
    sink = Sink(environment.get("SANDBOX_EVENTS", ""), os.fsencode(key) if key else None)
    api = environment.get("AWS_LAMBDA_RUNTIME_API", "")
    supervision = policy.supervision
    destinations = Destinations(supervision["destinations"], api_addresses(api))
    journal = Journal(sink, policy.function)
    supervisor = Supervisor(
        policy.function, abi.MACHINE, Decider(supervision, abi.MACHINE, audit=audit), destinations, journal,
        runtime_api=supervision["runtime-api"], audit=audit,
    )  # fmt: skip
    if destinations.has_names:
        forwarder = resolver.make(destinations.allows_name, supervisor.report_question, environment, observing=audit)
        if forwarder is None:
            missing = (
                "dnslib is not there, or loopback cannot be bound: names cannot be resolved, their hosts not reached"
            )
            journal.write({"event": "degraded", "function": policy.function, "reason": missing})
        supervisor.use(forwarder)
    listener = handover.wait(pid)
    if listener is None:
        status = _wait(pid, wake)
    else:
        _let_go(pid, listener, keep=(listener, wake))
        status = supervisor.run(pid, listener, wake)
    if supervisor.terminated:
        error = FunctionTerminated(
            f"made the call {supervisor.terminated}, after which it was ended", where=policy.function,
            todo="look at the violation line above; a person can grant the call in the profile",
        )  # fmt: skip
        os.write(2, f"sandbox: {error.error_type}: {error}\n".encode(errors="backslashreplace"))
        return error.exit_code
    return end_like(status)


def _wait(pid: int, wake: int) -> int:
    """An unsupervised child: only wait for its end."""
    while True:
        select.select([wake], [], [], 1.0)
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status


def api_addresses(api: str) -> frozenset[tuple[str, int]]:
    """The addresses of the Runtime API's `host:port`."""
    import socket

    host, _, port = api.rpartition(":")
    if not api:
        return frozenset()
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return frozenset()
    return frozenset((str(entry[4][0]), int(port)) for entry in found)


def forget_environment() -> None:
    """Overwrite what /proc/PID/environ shows of this process: the event key must not reach the handler."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[47]), int(fields[48])  # env_start, env_end (man 5 proc: fields 50 and 51)
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def _let_go(pid: int, listener: int, keep: tuple[int, ...]) -> None:
    """Once the child's exec has parted the descriptor tables, close what was meant for the handler alone.

    A pipe or socket that the platform handed over must end when the handler ends, not when the supervisor does.
    """
    # The listener is close-on-exec: when the child has it no more, its exec is done.
    waiting = select.poll()
    while os.path.lexists(f"/proc/{pid}/fd/{listener}"):
        waiting.poll(1)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and fd not in keep and os.get_inheritable(fd):
                os.close(fd)
        except OSError:
            continue  # the descriptor of this very listing
