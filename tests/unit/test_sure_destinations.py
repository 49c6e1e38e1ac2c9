"""What the native attendant decides of destinations: nothing that the Python supervisor would not allow."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.behaviour import destination
from sandbox.behaviour.destination import METADATA, Entry, needs_own_entry, packed
from sandbox.bundle import FIELDS
from sandbox.egress.destinations import Destinations
from sandbox.launcher import HERE
from sandbox.policy import attended
from sandbox.policy.encode import encode
from sandbox.profile.model import Profile, ProfiledFunction

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

ADDRESSES = ("10.0.0.1", "10.0.0.129", "10.1.0.0", "192.0.2.7", "127.0.0.1", "127.0.0.9", "169.254.7.7", "::1",
             "2001:db8::1", "2001:db8:0:1::1", "fe80::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "fd00:ec2::253",
             *map(destination.written, sorted(METADATA)))  # fmt: skip
NETWORKS = ("10.0.0.0/8", "10.0.0.0/25", "0.0.0.0/0", "127.0.0.0/8", "169.254.0.0/16", "2001:db8::/32", "::/0",
            "169.254.169.254/32", "127.0.0.1/32", "fd00::/8", "10.0.0.1/32", "fe80::/63")  # fmt: skip
NAMES = ("a.example.com", "b.a.example.com", "example.com", "xa.example.com", "db.internal", "com")
HOSTS = (*NAMES, "*.example.com", "*.a.example.com", "*.internal")
PORTS = st.sampled_from((443, 80, 53, 0, 65535))
EMPTY: Mapping[str, object] = {"flag": False, "number": 0, "day": "", "text": ""}
PROGRAM = (bytes(16), 1)


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


ENTRIES = st.builds(
    lambda protocol, host, port: f"{protocol}://{bracketed(host)}:{port}",
    st.sampled_from(("tcp", "udp", "type3")),
    st.sampled_from(ADDRESSES) | st.sampled_from(HOSTS) | st.sampled_from(NETWORKS),
    PORTS.map(str) | st.just("*"),
) | st.sampled_from(("own", "routes", "runtime-api", "unix:/run/x", "dns://a.example.com"))  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The attendant's decision under sanitizers."""
    found = tmp_path_factory.mktemp("destinations") / "decision"
    command = ["cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([*command, "-o", str(found), str(HERE / "fuzz_destinations.c")], check=True)
    return found


def policy(entries: frozenset[str]) -> bytes:
    """A policy that says these destinations and nothing else."""
    said = attended.description(Profile(ProfiledFunction("some"), frozenset(), network=entries))
    values = {name: [*words, EMPTY.get(kind, ())][0] for name, kind, words in FIELDS}
    return encode({**values, "provenance": {}, **said}, {"x86_64": (PROGRAM, PROGRAM, {}, {}, {})}, {})


@settings(max_examples=60, deadline=None)
@given(
    st.frozensets(ENTRIES, min_size=1, max_size=6),
    st.lists(
        st.tuples(
            st.sampled_from(("tcp", "udp")), st.sampled_from(ADDRESSES), PORTS, st.frozensets(st.sampled_from(NAMES))
        ),
        min_size=1, max_size=60,
    ),
)  # fmt: skip
def test_what_is_sure_is_allowed(
    program: Path, entries: frozenset[str], asked: list[tuple[str, str, int, frozenset[str]]]
) -> None:
    """A yes is a yes of the Python supervisor, too, and the other way round but for addresses that need an own entry.

    None of these is opened by a name or a network.
    """
    (program.parent / "policy").write_bytes(policy(entries))
    lines = []
    for protocol, host, port, names in asked:
        address = packed(host)
        assert address
        padded = address.ljust(16, bytes(1)).hex()
        lines.append(f"{protocol} {len(address)} {padded} {port} {' '.join(sorted(names))}\n")
    command = [str(program), str(program.parent / "policy")]
    done = subprocess.run(command, input="".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    python = Destinations(entries, frozenset())
    sure = [line == "1" for line in done.stdout.splitlines()]
    for yes, (protocol, host, port, names) in zip(sure, asked, strict=True):
        address = packed(host)
        assert address
        own = needs_own_entry(address)
        wanted = {Entry(protocol, "address", address, each) for each in (port, destination.ANY_PORT)}
        exactly = bool(wanted & set(map(destination.parse, entries)))
        # Of what needs its own entry the supervisor hears no name that an answer gave.
        allowed = python.decide(protocol, address, port, frozenset() if own else names).allowed
        assert yes == (exactly if own else allowed), (protocol, host, port, names)
