"""Receives on sockets that asked a resolver: as bare, as if the resolver had answered itself."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import pytest
from child_processes import in_child
from resolving_world import PORT, RESOLVER, unshared
from supervised_programs import HOSTS, PYTHON, SOCKETS, Supervision, bench_for, supervision
from users_and_folders import TARGETS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
bench = bench_for(HOSTS)

RECEIVES = ("recvfrom", "recvmsg", "recvmmsg", "getpeername")
ITEMS = (*SOCKETS, "bind", "recvmmsg", "setitimer", "epoll_create1")
NETWORK = (f"one.demo.test:{PORT}", f"tcp://{RESOLVER}:9")
PROGRAM = str(TARGETS / "receiving.py")


def test_a_receive_is_the_kernels_own_but_for_the_resolvers_address(bench: Supervision) -> None:
    """Lengths, flags, errors, timeouts, signals and buffers as without the supervisor, for each call that receives."""
    bundle = bench.bundle(*ITEMS, network=NETWORK, receives=RECEIVES)
    bench.new("")

    def inside() -> tuple[Any, Any, list[Any], str]:
        with unshared(ipv6=True):
            bare = bench.bare("/usr/bin/python3", "-I", "-S", PROGRAM)
            done = bench.run(bundle, "/usr/bin/python3", "-I", "-S", PROGRAM)
            return json.loads(bare), json.loads(done.stdout or "{}"), done.violations, done.stderr

    bare, found, violations, stderr = in_child(inside, None)
    assert found.keys() == bare.keys(), stderr
    differing = {case: (found[case], bare[case]) for case in bare if found[case] != bare[case]}
    assert not differing
    assert bare["interrupted"][0] == "EINTR"
    assert [(line["syscall"], line["class"], line["reason"]) for line in violations] == []


ASK = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.sendto(bytes.fromhex("12340100000100000000000003") + b"one\\x04demo\\x04test\\0\\0\\1\\0\\1", ("10.99.0.1", 53))
print(sock.recvfrom(512)[1][0])
"""


@pytest.mark.parametrize(
    ("receives", "refused", "seen"),
    [(RECEIVES, {}, RESOLVER), ((), {}, "127.0.0.1"), (RECEIVES, {"process_vm_writev": errno.EPERM}, "127.0.0.1")],
    ids=["learned", "not learned", "not to be had"],
)
def test_a_receive_that_cannot_be_made_is_let_go_on(
    receives: tuple[str, ...], refused: dict[str, int], seen: str
) -> None:
    """Where the profile has no word of it, or the host lets nobody write for the caller, the kernel receives."""
    with supervision(None, refused) as bench:
        bundle = bench.bundle(*ITEMS, network=NETWORK, receives=receives)

        def inside() -> str:
            with unshared(ipv6=False):
                return bench.run(bundle, *PYTHON, ASK).stdout.strip()

        assert in_child(inside, None) == seen
