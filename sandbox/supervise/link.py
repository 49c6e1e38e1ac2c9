"""The link between the launcher's attendant and its decider: fixed messages over one AF_UNIX SOCK_SEQPACKET pair.

The attendant (sandbox/launcher/attend.c) receives every call, answers what its tables answer, and sends the rest to the
decider, which answers on its own descriptor of the same listener. It says nothing back about a call: the attendant
knows by the kernel what still waits (SECCOMP_IOCTL_NOTIF_ID_VALID), and by its socket what was not taken (SIOCOUTQ).
"""

from __future__ import annotations

import os
import struct

from sandbox.kernel import notification
from sandbox.kernel.notification import Listener, Notification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LINK_CALL, LINK_PREPARE = 1, 2
"""To the decider: a call to answer; nothing yet, but it is to load."""
LINK_STARTED, LINK_READY, LINK_CONNECTED, LINK_ENDED = 16, 17, 18, 19
"""From it: the function is past its exec, or failed before; it has loaded; the Runtime API is about to be connected to,
before the call that does so is answered; with `value`, the wait status to end with, it is over."""
LINK_AFTER_INIT, LINK_CONNECTING = 1, 2
"""Flags of a call: the init phase was over when it came; its connect was begun, and is on its way."""

_HEAD = struct.Struct("<IIq")
SIZE = _HEAD.size + notification.SIZE
"""Bytes of every message to the decider: struct message of sandbox/launcher/decider.c. Those from it are a head."""


class LinkedListener(Listener):
    """A listener whose calls come over a link. `told` is called with the flags and the id of each before it is given.

    `source` is the descriptor of the link, to be polled in the listener's place.
    """

    def __init__(self, fd: int, link: int, told: Callable[[int, int], None]) -> None:
        super().__init__(fd)
        self.source = link
        self._told = told

    def receive(self) -> Notification | None:
        """The next call; None for a message that is none. Raises OSError (EPIPE) when the attendant is gone."""
        data = os.read(self.source, SIZE)
        if not data:
            raise BrokenPipeError("the attendant is gone")
        kind, flags, _ = _HEAD.unpack_from(data)
        if kind != LINK_CALL:
            return None
        call = Notification.unpack(data[_HEAD.size :])
        self._told(flags, call.id)
        return call


def say(link: int, kind: int, value: int = 0) -> None:
    """Say something to the attendant, which always reads."""
    os.write(link, _HEAD.pack(kind, 0, value))
