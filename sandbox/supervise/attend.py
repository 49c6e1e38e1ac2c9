"""The parent's side of a supervised start: load, protect itself, find the listener, supervise, end like the handler."""

from __future__ import annotations

import _signal as signal  # the core of signal, loaded anyway; signal itself loads enum
import gc
import os
import select

from sandbox.confine import parent
from sandbox.confine.parent import refuses_duplicates
from sandbox.errors import FunctionTerminated, log_entry
from sandbox.kernel import abi
from sandbox.kernel.notification import CallTable, Listener
from sandbox.supervise import opening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.bundle import Policy
    from sandbox.supervise.guardian import Above
    from sandbox.supervise.look import Look
    from sandbox.supervise.start import Duties
    from sandbox.supervise.supervisor import Supervisor
    from sandbox.violations.journal import Journal


def attend(
    pid: int, fd: int | None, policy: Policy, duties: Duties, journal: Journal | None, above: Above | None = None
) -> int:  # fmt: skip
    """Supervise the child `pid` to its end. Returns the exit status to end with, or ends by the child's signal.

    `fd` is the listener; None where the child has none. `journal` takes the reports; None for the usual one, which is
    made for the first.
    """
    wake = parent.wake_descriptor()
    if above:
        above.started(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    else:
        parent.forward_signals(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, parent.HELD)
    if fd is None:
        return _end_like(above, unheard(pid, wake, policy, journal, parent.above()))
    listener = Listener(fd)
    listener.set_sync_wake_up()
    init, early_sockets = init_tables(policy)
    look = make_look(policy, duties)
    split = opening.TableSplit(pid, fd, keep=(fd, wake))
    first = opening.answer(listener, init, wake, split, look)
    ended = None if first else parent.reaped(pid)
    if ended is not None and not parent.has_children():
        if journal:
            journal.finish()
        return _end_like(above, ended)
    supervisor = make_supervisor(policy, duties, init, early_sockets, journal, parent.above())
    supervisor.set_look(look)
    gc.enable()
    status = supervisor.run(pid, listener, wake, split, first, ended)
    if supervisor.terminated:
        return say_terminated(policy, supervisor)
    return _end_like(above, status)


def init_tables(policy: Policy) -> tuple[CallTable, CallTable | None]:
    """The calls of the init phase; apart from them those that make sockets, where the supervisor is to make them."""
    early = dict(policy.init_calls)
    if not refuses_duplicates():
        return CallTable(early), None
    socket = str(abi.number("socket"))
    sockets = CallTable({socket: early.pop(socket, ())})
    return CallTable(early), sockets


def make_look(policy: Policy, duties: Duties) -> Look | None:
    """What sees the path calls; None where they are not notified."""
    if not duties.looks:
        return None
    from sandbox.supervise.look import prepare

    return prepare(policy, duties.command, audit=duties.audit, rules=duties.rules)


def _end_like(above: Above | None, status: int) -> int:
    if above:
        above.ended(status)
    return parent.end_like(status)


def say_terminated(policy: Policy, supervisor: Supervisor) -> int:
    """The error of a function that was ended, in the log; returns the exit status."""
    error = FunctionTerminated(
        f"{supervisor.terminated}, after which it was ended", where=policy.function,
        todo="look at the violation line above; a person can grant the call in the profile",
    )  # fmt: skip
    from sandbox.violations.sink import tell

    tell(2, log_entry(error))
    return error.exit_code


def make_supervisor(
    policy: Policy, duties: Duties, init: CallTable, early_sockets: CallTable | None, journal: Journal | None,
    attendant: int = 0,
) -> Supervisor:  # fmt: skip
    """What decides about a function and reports. Raises what a sink that was asked for does.

    `early_sockets`, where the function's sockets are to be made for it, are those of the init phase. `attendant` is the
    process above this one that belongs to it, 0 for none.
    """
    from sandbox.confine.install import LANDLOCK_SCOPES
    from sandbox.egress.destinations import Destinations, api_addresses
    from sandbox.kernel import landlock
    from sandbox.supervise.decision import Decider
    from sandbox.supervise.supervisor import Supervisor
    from sandbox.violations.journal import Journal
    from sandbox.violations.record import Degraded
    from sandbox.violations.sink import Sink

    journal = journal or Journal(Sink(duties.events, duties.event_key), policy.function)
    supervision, audit = policy.supervision, duties.audit
    api: frozenset[tuple[str, int]] = frozenset()
    if duties.api:
        try:
            api = api_addresses(*duties.api)
        except (OSError, ValueError):
            api = frozenset()  # a name that nothing resolves: the function's own connect says the same
    destinations = Destinations(followed(supervision.destinations), api)
    owned = None
    if early_sockets:
        from sandbox.egress.owned import OwnedSockets

        allowed = CallTable({str(abi.number("socket")): supervision.sockets})
        owned = OwnedSockets(allowed, early_sockets, messages=audit or supervision.messages)
    supervisor = Supervisor(
        policy.function, abi.MACHINE, Decider(supervision, audit=audit), destinations, journal, init,
        runtime_api=supervision.runtime_api, one_phase=duties.one_phase, signals=policy.signals,
        scoped=landlock.abi_version() >= LANDLOCK_SCOPES, owned=owned,
        listen=followed(supervision.listen),
        receives=policy.names_receives, attendant=attendant,
    )  # fmt: skip
    supervisor.set_stand_ins(duties.stand_ins)
    if policy.exec == "granted":
        from sandbox.supervise import programs

        supervisor.set_programs(programs.granted(policy, duties.command))
    if destinations.has_names or audit:  # in audit whatever is asked for is told by its name
        from sandbox.names import FOR_GOOD, resolver

        forwarder = resolver.make(
            destinations.allows_name, supervisor.report_question, duties.local_domains,
            keep=policy.names_keep or FOR_GOOD, observing=audit, stand_ins=duties.stand_ins,
            reads_hosts=not attendant,
        )  # fmt: skip
        if forwarder is None and destinations.has_names:
            missing = (
                "dnslib is not there, or loopback cannot be bound: names cannot be resolved, their hosts not reached"
            )
            journal.write(Degraded(policy.function, missing))
        supervisor.set_forwarder(forwarder)
    if duties.relays and supervision.runtime_api:
        from sandbox.egress import relay

        found = relay.make()
        if found is None:
            missing = "loopback cannot be bound: the id of the request is not known"
            journal.write(Degraded(policy.function, missing))
        supervisor.set_relay(found)
    if duties.activity != "off":
        from sandbox.behaviour import anomaly
        from sandbox.supervise.activity import Follower

        supervisor.set_follower(Follower(
            policy.function, journal, full=duties.activity == "full", looks=duties.looks,
            runtime_api=supervision.runtime_api, most=supervision.most,
            answers=anomaly.of_invocations(supervision.on_anomaly, audit=audit),
        ))  # fmt: skip
    return supervisor


def unheard(
    pid: int, wake: int, policy: Policy, journal: Journal | None, attendant: int, ended: int | None = None
) -> int:  # fmt: skip
    """Wait for a child without a listener, end what it leaves, and finish the journal. Returns its wait status.

    `ended` is that status where it was reaped already. With the process `attendant` above this one the child ends, too.
    """
    while ended is None:
        if select.select([wake], [], [], 1.0)[0]:
            os.read(wake, 512)
        parent.end_without(attendant)
        ended = parent.all_reaped(pid)
    parent.end_rest()  # as with a supervisor
    if journal and journal.signs:  # its end says that there was nothing to report
        from sandbox.violations.record import Degraded

        why = "the kernel gave no listener: nothing that is refused is reported"
        journal.write(Degraded(policy.function, why))
        journal.finish()
    return ended


def followed(entries: Iterable[str]) -> list[str]:
    """The entries, and those of unix sockets also with their folder's links followed, as they lead before the start."""
    from sandbox.behaviour import destination

    found = list(entries)
    for entry in destination.entries(found):
        path = str(entry.value)
        if entry.kind == "path":
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        elif entry.kind == "folder":
            path = os.path.realpath(path or "/").rstrip("/")
        elif entry.kind == "pattern" and path.startswith("/"):
            folder = path.partition("*")[0].rpartition("/")[0]
            path = os.path.realpath(folder) + path.removeprefix(folder)
        else:
            continue
        text = destination.Entry("unix", entry.kind, path).text
        if text not in found:
            found.append(text)
    return found
