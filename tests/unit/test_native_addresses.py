"""The launcher's reader of resolver files and its table of addresses: both say what the Python forwarder's do."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.launcher import FLAGS, HERE, LINKED
from sandbox.names import addresses
from sandbox.names.addresses import KnownAddresses

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

WORDS = (
    "nameserver", "search", "domain", "options", "#", ";", "a.example", "B.a.Example.", "x.a.example", "example",
    "localhost", "10.0.0.1", "10.0.0.01", "1.2.3.256", "1.2.3", "::1", "::", "fe80::1%1", "fe80::1%lo", "2001:DB8::a:b",
    "::ffff:10.0.0.2", "64:ff9b::1.2.3.4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2::3", ":1",
    "1:", "12345::", "1:2:3:4:5:6:7:8:9", "::1.2.3", "-", "a..b", ".a.example", "1.2.3.4.5", "*.a.example",
)  # fmt: skip
LINES = st.lists(
    st.lists(st.sampled_from(WORDS) | st.text("ab.:%#\t 1", max_size=8), max_size=5)
    | st.tuples(st.sampled_from(("nameserver", "nameserver", "search", "domain")), st.sampled_from(WORDS)).map(list)
    | st.tuples(st.sampled_from(WORDS), st.sampled_from(("a.example", "x.a.example"))).map(list),
    max_size=8,
)
WANTED = ("a.example", ".a.example")
HOSTS = ("0a000001", "0a000002", "20010db8" + "0" * 24)
NAMES = tuple(f"n{number}.example" for number in range(addresses.MOST_NAMES + 2))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher's half, built as the launcher is."""
    found = tmp_path_factory.mktemp("names") / "names"
    options = ["-Wno-unused", "-g", *LINKED, f"-Wl,-T,{HERE / 'launcher.ld'}"]
    subprocess.run(["cc", *FLAGS, *options, "-o", str(found), str(HERE / "fuzz_names.c")], check=True)
    return found


def text_of(lines: list[list[str]]) -> str:
    return "".join(" ".join(words) + "\n" for words in lines)


def wanted(name: str) -> bool:
    return name == WANTED[0] or name.endswith(WANTED[1])


@settings(max_examples=80, deadline=None)
@given(LINES, LINES, st.sampled_from(("", "local.example", " two.example  a.example", "-.x!")))
@example([], [[word, "a.example"] for word in WORDS], "")
def test_resolver_files_are_read_alike(
    program: Path, resolv: list[list[str]], hosts: list[list[str]], local: str
) -> None:
    """Servers with their scopes, search domains, and the names of the hosts file that are wanted."""
    files = [program.parent / name for name in ("resolv.conf", "hosts")]
    for path, lines in zip(files, (resolv, hosts), strict=True):
        path.write_text(text_of(lines))
    done = subprocess.run([program, "files", *files, local], capture_output=True, text=True, check=True)
    expected = []
    for host, _ in addresses.upstreams(str(files[0])):
        place, _, scope = host.partition("%")
        family = socket.AF_INET6 if ":" in place else socket.AF_INET
        number = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope == "lo" else 0
        expected.append(f"server {socket.inet_pton(family, place).hex()} {number}")
    expected += [f"search {name}" for name in addresses.searches(str(files[0]), local.split())]
    found = done.stdout.splitlines()
    assert list(dict.fromkeys(line for line in found if not line.startswith("host"))) == list(dict.fromkeys(expected))
    known = addresses.hosts(wanted, str(files[1])).items()
    expected = sorted(f"host {host.hex()} {name}" for host, names in known for name in names)
    assert sorted(line for line in found if line.startswith("host")) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(HOSTS), st.sampled_from((-9, 900))) | st.sampled_from(HOSTS),
    max_size=40,
))  # fmt: skip
@example([*((name, HOSTS[0], 900) for name in NAMES), HOSTS[0]])
def test_addresses_stand_for_the_same_names(program: Path, steps: list[tuple[str, str, int] | str]) -> None:
    """Until their time has passed, and of too many names for one address the one not heard of for longest is gone."""
    known = KnownAddresses(lambda: 1000.0, 0.0, connected=lambda address: False)
    script, expected = [], []
    for step in steps:
        if isinstance(step, str):
            script.append(f"names {step}")
            expected.append(" ".join(["names", *sorted(known.names_of(bytes.fromhex(step)))]))
        else:
            script.append("stand " + " ".join(map(str, step)))
            known.stand(step[0], bytes.fromhex(step[1]), step[2])
    done = subprocess.run([program], input="\n".join(script) + "\n", capture_output=True, text=True, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    assert [" ".join([word, *sorted(names)]) for word, *names in found] == expected


def test_the_decider_is_told_of_each_longer_time(program: Path) -> None:
    """An answer that makes an address stand for longer is news; one that does not is none."""
    script = [f"stand a.example 0a000001 {seconds}\ntell\n" for seconds in (900, 1800, 900)]
    done = subprocess.run([program], input="".join(script), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["tell a.example", "tell a.example", "tell"]


def test_answers_drive_no_host_of_the_hosts_file_out(program: Path) -> None:
    """Where the table is full, the answer not heard of for longest goes, whatever was there first."""
    script = ["host h.example 7f000001"] + [f"stand a.example 0a{number:06x} 900" for number in range(2100)]
    script += [f"names {host}" for host in ("7f000001", "0a000000", f"0a{2099:06x}")]
    commands = program.parent / "commands"
    commands.write_text("\n".join(script) + "\n")
    with commands.open() as file:
        done = subprocess.run([program], stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["names h.example", "names", "names a.example"]


@pytest.mark.parametrize("host", ["127.0.0.9", "::ffff:127.0.0.9", "::1"])
def test_an_address_in_use_stays(program: Path, host: str) -> None:
    """What its time has passed for stands for its name while a connection is open, by either family, and not after."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host)
    address = (packed[12:] if host.startswith("::ffff") else packed).hex()
    script = f"stand a.example {address} -1\nnames {address}\n"

    def said() -> str:
        return subprocess.run([program], input=script, capture_output=True, text=True, check=True).stdout.strip()

    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind((host, 0))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        assert said() == "names a.example"
        accepted.close()
    if host != "::1":  # others may use that
        assert said() == "names"
