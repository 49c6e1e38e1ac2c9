"""Without a supervisor a netlink socket reads, and changes nothing, for root too, unless an entry says that it may."""

from __future__ import annotations

import os

import pytest
from supervised_programs import NATIVE, PLAIN_HOSTS, PYTHON, SOCKETS, Supervision, bench_for

from sandbox.kernel import abi

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root")

bench = bench_for([*PLAIN_HOSTS, *NATIVE])

CODE = """
import errno, os, socket, struct
def request(kind, body, flags):
    return struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body
def told(how):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(5)
        how(sock)
        said = sock.recv(65536)
    return errno.errorcode.get(-struct.unpack_from("<i", said, 16)[0], "done") if said[4:6] == b"\\2\\0" else "answer"
add = request(20, struct.pack("<BBBBI", 2, 32, 0, 0, 1) + struct.pack("<HH4s", 8, 2, bytes((10, 99, 0, 66))), 0x605)
links = request(18, bytes(16), 0x301)
print(told(lambda sock: sock.send(links)), told(lambda sock: sock.send(add)),
      told(lambda sock: sock.sendto(add, (0, 0))), told(lambda sock: os.write(sock.fileno(), add)))
"""


def test_a_socket_that_reads_changes_nothing(bench: Supervision) -> None:
    """RTM_GETLINK is answered; a new address is EPERM by send, sendto and write; with an entry it is as bare."""
    items = (*SOCKETS, "socket AF_NETLINK SOCK_RAW NETLINK_ROUTE")

    def said(*network: str) -> tuple[list[str], str]:
        def apart() -> None:
            abi.syscall(abi.number("unshare"), 0x40000000)  # CLONE_NEWNET

        bundle = bench.bundle(*items, network=("udp://192.0.2.1:9", *network))
        before = apart if bench.uid is None else None
        done = bench.run(bundle, *PYTHON, CODE, more={"SANDBOX_SUPERVISE": "0"}, before=before)
        return done.stdout.split(), done.stderr

    answers, status = said()
    assert answers == ["answer", "EPERM", "EPERM", "EPERM"], status
    assert ("network: netlink reads (CAP_NET_ADMIN is given up)" in status) == (bench.uid is None)
    if bench.uid is None:
        answers, status = said("family:AF_NETLINK")
        assert (answers, "CAP_NET_ADMIN" in status) == (["answer", "done", "EEXIST", "EEXIST"], False)
