"""The supervisor: the handler's parent, which answers every call that the filter does not decide, and reports it.

One poll loop, no threads but those that sleep in a connect for their task. If it dies, the process above it ends the
function (guardian.py, or the launcher's attendant); where there is none the kernel answers what waits with ENOSYS.
"""

from __future__ import annotations

import errno
import os
import select
import time

from sandbox.behaviour import anomaly, arguments
from sandbox.behaviour.call import Call
from sandbox.confine import parent
from sandbox.egress.broker import Egress
from sandbox.egress.destinations import Denied
from sandbox.errors import shortage
from sandbox.kernel import tables
from sandbox.kernel.task import Task, Tasks
from sandbox.supervise.decision import (
    CONTINUE,
    DENY,
    REPORT,
    SIGNALS,
    TERMINATE,
    Decider,
    Decision,
    Signalling,
    keeps_owner,
)
from sandbox.supervise.link import LINK_AFTER_INIT, LINK_CONNECTING
from sandbox.supervise.opening import SPLIT_PAUSE
from sandbox.violations.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.behaviour.stand_ins import StandIns
    from sandbox.egress.brokered import Brokered
    from sandbox.egress.destinations import Destinations
    from sandbox.egress.owned import OwnedSockets
    from sandbox.egress.relay import Relay
    from sandbox.kernel.notification import CallTable, Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.names.forwarder import Forwarder
    from sandbox.supervise.activity import Follower
    from sandbox.supervise.executing import Executing
    from sandbox.supervise.look import Look, Looking
    from sandbox.supervise.programs import Programs
    from sandbox.supervise.reports import Reports

DRAIN = 0.2
"""Seconds after the handler's end in which waiting calls of its children are still answered."""

BROKERED = (*tables.WITH_DESTINATION, *tables.LISTENS)
"""The calls that the broker makes in the function's place."""


