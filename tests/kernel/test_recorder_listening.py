"""The observer on programs that listen: which listeners they are seen to have, and which ports are their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from guests import inside
from observed_programs import Bench, Listener
from users_and_folders import home_for


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_port_of_its_choice(bench: Bench, host: str) -> None:
    """Bound for a stream or for datagrams, it is a listener with its address and port."""
    found = bench.python(
        f"""
        family = socket.AF_INET6 if ":" in {host!r} else socket.AF_INET
        with socket.socket(family) as spare:
            spare.bind(({host!r}, 0)); port = spare.getsockname()[1]
        line = socket.socket(family); line.bind(({host!r}, port)); line.listen(1)
        other = socket.socket(family, socket.SOCK_DGRAM); other.bind(({host!r}, port))
        print(port)
        """
    )
    place = f"[{host}]:{found.output.strip()}" if ":" in host else f"{host}:{found.output.strip()}"
    assert found.cold_start.listen == {f"tcp://{place}", f"udp://{place}"}


def test_ports_that_the_kernel_chooses(bench: Bench) -> None:
    """A stream that listens has any port, bound or not; a client's socket and one for datagrams are no listeners."""
    found = bench.python(
        """
        line = socket.socket(); line.bind(("127.0.0.1", 0)); line.listen(1)
        bare = socket.socket(); bare.listen(1)
        client = socket.socket(); client.bind(("127.0.0.1", 0)); client.connect(line.getsockname())
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("0.0.0.0", 0))
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); netlink.bind((0, 0))
        """
    )
    assert found.cold_start.listen == {"tcp://127.0.0.1:*", "tcp://0.0.0.0:*"}
    assert found.network == {"own"}


def test_unix_listeners(bench: Bench) -> None:
    """By the physical path that is made, not by one that cannot be; abstract ones by their name."""
    found = bench.python(
        """
        os.mkdir("real"); os.symlink("real", "link")
        for address in ("link/sock", "\\0name", ""):
            socket.socket(socket.AF_UNIX).bind(address)
        for address in ("link/sock", "missing/sock"):
            try:
                socket.socket(socket.AF_UNIX).bind(address)
            except OSError:
                pass
        left, right = socket.socketpair()
        """
    )
    assert found.cold_start.listen == {f"unix:{bench.folder}/real/sock", "unix:@name"}


def test_own_ports_are_told_from_those_of_others(bench: Bench, listener: Listener) -> None:
    """A connect or datagram to a port that the kernel chose for the program is `own`, in a child of it too."""
    found = bench.python(
        f"""
        line = socket.create_server(("127.0.0.1", 0))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); datagrams.bind(("127.0.0.1", 0))
        if not os.fork():
            socket.create_connection(line.getsockname())
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", datagrams.getsockname())
            socket.create_connection(("127.0.0.1", {listener.port}))
            os._exit(0)
        os.wait()
        """
    )
    assert found.network == {"own", f"tcp://127.0.0.1:{listener.port}"}


class InContainer(Bench):
    """A bench whose programs start where sockets cannot be duplicated."""

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """The command that starts the bootstrap in the guest."""
        return (*inside("docker-like"), *super().bootstrap)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a guest: needs root")
def test_where_sockets_cannot_be_duplicated(tmp_path: Path) -> None:
    """The observer makes the datagram sockets there, so that their ports are told from those of streams."""
    tmp_path.chmod(0o777)
    with home_for(None) as home:
        found = InContainer(None, home, tmp_path).python(
            """
            with socket.socket() as spare:
                spare.bind(("127.0.0.1", 0)); port = spare.getsockname()[1]
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", port))
            line = socket.create_server(("127.0.0.1", 0))
            socket.create_connection(line.getsockname())
            print(port)
            """
        )
    port = found.output.strip()
    assert found.cold_start.listen == {f"udp://127.0.0.1:{port}", "tcp://127.0.0.1:*"}
    assert found.network == {"own"}
