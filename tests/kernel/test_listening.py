"""Listening under supervision: what the profile lists serves as without us, and what it does not list hears nobody."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from supervised_programs import HOSTS, PYTHON, SOCKETS, Done, Supervision, bench_for, without_landlock

from sandbox.behaviour import listener
from sandbox.kernel import landlock

bench = bench_for(HOSTS)

ITEMS = (
    *SOCKETS, "bind", "listen", "accept4", "clone thread", "umask", "chdir", "uname", "unlink", "mkdir", "rename",
    "symlink", "getrandom", "epoll_create1", "socket AF_NETLINK SOCK_RAW NETLINK_ROUTE",
)  # fmt: skip

HEAD = """
import errno, json, os, socket, sys, threading
def tried(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]
def bound(address, family=2, kind=1, listens=True):
    s = socket.socket(family, kind)
    s.bind(address)
    if listens: s.listen(5)
    return s
"""


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two ports that nobody has."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def folder_of(bench: Supervision) -> Path:
    """A folder that any user may write in."""
    found = bench.new("")
    found.mkdir(mode=0o777)
    found.chmod(0o777)
    return found


def listening(
    bench: Supervision, code: str, *listen: str, audit: bool = False, network: tuple[str, ...] = ("own",),
    writes: tuple[str, ...] = (), before: Callable[[], None] | None = None,
) -> Done:  # fmt: skip
    """A run of this code under a profile with these listeners."""
    bundle = bench.bundle(*ITEMS, listen=listen, network=network, writes=writes)
    # The bundle lies where this user may write, which some of the calls allow.
    more = {"SANDBOX_ON_UNAVAILABLE": "warn", "SANDBOX_MODE": "audit" if audit else "enforce"}
    return bench.run(bundle, *PYTHON, HEAD + code, more=more, before=before)


def test_learned_listeners_serve(bench: Supervision, ports: tuple[int, int]) -> None:
    """Ports, `*` and abstract names listen and are connected to, with the names that the bare kernel gives."""
    code = f"""
for address in (("127.0.0.1", {ports[0]}), ("127.0.0.1", 0)):
    s = bound(address)
    c = socket.create_connection(s.getsockname(), timeout=5)
    s.accept()[0].sendall(b"served")
    print(c.recv(9).decode(), s.getsockname()[1] == {ports[0]}, s.getsockopt(1, 30))
u = bound(("127.0.0.1", {ports[1]}), kind=2, listens=False)
v = socket.socket(2, 2)
v.sendto(b"datagram", u.getsockname())
print(u.recv(9).decode())
print(bound("\\0learned", family=1).getsockname(), bound("\\0pool-17", family=1).getsockname())
"""
    listen = (f"tcp://127.0.0.1:{ports[0]}", "tcp://127.0.0.1:*", f"udp://127.0.0.1:{ports[1]}")
    done = listening(bench, code, *listen, "unix:@learned", "unix:@pool-*")
    assert done.stdout == "served True 1\nserved False 1\ndatagram\nb'\\x00learned' b'\\x00pool-17'\n", done.stderr
    assert done.violations == []


def test_a_unix_listener_is_made_as_the_function_would(bench: Supervision) -> None:
    """By a relative path, below a link, with the function's mask and owner, under the name that it wrote."""
    folder = folder_of(bench)
    code = f"""
os.chdir({str(folder)!r})
os.mkdir("pool-1"); os.symlink("pool-1", "now")
os.umask(0o077)
s = bound("now/sock", family=1)
found = os.stat("pool-1/sock")
print(s.getsockname(), oct(found.st_mode), found.st_uid == os.geteuid(), found.st_gid == os.getegid())
print(tried(lambda: bound("now/sock", family=1)), tried(lambda: bound("gone/sock", family=1)))
os.chdir("/")
print(bound({str(folder / "pool-1" / "other")!r}, family=1).getsockname() == {str(folder / "pool-1" / "other")!r})
"""
    done = listening(bench, code, f"unix:{folder}/pool-*/*", f"unix:{folder}/gone/*", writes=(f"{folder}/*",))
    assert done.stdout == "now/sock 0o140700 True True\nEADDRINUSE ENOENT\nTrue\n", done.stderr
    assert done.violations == []


