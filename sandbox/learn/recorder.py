"""The recorder: turns notifications into items, invocations and facts. Knows no sockets of its own and no output.

It stands between the listener (learn/observe.py) and whoever writes the observations: `take` is called for every call
that waits and says whether to let it through; `events` are what became known, in order.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.behaviour import arguments
from sandbox.behaviour.call import Call
from sandbox.kernel import tables
from sandbox.kernel.notification import Notification
from sandbox.learn import decode
from sandbox.learn.decode import Destination, Reader
from sandbox.learn.links import elsewhere

LAST_CALLS = 12
"""How many calls before a failure are told."""

Emit = Callable[[dict[str, Any]], None]


class Recorder:
    """State of one environment (one process tree). Not for several threads."""

    def __init__(
        self,
        arch: str,
        emit: Emit,
        *,
        api: frozenset[tuple[str, int]],
        denied: Mapping[str, Mapping[str, str]],
        granted: frozenset[str] = frozenset(),
    ) -> None:
        """`api` are the addresses of the Runtime API (none: a plain program), `denied` {syscall: {class or '': errno}}.

        `granted` are denied calls that a person allows all the same: `ptrace`, `prctl PR_SET_PTRACER`.
        """
        self._arch = arch
        self._emit = emit
        self._api = api
        self._denied = denied
        self._granted = frozenset(map(Call.parse, granted))
        self.reader = self._reader = Reader()
        self.names_of: Callable[[str], frozenset[str]] = lambda address: frozenset()
        self._names = tables.names(arch)
        self._masks = {nr: arguments.masks(name) for nr, name in self._names.items()}
        self._special = {
            nr: name for nr, name in self._names.items()
            if name in decode.OPENS or name in decode.EXECS or name in decode.SENDS or name in decode.ENTRIES
            or name in self._denied or name in ("connect", "clone3", "openat2", "bind", "truncate")
            or arguments.target_argument(name) is not None
        }  # fmt: skip
        self.phase = "init" if api else "run"
        self._items: dict[tuple[str, str, str], int] = {}
        self._cache: dict[tuple[str, int, tuple[int, ...]], int] = {}
        self._bucket: dict[int, int] = {}
        self._facts: set[tuple[str, ...]] = set()
        self._answer: tuple[str, str] | None = None
        self._pending: dict[tuple[int, int], Destination] = {}
        self._last: deque[str] = deque(maxlen=LAST_CALLS)
        self._started = False
        self._texts: list[str] = []
        self._counted = -1

    @property
    def items(self) -> int:
        """How many items were seen so far."""
        return len(self._items)

    def take(self, call: Notification) -> int:
        """Note one call; returns 0 to let it through or the errno to refuse it with.

        The launcher's own calls before the handler's exec are not noted.
        """
        self._counted = -1
        nr = call.nr
        name = self._names.get(nr)
        if name is None:
            return errno.ENOSYS
        if not self._started:
            self._started = name == "execve"
            if self._started:
                self._reader.forget(call.pid)
            return 0
        if nr in self._special:
            return self._take_special(call, name)
        args = call.args
        key = (self.phase, nr, tuple([args[i] & mask for i, mask in self._masks[nr]]))
        item = self._cache.get(key)
        if item is None:
            item = self._cache[key] = self._item(Call(name, arguments.classify(name, args, self._arch)))
        self._count(item)
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
            self._emit(
                {"event": "item", "id": found, "phase": self.phase, "syscall": call.syscall, "class": call.arg_class}
            )
        return found

    def _fact(self, *fact: str) -> None:
        if fact not in self._facts:
            self._facts.add(fact)
            self._emit({"event": fact[0], "value": fact[1], **({"mode": fact[2]} if len(fact) > 2 else {})})

    def _take_special(self, call: Notification, name: str) -> int:
        args, tid, reader = call.args, call.pid, self._reader
        if name in decode.SENDS:
            self._sending(tid, name, args)
        if name in ("write", "writev"):
            return 0  # part of the floor, notified only for the requests of clients that use it
        if name == "connect":
            self._connecting(tid, args)
        asked = Call(name, decode.item_class(reader, tid, name, args, self._arch))
        if name in self._denied:
            code = self._denied[name].get("", self._denied[name].get(asked.arg_class, ""))
            if code:
                return self._take_denied(asked, code)
        item = self._item(asked)
        if name in decode.OPENS:
            dirfd, at = decode.OPENS[name]
            text = reader.string(tid, args[at])
            path = reader.path(tid, args[dirfd] & arguments.LOW if dirfd is not None else None, text)
            self._opening(path, asked.arg_class)
            self._count(item)
            self._last[-1] += f" {path}"
        elif name in decode.EXECS:
            dirfd, at = decode.EXECS[name]
            text = reader.string(tid, args[at])
            path = reader.path(tid, args[dirfd] & arguments.LOW if dirfd is not None else None, text)
            if os.path.exists(path):  # PATH is searched by trying
                self._fact("exec", path)
            reader.forget(tid)
            self._count(item)
            self._last[-1] += f" {path}"
        else:
            self._changing(tid, name, args)
            self._count(item)
        return 0

    def _changing(self, tid: int, name: str, args: tuple[int, ...]) -> None:
        """Note the entries of folders that a call makes or removes, and the file that truncate(2) changes."""
        if name == "bind":
            place = decode.parse_sockaddr(self._reader.data(tid, args[1], min(args[2] & arguments.LOW, 128)))
            if place and place.family == "AF_UNIX" and place.host.startswith("/"):
                self._file(place.host, "entry")
        elif name == "truncate":
            self._file(self._path(tid, None, args[0], args), "write")
        for dirfd, at, made in decode.ENTRIES.get(name, ()):
            path = self._path(tid, dirfd, args[at], args)
            # `mkdir -p /tmp/a` asks for /tmp, too: a folder of the root that is there is not made.
            if os.path.lexists(path) if not made else os.path.dirname(path) != "/" or not os.path.lexists(path):
                self._file(path, "entry")

    def _path(self, tid: int, dirfd: int | None, address: int, args: tuple[int, ...]) -> str:
        folder = args[dirfd] & arguments.LOW if dirfd is not None else None
        return self._reader.path(tid, folder, self._reader.string(tid, address))

    def _opening(self, path: str, arg_class: str) -> None:
        mode = "read" if arg_class == "read" else "write"
        if arg_class == "create" and not os.path.lexists(path):
            self._file(path, "entry")
        if mode == "write" or os.path.lexists(path):
            self._file(path, mode)

    def _file(self, path: str, mode: str) -> None:
        if ("file", path, mode) not in self._facts:
            self._fact("file", path, mode)
            if real := elsewhere(path):
                self._fact("file", real, mode)

    def _take_denied(self, call: Call, code: str) -> int:
        """A hard-denied call is never an item: what a person granted stands under the profile's grants."""
        if call in self._granted or Call(call.syscall) in self._granted:
            self._last.append(f"{call} granted")
            return 0
        self._fact("denied", str(call))
        self._last.append(f"{call} refused")
        return int(getattr(errno, code))

    def _connecting(self, tid: int, args: tuple[int, ...]) -> None:
        place = decode.parse_sockaddr(self._reader.data(tid, args[1], min(args[2] & arguments.LOW, 128)))
        if place is None:
            return
        kind = "" if place.family == "AF_UNIX" else self._reader.socket_type(tid, args[0] & arguments.LOW)
        if kind != "udp" and (place.host, place.port) in self._api and place.family in ("AF_INET", "AF_INET6"):
            if self.phase == "init":
                self._close_bucket("init", {})
                self.phase = "invoke"
            self._fact("network", "runtime-api")
            return
        if kind == "udp":
            # getaddrinfo connects UDP sockets only to sort addresses: a destination when something is sent.
            self._pending[(self._reader.process(tid), args[0] & arguments.LOW)] = place
            return
        self._destination(tid, place, kind or "tcp")

    def _destination(self, tid: int, place: Destination, protocol: str) -> None:
        """Note a destination, by name where the function asked for one. Loopback has too many names to mean one."""
        if place.family == "AF_UNIX" and not place.host.startswith("@"):
            path = self._reader.path(tid, None, place.host)
            # Where it leads is what enforcement decides on.
            place = place._replace(host=os.path.realpath(path) if path.startswith("/") else path)
        named = protocol in ("tcp", "udp") and place.host not in ("127.0.0.1", "::1")
        names = self.names_of(place.host) if named else frozenset()
        for name in sorted(names):
            self._fact("network", f"{name}:{place.port}" if protocol == "tcp" else f"{protocol}://{name}:{place.port}")
        if not names:
            self._fact("network", place.text(protocol))

    def _sending(self, tid: int, name: str, args: tuple[int, ...]) -> None:
        how = decode.SENDS[name]
        fd = args[0] & arguments.LOW
        if self._pending:
            place = self._pending.pop((self._reader.process(tid), fd), None)
            # Closing is not notified: the number may stand for another socket or a file by now.
            if place and self._reader.peer(tid, fd) == place:
                self._destination(tid, place, "udp")
        addresses: list[bytes] = []
        if name == "sendto" and args[4]:
            addresses = [self._reader.data(tid, args[4], min(args[5] & arguments.LOW, 128))]
        elif how in ("message", "messages"):
            addresses = self._reader.message_addresses(tid, args[1], args[2] if how == "messages" else 1)
        for data in addresses:
            place = decode.parse_sockaddr(data)
            if place and place.family != "AF_NETLINK":
                kind = "" if place.family == "AF_UNIX" else self._reader.socket_type(tid, fd)
                self._destination(tid, place, kind or "udp")
        if self.phase == "invoke":
            request = decode.parse_request(self._reader.begin_of_sent(tid, how, args))
            if request:
                self._requested(request)

    def _requested(self, request: decode.ApiRequest) -> None:
        if request.kind == "next":
            # A client that asks twice has only reconnected: no invocation lies between.
            if self._answer:
                request_id, outcome = self._answer
                self._close_bucket("invocation", {"request": request_id, "outcome": outcome})
            self._answer = None
        elif request.kind in ("response", "error"):
            self._answer = (request.request_id, "ok" if request.kind == "response" else "error")
            if request.kind == "error":
                self._emit({"event": "failed", "request": request.request_id, "last": list(self._last)})
        elif request.kind == "init-error":
            self._emit({"event": "failed", "request": "", "last": list(self._last)})

    def _close_bucket(self, event: str, more: dict[str, Any]) -> None:
        self._emit({"event": event, **more, "items": {str(item): n for item, n in sorted(self._bucket.items())}})
        self._bucket = {}

    def finish(self, status: int) -> None:
        """The process ended with this exit status (as os.waitstatus_to_exitcode): tell what is left.

        A client that ended between /next and its answer leaves an unfinished invocation, which is told apart.
        """
        if self.phase == "init":
            self._close_bucket("init", {})
        elif self.phase == "run":
            self._close_bucket("run", {})
        elif self._answer:
            self._close_bucket("invocation", {"request": self._answer[0], "outcome": self._answer[1]})
        else:
            self._close_bucket("tail", {})
        self._emit({"event": "end", "status": status, "last": list(self._last)})
