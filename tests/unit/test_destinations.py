"""Destinations: which entries mean what, which are refused and why, and what each lets through."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import spelling
from sandbox.behaviour.destination import (
    RUNTIME_API,
    canonical_name,
    clean_path,
    entries,
    needs_own_entry,
    of_address,
    packed,
    parse,
    written,
)
from sandbox.egress.destinations import Destinations
from sandbox.errors import ProfileError
from sandbox.kernel import sockaddr
from sandbox.kernel.sockaddr import SocketAddress
from sandbox.policy import build
from sandbox.profile import document
from sandbox.profile.lint import lint
from sandbox.supervise.attend import followed

HOME = Path(__file__).resolve().parents[2]
API = frozenset({("127.0.0.1", 9001)})

PORTS = st.integers(0, 65535)
PROTOCOLS = st.sampled_from(["tcp", "udp"])
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
LABELS = st.from_regex(r"[a-z_]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PROFILE = """\
schema: 1
function: {name: some, runtime-api: false}
promises: []
network: ["ENTRY"]
syscalls: {run: {}}
"""
PLACES = st.one_of(
    st.from_regex(r"(/[a-z.]{1,5}){1,4}", fullmatch=True), st.from_regex(r"@[a-z/]{1,8}", fullmatch=True)
)

SPELLINGS = st.one_of(
    st.builds(
        "{}{}:{}".format,
        st.sampled_from(["", "tcp://", "udp://", "type3://"]),
        NAMES | NAMES.map("*.{}.".format) | NAMES.map(str.upper) | ADDRESSES.map(lambda a: f"[{a}]" if ":" in a else a)
        | st.sampled_from(["[::ffff:10.0.0.1]", "0.0.0.0", "10.0.0.0/8", "[2001:db8::/32]", "[::ffff:10.0.0.0/104]"]),
        PORTS.map(str) | st.just("*"),
    ),
    PLACES.map("unix:{}".format), PLACES.map("unix:{}/*".format),
    st.sampled_from(["unix:/*", "unix://run/./a", "family:AF_VSOCK", "family:40", RUNTIME_API]),
)  # fmt: skip
"""Entries as people write them; a few of them mean the same."""


def allowing(*entries: str) -> Destinations:
    return Destinations(entries, API)


def allows(entry: str, protocol: str, host: str, port: int = 0, *names: str) -> bool:
    """Whether one entry alone lets a destination through; then it is the rule that is named."""
    decision = allowing(entry).decide(protocol, host, port, frozenset(names))
    assert decision.entry == (entry if decision.allowed else "")
    assert bool(decision.reason) is not decision.allowed
    return decision.allowed


@pytest.mark.parametrize(("entry", "kind"), [
    ("runtime-api", "runtime-api"), ("tcp://10.0.0.1:443", "address"), ("udp://[2001:db8::1]:53", "address"),
    ("10.0.0.1:443", "address"), ("[::1]:80", "address"), ("db.internal:5432", "name"), ("udp://ntp.org:123", "name"),
    ("tcp://S3.Amazonaws.com.:443", "name"), ("*.example.com:443", "suffix"), ("10.0.0.0/8:5432", "network"),
    ("tcp://[2001:db8::/32]:443", "network"), ("[::ffff:10.0.0.0/104]:1", "network"), ("db:*", "name"),
    ("unix:/run/a.sock", "path"), ("unix:@bus", "abstract"), ("unix:/run/*", "folder"),
    ("unix:/run/a-*/s-*", "pattern"), ("family:AF_VSOCK", "family"),
    ("type3://10.0.0.1:0", "address"),
])  # fmt: skip
def test_each_form_is_known(entry: str, kind: str) -> None:
    """Every form that the documentation names is read, and keeps its text."""
    assert parse(entry).kind == kind
    assert parse(entry).text == entry


@pytest.mark.parametrize(("entry", "what"), [
    ("", "has no port"), ("example.com", "has no port"), ("example.com:", "has no port"), ("tcp://", "has no port"),
    (":443", "neither an address nor a host name"), ("example.com:http", "not a port"),
    ("example.com:65536", "not a port"),
    ("example.com:-1", "not a port"), ("example.com:²", "not a port"), ("2001:db8::1:443", "without brackets"),
    ("[10.0.0.1]:443", "brackets"), ("[::1:443", "brackets"), ("[::1]443", "has no port"),
    ("[::x]:443", "not an IPv6 address"),
    ("[fe80::1%eth0]:443", "not an IPv6 address"), ("10.0.0.256:443", "neither"), ("127.1:443", "neither"),
    ("https://example.com/x", "not a protocol"), ("sctp://10.0.0.1:1", "not a protocol"),
    ("typex://10.0.0.1:1", "not a protocol"), ("*:443", "alone is not a host"), ("a.*.com:443", "neither"),
    ("*example.com:443", "neither"), ("bücher.de:443", "neither"),
    ("a..b:443", "neither"), ("a" * 64 + ".com:443", "neither"), (".".join(["a" * 60] * 5) + ":443", "neither"),
    ("10.0.0.1/8:443", "bits behind /8"), ("10.0.0.0/33:443", "not a prefix length"), ("x/8:443", "not an address"),
    ("10.0.0.0/:443", "not a prefix length"), ("[::ffff:0.0.0.0/95]:1", "IPv4-mapped"),
    ("unix:run/a", "not an absolute path"),
    ("unix:", "not an absolute path"), ("unix:@", "no name"), ("unix:/a/../b", "'..'"), ("unix:/a*", "first name"),
    ("unix:/*/a", "first name"), ("unix:/a/**", "**"), ("unix:/a/b**/c", "**"),
    ("family:vsock", "not an address family"),
])  # fmt: skip
def test_a_wrong_entry_says_what_is_wrong(entry: str, what: str) -> None:
    """Each mistake has a message of its own, with the entry in it and what to do."""
    with pytest.raises(ProfileError) as caught:
        parse(entry)
    assert what in caught.value.what
    assert repr(entry) in caught.value.what
    assert caught.value.todo


def test_a_pasted_url_is_turned_into_an_entry() -> None:
    """The message for a URL holds the entry that was meant."""
    with pytest.raises(ProfileError) as caught:
        parse("https://api.example.com/v1")
    assert caught.value.todo == "write api.example.com:443"


@given(st.text(max_size=40) | st.text("0123456789abcdef.:/[]*@-tcpudnix", max_size=40))
def test_no_text_makes_the_parser_fail_otherwise(entry: str) -> None:
    """Whatever the text, it is an entry or a ProfileError."""
    try:
        found = parse(entry)
    except ProfileError:
        return
    assert found.text == entry
    assert parse(str(found)) == found
    if not any(0xD800 <= ord(character) < 0xE000 for character in entry):  # not UTF-8, so not YAML
        assert yaml.safe_load(spelling.of_entry("network", str(found))) == {"network": [str(found)]}


@given(SPELLINGS, SPELLINGS)
def test_entries_that_mean_the_same_are_equal(one: str, other: str) -> None:
    """And no others: each is read back from its one spelling, from YAML too, and equal spellings are equal entries."""
    read = list(entries([one, other]))
    for entry in read:
        (text,) = yaml.safe_load(spelling.of_entry("network", str(entry)))["network"]
        assert parse(text) == entry
        assert hash(parse(text)) == hash(entry)
    assert len(set(read)) == len({str(entry) for entry in read})


@pytest.mark.parametrize(("address", "protocol", "name", "entry"), [
    (SocketAddress("AF_INET6", bytes(15) + b"\1", 53), "udp", "", "udp://[::1]:53"),
    (SocketAddress("AF_INET", b"\x0a\0\0\1", 443), "tcp", "", "tcp://10.0.0.1:443"),
    (SocketAddress("AF_INET", b"\x0a\0\0\1", 443), "tcp", "db.internal", "db.internal:443"),
    (SocketAddress("AF_INET", b"\x0a\0\0\1", 53), "udp", "db.internal", "udp://db.internal:53"),
    (SocketAddress("AF_INET", b"\x0a\0\0\1", 0), "type3", "", "type3://10.0.0.1:0"),
    (SocketAddress("AF_UNIX", "/run/x"), "tcp", "", "unix:/run/x"), (SocketAddress("AF_UNIX", "@x"), "", "", "unix:@x"),
    (SocketAddress("AF_VSOCK"), "tcp", "", "family:AF_VSOCK"),
])  # fmt: skip
def test_an_address_has_an_entry(address: SocketAddress, protocol: str, name: str, entry: str) -> None:
    """As learning writes it; the text is read back as the same entry."""
    found = of_address(address, protocol, name)
    assert found.text == entry
    assert parse(entry) == found


@pytest.mark.parametrize(("entry", "spelled"), [
    ("tcp://DB.internal.:5432", "db.internal:5432"), ("tcp://*.Example.com:*", "*.example.com:*"),
    ("10.0.0.1:80", "tcp://10.0.0.1:80"), ("[::ffff:10.0.0.1]:80", "tcp://10.0.0.1:80"),
    ("udp://0.0.0.0:53", "udp://127.0.0.1:53"), ("[2001:DB8:0::1]:443", "tcp://[2001:db8::1]:443"),
    ("[2001:db8::/32]:1", "tcp://[2001:db8::/32]:1"), ("10.0.0.0/8:*", "tcp://10.0.0.0/8:*"),
    ("[::ffff:10.0.0.0/104]:1", "tcp://10.0.0.0/8:1"), ("type3://10.0.0.1:0", "type3://10.0.0.1:0"),
    ("unix:/run//./a.sock", "unix:/run/a.sock"), ("unix:/*", "unix:/*"), ("unix:@bus", "unix:@bus"),
    ("family:AF_VSOCK", "family:AF_VSOCK"), ("runtime-api", "runtime-api"),
])  # fmt: skip
def test_one_spelling_for_each_meaning(entry: str, spelled: str) -> None:
    """However an entry was written, it is printed as learning and the supervisor write it."""
    assert str(parse(entry)) == spelled
    assert parse(spelled) == parse(entry)


@pytest.mark.parametrize(("entry", "protocol", "host", "port", "expected"), [
    ("tcp://10.0.0.1:443", "tcp", "10.0.0.1", 443, True), ("tcp://10.0.0.1:443", "tcp", "10.0.0.1", 444, False),
    ("tcp://10.0.0.1:443", "udp", "10.0.0.1", 443, False), ("tcp://10.0.0.1:443", "tcp", "10.0.0.2", 443, False),
    ("tcp://10.0.0.1:443", "tcp", "::ffff:10.0.0.1", 443, True), ("[::ffff:10.0.0.1]:1", "tcp", "10.0.0.1", 1, True),
    ("udp://10.0.0.1:*", "udp", "10.0.0.1", 9, True), ("udp://10.0.0.1:*", "tcp", "10.0.0.1", 9, False),
    ("10.0.0.0/8:5432", "tcp", "10.255.255.255", 5432, True), ("10.0.0.0/8:5432", "tcp", "11.0.0.0", 5432, False),
    ("10.0.0.0/8:5432", "tcp", "::ffff:10.1.2.3", 5432, True), ("10.0.0.0/8:5432", "tcp", "10.0.0.1", 5433, False),
    ("[::ffff:10.0.0.0/104]:1", "tcp", "10.9.9.9", 1, True), ("[2001:db8::/32]:1", "tcp", "2001:db8:1::", 1, True),
    ("[2001:db8::/32]:1", "tcp", "2001:db9::", 1, False), ("0.0.0.0/0:1", "tcp", "8.8.8.8", 1, True),
    ("[::/0]:1", "tcp", "8.8.8.8", 1, False), ("0.0.0.0/0:1", "tcp", "2001:db8::1", 1, False),
    ("127.0.0.1:80", "tcp", "0.0.0.0", 80, True), ("0.0.0.0:80", "tcp", "127.0.0.1", 80, True),
    ("127.0.0.1:80", "tcp", "::ffff:0.0.0.0", 80, True), ("[::1]:80", "tcp", "::", 80, True),
    ("127.0.0.1:80", "tcp", "::", 80, False), ("127.0.0.1:80", "tcp", "127.0.0.2", 80, False),
    ("type3://10.0.0.1:0", "type3", "10.0.0.1", 0, True), ("tcp://10.0.0.1:0", "type3", "10.0.0.1", 0, False),
    ("family:AF_VSOCK", "family", "AF_VSOCK", 0, True), ("family:AF_VSOCK", "family", "AF_ALG", 0, False),
    ("tcp://10.0.0.1:443", "tcp", "", 443, False), ("tcp://10.0.0.1:443", "tcp", "nonsense\0", 443, False),
])  # fmt: skip
def test_addresses(entry: str, protocol: str, host: str, port: int, expected: bool) -> None:
    """Address, port and protocol all have to fit; other spellings of one address are that address."""
    assert allows(entry, protocol, host, port) is expected


@pytest.mark.parametrize(("entry", "name", "expected"), [
    ("example.com:443", "example.com", True), ("Example.COM.:443", "example.com", True),
    ("example.com:443", "a.example.com", False), ("*.example.com:443", "a.example.com", True),
    ("*.example.com:443", "a.b.example.com", True), ("*.example.com:443", "example.com", False),
    ("*.example.com:443", "badexample.com", False), ("*.example.com:443", ".example.com", False),
    ("udp://example.com:443", "example.com", False), ("example.com:*", "example.com", True),
    ("example.com:80", "example.com", False),
])  # fmt: skip
def test_names(entry: str, name: str, expected: bool) -> None:
    """An address is allowed by the names for which it stands now, and by no other."""
    assert allows(entry, "tcp", "192.0.2.1", 443, "unrelated.org", name) is expected
    assert not allows(entry, "tcp", "192.0.2.1", 443)


def test_which_names_may_be_asked_for() -> None:
    """Names of any protocol and port may be looked up, and nothing beside them."""
    destinations = allowing("udp://a.com:1", "*.b.com:2", "10.0.0.1:3")
    assert destinations.has_names
    assert not allowing("10.0.0.1:3", "unix:/x").has_names
    asked = ("a.com", "A.com.", "x.b.com", "b.com", "c.a.com", "", r"x\046b.com")
    assert [destinations.allows_name(name) for name in asked] == [True, True, True, False, False, False, False]


@pytest.mark.parametrize("address", [
    "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
])  # fmt: skip
def test_metadata_addresses_need_an_entry_of_their_own(address: str) -> None:
    """Neither a network nor a name lets a function reach the platform's credentials."""
    wide = allowing("0.0.0.0/0:*", "[::/0]:*", "169.254.169.254/32:80", "*.evil.com:*", "evil.com:80")
    decision = wide.decide("tcp", address, 80, frozenset({"evil.com", "a.evil.com"}))
    assert not decision.allowed
    assert "credentials" in decision.reason
    text = wide.text_to_allow("tcp", address, 80, frozenset({"evil.com"}))
    assert packed(address) == parse(text).value
    assert allows(text, "tcp", address, 80)
    assert wide.decide("tcp", "169.254.169.253", 80).allowed


