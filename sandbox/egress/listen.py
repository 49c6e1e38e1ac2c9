"""Where a function listens: bind(2) and listen(2), decided by address and made on a duplicate of the task's socket.

A bind to a port of the function's choice is decided as listening. A port that the kernel chooses is bound by clients,
too: it is decided when the socket listens, and for a datagram socket never. So a listen on a socket without an address,
which Landlock does not see, is decided here as well: it means every address of the host.

The file of a unix socket is made by the path that the function wrote, since the socket is called by it afterwards
(man 7 unix, getsockname). A process of the supervisor's own makes it, which Landlock confines to the folder that was
decided on: a link that changes meanwhile leads nowhere.
"""

from __future__ import annotations

import errno
import os

from sandbox.behaviour import listener, socket_path
from sandbox.behaviour.destination import Entry, clean_path, is_loopback
from sandbox.egress import sockets
from sandbox.egress.destinations import Denied
from sandbox.egress.targets import parsed, suspects_nothing
from sandbox.kernel import landlock, seccomp, sockaddr
from sandbox.kernel.memory import socket_address
from sandbox.kernel.sockaddr import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, AF_UNSPEC, SOCK_DGRAM, SOCK_RAW
from sandbox.kernel.task import socket_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.egress.brokered import Answer, Brokered
    from sandbox.egress.targets import Suspects, Targets
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task

LOW = 0xFFFFFFFF
MOST = 1024
"""Sockets that are remembered as bound to an address that was decided on, and as the function's own."""


class Listens:
    """Decides and makes the calls of tables.LISTENS. For `report` see `Egress` (sandbox/egress/broker.py)."""

    def __init__(
        self, entries: Iterable[str], targets: Targets, report: Callable[[Notification, Task, str, Denied], bool],
        suspects: Suspects = suspects_nothing,
    ) -> None:  # fmt: skip
        """`entries` are those of a profile's `listen`. Raises ProfileError for one that says nothing known."""
        self._entries = [listener.parse(text) for text in entries]
        self._targets = targets
        self._report = report
        self._suspects = suspects
        self._decided: dict[int, None] = {}
        self._own: dict[tuple[str, int], list[bytes]] = {}

    def is_own(self, protocol: str, address: bytes, port: int) -> bool:
        """Whether the function is bound to this address of loopback, or to every one, or was."""
        bound = self._own.get((protocol, port), ()) if is_loopback(address) else ()
        return any(one == address or (not any(one) and len(one) == len(address)) for one in bound)

    def take(self, brokered: Brokered) -> Answer | None:
        """Make one call. Raises Denied, OSError."""
        return self._bind(brokered) if brokered.syscall == "bind" else self._listen(brokered)

    def _bind(self, brokered: Brokered) -> Answer | None:
        call = brokered.call
        address = socket_address(brokered.task, call.args[1], call.args[2] & LOW)
        if not brokered.listener.is_valid(call.id):
            return None
        brokered.address = parsed(address)
        if brokered.domain == AF_UNIX:
            return 0, self._bind_unix(brokered, address)
        inet = brokered.domain in (AF_INET, AF_INET6)
        if inet:
            self._decide(brokered, address)
        elif brokered.domain != AF_NETLINK:
            self._targets.judge_family(brokered)
        number = sockets.bind(brokered.fd, address)
        if inet and not number and brokered.socket_type == SOCK_DGRAM:
            self.note(brokered)
        return 0, number

    def _decide(self, brokered: Brokered, address: bytes) -> None:
        """Decide on the address that an IPv4 or IPv6 socket is to be bound to."""
        if int.from_bytes(address[:2], "little") == AF_UNSPEC:
            # Taken for the socket's own family (net/ipv4/af_inet.c, __inet_bind).
            address = brokered.domain.to_bytes(2, "little") + address[2:]
        named = parsed(address)
        if named is None or not named.is_ip or not named.port or brokered.socket_type == SOCK_RAW:
            return  # the kernel refuses it or chooses the port; a raw socket has none
        brokered.address = named
        self._judge(brokered, _wanted(brokered, named, named.port))
        self._decided[_inode(brokered.fd)] = None
        if len(self._decided) > MOST:
            del self._decided[next(iter(self._decided))]

    def _listen(self, brokered: Brokered) -> Answer | None:
        fd = brokered.fd
        inet = brokered.domain in (AF_INET, AF_INET6)
        if inet and brokered.socket_type not in (SOCK_DGRAM, SOCK_RAW) and _inode(fd) not in self._decided:
            named = sockaddr.parse(socket_name(fd))
            if named and named.is_ip:
                brokered.address = named
                exact = _wanted(brokered, named, named.port)
                if not (named.port and self._allowing(exact)):
                    self._judge(brokered, _wanted(brokered, named, listener.CHOSEN))
        elif not inet and brokered.domain != AF_UNIX:
            self._targets.judge_family(brokered)
        number = sockets.listen(fd, brokered.call.args[1] & LOW)
        if inet and not number:
            self.note(brokered)
        return 0, number

    def note(self, brokered: Brokered) -> None:
        """The function's own: the address that its socket is bound to by now."""
        named = sockaddr.parse(socket_name(brokered.fd))
        if named is None or not isinstance(named.value, bytes) or not named.port:
            return
        places = [listener.own_address(named.value)]
        if not any(places[0]) and brokered.domain == AF_INET6 and not sockets.is_ipv6_only(brokered.fd):
            places.append(bytes(4))
        bound = self._own.setdefault((sockaddr.protocol(brokered.socket_type), named.port), [])
        bound += [place for place in places if place not in bound]
        if len(self._own) > MOST:
            del self._own[next(iter(self._own))]

    def _bind_unix(self, brokered: Brokered, address: bytes) -> int:
        if len(address) <= 2 or int.from_bytes(address[:2], "little") != AF_UNIX:
            return sockets.bind(brokered.fd, address)  # the kernel chooses a name, or refuses it
        if address[2] == 0:
            name = brokered.address.host if brokered.address else ""
            self._judge(brokered, Entry("unix", "abstract", name))
            return sockets.bind(brokered.fd, address)
        task = brokered.task
        walked = socket_path.bound(task, address[2:].split(b"\0")[0])
        try:
            path = socket_path.shown(walked)
            self._judge(brokered, Entry("unix", "path", clean_path(path) or path))
            if walked.error != errno.ENOENT or not walked.parent or walked.above < 0:
                return walked.error or errno.EADDRINUSE
            return _bind_in(walked.above, brokered.fd, address, task.tid)
        finally:
            walked.close()

    def _allowing(self, wanted: Entry) -> str:
        """The entry that allows it; '' for none."""
        # What could not be decoded could be any other byte.
        covering = (entry.text for entry in self._entries if listener.covers(entry, wanted))
        return "" if "\ufffd" in wanted.text else next(covering, "")

    def _judge(self, brokered: Brokered, wanted: Entry) -> None:
        """Raises Denied where no entry allows it and the report does not say to go on."""
        allowing = self._allowing(wanted)
        if allowing:
            if self._suspects(brokered, "listen", allowing, wanted.text):
                raise Denied("suspected", wanted.text, brokered.address, section="listen")
            return
        denied = Denied(f"no entry of listen names {wanted.text}", wanted.text, brokered.address, section="listen")
        if not self._report(brokered.call, brokered.task, brokered.syscall, denied):
            raise denied


