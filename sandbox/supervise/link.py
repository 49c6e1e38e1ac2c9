"""The link between the launcher's attendant and its decider: fixed messages over one AF_UNIX SOCK_SEQPACKET pair.

The attendant (sandbox/launcher/attend.c) receives every call, answers what its tables answer, and sends the rest to the
decider, which answers on its own descriptor of the same listener. It says nothing back about a call: the attendant
knows by the kernel what still waits (SECCOMP_IOCTL_NOTIF_ID_VALID), and by its socket that something was not taken
(SIOCOUTQ).
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time

from sandbox.egress import sockets
from sandbox.kernel.notification import Listener, Notification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.egress.owned import OwnedSockets

LINK_CALL, LINK_PREPARE, LINK_NAME, LINK_QUESTION = 1, 2, 3, 4
"""To the decider: a call to answer; nothing yet, but it is to load; until when an address stands for a name, before the
first call that this could be about; a question (its packet) for a name that the policy does not hold, which is refused.
"""
LINK_STARTED, LINK_READY, LINK_CONNECTED, LINK_ENDED, LINK_TAKES = 16, 17, 18, 19, 20
"""From it: the function is past its exec, or failed before; it has loaded; the Runtime API is about to be connected to,
before the call that does so is answered; with `value`, the wait status to end with, it is over; it takes what is sent,
said once in SAYS_EVERY seconds in which it does."""
SAYS_EVERY = 0.5
LINK_AFTER_INIT, LINK_CONNECTING, LINK_RELEASED = 1, 2, 4
"""Flags of a call: the init phase was over when it came; its connect was begun, and is on its way; it is about a
socket, whose inode is the message's value, that the attendant made and let go as connected."""
LINK_FIXED = 32
"""Of a name, beside the length of its address: it is one of the hosts file."""

_HEAD = struct.Struct("<IIq")
HOST = 16
"""Bytes for an address in a message."""
LARGEST = 512
"""Bytes of the longest message to the decider: the structs of sandbox/launcher/decider.c and forwarder.c. Those from it
are a head."""
_HANDED = struct.Struct("<Qiii4x")
"""A struct cmsghdr with one descriptor behind it: with a call, the socket that it is about and that the attendant made.
The decider owns it from then on."""
MSG_CMSG_CLOEXEC = 0x40000000  # linux/socket.h


class LinkedListener(Listener):
    """A listener whose calls come over a link. `told` is called with the flags and the id of each before it is given.

    `named(name, packed address, seconds, fixed)` hears for how long an address stands for a name, or by the hosts file;
    `asked(packet)` of a question that was refused. `source` is the descriptor of the link, to be polled in the
    listener's place. `owned` takes the sockets that come with calls, where the function's are made for it.
    """

    def __init__(
        self, fd: int, link: int, told: Callable[[int, int], None],
        named: Callable[[str, bytes, float, bool], None], asked: Callable[[bytes], None],
        owned: OwnedSockets | None = None,
    ) -> None:  # fmt: skip
        super().__init__(fd)
        self._owned = owned
        self.source = link
        self._told = told
        self._named = named
        self._asked = asked
        self._said_at = time.monotonic()

    def receive(self) -> Notification | None:
        """The next call; None for a message that is none. Raises BrokenPipeError where the attendant is gone."""
        data, handed = _read(self.source)
        if not data:
            raise BrokenPipeError
        now = time.monotonic()
        if now - self._said_at >= SAYS_EVERY:
            self._said_at = now
            say(self.source, LINK_TAKES)
        kind, flags, value = _HEAD.unpack_from(data)
        if kind == LINK_NAME:
            length, host, name = flags & ~LINK_FIXED, data[_HEAD.size :], data[_HEAD.size + HOST :]
            self._named(name.partition(b"\0")[0].decode(), host[:length], value, bool(flags & LINK_FIXED))
        elif kind == LINK_QUESTION:
            self._asked(data[_HEAD.size :])
        if kind != LINK_CALL:
            return None
        call = Notification.unpack(data[_HEAD.size :])
        self._told(flags, call.id)
        if self._owned and flags & LINK_RELEASED:
            self._owned.note_released(value)
        if self._owned and handed >= 0:
            self._owned.adopt(handed, call.pid, call.args[0])
        return call

    def finish(self) -> None:
        """Hear of the questions that came last. Of calls nobody waits for the answer."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while any(event & select.POLLIN for _, event in poll.poll(0)):
            try:
                self.receive()
            except OSError:
                return


def _read(link: int) -> tuple[bytes, int]:
    """A message, and the descriptor that came with it, -1 for none. Raises OSError."""
    while True:
        got, number = sockets.receive(link, LARGEST, _HANDED.size, MSG_CMSG_CLOEXEC)
        if got:
            return got.data, _HANDED.unpack(got.control)[3] if len(got.control) == _HANDED.size else -1
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def is_cut(link: int) -> bool:
    """Whether the attendant is gone."""
    poll = select.poll()
    poll.register(link, 0)
    return bool(poll.poll(0))


def say(link: int, kind: int, value: int = 0) -> None:
    """Say something to the attendant, which always reads."""
    os.write(link, _HEAD.pack(kind, 0, value))
