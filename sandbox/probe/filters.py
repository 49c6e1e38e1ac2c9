"""Attempts to stack a filter or a listener of one's own above the one in force."""

from __future__ import annotations

import errno
import struct
from functools import partial

from sandbox.probe import raw
from sandbox.probe.attempt import Attempt, Effect
from sandbox.probe.scene import Scene

SECCOMP_SET_MODE_FILTER = 1  # linux/seccomp.h, as the rest
TSYNC, NEW_LISTENER = 1, 8
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SIGN = 77  # the errno that shows that the new filter is in force; no kernel gives it for getppid


def _program(scene: Scene) -> int:
    """The address of a sock_fprog that refuses getppid with SIGN and lets everything else pass."""
    instructions = struct.pack("=HBBI", 0x20, 0, 0, 0)  # load the number (linux/filter.h)
    instructions += struct.pack("=HBBI", 0x15, 0, 1, raw.NUMBERS["getppid"])
    instructions += struct.pack("=HBBI", 0x06, 0, 0, RET_ERRNO | SIGN)
    instructions += struct.pack("=HBBI", 0x06, 0, 0, RET_ALLOW)
    return scene.pointer(struct.pack("=H6xQ", len(instructions) // 8, scene.pointer(instructions)))


def _in_force(name: str) -> Effect:
    if raw.call("getppid") == -SIGN:
        return Effect(True, None, "the new filter is in force")
    return Effect(False, None, f"{name} returned 0, but the new filter is not in force")


def _seccomp(flags: int, scene: Scene) -> Effect:
    raw.require("seccomp", SECCOMP_SET_MODE_FILTER, flags, _program(scene))
    return _in_force("seccomp")


def _prctl(scene: Scene) -> Effect:
    raw.require("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, _program(scene))
    return _in_force("prctl")


def _listener(scene: Scene) -> Effect:
    descriptor = raw.require("seccomp", SECCOMP_SET_MODE_FILTER, NEW_LISTENER, _program(scene))
    scene.remember(descriptor)
    return Effect(True, None, f"a listener on descriptor {descriptor}")


FILTER_ATTEMPTS: tuple[Attempt, ...] = (
    Attempt(
        id="filter-seccomp",
        group="filter",
        title="Install a second filter (seccomp)",
        technique="T1562.001",
        syscall="seccomp",
        args=(SECCOMP_SET_MODE_FILTER, 0, 1),
        run=partial(_seccomp, 0),
        live="the new filter refuses a call",
    ),
    Attempt(
        id="filter-tsync",
        group="filter",
        title="Install a second filter on every thread (seccomp, TSYNC)",
        technique="T1562.001",
        syscall="seccomp",
        args=(SECCOMP_SET_MODE_FILTER, TSYNC, 1),
        run=partial(_seccomp, TSYNC),
        live="the new filter refuses a call",
    ),
    Attempt(
        id="filter-prctl",
        group="filter",
        title="Install a second filter (prctl)",
        technique="T1562.001",
        syscall="prctl",
        args=(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 1),
        run=_prctl,
        live="the new filter refuses a call",
    ),
    Attempt(
        id="filter-listener",
        group="filter",
        title="Install a listener that answers one's own calls",
        technique="T1562.001",
        syscall="seccomp",
        args=(SECCOMP_SET_MODE_FILTER, NEW_LISTENER, 1),
        run=_listener,
        live="a listener appears; EBUSY where one stands above",
        reached=(errno.EBUSY,),
        evidence="fd:seccomp notify",
    ),
)
