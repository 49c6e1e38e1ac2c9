"""Policies for tests, filters of hosts that stand above us, and whole guests: what a platform is for a process in it.

    install(refusing({"prctl": errno.EPERM, "clone3": errno.ENOSYS}))
    subprocess.run([*inside("lambda-like"), "/bin/true"])
"""

from __future__ import annotations

from refusing_filters import notifying, refuse, refusing

from guests.hosts import GUESTS, Guest, enter, inside
from guests.policies import LOADING, policy, profile

__all__ = ["GUESTS", "LOADING", "Guest", "enter", "inside", "notifying", "policy", "profile", "refuse", "refusing"]
