"""Start a command in a guest: `start.py GUEST CALLS COMMAND...`; what it refuses of CALLS (a,b,c) ends the process."""

from __future__ import annotations

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.dirname(TESTS)]

from guests.hosts import GUESTS, enter  # noqa: E402  # the two folders have to be there first

if __name__ == "__main__":
    name, fatal, *command = sys.argv[1:]
    enter(GUESTS[name], fatal=fatal.split(","))
    os.execv(command[0], command)