REFUSED = """
for address in (("0.0.0.0", {own}), ("127.0.0.1", {other}), ("127.0.0.2", {own}), ("0.0.0.0", 0)):
    print(address[0], tried(lambda: bound(address)))
print("unbound", tried(lambda: socket.socket(2, 1).listen(5)))
print("udp", tried(lambda: bound(("127.0.0.1", {own}), kind=2, listens=False)))
print("v6", tried(lambda: bound(("::", {own}), family=10)))
print("unix", tried(lambda: bound({path!r}, family=1)), os.path.exists({path!r}))
print("abstract", tried(lambda: bound("\\0other", family=1)))
print(bound(("127.0.0.1", {own})).getsockname()[1] == {own})
"""


def test_other_listeners_are_refused(bench: Supervision, ports: tuple[int, int]) -> None:
    """Any other address, port, protocol, path or name is EPERM with a line, and what the line adds allows it."""
    own, other = ports
    folder = folder_of(bench)
    code = REFUSED.format(own=own, other=other, path=str(folder / "sock"))
    done = listening(bench, code, f"tcp://127.0.0.1:{own}", writes=(f"{folder}/*",))
    hosts = "".join(f"{host} EPERM\n" for host in ("0.0.0.0", "127.0.0.1", "127.0.0.2", "0.0.0.0"))
    rest = "unbound EPERM\nudp EPERM\nv6 EPERM\nunix EPERM False\nabstract EPERM\nTrue\n"
    assert done.stdout == hosts + rest, done.stderr
    texts = [entry for line in done.violations for entry in yaml.safe_load(line["allow"])["listen"]]
    assert [str(listener.parse(text)) for text in texts] == [
        f"tcp://0.0.0.0:{own}", f"tcp://127.0.0.1:{other}", f"tcp://127.0.0.2:{own}", "tcp://0.0.0.0:*", "tcp://0.0.0.0:*",
        f"udp://127.0.0.1:{own}", f"tcp://[::]:{own}", f"unix:{folder}/sock", "unix:@other",
    ]  # fmt: skip
    assert {(line["verdict"], line["errno"]) for line in done.violations} == {("denied", "EPERM")}
    healed = listening(bench, code, f"tcp://127.0.0.1:{own}", *texts, writes=(f"{folder}/*",))
    assert "EPERM" not in healed.stdout, healed.stdout
    assert healed.violations == []


def test_what_clients_and_resolvers_bind_is_quiet(bench: Supervision) -> None:
    """A port or name that the kernel chooses is bound without a listener in the profile, and netlink is."""
    code = """
u = bound(("0.0.0.0", 0), kind=2, listens=False)
v = bound(("::", 0), family=10, kind=2, listens=False)
c = bound(("127.0.0.1", 0), listens=False)
n = socket.socket(16, 3, 0); n.bind((0, 0))
a = socket.socket(1, 2); a.bind("")
left, right = socket.socketpair()
left.sendall(b"pair")
print(right.recv(9).decode(), u.getsockname()[1] > 0, len(a.getsockname()), socket.if_nameindex()[:1])
"""
    done = listening(bench, code)
    assert done.stdout == "pair True 6 [(1, 'lo')]\n", done.stderr
    assert done.violations == []


def test_own_is_what_the_function_is_bound_to(bench: Supervision, ports: tuple[int, int]) -> None:
    """`own` connects to what it listens on itself, and to nobody else's port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        code = f"""