def _wanted(brokered: Brokered, named: SocketAddress, port: int) -> Entry:
    assert isinstance(named.value, bytes)
    return listener.of_socket(sockaddr.protocol(brokered.socket_type), named.value, port)


def _inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def _bind_in(folder: int, fd: int, address: bytes, tid: int) -> int:
    """bind(2) by a path that may only make a socket in `folder`, as the thread `tid` would make it: 0 or the errno.

    In a process of its own, as the working folder, the mask and the rights to files are a process's. Raises OSError
    where there can be none.
    """
    pid = os.fork()
    if not pid:
        number = errno.EPERM
        try:
            number = _as_task(folder, fd, address, tid)
        except OSError as error:
            number = error.errno or errno.EPERM
        finally:
            os._exit(number)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else errno.EPERM


def _as_task(folder: int, fd: int, address: bytes, tid: int) -> int:
    """In the child. What it cannot take over from the task it does without, but for a root and a user of its own."""
    status = seccomp.read_status(tid)
    try:
        root = os.readlink(f"/proc/{tid}/root")
    except PermissionError:
        root = "/"  # undumpable, and so not another's: chroot(2) needs rights that such an observer lacks
    if root != os.readlink("/proc/self/root"):
        os.chroot(f"/proc/{tid}/root")
    if address[2:3] != b"/":
        os.chdir(f"/proc/{tid}/cwd")
    os.umask(int(status.get("Umask", "22"), 8))
    version = landlock.abi_version()
    if version:
        if seccomp.read_status().get("NoNewPrivs") != "1":
            seccomp.set_no_new_privs()
        right = landlock.ACCESS_FS_MAKE_SOCK
        landlock.restrict(network=0, ports={}, scoped=0, files=right, beneath=[(folder, right)])
    user, group = (int(status[name].split()[3]) for name in ("Uid", "Gid"))  # those for files (man 5 proc_pid_status)
    if (user, group) != (os.geteuid(), os.getegid()):
        os.setegid(group)
        os.seteuid(user)
    return sockets.bind(fd, address)
