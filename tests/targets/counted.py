"""The bootstrap, counting: `counted.py FILE COMMAND...` writes a line for each call that its supervisor or recorder
answers, with how often the memory behind its second argument was read and an address was parsed for it. The functions
are the real ones. What is read of the caller's stack, for whose call it was, is not counted.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


class Counter:
    """What was counted since the call was received that waits now."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.counts = {"reads": 0, "parses": 0}
        self.nr = -1
        self.pointer = 0
        self._depth = 0

    def count(self, owner: object, name: str, what: str) -> None:
        """Count the outermost calls of a function: a parser that uses another parses once."""
        function: Callable[..., Any] = getattr(owner, name)

        def counting(*args: Any, **named: Any) -> Any:
            self.counts[what] += self._depth == 0 and (what != "reads" or self._reaches(*args[1:]))
            self._depth += 1
            try:
                return function(*args, **named)
            finally:
                self._depth -= 1

        setattr(owner, name, counting)

    def _reaches(self, address: int, length: int) -> bool:
        """Whether a read is of what the call's second argument points to: a socket address, which has 128 bytes."""
        return address < self.pointer + 128 and self.pointer < address + length

    def watch(self, listener: Any) -> None:
        """Begin to count with each call that the listener receives, and write with its answer."""
        receive, send = listener.receive, listener._send

        def receiving(listener: Any) -> Any:
            call = receive(listener)
            if call:
                self.counts = dict.fromkeys(self.counts, 0)
                self.nr, self.pointer = call.nr, call.args[1]
            return call

        def sending(listener: Any, response: bytes) -> Any:
            os.write(self.file, (json.dumps({"nr": self.nr, **self.counts}) + "\n").encode())
            return send(listener, response)

        listener.receive, listener._send = receiving, sending


def main() -> None:
    """Wrap the functions before anybody else has imported them by name, and start."""
    sys.path.insert(0, HOME)
    from sandbox.behaviour import destination
    from sandbox.kernel import memory, notification, sockaddr

    counter = Counter(os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666))
    counter.watch(notification.Listener)
    counter.count(memory.Memory, "read", "reads")
    counter.count(sockaddr, "parse", "parses")
    counter.count(destination, "parse", "parses")
    counter.count(destination, "_pton", "parses")

    from sandbox.start.launch import main as start

    start()


main()