def test_the_runtime_api_is_always_allowed() -> None:
    """Over TCP, by address and by name, and on its port alone."""
    destinations = Destinations([], frozenset({("::ffff:127.0.0.1", 9001), ("Runtime.Internal", 9002)}))
    for host in ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"):
        assert destinations.decide("tcp", host, 9001).entry == RUNTIME_API
        assert not destinations.decide("udp", host, 9001).allowed
        assert not destinations.decide("tcp", host, 9002).allowed
    assert destinations.decide("tcp", "10.0.0.1", 9002, frozenset({"runtime.internal"})).entry == RUNTIME_API
    assert destinations.allows_name("runtime.internal")
    assert not Destinations(["runtime-api"], frozenset()).decide("tcp", "127.0.0.1", 9001).allowed


@pytest.mark.parametrize(("entry", "place", "expected"), [
    ("unix:/run/a.sock", "/run/a.sock", True), ("unix:/run/a.sock", "/run//./a.sock", True),
    ("unix:/run/a.sock", "/run/b/../a.sock", False), ("unix:/run/a.sock", "run/a.sock", False),
    ("unix:/run/a.sock", "/run/a.sock2", False), ("unix:/run/*", "/run/a.sock", True), ("unix:/run/*", "/run", False),
    ("unix:/run/*", "/run/", False), ("unix:/run/*", "/run/a/b", False), ("unix:/run/*", "/run/../etc/a", False),
    ("unix:/run/*", "/run/..", False), ("unix:/run/*", "/run/\ufffd", False), ("unix:/*", "/a", True),
    ("unix:/*", "/", False), ("unix:@bus", "@bus", True), ("unix:@bus", "@bus\0", False), ("unix:@bus", "bus", False),
    ("unix:/bus", "@/bus", False), ("unix:@bus", "", False), ("unix:/tmp/p-*/s-*", "/tmp/p-1/s-2", True),
    ("unix:/tmp/p-*/s-*", "/tmp//p-1/./s-2", True), ("unix:/tmp/p-*/s-*", "/tmp/p-1/x/s-2", False),
    ("unix:/tmp/p-*/s-*", "/tmp/p-1/../s-2", False), ("unix:/tmp/p-*", "/tmp/p-\ufffd", False),
    ("unix:/tmp/p-*/*", "/tmp/p-1/s", True), ("unix:/tmp/p-*/*", "/tmp/p-1", False),
    ("unix:/tmp/p-*", "@/tmp/p-1", False), ("unix:@p-*-0", "@p-17-0", True), ("unix:@p-*-0", "@p-17-1", False),
    ("unix:@p-*", "@p-a/b", False), ("unix:@p-*", "@p-\ufffd", False), ("unix:@/p-*", "/p-1", False),
])  # fmt: skip
def test_unix_sockets(entry: str, place: str, expected: bool) -> None:
    """Paths are compared without what the kernel ignores, abstract names as they are; `*` is a name or part of it."""
    assert allows(entry, "unix", place) is expected


