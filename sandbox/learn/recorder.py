"""The recorder: turns notifications into items, invocations and facts. Knows no sockets of its own and no output.

It stands between the listener (learn/observe.py) and whoever writes the observations: `take` is called for every call
that waits and says whether to let it through; `emit` gets what became known, in order.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from sandbox.behaviour import access, arguments, destination, proc, socket_path
from sandbox.behaviour.access import Access
from sandbox.behaviour.aim import aim
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import below
from sandbox.behaviour.walker import KnownIds
from sandbox.kernel import sockaddr, tables
from sandbox.kernel.memory import socket_address
from sandbox.kernel.notification import Notification
from sandbox.kernel.sockaddr import SocketAddress
from sandbox.kernel.standing import Standing
from sandbox.kernel.task import Task, Tasks
from sandbox.learn import decode, links
from sandbox.learn.denials import Denials
from sandbox.learn.listening import Listening, Unsent
from sandbox.learn.loaded import Libraries
from sandbox.learn.records import (
    Connect,
    DeniedCall,
    End,
    Fact,
    Failure,
    FileAccess,
    Full,
    Listen,
    Loaded,
    Mode,
    NewFact,
    NewItem,
    Receive,
    Record,
    SoFar,
    Span,
    SpanKind,
)
from sandbox.learn.started import Started
from sandbox.learn.users import Users
from sandbox.learn.volumes import Replaced, volume

LAST_CALLS = 12
"""How many calls before a failure are told."""
MOST_FACTS = 20_000
"""Files, destinations and so on of one environment: a server may serve for good, under names that never end."""
LONGEST_NAME = 200
"""Characters of a path among the last calls."""
MOST_TASKS = 16
"""Tasks that stay open; more take turns, so that no number of children or threads exhausts descriptors."""
TEMPORARY = ("/tmp/", "/var/tmp/", "/dev/shm/")
"""What lies here is of an earlier run and gone at the next start: what a call would make counts as made."""
LOOPBACK = (b"\x7f\0\0\1", bytes(15) + b"\1")

Emit = Callable[[Record], None]


class Recorder:
    """State of one environment (one process tree). Not for several threads."""

    def __init__(
        self,
        arch: str,
        emit: Emit,
        *,
        api: frozenset[tuple[str, int]],
        denied: Denials,
        granted: frozenset[str] = frozenset(),
        places: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`api` are the addresses of the Runtime API (none: a plain program).

        `granted` are denied calls that a person allows all the same: `ptrace`, `prctl PR_SET_PTRACER`. `places` are
        the function's folders by name, as they are told with the observations.
        """
        self._arch = arch
        self._emit = emit
        self._api = api
        self._denied = denied
        self._granted = frozenset(map(Call.parse, granted))
        led = ((os.path.realpath(folder), folder.rstrip("/")) for folder in places.values() if folder != "/")
        self._places = [(real, spelled) for real, spelled in led if real not in (spelled, "/")]
        self.tasks = Tasks(MOST_TASKS, sees_every_exec=True)
        self._ids = KnownIds()
        self.named: list[bytes] = []
        """The addresses that the last noted connect or send names, as they were read; none for any other call."""
        self.leads: Callable[[SocketAddress], bool] = lambda address: False
        """Whether what goes to this address is a resolver's question: answered by names, and no destination."""
        self.names_of: Callable[[bytes], frozenset[str]] = lambda address: frozenset()
        self.asked_as: Callable[[bytes], frozenset[str]] = lambda address: frozenset()
        """The names by which destinations are learned, and those that an answer gave an address for."""
        self.users = Users()
        self.loaded = Libraries("", "")
        self._names = tables.names(arch)
        self._masks = {nr: arguments.masks(name) for nr, name in self._names.items()}
        self._special = {
            nr for nr, name in self._names.items()
            if name in access.CALLS or name in decode.SENDS
            or name in self._denied or name in ("connect", "listen", "clone3")
            or arguments.target_argument(name) is not None
        }  # fmt: skip
        self.phase = "init" if api else "run"
        self.stands: Callable[[], Standing] | None = None
        """Who says what stands below this process; None where nobody looks."""
        self._after_init: Standing | None = None
        self._items: dict[tuple[str, str, str], int] = {}
        self._cache: dict[tuple[str, int, tuple[int, ...]], int] = {}
        self._bucket: dict[int, int] = {}
        self._facts: dict[Fact, tuple[int, ...]] = {}
        self._full = False
        self._replaced = Replaced()
        self._programs = Started()
        self._reached: set[int] = set()
        self._refused: set[DeniedCall] = set()
        self._pid = os.getpid()
        self._answer: tuple[str, str] | None = None
        self._unsent = Unsent()
        self._listening = Listening()
        self._last: deque[str] = deque(maxlen=LAST_CALLS)
        self.started = False
        """Whether the handler's exec is past, so that calls are its own."""
        self._texts: list[str] = []
        self._counted = -1

    def take(self, call: Notification) -> int:
        """Note one call; returns 0 to let it through or the errno to refuse it with.

        The launcher's own calls before the handler's exec are not noted.
        """
        self._counted = -1
        self.named = []
        nr = call.nr
        name = self._names.get(nr)
        if name is None:
            return errno.ENOSYS
        if not self.started:
            self.started = name == "execve"
            if self.started:
                self.tasks.forget()
            return 0
        self._ids.hear(name, call.pid)
        if nr in self._special:
            task = self.tasks.take(call.pid)
            try:
                number = self._take_special(task, name, call.args)
                if self.users.asks(self._counted):
                    self._attribute(call, task)
                if name in tables.EXECS:
                    self.users.becomes(task.process())
                    self.tasks.forget(task.process())
                return number
            finally:
                self.tasks.done(task)
        args = call.args
        key = (self.phase, nr, tuple([args[i] & mask for i, mask in self._masks[nr]]))
        item = self._cache.get(key)
        if item is None:
            item = self._cache[key] = self._item(Call(name, arguments.classify(name, args, self._arch)))
        self._count(item)
        if item in self.users.dangerous:
            task = self.tasks.take(call.pid)
            try:
                self._attribute(call, task)
            finally:
                self.tasks.done(task)
        return 0

    def cancelled(self) -> None:
        """The last noted call was interrupted before it happened and will come again: count by effect."""
        item = self._counted
        if item in self._bucket:
            self._bucket[item] -= 1
            if not self._bucket[item]:
                del self._bucket[item]

    def _count(self, item: int) -> None:
        self._counted = item
        self._bucket[item] = self._bucket.get(item, 0) + 1
        self._last.append(self._texts[item])

    def _item(self, call: Call) -> int:
        key = (self.phase, *call)
        found = self._items.get(key)
        if found is None:
            found = self._items[key] = len(self._items)
            self._texts.append(str(call))
            self.users.heard(found, call)
            self._emit(NewItem(found, self.phase, call.syscall, call.arg_class))
        return found

    def _fact(self, fact: Fact, real: str = "", tid: int = 0) -> tuple[int, ...]:
        """Note a fact as of this span, and tell it if it is new. Returns its id, and those of what comes with it.

        `real` is where the path of a file that a task reads leads, '' where nobody should look (a server that may
        hang): with it come the volume that it lies in and the library that it belongs to.
        """
        ids = self._facts.get(fact)
        if ids is None:
            if len(self._facts) >= MOST_FACTS:
                if not self._full:
                    self._emit(Full(len(self._facts)))
                self._full = True
                return ()
            self._facts[fact] = ids = (len(self._facts),)
            self._emit(NewFact(ids[0], fact))
            if isinstance(fact, FileAccess) and fact.mode == "read" and real:
                if folder := volume(fact.path, real):
                    # With all below: the files of the next turn are others.
                    ids += self._fact(FileAccess(f"{folder}/**", "read"))
                if library := self.loaded.library(tid, real):
                    ids += self._fact(Loaded(*library, "loaded"))
                self._facts[fact] = ids
        self._reached.update(ids)
        return ids

    def _attribute(self, call: Notification, task: Task) -> None:
        """Note whose call this is."""
        for fact in self.users.answers(call, task, self._counted):
            self._fact(fact)

    def _take_special(self, task: Task, name: str, args: tuple[int, ...]) -> int:
        if name in decode.SENDS:
            self._sending(task, name, args)
        if name in ("write", "writev"):
            return 0  # part of the floor, notified only for the requests of clients that use it
        if name == "connect":
            self._connecting(task, args)
        asked = access.call_of(task, name, args, self._arch)
        if name in self._denied:
            number = self._denied.errno(asked.syscall, asked.arg_class)
            if number:
                return self._take_denied(task, asked, args, number)
        self._count(self._item(asked))
        if name == "listen":
            self._listens(self._listening.listen(task, args[0] & arguments.LOW))
        if name in access.CALLS:
            accesses = access.of_call(asked, args, task, self.phase, known=self._ids)
            if name == "bind":
                _, address = self._address(task, name, args)
                self._listens(self._listening.bind(task, args[0] & arguments.LOW, address, accesses))
            for one in accesses:
                self._accessed(one, task)
            if accesses and (name in tables.OPENS or name in tables.EXECS):
                self._last[-1] += f" {accesses[0].name or accesses[0].thing}"[:LONGEST_NAME]
        return 0

    def _listens(self, entries: Iterable[str]) -> None:
        for entry in entries:
            self.users.reached(self._fact(Listen(entry)))

    def _accessed(self, asked: Access, task: Task) -> None:
        """Note what a call asks for, where it will have it: a right comes from an effect, not from an attempt."""
        call, leftover = asked.call, asked.thing.startswith(TEMPORARY)
        if asked.error and not (leftover and asked.error == errno.EEXIST and call.syscall in tables.MKDIRS):
            return
        if asked.reach == access.PROGRAM:
            for path in links.told(asked)[:1]:
                if program := self._programs.program(path, asked, task):
                    self.users.reached(self._fact(program))
            return
        modes: tuple[Mode, ...] = ("read",) if asked.reach == access.READ else ("write",)
        if asked.entry or (leftover and call.arg_class == "create"):
            modes = ("entry", "write") if call.syscall in tables.OPENS else ("entry",)
        others = proc.of_others(asked.thing, task, self._pid)
        for path in (others,) if others else links.told(asked):
            for mode in modes:
                real = "" if asked.unsure or others else asked.thing
                ids = self._fact(FileAccess(self._as_placed(path), mode), real, task.tid)
                if mode != "read":
                    self.users.reached(ids, path)
        if asked.entry:
            self._replaced.made(asked.thing)
        elif asked.reach == access.READ and not asked.folder:
            folder = self._replaced.opened(asked.thing, asked.identity)
            if folder:
                self._fact(FileAccess(self._as_placed(below(folder)), "read"))

    def _as_placed(self, path: str) -> str:
        """The path under the spelling of the function's own folders, which a link may lead to."""
        for real, spelled in self._places:
            if path == real or path.startswith(f"{real}/"):
                return spelled + path.removeprefix(real)
        return path

    @staticmethod
    def _address(task: Task, name: str, args: tuple[int, ...]) -> tuple[bytes, SocketAddress | None]:
        """The address that a connect or bind names, as it is read and parsed."""
        at = tables.address_arguments(name)
        assert at is not None
        try:
            data = socket_address(task, args[at[0]], args[at[1]] & arguments.LOW)
        except OSError:  # the kernel refuses it the same
            return b"", None
        return data, sockaddr.parse(data)

    def _take_denied(self, task: Task, call: Call, args: tuple[int, ...], number: int) -> int:
        """A hard-denied call is never an item: what a person granted stands under the profile's grants."""
        if call in self._granted or Call(call.syscall) in self._granted:
            self._last.append(f"{call} granted")
            return 0
        refused = DeniedCall(str(call), self.phase, aim(call.syscall, args, task, self._pid))
        if refused not in self._refused:
            self._refused.add(refused)
            self._emit(refused)
        self._last.append(f"{call} refused")
        return number

    def _connecting(self, task: Task, args: tuple[int, ...]) -> None:
        data, address = self._address(task, "connect", args)
        if address is None:
            return
        self.named = [data]
        fd = args[0] & arguments.LOW
        kind = task.socket_kind(fd)
        if kind and not sockaddr.takes(kind[0], data):
            return  # the socket refuses it
        protocol = sockaddr.protocol(kind[1]) if kind and address.family != "AF_UNIX" else ""
        if protocol != "udp" and address.is_ip and (address.host, address.port) in self._api:
            if self.phase == "init":
                self._close_bucket("init")
                self.phase = "invoke"
            self._fact(Connect("runtime-api"))
            return
        if protocol in ("tcp", "udp") and self.leads(address):
            return
        if protocol == "udp":
            # Many connect UDP sockets only to see their own address: a destination when something is sent.
            self._sent_nothing(self._unsent.connects(task, fd, address))
        else:
            self._destination(task, fd, address, protocol or "tcp", data)

    def _destination(self, task: Task, fd: int, address: SocketAddress, protocol: str, data: bytes = b"") -> None:
        """Note a socket's destination, by name where the function asked for one. Loopback has too many to mean one.

        `data` is the address as it was read, for a unix socket.
        """
        value = address.value
        if address.family == "AF_UNIX" and isinstance(value, str) and not value.startswith("@"):
            # Where it leads is what enforcement decides on.
            address = SocketAddress(address.family, socket_path.shown(socket_path.connected(task, data[2:])))
        loopback = isinstance(value, bytes) and destination.is_loopback(destination.reached(value))
        if loopback and self._listening.is_own(task, fd, protocol, address.port):
            self._fact(Connect(destination.OWN))
            return
        names: set[str] = set()
        if protocol in ("tcp", "udp") and isinstance(value, bytes):
            names.update(self.names_of(value) if value not in LOOPBACK else ())
            if not names and destination.needs_own_entry(destination.reached(value)):
                # By the name it is looked up, by the address it is allowed.
                names = {"", *self.asked_as(value)}
        for name in sorted(names or {""}):
            self.users.reached(self._fact(Connect(destination.of_address(address, protocol, name).text)))

    def _sending(self, task: Task, name: str, args: tuple[int, ...]) -> None:
        fd = args[0] & arguments.LOW
        if connected := self._unsent.sends(task, fd):
            self._destination(task, fd, connected, "udp")
        headers = list(decode.headers(task, name, args))
        self.named = decode.sent_to(task, name, args, headers)
        for data in self.named:
            address = sockaddr.parse(data)
            kind = task.socket_kind(fd)
            if address and address.family != "AF_NETLINK" and (not kind or sockaddr.takes(kind[0], data)):
                protocol = sockaddr.protocol(kind[1]) if kind and address.family != "AF_UNIX" else ""
                if protocol in ("tcp", "udp") and self.leads(address):
                    continue
                self._destination(task, fd, address, protocol or "udp", data)
        if self.phase == "invoke":
            request = decode.parse_request(decode.begin_of_sent(task, name, args, headers))
            if request:
                self._requested(request)

    def _sent_nothing(self, addresses: Iterable[SocketAddress]) -> None:
        """Note datagram sockets that were connected for their own addresses, unless a name gave the others."""
        packed = [one.value for one in addresses if isinstance(one.value, bytes)]
        if any(not (self.asked_as(one) or (self.names_of(one) and one not in LOOPBACK)) for one in packed):
            self._fact(Connect(destination.ROUTES))

    def note_name(self, name: str) -> None:
        """A name was asked for, and there is such a name."""
        self._fact(Connect(destination.Entry(destination.LOOKED_UP, "name", name).text))

    def note_receive(self, syscall: str) -> None:
        """A resolver sees by this call who answered."""
        self._fact(Receive(syscall))

    def _requested(self, request: decode.ApiRequest) -> None:
        if request.kind == "next":
            # A client that asks twice has only reconnected: no invocation lies between.
            if self._answer:
                self._close_bucket("invocation", *self._answer)
            elif self._after_init is None and self.stands:
                self._after_init = self.stands()
            self._answer = None
        elif request.kind in ("response", "error"):
            self._answer = (request.request_id, "ok" if request.kind == "response" else "error")
            if request.kind == "error":
                self._emit(Failure(request.request_id, tuple(self._last)))
        elif request.kind == "init-error":
            self._emit(Failure("", tuple(self._last)))

    def _close_bucket(self, kind: SpanKind, request: str = "", outcome: str = "ok") -> None:
        self._sent_nothing(self._unsent.gone(self.tasks))
        self._emit(Span(kind, self._bucket, request, outcome, frozenset(self._reached), self._left(kind)))
        self._bucket = {}
        self._reached = set()
        self._refused = set()
        self.users.forget()

    def _left(self, kind: SpanKind) -> Mapping[str, int]:
        """How many more things stand at the end of an invocation than did when the first was asked for."""
        if kind != "invocation" or not self.stands or not self._after_init:
            return {}
        return self.stands().grown(self._after_init)

    def so_far(self) -> None:
        """Tell what a plain program, whose run is one span, did by now."""
        if self.phase == "run":
            self._emit(SoFar(self._bucket, frozenset(self._reached)))

    def finish(self, status: int) -> None:
        """The process ended with this exit status (as os.waitstatus_to_exitcode): tell what is left.

        A client that ended between /next and its answer leaves an unfinished invocation, which is told apart.
        """
        if self.phase == "init":
            self._close_bucket("init")
        elif self.phase == "run":
            self._close_bucket("run")
        elif self._answer:
            self._close_bucket("invocation", *self._answer)
        else:
            self._close_bucket("tail")
        self._emit(End(status, tuple(self._last)))
