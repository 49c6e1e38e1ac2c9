"""Which TCP ports a policy opens, and what it says stays open without a supervisor."""

from __future__ import annotations

import pytest

from sandbox.behaviour.call import Call
from sandbox.policy import ports
from sandbox.profile.model import Profile, ProfiledFunction, Use


def described(
    *calls: str, network: tuple[str, ...] = (), runtime_api: bool = True, listen: tuple[str, ...] = ()
) -> dict[str, object]:
    """What the policy of a profile with these calls and destinations says of ports."""
    phase = "invoke" if runtime_api else "run"
    uses = frozenset(Use(phase, *Call.parse(call)) for call in calls)  # type: ignore[arg-type]
    function = ProfiledFunction("some", runtime_api=runtime_api)
    profile = Profile(function, uses, network=frozenset(network), listen=frozenset(listen))
    return {**ports.description(profile), "unsupervised": ports.open_kinds(profile)}


@pytest.mark.parametrize(
    ("network", "scope", "opened"),
    [
        (["runtime-api"], "runtime-api", []), (["runtime-api", "unix:/run/x"], "runtime-api", []),
        (["runtime-api", "family:AF_VSOCK"], "runtime-api", []), (["udp://10.0.0.1:9"], "runtime-api", []),
        (["udp://resolver:53"], "runtime-api", [53]),
        (["db:5432", "tcp://10.0.0.0/8:443"], "runtime-api", [53, 443, 5432]),
        (["tcp://[::1]:9", "tcp://10.0.0.1:9"], "runtime-api", [9]), (["*.example.com:443"], "runtime-api", [53, 443]),
        (["own"], "runtime-api", [8001]), (["*.example.com:*"], "family", []),
        (["tcp://10.0.0.1:*", "db:5432"], "family", []),
        (["type1://10.0.0.1:9"], "runtime-api", [9]), (["type3://10.0.0.1:9"], "runtime-api", []),
    ],
)  # fmt: skip
def test_which_ports_may_be_connected_to(network: list[str], scope: str, opened: list[int]) -> None:
    """Those of the destinations of TCP, and 53 where a name must be looked up; an entry for every port means all."""
    told = described("connect", "bind", network=tuple(network), listen=("tcp://127.0.0.1:8001",))
    assert (told["network"], told["network_ports"]) == (scope, opened)


def test_own_ports_that_the_kernel_chooses_leave_all_open() -> None:
    """Landlock knows no port that is another at each start."""
    for listener in ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "any"):
        assert described("connect", "bind", network=("own",), listen=(listener,))["network"] == "family"


def test_plain_programs() -> None:
    """One that never connects has no TCP, one with destinations has theirs; of an imported profile nothing is known."""
    assert described(runtime_api=False)["network"] == "ports"
    told = described("connect", network=("tcp://10.0.0.1:9",), runtime_api=False)
    assert (told["network"], told["network_ports"]) == ("ports", [9])
    told = described("connect", network=("unix:/run/x",), runtime_api=False)
    assert (told["network"], told["network_ports"]) == ("ports", [])
    assert described("connect", runtime_api=False)["network"] == "family"


@pytest.mark.parametrize(
    ("calls", "listen", "bind", "opened"),
    [
        (["connect"], ["tcp://127.0.0.1:8001"], "none", []), (["bind"], ["any"], "any", []),
        (["bind"], [], "ports", [0]),
        (["bind"], ["tcp://127.0.0.1:8001", "tcp://[::1]:0", "udp://127.0.0.1:9"], "ports", [0, 8001]),
        (["listen"], ["udp://127.0.0.1:9"], "ports", [0]), (["bind"], ["tcp://127.0.0.1:*"], "any", []),
    ],
)  # fmt: skip
def test_which_ports_may_be_listened_on(calls: list[str], listen: list[str], bind: str, opened: list[int]) -> None:
    """Those of the listeners of TCP, and those that the kernel chooses; any where one means every port."""
    told = described(*calls, listen=tuple(listen))
    assert (told["bind"], told["bind_ports"]) == (bind, opened)


@pytest.mark.parametrize(
    ("network", "listen", "kept"),
    [
        ((), (), "own"), (("unix:/run/x",), (), "own"), (("unix:@x",), (), "any"), (("unix:@x",), ("unix:@x",), "own"),
        (("unix:@x", "unix:@y"), ("unix:@x",), "any"),
    ],
)  # fmt: skip
def test_which_abstract_sockets_may_be_connected_to(
    network: tuple[str, ...], listen: tuple[str, ...], kept: str
) -> None:  # fmt: skip
    """Any where one that others listen on is a destination, or where nothing is known of destinations."""
    calls = ("connect", "bind", "socket AF_UNIX SOCK_STREAM")
    assert described(*calls, network=network, listen=listen)["abstract"] == kept
    assert described(*calls, runtime_api=False)["abstract"] == "any"


def test_what_stays_open_is_listed_by_kind() -> None:
    """TCP where every port is open; UDP, unix sockets, other transports and listening where the profile has them."""
    assert described("connect", "socket AF_INET SOCK_STREAM", network=("db:5432",))["unsupervised"] == []
    assert described("socket AF_INET6 SOCK_DGRAM")["unsupervised"] == []  # refused without loss
    assert described("socket AF_NETLINK SOCK_RAW NETLINK_ROUTE", "bind")["unsupervised"] == []
    assert described("bind", "listen")["unsupervised"] == ["listening: on any address"]
    told = described(
        "socket AF_INET SOCK_DGRAM", "socket AF_INET SOCK_STREAM IPPROTO_MPTCP", "socket AF_UNIX SOCK_STREAM",
        "socket AF_INET SOCK_RAW IPPROTO_ICMP", "connect", "bind", network=("db:*",), listen=("any",),
    )  # fmt: skip
    assert told["unsupervised"] == [
        "listening: on any address and port", "network: MPTCP to any address", "network: TCP to any address",
        "network: UDP to any address", "network: raw packets to any address",
        "network: unix sockets at any path, abstract ones before Landlock ABI 6",
    ]  # fmt: skip