@given(PROTOCOLS, ADDRESSES, PORTS, st.frozensets(NAMES, max_size=3))
def test_the_proposed_entry_allows_what_was_denied(protocol: str, host: str, port: int, names: frozenset[str]) -> None:
    """For addresses, with names and without; and it allows no other port, protocol or host."""
    nothing = Destinations([], frozenset())
    assert not nothing.decide(protocol, host, port, names).allowed
    text = nothing.text_to_allow(protocol, host, port, names)
    granted = Destinations([text], frozenset())
    assert yaml.safe_load(spelling.of_entry("network", text)) == {"network": [text]}
    assert granted.decide(protocol, host, port, names).entry == text
    assert not granted.decide(protocol, host, port ^ 1, names).allowed
    assert not granted.decide("udp" if protocol == "tcp" else "tcp", host, port, names).allowed
    assert not granted.decide(protocol, "192.0.2.77" if host != "192.0.2.77" else "192.0.2.78", port).allowed


@given(PLACES)
def test_the_proposed_entry_allows_a_unix_socket(place: str) -> None:
    """Where any entry can: not for a path through `..`."""
    nothing = Destinations([], frozenset())
    assert not nothing.decide("unix", place).allowed
    text = nothing.text_to_allow("unix", place)
    assert bool(text) is (place.startswith("@") or clean_path(place) is not None)
    if text:
        assert Destinations([text], frozenset()).decide("unix", place).entry == text
        assert yaml.safe_load(spelling.of_entry("network", text)) == {"network": [text]}


