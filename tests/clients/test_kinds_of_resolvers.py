"""Resolvers of several makes: trained and enforced by name, with no way to a resolver of their own in the profile."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from child_processes import in_child
from resolving_world import PORT, TRUNCATED, unshared
from supervised_programs import HOSTS, Done, Supervision, bench_for
from users_and_folders import TARGETS

from sandbox.kernel import abi
from sandbox.learn import observations
from sandbox.learn.generalise import generalise
from sandbox.policy import build
from sandbox.profile.model import Profile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
bench = bench_for(HOSTS)

NODE = """
const dns = require("dns"), net = require("net");
dns.resolve4(process.argv[1], (error, found) => error ? console.log(error.code) : net.connect(7777, found[0]).on("data",
    data => { console.log(String(data)); process.exit(); }));
"""
COMPILERS = {"glibc": ("cc",), "musl": ("musl-gcc",), "musl static": ("musl-gcc", "-static")}
HERE, ELSEWHERE = "10.99.0.1", "192.0.2.53"
"""The resolver of resolv.conf, and one that a program brings along."""


def program(bench: Supervision, libc: str) -> str:
    """targets/resolver.c, compiled against a C library."""
    compiler, *options = COMPILERS[libc]
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    path = bench.folder / f"resolver-{libc.replace(' ', '-')}"
    if not path.exists():
        source = str(TARGETS / "resolver.c")
        subprocess.run([compiler, "-Wall", *options, "-o", str(path), source], check=True)
        path.chmod(0o755)
    return str(path)


def learned(bench: Supervision, *command: str, events: Path) -> Profile:
    """The profile of one run. Where sockets cannot be duplicated, a question by TCP shows no name in training."""
    by_tcp = TRUNCATED in command
    trainer = Supervision(bench.uid, bench.home, bench.folder, {}) if by_tcp else bench
    done = trainer.run(bench.folder, *command, more={
        "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(events), "SANDBOX_POLICY": "", "SANDBOX_SUPERVISE": "",
        "SANDBOX_EVENTS": "",
    })  # fmt: skip
    assert done.stdout == "hello\n", (done.stdout, done.stderr)
    return generalise(observations.read([str(events)]), "demo").profile


def trained_and_enforced(
    bench: Supervision, trained: list[str], others: list[list[str]], more: str = ""
) -> tuple[Profile, list[Done], list[str]]:
    """The profile of a command, what it and others do under it, and the names that were asked for then.

    `more` are further lines of resolv.conf.
    """
    events = bench.new(".observations")
    for _ in range(3 + len(others)):
        bench.new("")  # the child's names, which the next child must not have again

    def inside() -> tuple[Profile, list[Done], list[str]]:
        with unshared(ipv6=True, options=more) as world:
            profile = learned(bench, *trained, events=events)
            folder = bench.new(".bundle")
            build.write(build.build(profile, (abi.MACHINE,)), str(folder))
            subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
            world.asked.clear()
            found = [bench.run(folder, *command) for command in (trained, *others)]
            return profile, found, world.asked

    return in_child(inside, None)


CASES = [
    (libc, how, name, resolver)
    for libc, how, name, resolver in (
        ("glibc", "libc", "one", HERE), ("glibc", "libc", "big", HERE), ("musl", "libc", "one", HERE),
        ("musl static", "libc", "one", HERE), ("glibc", "connected", "one", HERE),
        ("glibc", "connected", "one", ELSEWHERE),
        ("glibc", "recvfrom", "one", ELSEWHERE), ("musl", "recvmsg", "one", HERE), ("glibc", "recvmsg", "big", HERE),
        ("glibc", "several", "one", HERE), ("glibc", "recvfrom", "one", "2001:db8::53"),
        ("glibc", "connected", "one", "2001:db8::53"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("libc", "how", "name", "resolver"), CASES, ids=[" ".join(case) for case in CASES])
def test_a_resolver_is_trained_and_enforced_by_name(
    bench: Supervision, libc: str, how: str, name: str, resolver: str
) -> None:
    """The trained name is reached without a line; another one is neither reached nor asked for."""
    path, more = program(bench, libc), [resolver] * (how != "libc")
    trained = [path, how, f"{name}.demo.test", *more]
    profile, (same, other), asked = trained_and_enforced(bench, trained, [[path, how, "other.demo.test", *more]])
    assert profile.network - {"unix:/run/nscd/socket"} == {f"{name}.demo.test:{PORT}"}
    assert same.stdout == "hello\n", (same.stdout, same.violations)
    assert [(line['syscall'], line['target'], line['reason']) for line in same.violations] == []
    assert other.stdout.startswith("other.demo.test: "), other.stdout
    assert {line["target"] for line in other.violations} == {"other.demo.test:*"}
    assert set(asked) == {f"{name}.demo.test"}
    assert (f"{name}.demo.test" == TRUNCATED) == (asked.count(f"{name}.demo.test") > 1)


@pytest.mark.parametrize("libc", ["glibc", "musl"])
@pytest.mark.parametrize(("name", "reached"), [("one.demo.test", "one.demo.test"), ("one", "one.demo.test")])
def test_search_domains_are_tried_without_a_line(bench: Supervision, libc: str, name: str, reached: str) -> None:
    """As in a cluster: five dots, several domains. The profile has the whole name, and only that is asked for."""
    path = program(bench, libc)
    more = "search ns.svc.test svc.test demo.test\noptions ndots:5\n"
    trained = [path, "libc", name]
    profile, (same, other), asked = trained_and_enforced(bench, trained, [[path, "libc", "other"]], more)
    assert profile.network - {"unix:/run/nscd/socket"} == {f"{reached}:{PORT}"}
    assert same.stdout == "hello\n", (same.stdout, same.violations)
    assert [line["target"] for line in same.violations] == []
    assert other.stdout.startswith("other: ")
    assert set(asked) == {reached}


def test_several_resolvers_are_asked_at_once(bench: Supervision) -> None:
    """musl sends the question to each; one answer, from any of them, is enough."""
    command = [program(bench, "musl"), "libc", "one.demo.test"]
    more = "nameserver 10.99.0.8\nnameserver 2001:db8::53\n"
    profile, (same,), asked = trained_and_enforced(bench, command, [], more)
    assert profile.network == {f"one.demo.test:{PORT}"}
    assert same.stdout == "hello\n", (same.stdout, same.violations)
    assert same.violations == []
    assert set(asked) == {"one.demo.test"}


def test_a_name_of_this_host_is_learned_with_its_address(bench: Supervision) -> None:
    """By the name it is looked up, by the address it is allowed."""
    path = program(bench, "glibc")
    profile, (same,), _ = trained_and_enforced(bench, [path, "connected", "local.demo.test"], [])
    assert profile.network == {f"local.demo.test:{PORT}", f"tcp://127.0.0.9:{PORT}"}
    assert same.stdout == "hello\n", same.stderr
    assert same.violations == []


def test_nodes_own_resolver(bench: Supervision) -> None:
    """dns.resolve4, which is c-ares, in another thread than the program."""
    node = shutil.which("node")
    if not node:
        pytest.skip("no node")
    others = [[node, "-e", NODE, "other.demo.test"]]
    profile, (same, other), asked = trained_and_enforced(bench, [node, "-e", NODE, "one.demo.test"], others)
    assert profile.network == {f"one.demo.test:{PORT}"}
    assert (same.stdout, other.stdout) == ("hello\n", "ENOTFOUND\n")
    assert set(asked) == {"one.demo.test"}
