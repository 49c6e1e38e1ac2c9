"""The observer on programs that talk to others: which destinations they are seen to have, and which not."""

from __future__ import annotations

import pytest
from observed_programs import Bench, Listener, result


def test_tcp_destinations(bench: Bench, listener: Listener) -> None:
    """Address and port of a TCP connection, beside the Runtime API, which has a name of its own."""
    found = bench.serve("tcp_client.handler", {"host": "127.0.0.1", "port": listener.port})
    assert result(found.outcomes[0]) == {"reply": "pong\n"}
    assert found.cold_start.network == {"runtime-api", f"tcp://127.0.0.1:{listener.port}"}
    assert "socket AF_INET SOCK_STREAM" in found.items("invoke")


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "::1"])
def test_ipv6_destinations(bench: Bench, listener: Listener, host: str) -> None:
    """IPv4-mapped IPv6 is the IPv4 address that it reaches; a refused connection is a destination all the same."""
    code = f"""
        with socket.socket(socket.AF_INET6) as line:
            line.connect_ex(({host!r}, {listener.port}))
        """
    expected = f"tcp://127.0.0.1:{listener.port}" if "." in host else f"tcp://[::1]:{listener.port}"
    found = bench.python(code)
    assert found.network == {expected}
    assert "socket AF_INET6 SOCK_STREAM" in found.items()


@pytest.mark.parametrize("connect", [False, True])
def test_udp_destinations(bench: Bench, listener: Listener, connect: bool) -> None:
    """sendto by its address, send by the address that the socket was connected to."""
    event = {"host": "127.0.0.1", "port": listener.udp_port, "connect": connect}
    found = bench.serve("udp_client.handler", event)
    assert result(found.outcomes[0]) == {"sent": 4}
    assert listener.udp.recv(64) == b"ping"
    assert found.network == {f"udp://127.0.0.1:{listener.udp_port}"}
    assert ("sendto connected" if connect else "sendto addressed") in found.items("invoke")


def test_a_connected_udp_socket_is_no_destination_until_something_is_sent(bench: Bench, listener: Listener) -> None:
    """Neither the connection alone, nor a later use of its descriptor for something else."""
    found = bench.python(
        f"""
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect(("127.0.0.1", {listener.udp_port}))
        number = line.fileno()
        line.close()
        other = socket.create_connection(("127.0.0.1", {listener.port}))
        assert other.fileno() == number
        other.send(b"ping")
        other.recv(64)
        other.close()
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect(("127.0.0.1", {listener.udp_port}))
        line.close()
        file = os.open("reused", os.O_WRONLY | os.O_CREAT, 0o600)
        assert file == number
        os.write(file, b"text")
        """
    )
    assert found.network == {f"tcp://127.0.0.1:{listener.port}"}


@pytest.mark.parametrize("how", ["line.send(b'x')", "os.write(line.fileno(), b'x')", "os.writev(line.fileno(), [b'x'])",
                                 "line.sendmsg([b'x'])"])  # fmt: skip
def test_every_way_to_send_on_a_connected_udp_socket(bench: Bench, listener: Listener, how: str) -> None:
    """send, write, writev and sendmsg make a connected UDP socket a destination."""
    found = bench.python(
        f"""
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect(("127.0.0.1", {listener.udp_port}))
        {how}
        """
    )
    assert listener.udp.recv(64) == b"x"
    assert found.network == {f"udp://127.0.0.1:{listener.udp_port}"}


def test_every_message_of_sendmmsg_has_its_destination(bench: Bench, listener: Listener) -> None:
    """Not only the first of them; the function's own socket is that, whatever its port."""
    found = bench.python(
        f"""
        import struct
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.bind(("127.0.0.1", 0))
        ports = ({listener.udp_port}, line.getsockname()[1])
        text = ctypes.create_string_buffer(b"ping")
        keep = []
        def pointer(data):
            keep.append(ctypes.create_string_buffer(data, len(data)))
            return ctypes.addressof(keep[-1])
        vector = pointer(struct.pack("QQ", ctypes.addressof(text), 4))
        messages = b""
        for port in ports:
            name = pointer(struct.pack("=H", 2) + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8))
            messages += struct.pack("QIxxxxQQQQixxxxIxxxx", name, 16, vector, 1, 0, 0, 0, 0)
        assert LIBC.sendmmsg(line.fileno(), ctypes.c_void_p(pointer(messages)), 2, 0) == 2
        """
    )
    assert listener.udp.recv(64) == b"ping"
    assert found.network == {f"udp://127.0.0.1:{listener.udp_port}", "own"}


def test_getaddrinfo_connects_to_nobody(bench: Bench) -> None:
    """Libc connects UDP sockets only to sort addresses, for routes; the runtime client then reuses their numbers."""
    found = bench.serve("getaddrinfo_local.handler", {}, {}, {})
    assert result(found.outcomes[0])["loopback"]
    assert {"socket AF_INET SOCK_DGRAM", "socket AF_INET6 SOCK_DGRAM"} & found.items("invoke")
    assert {place for place in found.network if not place.startswith("unix:")} == {"routes"}


def test_unix_destinations(bench: Bench) -> None:
    """Where a path leads, relative or through a link, there or not; an abstract name with @, and a socketpair none."""
    found = bench.python(
        """
        for address in ("sock", b"\\0hidden"):
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as line:
                server.bind(address)
                server.listen()
                line.connect(address)
        datagrams = (socket.AF_UNIX, socket.SOCK_DGRAM)
        with socket.socket(*datagrams) as server, socket.socket(*datagrams) as line:
            server.bind("@datagrams")
            line.sendto(b"x", "@datagrams")
            os.symlink("@datagrams", "link")
            line.sendto(b"y", os.path.abspath("link"))
        socket.socket(socket.AF_UNIX).connect_ex("./gone/../gone")
        one, other = socket.socketpair()
        one.send(b"x")
        for name in ("sock", "@datagrams", "link"):
            os.unlink(name)
        """
    )
    paths = {place for place in found.network if place.startswith("unix:/")}
    assert found.network - paths == {"unix:@hidden"}
    assert {place.rpartition("/")[2] for place in paths} == {"sock", "@datagrams", "gone"}