def test_a_sockets_folder_is_known_by_where_it_leads(tmp_path: Path) -> None:
    """Links of the folder are followed, and nothing else: not the socket itself, which may not be there yet."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "socket").symlink_to("/elsewhere")
    linked = [f"unix:{tmp_path}/link/socket", f"unix:{tmp_path}/link/*", f"unix:{tmp_path}/link/p-*/s"]
    plain = ["unix:/socket", "unix:/*", "unix:@name", RUNTIME_API, "tcp://10.0.0.1:443"]
    real = [f"unix:{tmp_path.resolve()}/real/socket", f"unix:{tmp_path.resolve()}/real/*"]
    real.append(f"unix:{tmp_path.resolve()}/real/p-*/s")
    assert followed([*linked, *plain]) == [*linked, *plain, *real]


def test_what_no_entry_can_allow_has_no_proposal() -> None:
    """No text is offered that would not work, or would allow more."""
    nothing = Destinations([], frozenset())
    unnamed = (("tcp", ""), ("tcp", "x"), ("unix", "rel"), ("unix", "/a/*"), ("dns", r"a\000b"), ("unix", ""))
    for protocol, host in unnamed:
        assert nothing.text_to_allow(protocol, host, 1) == ""
    assert nothing.text_to_allow("dns", "API.example.com", 0) == "api.example.com:*"
    assert nothing.text_to_allow("tcp", "10.0.0.1", 80, frozenset({r"a\000b"})) == "tcp://10.0.0.1:80"
    assert nothing.text_to_allow("udp", "2001:db8::1", 53) == "udp://[2001:db8::1]:53"
    assert nothing.text_to_allow("family", "AF_VSOCK") == "family:AF_VSOCK"


@given(ADDRESSES, PORTS, st.integers(0, 128))
def test_networks_agree_with_ipaddress(host: str, port: int, bits: int) -> None:
    """A network holds exactly the addresses that the standard library says it holds."""
    address = ipaddress.ip_address(host)
    network = ipaddress.ip_network((address, min(bits, address.max_prefixlen)), strict=False)
    mapped = network.version == 6 and network.network_address.packed.startswith(bytes(10) + b"\xff\xff")
    text = f"[{network}]:*" if network.version == 6 else f"{network}:*"
    if mapped and network.prefixlen < 96:
        return
    destinations = Destinations([text], frozenset())
    near = int(network.network_address) + network.num_addresses
    outside = {int(network.network_address) - 1, near} - {-1, 1 << address.max_prefixlen}
    kind = type(address)
    for inside in (network.network_address, network.broadcast_address):
        if int(inside) and "credentials" not in destinations.decide("tcp", str(inside), port).reason:
            assert destinations.decide("tcp", str(inside), port).allowed or _mapped(str(inside)) != mapped
    for number in outside - {0}:
        assert not destinations.decide("tcp", str(kind(number)), port).allowed


def _mapped(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return address.version == 6 and address.packed.startswith(bytes(10) + b"\xff\xff")


@given(ADDRESSES)
def test_addresses_are_written_as_people_know_them(host: str) -> None:
    """Packing and writing gives the address back, up to the spellings of one destination."""
    address = packed(host)
    assert address is not None
    assert packed(written(address)) == address
    if not _mapped(host) and int(ipaddress.ip_address(host)):
        assert written(address) == host


@given(st.text(max_size=30), st.text(max_size=30), PORTS, st.frozensets(st.text(max_size=10), max_size=3))
def test_no_destination_makes_the_decision_fail(protocol: str, host: str, port: int, names: frozenset[str]) -> None:
    """Whatever the caller's memory held, there is a decision, a reason, and no exception."""
    destinations = allowing("a.com:1", "10.0.0.0/8:1", "unix:/a/*", "*.b.c:1")
    for which in (protocol, "unix", "tcp", "family", "dns"):
        decision = destinations.decide(which, host, port, names)
        assert decision.allowed or decision.reason
        text = destinations.text_to_allow(which, host, port, names)
        assert not text or parse(text).text == text


