"""The guests themselves: each refuses what it claims to refuse, with that errno, and lets through what it does not."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_processes import ended, in_child
from guests import GUESTS, Guest, enter
from guests.hosts import DOCKER, why_not

from sandbox.kernel import abi, bpf, landlock, seccomp
from sandbox.probe import raw

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "guests can be made")

guest_by_name = pytest.mark.parametrize("guest", GUESTS.values(), ids=lambda guest: guest.name.replace(" ", "-"))

HARMLESS = {"prctl": (3,), "epoll_pwait2": (-1,), "perf_event_open": (0, 0, 0, -1), "clone3": (0, 0)}
"""Arguments with which a call that passes does nothing; none for all others, which a kernel refuses then."""
ALLOWING = bpf.pack(((bpf.RET_K, 0, 0, bpf.ALLOW),))


@guest_by_name
def test_what_is_refused_has_its_errno(guest: Guest) -> None:
    """Every call that a guest claims to refuse answers with its errno there, and with another one outside."""

    def inside() -> dict[str, int]:
        enter(guest)
        return {name: raw.call(name, *HARMLESS.get(name, ())) for name in guest.refused if name in raw.NUMBERS}

    found = in_child(inside, None)
    assert found == {name: -guest.refused[name] for name in found}
    assert len(found) == len(guest.refused)


def test_without_a_guest_nothing_of_it_is_refused() -> None:
    """The same calls outside: the kernel has them all, so that the answers above are the guests' own."""
    names = sorted({name for guest in GUESTS.values() for name in guest.refused} - {"seccomp"})
    here = in_child(lambda: {name: raw.call(name, *HARMLESS.get(name, ())) for name in names}, None)
    claimed = [name for name in names if here[name] in (-errno.ENOSYS, -errno.EPERM)]
    assert claimed == ([] if landlock.abi_version() else [name for name in names if name.startswith("landlock")])


@guest_by_name
def test_a_fatal_guest_ends_what_it_refuses(guest: Guest) -> None:
    """Made fatal, the first refused call is the end of its process."""
    names = [name for name in guest.refused if name in raw.NUMBERS]
    if guest.capabilities is not None or not names:
        pytest.skip("this guest refuses by default, or nothing by number")

    def call(name: str) -> int:
        def body(write: int) -> None:
            enter(guest, fatal=names)
            raw.call(name, *HARMLESS.get(name, ()))

        return ended(body, None).signal

    assert {name: call(name) for name in names} == dict.fromkeys(names, 31)  # SIGSYS


@guest_by_name
def test_who_and_where(guest: Guest) -> None:
    """Uid, NoNewPrivs, number of filters, capabilities, limits, files and /dev/shm are as the guest says."""

    def look() -> tuple[dict[str, str], list[tuple[int, int]], dict[str, bool]]:
        enter(guest)
        places = {}
        for place in ("/", "/etc", "/var", "/tmp", "/dev/shm"):
            try:
                path = f"{place}/test-{os.getpid()}"
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.unlink(path)
                places[place] = True
            except OSError:
                places[place] = False
        return seccomp.read_status(), [resource.getrlimit(limit) for limit in guest.limits], places

    fields, limits, places = in_child(look, None)
    assert fields["Uid"].split() == [str(guest.uid)] * 4
    assert fields["NoNewPrivs"] == str(int(guest.no_new_privs))
    assert (fields["Seccomp"], fields["Seccomp_filters"]) == ("2", "1")
    capabilities = int(fields["CapEff"], 16)
    assert capabilities.bit_count() == (len(DOCKER) if guest.name == "docker-like" else 0)
    assert limits == [(value, value) for value in guest.limits.values()]
    assert places["/tmp"]
    assert places["/dev/shm"] == guest.shared_memory
    if guest.read_only or guest.uid:
        assert not any(places[place] for place in ("/", "/etc", "/var"))


@guest_by_name
def test_filters_and_listeners(guest: Guest) -> None:
    """Whether a filter, and one with a listener, can be installed: the guest's own answer to each."""

    def look() -> list[int]:
        enter(guest)
        if not guest.no_new_privs:
            seccomp.set_no_new_privs()
        found = []
        for flags in (0, seccomp.FLAG_NEW_LISTENER):
            try:
                seccomp.install(ALLOWING, flags)
            except OSError as error:
                found.append(error.errno or 0)
            else:
                found.append(0)
        return found

    wanted = {
        "lambda-like without seccomp": [errno.EPERM, errno.EPERM], "gvisor-like": [0, errno.EINVAL],
        "listener-busy": [0, errno.EBUSY],
    }  # fmt: skip
    assert in_child(look, None) == wanted.get(guest.name, [0, 0])


@pytest.mark.skipif(abi.MACHINE != "x86_64", reason="int 0x80 is x86")
def test_a_foreign_architecture_is_the_end() -> None:
    """On a Lambda-like guest a call by the 32-bit numbers ends the process."""

    def body(write: int) -> None:
        enter(GUESTS["lambda-like"])
        page = raw.map_page(raw.PROT_RX, content=b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov $20, %eax; int $0x80; ret
        ctypes.CFUNCTYPE(ctypes.c_int)(page)()

    assert ended(body, None).signal == 31  # SIGSYS


def test_nothing_of_a_guest_is_left() -> None:
    """The mounts of this machine are what they were, and the holder of a listener ends with the last one under it."""
    before = Path("/proc/self/mountinfo").read_text()
    for name in ("lambda-like", "kubernetes-like"):
        in_child(lambda name=name: enter(GUESTS[name]), None)  # type: ignore[misc]  # the loop's own value
    assert Path("/proc/self/mountinfo").read_text() == before
    in_child(lambda: enter(GUESTS["listener-busy"]), None)
    deadline = time.monotonic() + 10
    while list(_holders()) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not list(_holders())


def _holders() -> Iterator[str]:
    """Processes that hold a listener and were made by this one: they have its command line and folder."""
    mine = Path("/proc/self/cmdline").read_bytes(), os.getcwd()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if ((folder.parent / "cmdline").read_bytes(), os.readlink(folder.parent / "cwd")) != mine:
                continue
            links = [os.readlink(entry) for entry in folder.iterdir()]
        except OSError:
            continue
        if "anon_inode:seccomp notify" in links:
            yield folder.parent.name