s = bound(("127.0.0.1", 0))
print(socket.socket(2, 1).connect_ex(s.getsockname()))
o = socket.socket(2, 1); o.setsockopt(1, 2, 1); o.bind(("127.0.0.2", {port})); o.listen(5)
print(socket.socket(2, 1).connect_ex(("127.0.0.2", {port})))
six = socket.socket(10, 1); six.setsockopt(41, 26, 1); six.bind(("::", {port})); six.listen(5)
print(socket.socket(10, 1).connect_ex(("::1", {port})))
print(errno.errorcode[socket.socket(2, 1).connect_ex(("127.0.0.1", {port}))])
"""
        done = listening(bench, code, "tcp://127.0.0.1:*", "tcp://127.0.0.2:*", "tcp://[::]:*")
        assert done.stdout == "0\n0\n0\nEPERM\n", done.stderr
        assert [line["target"] for line in done.violations] == [f"tcp://127.0.0.1:{port}"]


def test_any_decides_nothing(bench: Supervision, ports: tuple[int, int]) -> None:
    """As a profile of schema 1 is read: whatever the calls allow is listened on."""
    code = f"print(bound(('0.0.0.0', {ports[0]})).getsockname()[1] == {ports[0]}); socket.socket(2, 1).listen(1)"
    for network in ((), ("own",)):
        done = listening(bench, code, "any", network=network)
        assert (done.stdout, done.violations) == ("True\n", []), done.stderr


def test_audit_lets_listen_and_says_so(bench: Supervision, ports: tuple[int, int]) -> None:
    """In audit each listener works, with the line that enforcement would write."""
    folder = folder_of(bench)
    code = REFUSED.format(own=ports[0], other=ports[1], path=str(folder / "sock"))
    done = listening(bench, code, f"tcp://127.0.0.1:{ports[0]}", audit=True)
    assert "EPERM" not in done.stdout, done.stderr
    assert len(done.of("bind")) + len(done.of("listen")) == 9
    assert {line["verdict"] for line in done.violations} == {"reported"}


RACE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
raw = bytearray(b"\\2\\0" + ({own}).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8))
memory = (ctypes.c_char * 16).from_buffer(raw)
good, bad = ({own}).to_bytes(2, "big"), ({other}).to_bytes(2, "big")
done = False
def flip():
    while not done:
        raw[2:4] = bad; raw[2:4] = good
t = threading.Thread(target=flip); t.start()
sys.setswitchinterval(1e-5)
names = set()
for _ in range(300):
    s = socket.socket(2, 2)
    if libc.bind(s.fileno(), memory, 16) == 0: names.add(s.getsockname())
    s.close()
done = True; t.join()
print(names <= {{("127.0.0.1", {own})}})
"""


def test_an_address_that_changes_wins_nothing(bench: Supervision, ports: tuple[int, int]) -> None:
    """A second thread that rewrites the address during the bind gets the address that was decided on, or a refusal."""
    own, other = ports
    done = listening(bench, RACE.format(own=own, other=other), f"udp://127.0.0.1:{own}")
    assert done.stdout == "True\n", done.stderr


LINKS = """
os.chdir({folder!r})
os.mkdir("good"); os.mkdir("bad")
os.symlink("good", "link"); os.symlink("bad", "spare")
done = False
def flip():
    while not done:
        os.rename("link", "third"); os.rename("spare", "link"); os.rename("third", "spare")
t = threading.Thread(target=flip); t.start()
sys.setswitchinterval(1e-5)
for i in range(60):
    tried(lambda: bound(f"link/{{i}}", family=1))
done = True; t.join()
print(os.listdir("bad"))
"""


@pytest.mark.skipif(not landlock.abi_version(), reason="no Landlock, which holds the folder")
def test_a_link_that_changes_makes_no_socket_elsewhere(bench: Supervision) -> None:
    """A link that is turned over during the bind makes no socket in a folder that was not decided on."""
    folder = folder_of(bench)
    done = listening(bench, LINKS.format(folder=str(folder)), f"unix:{folder}/good/*", writes=(f"{folder}/*",))
    assert done.stdout == "[]\n", done.stderr


def test_without_landlock_listening_is_decided(bench: Supervision, ports: tuple[int, int]) -> None:
    """Where the kernel has no Landlock, the supervisor decides about listeners all the same."""
    folder = folder_of(bench)
    code = REFUSED.format(own=ports[0], other=ports[1], path=str(folder / "sock"))
    listen = (f"tcp://127.0.0.1:{ports[0]}", f"unix:{folder}/*")
    done = listening(bench, code, *listen, before=without_landlock)
    assert "0.0.0.0 EPERM" in done.stdout, done.stderr
    assert "<socket.socket" in next(line for line in done.stdout.splitlines() if line.startswith("unix"))