def test_reasons_help() -> None:
    """A denial names the host, what the profile has for it, or that no name stands for the address."""
    destinations = allowing("db.internal:5432")
    known = frozenset({"db.internal"})
    assert "db.internal:5432" in destinations.decide("tcp", "10.0.0.1", 22, known).reason
    assert "known as db.internal" in destinations.decide("tcp", "10.0.0.1", 22, known).reason
    assert "no host name of the profile stands for it" in destinations.decide("tcp", "10.0.0.1", 5432).reason
    assert "10.0.0.1 with udp port 1" in allowing().decide("udp", "10.0.0.1", 1).reason


def test_host_names() -> None:
    """Letters, digits, hyphens and underscores; no number where an address was meant."""
    assert canonical_name("A-b_c.Example.COM.") == "a-b_c.example.com"
    for host in ("", ".", "a.", "-"):
        assert canonical_name(host) == {"a.": "a", "-": "-"}.get(host, "")
    assert canonical_name("1.2.3.4") == canonical_name("a b") == canonical_name("a.1") == ""


def test_the_module_is_light() -> None:
    """The supervisor loads it at every start: nothing comes with it that costs milliseconds and mebibytes."""
    code = f"import sys; sys.path.insert(0, {str(HOME)!r}); import sandbox.egress.destinations; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )  # fmt: skip
    heavy = {"dataclasses", "typing", "enum", "re", "json", "ipaddress", "hashlib", "asyncio", "socket", "dnslib"}
    assert not heavy & set(run.stdout.split())