class Supervisor:
    """Everything that one handler's supervision needs. `run` returns the handler's wait status."""

    def __init__(
        self, function: str, arch: str, decider: Decider, destinations: Destinations, journal: Journal,
        init: CallTable, *, runtime_api: bool, one_phase: bool, signals: str, scoped: bool = False,
        owned: OwnedSockets | None = None, listen: Sequence[str] = (), receives: Sequence[str] = (), attendant: int = 0,
    ) -> None:  # fmt: skip
        """`owned` makes the function's sockets where they cannot be duplicated. `signals` is the policy's: `self` where
        every signal to others is notified, whatever its class. `scoped`: Landlock keeps signals in the function's
        domain, or in an audit would. `listen` are the entries for listeners. `one_phase`: the first connection to the
        Runtime API does not end the init phase. `receives` are the calls by which resolvers see who answered.
        `attendant` is the process above this one that belongs to it, 0 for none.
        """
        self._function = function
        self._arch = arch
        self._decider = decider
        self._init = init
        self._journal = journal
        self._one_phase = one_phase
        self._names = tables.names(arch)
        self._forwarder: Forwarder | None = None
        self._relay: Relay | None = None
        self._programs: Executing | None = None
        self._looking: Looking | None = None
        self._follower: Follower | None = None
        self.phase = "init" if runtime_api else "run"
        self.after_init: Callable[[], None] | None = None
        """Called when the init phase ends, before the call that ends it is answered."""
        self.terminated = ""
        self._pid = 0
        self._tasks = Tasks()
        self._ended: int | None = None
        self._loaded = False
        self._short: set[str] = set()
        self._reports: Reports | None = None
        self._listener: Listener | None = None
        self._attendant = attendant
        self._signalling = Signalling(decider, self_only=signals == "self", scoped=scoped, attendant=attendant)
        self.owned = owned
        self._receives = frozenset(receives)
        self._egress = Egress(
            destinations, self._connected, self._report_egress, owned, listen, suspects=self._suspects_egress
        )

    def set_forwarder(self, forwarder: Forwarder | None) -> None:
        """Send the function's DNS questions to this forwarder."""
        self._forwarder = self._egress.targets.forwarder = forwarder

    def set_stand_ins(self, stand_ins: StandIns | None) -> None:
        """Let these stand for what the function connects to."""
        self._egress.targets.stand_ins = stand_ins

    def set_relay(self, relay: Relay | None) -> None:
        """Let the function's way to the Runtime API lead through this relay, which knows the request that is served."""
        self._relay = self._egress.targets.relay = relay

    def set_programs(self, programs: Programs | None) -> None:
        """Let the function start these programs; None where its profile has no exec."""
        if programs is None:
            self._programs = None
            return
        from sandbox.supervise.executing import Executing

        self._programs = Executing(
            programs, self._decider, self._report, degraded=self._degraded, terminate=self._terminate,
            forget=self._tasks.forget, suspects=self._suspects,
        )  # fmt: skip

    def set_follower(self, follower: Follower) -> None:
        """Let this hear of each access, and of invocations where there is a relay."""
        self._follower = follower
        if self._relay:
            self._relay.follower = follower
        follower.terminate = self._end_for
        follower.at_begin = lambda: self._reporting().judge.forget()

    def _end_for(self, survivor: str) -> None:
        """End the function for what its invocation left behind, before it asks for the next event."""
        if self._relay:
            self._relay.stopped = True
        self._terminate(survivor, "left behind an invocation")

    def set_look(self, look: Look | None) -> None:
        """Look at the path calls, which are notified then; None where they are not. Behind `set_follower`."""
        if look is None:
            self._looking = None
            return
        from sandbox.supervise.look import Looking

        self._looking = Looking(
            look, self._decider, self._report, degraded=self._degraded, terminate=self._terminate,
            follower=self._follower,
        )  # fmt: skip

    def told(self, flags: int, id_: int) -> None:
        """What the attendant says of the call that it sends next (sandbox/supervise/link.py)."""
        if flags & LINK_AFTER_INIT and self.phase == "init":
            self.phase = "invoke"
        if flags & LINK_CONNECTING:
            self._egress.begun = id_

    def report_question(self, name: str, kind: str) -> None:
        """A DNS question for a name that the profile does not hold: NXDOMAIN, or answered in audit."""
        answer = REPORT if self._decider.audit else DENY
        if answer == REPORT:
            self._egress.targets.note_question(name)
        self._reporting().question(name, kind, answer, self.phase, self._pid)

    def report_packet(self, packet: bytes) -> None:
        """A question that the attendant has refused, as a DNS message."""
        from sandbox.names import questions

        question = questions.read_question(packet)
        if question:
            self.report_question(question.name or ".", question.type_name)

    def learn_name(self, name: str, host: bytes, seconds: float, fixed: bool) -> None:
        """The attendant has given a packed address for a name, or read it in the hosts file."""
        if self._forwarder:
            self._forwarder.learn(name, host, seconds, fixed)

    def _reporting(self) -> Reports:
        if self._reports is None:
            from sandbox.supervise.judging import make_judge
            from sandbox.supervise.reports import Reports

            judge = make_judge(self._decider, self._follower, waits=self._still_waits, degraded=self._degraded)
            self._reports = Reports(
                self._function, self._arch, self._journal, self._forwarder, self._relay, judge, self._follower
            )
        return self._reports

    def _still_waits(self, call: Notification) -> bool:
        return self._listener is not None and self._listener.is_valid(call.id)

    def _connected(self) -> None:
        if self.phase == "init" and not self._one_phase:
            self.phase = "invoke"
            if self.after_init:
                self.after_init()

    def run(
        self, pid: int, listener: Listener, wake: int, parted: Callable[[], bool],
        first: Notification | None = None, ended: int | None = None,
    ) -> int:  # fmt: skip
        """Answer until the handler has ended. Returns its wait status. `parted` is asked until it says yes.

        `first` is a call that was received already, `ended` the wait status when the handler was reaped already.
        """
        self._pid = self._tasks.handler = pid
        self._listener = listener
        listener_fd, source = listener.fd, listener.source
        poll = select.poll()
        poll.register(listener_fd, 0)  # its hang-up comes unasked
        poll.register(source, select.POLLIN)
        poll.register(wake, select.POLLIN)
        for fd in self._forwarder.descriptors() if self._forwarder else ():
            poll.register(fd, select.POLLIN)
        relay = self._relay.descriptor() if self._relay else -1
        if relay >= 0:
            poll.register(relay, select.POLLIN)
        owned = self.owned.descriptor() if self.owned else -1
        if owned >= 0:
            poll.register(owned, select.POLLIN)
        released = False
        if first:
            self._take_within_limits(listener, first)
        together = not parted()
        parent.end_without(self._attendant)
        deadline = time.monotonic() + DRAIN
        while ended is None or not (released or time.monotonic() >= deadline):
            for fd, event in poll.poll(SPLIT_PAUSE if together else self._timeout(ended, deadline)):
                if fd == source and event & select.POLLIN:
                    call = listener.receive()
                    if call:
                        self._take_within_limits(listener, call)
                        if call.id == self._egress.begun:  # whatever became of its caller, or of the address in its
                            self._connected()  # memory: the SYN is on its way
                elif fd in (listener_fd, source):
                    listener.finish()
                    poll.unregister(fd)
                    released = True
                    break  # what else was ready may have been heard by now
                elif fd == wake:
                    os.read(wake, 512)
                    parent.end_without(self._attendant)
                    found = self._reap()
                    if ended is None:  # a function's children may go on stopping and ending
                        ended, deadline = found, time.monotonic() + DRAIN
                elif fd == relay and self._relay:
                    self._relay.handle()
                elif fd == owned and self.owned:
                    self.owned.handle()
                elif self._forwarder:
                    self._forwarder.handle(fd, event)
            together = together and not parted()
            self._journal.tick()
            if self._forwarder:
                self._forwarder.tick()
            if self.owned:
                self.owned.tick()
            if self._programs:
                self._programs.tick()
            if self._follower:
                self._follower.tick()
        if self._relay:
            self._relay.finish()
        if self._follower:
            self._follower.finish()
        parent.end_rest()  # nothing survives into the next cold start
        self._journal.finish()
        return ended

    def _timeout(self, ended: int | None, deadline: float) -> int | None:
        waits = [] if ended is None else [max(0.0, deadline - time.monotonic())]
        others = (self._journal, self._forwarder, self.owned, self._programs, self._follower)
        dues = (other.timeout() for other in others if other)
        waits += [due for due in dues if due is not None]
        return int(min(waits) * 1000) + 1 if waits else None

    def _reap(self) -> int | None:
        """Collect everything that has ended; the handler's wait status when it was among them."""
        status = parent.all_reaped(self._pid, self._programs.heard if self._programs else None)
        found, self._ended = self._ended, None  # by an end that was made meanwhile
        return found if status is None else status

    def _take_within_limits(self, listener: Listener, call: Notification) -> None:
        """Answer a call; where a limit of ours keeps us from that it is refused, and the first time has its line."""
        try:
            self._take(listener, call)
        except (OSError, MemoryError, RuntimeError) as error:
            limit = shortage(error)
            if limit is None:
                raise
            listener.refuse(call.id, errno.EPERM)
            if limit.what not in self._short:
                self._short.add(limit.what)
                self._degraded(
                    f"supervision: {limit.what}: a call that we cannot decide for that is refused, without a line; "
                    + limit.todo
                )
        if not self._loaded:
            self._loaded = True
            from sandbox.violations.record import techniques

            self._reporting().meet(self._pid)  # while there are descriptors and memory for it
            techniques()

    def _take(self, listener: Listener, call: Notification) -> None:
        if self._programs and self._programs.waits:
            first = Task(call.pid)
            self._programs.meet(first)
            first.close()
        early = self.phase == "init" and self._init.allows(call)
        syscall = self._names.get(call.nr)
        if early and not (self._looking and syscall in tables.BY_PATH):
            listener.let_through(call.id)
            return
        if syscall is None:
            listener.refuse(call.id, errno.ENOSYS)
            return
        task = self._tasks.take(call.pid)
        try:
            if self._looking and (early or self._looking.look.calls.allows(call)):
                self._looking.answer(listener, call, self._asked(call, syscall), task, self.phase)
            else:
                self._answer(listener, call, syscall, task)
        finally:
            self._tasks.done(task)

    def _asked(self, call: Notification, syscall: str) -> Call:
        return Call(syscall, arguments.classify(syscall, call.args, self._arch))

    def _answer(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        asked = self._asked(call, syscall)
        if syscall == "socket" and asked.arg_class.startswith(tables.NETLINK):
            if self._decider.takes(asked, self.phase):
                self._egress.make_netlink(listener, call, task)
                return
        elif syscall == "socket" and self.owned and self.owned.allows(call, self.phase):
            self.owned.make(listener, call, task)
            return
        if (syscall in BROKERED or syscall in self._receives) and self._decider.takes(asked, self.phase):
            made = self._egress.take if syscall in BROKERED else self._egress.receive
            made(listener, call, syscall, task)
            return
        if self._programs and syscall in tables.EXECS:
            self._programs.answer(listener, call, syscall, task)
            return
        if syscall in SIGNALS:
            asked, decision = self._signalling.decide(asked, call.args, task, self.phase)
        elif self._decider.knows_refusal(asked) and (
            tolerated := self._decider.tolerated(asked, call.args, task, self.phase)
        ):
            decision = tolerated
        else:
            decision = self._decider.decide(asked, self.phase)
        if decision.answer == CONTINUE:
            listener.let_through(call.id)
            return
        if decision.answer in (DENY, REPORT) and syscall == "fchown" and keeps_owner(call.args, task):
            listener.answer(call.id, 0)  # nothing would change: nothing is done
            return
        if decision.answer == REPORT and self._reporting().makes_bytecode(call, task, asked, self.phase):
            decision = Decision(DENY)  # in silence, as it is enforced
        self._report(call, task, asked, decision)
        if decision.answer == REPORT:
            if self._looking and syscall in tables.BY_PATH:
                self._looking.answer(listener, call, asked, task, self.phase)
            elif syscall in BROKERED:
                self._egress.take(listener, call, syscall, task)
            elif syscall == "socket" and asked.arg_class.startswith(tables.NETLINK):
                self._egress.make_netlink(listener, call, task)
            elif syscall == "socket" and self.owned:
                self.owned.make(listener, call, task)
            else:
                listener.let_through(call.id)
            return
        if decision.answer == TERMINATE:
            self._terminate(str(asked))
        listener.refuse(call.id, errno.EPERM)

    def _degraded(self, why: str) -> None:
        from sandbox.violations.record import Degraded

        self._journal.write(Degraded(self._function, why))

    def _terminate(self, what: str, did: str = "made the call") -> None:
        """End the whole tree before its call is answered, orphans included: nothing of it runs on."""
        self.terminated = f"{did} {what}"
        status = parent.end_rest(self._pid)
        self._ended = self._ended if status is None else status

    def _report(
        self, call: Notification, task: Task, asked: Call, decision: Decision,
        target: str | None = None, address: SocketAddress | None = None, number: int = errno.EPERM,
    ) -> None:  # fmt: skip
        ends = self._reporting().report(call, task, asked, decision, self.phase, target, address, number)
        if ends and decision.answer != TERMINATE:
            self._terminate(str(asked))

    def _suspects(
        self, call: Notification, task: Task, asked: Call, section: str, entry: str, target: str,
        address: SocketAddress | None = None,
    ) -> bool:  # fmt: skip
        """Whether a detector keeps an access that an entry allows from being made; it has its line then."""
        answer = self._reporting().suspect(call, task, asked, self.phase, section, entry, target, address)
        if answer == anomaly.TERMINATE:
            self._terminate(f"{asked} {target}".strip())
        return answer in (anomaly.DENY, anomaly.TERMINATE)

    def _suspects_egress(self, brokered: Brokered, section: str, entry: str, target: str) -> bool:
        """The same of what the broker is about to make."""
        call, syscall = brokered.call, brokered.syscall
        asked = self._asked(call, syscall)
        return self._suspects(call, brokered.task, asked, section, entry, target, brokered.address)

    def _report_egress(self, call: Notification, task: Task, syscall: str, denied: Denied) -> bool:
        """Report what the broker met. Whether it is let through all the same: the response, or audit, says so."""
        asked = self._asked(call, syscall)
        answer = self._decider.response(asked, final=denied.final)
        decision = Decision(answer, denied.reason, denied.allow)
        self._report(call, task, asked, decision, denied.destination, denied.address)
        if answer == TERMINATE:
            self._terminate(f"{syscall} to {denied.destination}".strip())
        return answer == REPORT
