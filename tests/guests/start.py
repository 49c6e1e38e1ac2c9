"""Start a command in a guest: `start.py [--fatal] GUEST COMMAND...`."""

from __future__ import annotations

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.dirname(TESTS)]

from guests.hosts import GUESTS, enter  # noqa: E402  # the two folders have to be there first

if __name__ == "__main__":
    words = sys.argv[1:]
    fatal = words[0] == "--fatal"
    name, *command = words[fatal:]
    enter(GUESTS[name], fatal=fatal)
    os.execv(command[0], command)