@pytest.mark.parametrize(("entry", "known"), [
    ("db:5432", True), ("*.example.com:443", True), ("10.0.0.0/8:*", True), ("unix:/run/x", True), ("db", False),
    ("*:443", False), ("tcp://[::1]", False), ("unix:x", False),
])  # fmt: skip
def test_lint_compiler_and_supervisor_read_alike(entry: str, known: bool) -> None:
    """What the compiler refuses, lint calls an error at its place; what it takes, the supervisor takes, too."""
    found = document.parse(PROFILE.replace("ENTRY", entry), "p.yaml")
    errors = [finding for finding in lint(found) if finding.severity == "error"]
    if known:
        assert errors == []
        policy = build.build(found.checked().profile, ("x86_64",)).policy("x86_64")
        assert Destinations(policy.supervision.destinations, API).text_to_allow("unix", "/run/x") == "unix:/run/x"
        return
    with pytest.raises(ProfileError) as refused:
        found.checked()
    assert refused.value.where == "p.yaml:4:11"
    assert [finding.message for finding in errors] == [refused.value.what]
    with pytest.raises(ProfileError, match="what to do"):
        build.build(found.profile, ("x86_64",))


def test_abstract_names_and_paths_are_told_apart() -> None:
    """A relative path that begins with @ is no abstract name, however both are written."""
    named, path = sockaddr.parse(b"\1\0\0bus"), sockaddr.parse(b"\1\0@bus\0")
    assert (named, path) == (SocketAddress("AF_UNIX", "@bus"), SocketAddress("AF_UNIX", "./@bus"))
    assert allows("unix:@bus", "unix", "@bus")
    assert not allows("unix:@bus", "unix", "./@bus")
    assert not allows("unix:@b\ufffd", "unix", "@b\ufffd")


def test_which_addresses_names_never_open() -> None:
    """Loopback, link-local and metadata addresses of both families, in each spelling; their neighbours are others."""
    own = ("127.0.0.1", "127.255.255.255", "169.254.0.1", "169.254.169.254", "::1", "fe80::1", "febf::1", "0.0.0.0",
           "::", "::ffff:127.0.0.9", "::ffff:169.254.170.2", "fd00:ec2::254", "64:ff9b::169.254.1.1",
           "64:ff9b::127.0.0.1")  # fmt: skip
    others = ("126.255.255.255", "128.0.0.1", "169.253.1.1", "169.255.1.1", "10.0.0.1", "192.168.1.1", "::2", "fec0::1",
              "fe7f::1", "fd00:ec2::255", "2001:db8::7f00:1", "64:ff9b::10.0.0.1")  # fmt: skip
    for expected, hosts in ((True, own), (False, others)):
        for host in hosts:
            address = packed(host)
            assert address is not None
            assert needs_own_entry(address) is expected, host
