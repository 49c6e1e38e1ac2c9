"""What the supervisor is told and what it answers, without a kernel: rules, prologue, decisions, decoders of memory."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import guests
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.behaviour import arguments
from sandbox.behaviour.arguments import FULL
from sandbox.behaviour.call import Call
from sandbox.behaviour.destination import of_address
from sandbox.confine import single_exec
from sandbox.confine.single_exec import block
from sandbox.egress import messages, sending
from sandbox.kernel import abi, bpf, sockaddr, tables
from sandbox.kernel.memory import socket_address
from sandbox.kernel.notification import CallTable, Notification
from sandbox.policy import supervision
from sandbox.policy.build import build
from sandbox.policy.compiler import compile_rules, halves
from sandbox.policy.rules import Rules, rules_for
from sandbox.policy.simulator import check, simulate
from sandbox.profile import base
from sandbox.profile.model import AIMS, PHASES, Profile, Tolerated, Use
from sandbox.supervise.decision import CONTINUE, DENY, REPORT, TERMINATE, Decider
from sandbox.supervised import Supervision
from sandbox.violations.decode import decode_args

T = TypeVar("T")
NATIVE = tables.AUDIT_ARCH[abi.MACHINE]
NUMBERS = tables.numbers(abi.MACHINE)
ADDRESSES = (0x7F1122334455, 0x123456789ABC, 0x5566778899A0)
OWN = 4711
EPERM, NOTIFY = bpf.ERRNO | errno.EPERM, bpf.USER_NOTIF
API_ITEMS = ("openat read", "connect", "socket AF_INET SOCK_STREAM", "sendto connected", "kill SIGUSR1")


SOCKET_ARGUMENTS = st.tuples(
    st.sampled_from([0, 1, 2, 10, 16, 17, 1 << 32 | 2, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 2, 3, 5, 0x801, 0x80002, 0x80803, 1 << 32 | 1]),
    st.sampled_from([0, 1, 6, 17, 262, 1 << 32 | 6, 0xFFFFFFFF]),
)


@given(arguments=SOCKET_ARGUMENTS, name=st.sampled_from(["api", "datagrams", "pairs", "programs"]))
def test_the_sockets_that_a_supervisor_makes(arguments: tuple[int, int, int], name: str) -> None:
    """Exactly what the supervised program allows of socket(2) is notified in its place, and known as allowed."""
    profile = profiles()[name]
    rules = supervision.filters(profile, abi.MACHINE).supervised
    program = compile_rules(rules)
    allowed = supervision.socket_calls(supervision.filters(profile, abi.MACHINE))
    before = bpf.returning(NUMBERS["socket"], allowed, bpf.USER_NOTIF)
    for nr in (NUMBERS["socket"], NUMBERS["connect"], NUMBERS["socketpair"]):
        args = (*arguments, 0, 0, 0)
        alone, both = (simulate(found, NATIVE, nr, args).action for found in (program, (*before, *program)))
        call = Notification((1, 1, 0, nr, NATIVE, 0, *args))
        known = CallTable({str(NUMBERS["socket"]): allowed}).allows(call)
        assert known == (nr == NUMBERS["socket"] and alone == bpf.ALLOW)
        assert both == (NOTIFY if known else alone)


def profiles() -> dict[str, Profile]:
    """Some that differ in what the supervisor must see."""
    early = {Use("init", "umask", "", 3), Use("init", "openat", "create", 1), Use("invoke", "openat", "read", 5)}
    api = guests.profile(*API_ITEMS, runtime_api=True, network=("runtime-api",))
    return {
        "plain": guests.profile("openat read", "kill SIGUSR1"),
        "api": dataclasses.replace(api, uses=api.uses | early),
        "datagrams": guests.profile("socket AF_INET SOCK_DGRAM", "sendto addressed", "sendmsg", "sendmmsg", "connect"),
        "pairs": guests.profile("socketpair AF_UNIX SOCK_DGRAM", "sendmsg"),
        "programs": guests.profile("execve", "clone process", "wait4", "kill SIGTERM to others"),
        "granted": guests.profile("openat read", grants=("ptrace",)),
    }


@pytest.fixture(params=sorted(profiles()))
def profile(request: pytest.FixtureRequest) -> Profile:
    """Each of them."""
    return profiles()[request.param]


def action(profile: Profile, name: str, *args: int) -> int:
    """What the supervised program does with a call."""
    registers = (*args, *[0] * (6 - len(args)))
    rules = supervision.filters(profile, abi.MACHINE).supervised
    verdict = rules.verdict(NATIVE, NUMBERS[name], registers)
    simulated = simulate(compile_rules(rules), NATIVE, NUMBERS[name], registers).action
    assert simulated == verdict
    return verdict


# The rules.


def test_what_the_plain_program_refuses_is_notified_or_static(profile: Profile) -> None:
    """No call gets more from the supervised program than an answer; those that install filters not even that."""
    both = supervision.filters(profile, abi.MACHINE)
    plain, watched = both.plain, both.supervised
    for nr, value in itertools.product(tables.names(abi.MACHINE), (0, 1, 2, 7, 0x241, 1 << 40, (1 << 64) - 1)):
        args = (value,) * 6
        if watched.verdict(NATIVE, nr, args) == bpf.ALLOW:
            assert plain.verdict(NATIVE, nr, args) == bpf.ALLOW, tables.names(abi.MACHINE)[nr]
        if plain.verdict(NATIVE, nr, args) != bpf.ALLOW:
            assert watched.verdict(NATIVE, nr, args) != bpf.ALLOW
    for number in (NUMBERS["seccomp"],):
        assert watched.verdict(NATIVE, number, (0,) * 6) == EPERM
    assert watched.verdict(NATIVE, NUMBERS["prctl"], (22, 2, 0, 0, 0, 0)) == EPERM  # PR_SET_SECCOMP
    assert watched.verdict(NATIVE, 1999, (0,) * 6) == bpf.ERRNO | errno.ENOSYS
    assert watched.verdict(NATIVE, NUMBERS["clone3"], (0,) * 6) == bpf.ERRNO | errno.ENOSYS


def test_foreign_architectures_are_killed(profile: Profile) -> None:
    """i386, x32 and the other machine's calls end the process before anything else is looked at."""
    program = installed(supervision.filters(profile, abi.MACHINE).supervised)
    foreign = [0x40000003, 0x40000028, *(arch for arch in tables.AUDIT_ARCH.values() if arch != NATIVE)]
    for arch, nr in itertools.product(foreign, (0, NUMBERS["execve"], NUMBERS["kill"], NUMBERS["read"])):
        assert simulate(program, arch, nr, (*ADDRESSES, 0, 0, 0)).action == bpf.KILL_PROCESS
    if abi.MACHINE == "x86_64":
        x32 = bpf.X32_BIT | NUMBERS["execve"]
        assert simulate(program, NATIVE, x32, (*ADDRESSES, 0, 0, 0)).action == bpf.KILL_PROCESS


def test_calls_that_go_somewhere_are_notified() -> None:
    """connect and exec always; sends with an address always; messages where a socket may be one of datagrams."""
    found = profiles()
    assert action(found["api"], "connect", 3) == action(found["datagrams"], "connect", 3) == NOTIFY
    assert action(found["programs"], "execve", 1, 2, 3) == action(found["plain"], "execve", 1, 2, 3) == NOTIFY
    assert action(found["api"], "sendto", 3, 1, 1, 0, 0, 0) == bpf.ALLOW
    assert action(found["datagrams"], "sendto", 3, 1, 1, 0, 0, 0) == bpf.ALLOW
    assert action(found["api"], "sendto", 3, 1, 1, 0, 1 << 40, 16) == NOTIFY
    assert action(found["datagrams"], "sendto", 3, 1, 1, 0, 1, 16) == NOTIFY
    for name in ("datagrams", "pairs"):
        assert action(found[name], "sendmsg", 3, 1, 0) == NOTIFY
    assert action(found["datagrams"], "sendmmsg", 3, 1, 1, 0) == NOTIFY
    assert action(found["api"], "sendmsg", 3, 1, 0) == bpf.ALLOW  # streams: the address of a message is not used
    assert action(found["api"], "sendmsg", 3, 1, 0x20000000) == NOTIFY  # but with MSG_FASTOPEN it is


def test_init_items_are_notified_and_named() -> None:
    """What only init uses is notified and listed for the supervisor; what invoke uses as well is not."""
    api = profiles()["api"]
    assert action(api, "umask", 0o22) == NOTIFY
    assert action(api, "openat", 0xFFFFFF9C, 1, 0x241) == NOTIFY
    assert action(api, "openat", 0xFFFFFF9C, 1, 0) == bpf.ALLOW
    items = supervision.init_items(supervision.filters(api, abi.MACHINE))
    assert items["umask"] == ("",)
    assert "create" in items["openat"]
    assert "read" not in items["openat"]
    assert not set(items) & {"read", "connect"}
    assert supervision.init_items(supervision.filters(profiles()["plain"], abi.MACHINE)) == {}


def test_the_description_names_what_is_brokered() -> None:
    """Only learned calls go to the broker, with the signals; grants and never-granted denials are as the base says."""
    found = {name: described(profile) for name, profile in profiles().items()}
    assert set(_list(found["plain"], "brokered")) == {"kill SIGUSR1", "tgkill"}
    assert {"connect", "sendmsg", "sendto connected"} <= set(_list(found["api"], "brokered"))
    assert "sendto addressed" not in _list(found["api"], "brokered")
    assert {"sendto addressed", "sendmmsg"} <= set(_list(found["datagrams"], "brokered"))
    assert _list(found["plain"], "terminate") == sorted(TERMINATED)
    assert _list(found["granted"], "terminate") == sorted(TERMINATED - {"ptrace"})
    assert "seccomp" in _list(found["plain"], "never-granted")
    hard = {entry.syscall for entry in base.hard_deny()}
    assert set(_mapping(found["plain"], "denied")) == hard
    assert set(_mapping(found["granted"], "denied")) == hard - {"ptrace"}


def described(profile: Profile) -> dict[str, object]:
    """What a policy tells the supervisor of a profile on this machine."""
    return supervision.description(profile, {abi.MACHINE: supervision.filters(profile, abi.MACHINE)})


def test_a_build_computes_the_rules_of_each_program_once(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is described from the rules, they are computed once for each phase that a program allows."""
    computed: list[tuple[str, frozenset[Use]]] = []

    def counted(profile: Profile, arch: str) -> Rules:
        computed.append((arch, profile.uses))
        return rules_for(profile, arch)

    holders = [module for module in list(sys.modules.values()) if getattr(module, "rules_for", None) is rules_for]
    for module in holders:
        if module.__name__ != __name__:
            monkeypatch.setattr(module, "rules_for", counted)
    build(profile)
    programs = 2 if profile.function.runtime_api else 1  # without phases both programs follow from the same rules
    assert len(computed) == len(set(computed)) == programs * len(tables.ARCHES)


def _list(found: Mapping[str, Any], key: str) -> list[str]:
    value: list[str] = found[key]
    return value


def _mapping(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    value: dict[str, Any] = found[key]
    return value


# What is put between head and rest.


def before(action: int, *block_of: Any) -> bpf.Program:
    """A block with the number loaded before it, and one answer behind it."""
    return ((bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), *block(*block_of), (bpf.RET_K, 0, 0, action))


def installed(rules: Rules) -> bpf.Program:
    """What a supervised start installs."""
    head, rest = halves(rules)
    return bpf.unpack(single_exec.put(block(ADDRESSES, OWN, NOTIFY), bpf.pack(head + rest), 8 * len(head)))


def test_the_ticket_passes_and_every_other_pointer_does_not() -> None:
    """Three right pointers pass; with any bit of any of them wrong execve falls through to the program."""
    program = before(NOTIFY, ADDRESSES, OWN, NOTIFY)
    check(program)
    nr = NUMBERS["execve"]
    assert simulate(program, NATIVE, nr, (*ADDRESSES, 0, 0, 0)).action == bpf.ALLOW
    for bit, which in itertools.product(range(64), range(3)):
        args = [address ^ (1 << bit if i == which else 0) for i, address in enumerate(ADDRESSES)]
        assert simulate(program, NATIVE, nr, (*args, 0, 0, 0)).action == NOTIFY
    for wrong in itertools.product((0, 1 << 3, 1 << 44), repeat=3):
        args = [address ^ change for address, change in zip(ADDRESSES, wrong, strict=True)]
        wanted = NOTIFY if any(wrong) else bpf.ALLOW
        assert simulate(program, NATIVE, nr, (*args, 0, 0, 0)).action == wanted
    assert simulate(program, NATIVE, NUMBERS["execveat"], (*ADDRESSES, 0, 0, 0)).action == NOTIFY


def test_a_wrong_ticket_takes_as_long_as_another() -> None:
    """The time of the comparison gives no half of an address away."""
    program = before(NOTIFY, ADDRESSES, OWN, NOTIFY)
    counts = set()
    for wrong in itertools.product((0, 1, 1 << 40), repeat=3):
        args = [address ^ change for address, change in zip(ADDRESSES, wrong, strict=True)]
        if any(wrong):
            counts.add(simulate(program, NATIVE, NUMBERS["execve"], (*args, 0, 0, 0)).instructions)
    assert len(counts) == 1


def test_signals_to_others_are_notified() -> None:
    """To the own process they are left to the program, to everybody else they are notified, dirty upper half or not."""
    program = before(bpf.ALLOW, ADDRESSES, OWN, NOTIFY)
    check(program)
    for name in single_exec.SIGNALS:
        others = (OWN + 1, 0, 1, (1 << 64) - 1, -OWN & (1 << 64) - 1)
        for target, wanted in ((OWN, bpf.ALLOW), (OWN | 9 << 32, bpf.ALLOW), *((other, NOTIFY) for other in others)):
            args = [0] * 6
            args[0] = target
            assert simulate(program, NATIVE, NUMBERS[name], args).action == wanted, (name, target)
    free = before(bpf.ALLOW, ADDRESSES, None, NOTIFY)
    assert simulate(free, NATIVE, NUMBERS["kill"], (1, 9, 0, 0, 0, 0)).action == bpf.ALLOW


@pytest.mark.parametrize("guarded", [(77,), (77, -1), (77, -1, -70)])
def test_where_signals_are_free_the_supervisor_is_guarded(guarded: tuple[int, ...]) -> None:
    """Signals to the guarded targets alone are notified; all others are the program's."""
    program = before(bpf.ALLOW, ADDRESSES, None, NOTIFY, guarded)
    check(program)
    for name in single_exec.SIGNALS:
        for target in (1, 70, 76, 77, 78, 4711, -1, -70, -77, 0):
            args = [0] * 6
            args[0] = target & (1 << 64) - 1
            wanted = NOTIFY if target in guarded else bpf.ALLOW
            assert simulate(program, NATIVE, NUMBERS[name], args).action == wanted, (name, target)
    assert simulate(program, NATIVE, NUMBERS["execve"], (*ADDRESSES, 0, 0, 0)).action == bpf.ALLOW
    assert simulate(program, NATIVE, NUMBERS["read"], (77, 77, 77, 0, 0, 0)).action == bpf.ALLOW


def test_elsewhere_the_program_alone_decides(profile: Profile) -> None:
    """For every call but execve and signals what is installed is the rules' own verdict."""
    rules = supervision.filters(profile, abi.MACHINE).supervised
    program = installed(rules)
    check(program)
    watched = {NUMBERS[name] for name in ("execve", *single_exec.SIGNALS)}
    for nr in {*tables.names(abi.MACHINE), 600, 1999, 1 << 31} - watched:
        for value in (0, 1, 0x10000, 0x241, 1 << 33, (1 << 64) - 1):
            args = (value, value, value, 0, value, 0)
            assert simulate(program, NATIVE, nr, args).action == rules.verdict(NATIVE, nr, args), nr
    for name in single_exec.SIGNALS:
        args = (OWN, 10, 10, 0, 0, 0)
        assert simulate(program, NATIVE, NUMBERS[name], args).action == rules.verdict(NATIVE, NUMBERS[name], args)


def test_who_may_move_its_root(profile: Profile) -> None:
    """A grant of any call that changes what paths mean says so, and a response to a path call; nothing else does."""

    def moves(found: Profile) -> bool:
        return supervision.looks(found, [supervision.filters(found, abi.MACHINE)]) == "decider"

    assert not moves(profile)
    assert moves(dataclasses.replace(profile, responses=frozenset({("mkdir", "terminate")})))
    for name in ("chroot", "mount", "unshare", "setns", "pivot_root"):
        granted = guests.profile("openat read", grants=(name,))
        assert moves(granted), name


# Decisions.


def decider(*, audit: bool = False, responses: Mapping[str, str] | None = None, name: str = "api") -> Decider:
    """For one of the profiles."""
    found = dataclasses.replace(profiles()[name], responses=frozenset((responses or {}).items()))
    return Decider(Supervision(described(found), abi.MACHINE), audit=audit)


def test_a_refusal_is_tolerated_in_its_phase_at_its_aim() -> None:
    """What init was refused ends with init; what an event was refused counts during init as well, as its calls do."""
    entries = [Tolerated("init", "ptrace", "", "self", "EPERM"), Tolerated("invoke", "ptrace", "", "child", "EPERM")]
    profile = dataclasses.replace(profiles()["api"], tolerates=frozenset(entries))
    found = Decider(Supervision(described(profile), abi.MACHINE), audit=False)
    ptrace = Call("ptrace")
    assert found.knows_refusal(ptrace)
    assert not found.knows_refusal(Call("bpf"))
    allowed = {(phase, at) for phase in ("init", "invoke") for at in AIMS if found.tolerates(ptrace, phase, at)}
    assert allowed == {("init", "self"), ("init", "child"), ("invoke", "child")}
    assert found.decide(ptrace, "invoke").answer == TERMINATE


def test_decisions_by_phase() -> None:
    """An init item passes in init; after it, it is refused and called by its name; others are refused in each phase."""
    found = decider()
    assert found.decide(Call("umask"), "init").answer == CONTINUE
    late = found.decide(Call("umask"), "invoke")
    assert (late.answer, late.reason, late.allow) == (
        DENY, "learned for the init phase only", "syscalls.invoke.umask: {count: 1, because: <your reason>}"
    )  # fmt: skip
    assert found.decide(Call("openat", "create"), "init").answer == CONTINUE
    assert found.decide(Call("openat", "write"), "init").answer == DENY
    assert found.decide(Call("getpgid"), "init").reason == "not in the profile"
    assert decider(name="plain").decide(Call("umask"), "init").answer == DENY


TERMINATED = {
    "ptrace", "bpf", "userfaultfd", "init_module", "finit_module", "delete_module", "process_vm_readv",
    "process_vm_writev", "kexec_load", "kexec_file_load", "open_by_handle_at", "pidfd_getfd",
}  # fmt: skip


def test_hard_denials() -> None:
    """Escape primitives end their caller, other hard denials refuse, in audit mode too; a grant lifts its own."""
    for audit in (False, True):
        found = decider(audit=audit)
        for syscall in sorted(TERMINATED):
            assert found.decide(Call(syscall), "invoke").answer == TERMINATE, syscall
        assert found.decide(Call("mount"), "init").answer == DENY
        assert found.decide(Call("clone", "namespace"), "invoke").answer == DENY
        assert found.decide(Call("clone", "namespace"), "invoke").allow == ""
        assert "grants:" in found.decide(Call("mount"), "invoke").allow
    assert decider(name="granted", audit=True).decide(Call("ptrace"), "run").answer == REPORT


def test_responses_of_the_profile() -> None:
    """The class's own response, then the syscall's, then the usual; audit reports whatever is not hard-denied."""
    responses = {"openat": "terminate", "openat create": "report", "ptrace": "deny", "connect": "terminate"}
    found = decider(responses=responses)
    assert found.decide(Call("openat", "create"), "invoke").answer == REPORT
    assert found.decide(Call("openat", "write"), "invoke").answer == TERMINATE
    assert found.decide(Call("ptrace"), "invoke").answer == DENY
    assert found.response(Call("connect")) == TERMINATE
    assert found.response(Call("sendmsg")) == DENY
    audit = decider(responses=responses, audit=True)
    assert audit.decide(Call("openat", "write"), "invoke").answer == REPORT
    assert audit.response(Call("connect")) == REPORT
    assert audit.response(Call("connect"), final=True) == DENY


@given(st.sampled_from(sorted(NUMBERS)), st.text(max_size=20), st.sampled_from(PHASES), st.booleans())
def test_a_decision_for_anything(syscall: str, arg_class: str, phase: str, audit: bool) -> None:
    """Any call with any class has an answer, and only init items of the profile pass without a report."""
    found = DECIDERS[audit].decide(Call(syscall, arg_class), phase)
    assert found.answer in (CONTINUE, DENY, REPORT, TERMINATE)
    assert isinstance(yaml.safe_load(found.allow), dict) == bool(found.allow)
    if found.answer == CONTINUE:
        assert phase == "init"
        assert (syscall, arg_class) in {("umask", ""), *((s, n) for s, names in INIT.items() for n in names)}
    else:
        assert found.reason


DECIDERS = {audit: decider(audit=audit) for audit in (False, True)}
API_FILTERS = supervision.filters(profiles()["api"], abi.MACHINE)
INIT = supervision.init_items(API_FILTERS)


INIT_CALLS = CallTable(supervision.init_calls(API_FILTERS))
BEFORE, AFTER = API_FILTERS.plain, API_FILTERS.supervised


def waiting(nr: int, args: Sequence[int]) -> Notification:
    """A call that waits for its answer."""
    return Notification((1, 2, 0, nr, NATIVE, 0, *args))


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(NUMBERS)) | st.sampled_from(["umask", "openat", "open", "creat", "kill"]),
    st.lists(st.sampled_from([0, 1, 2, 0o100, 0o1000, 0o101, 9, 0xFFFFFFFF]) | st.integers(0, FULL), min_size=6,
             max_size=6),
)  # fmt: skip
def test_init_calls_are_what_only_the_plain_filter_allows(syscall: str, args: list[int]) -> None:
    """By registers alone pass, before the supervisor is loaded, the calls that init may make and invoke may not."""
    if syscall in supervision.BY_POINTER or arguments.target_argument(syscall) is not None:
        assert not INIT_CALLS.allows(waiting(NUMBERS[syscall], args))
        return
    nr = NUMBERS[syscall]
    early = BEFORE.verdict(NATIVE, nr, args) == bpf.ALLOW and AFTER.verdict(NATIVE, nr, args) == NOTIFY
    assert INIT_CALLS.allows(waiting(nr, args)) == early


def test_init_calls_hold_something() -> None:
    """The profile's own: a call without classes, a class of another, and not the class beside it."""
    openat = [0, 0, 0o101, 0, 0, 0]
    assert INIT_CALLS.allows(waiting(NUMBERS["umask"], [0o22, 0, 0, 0, 0, 0]))
    assert INIT_CALLS.allows(waiting(NUMBERS["openat"], openat))
    assert not INIT_CALLS.allows(waiting(NUMBERS["openat"], [0, 0, 1, 0, 0, 0]))


# Decoders of the handler's memory.


class Soup:
    """A task's memory: some bytes at one place, nothing elsewhere; reads end at the mapping's end."""

    START = 0x10000

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, address: int, length: int) -> bytes:
        """As Memory.read."""
        assert 0 <= length <= messages.LARGEST_DATA + 1
        offset = address - self.START
        return self._data[offset : offset + length] if 0 <= offset < len(self._data) else b""


words = st.one_of(
    st.integers(0, (1 << 64) - 1), st.integers(Soup.START, Soup.START + 600), st.integers(0, 64),
    st.sampled_from([1024, 1025, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 64) - 1]),
)  # fmt: skip
soups = st.one_of(
    st.binary(max_size=600),
    st.lists(words, max_size=60).map(lambda found: b"".join(struct.pack("<Q", word) for word in found)),
)


def outcome(read: Callable[[], T]) -> T | int:
    """What is read, or the errno."""
    try:
        return read()
    except OSError as error:
        return error.errno or 0


@settings(max_examples=300)
@given(soups, words, st.booleans())
def test_any_message_is_read_or_refused(data: bytes, at: int, stream: bool) -> None:
    """Whatever lies there, a message header gives bounded bytes or an errno of the kernel's, and nothing else."""
    found = outcome(lambda: messages.read_message(Soup(data), at, stream=stream))
    if isinstance(found, int):
        assert found in (errno.EFAULT, errno.EINVAL, errno.EMSGSIZE, errno.ENOBUFS)
        return
    assert len(found.address or b"") <= sockaddr.LONGEST
    assert len(found.data) <= messages.LARGEST_DATA
    assert len(found.control) <= messages.LARGEST_CONTROL


@settings(max_examples=200)
@given(soups, words, words, st.booleans())
def test_any_address_and_data_are_read_or_refused(data: bytes, at: int, length: int, stream: bool) -> None:
    """The same for a sockaddr and for a buffer."""
    reads: list[Callable[[], bytes]] = [
        lambda: socket_address(Soup(data), at, length & 0xFFFFFFFF),
        lambda: messages.read_data(Soup(data), at, length, stream=stream),
    ]
    for read in reads:
        found = outcome(read)
        if isinstance(found, int):
            assert found in (errno.EFAULT, errno.EINVAL, errno.EMSGSIZE)
        else:
            assert len(found) <= max(length, messages.LARGEST_DATA)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), soups))
def test_any_control_message(control: bytes) -> None:
    """Any control data is judged; what the kernel's own walk would come to is found."""
    found = outcome(lambda: messages.objection(control))
    if isinstance(found, int):
        assert found == errno.EINVAL
        return
    at, reached = 0, []
    while len(control) - at >= 16:
        length, level, kind = struct.unpack_from("<Qii", control, at)
        reached.append((level, kind))
        at += (length + 7) // 8 * 8
        if reached[-1] in messages.OBJECTIONS:
            break
    assert bool(found) == bool(reached and reached[-1] in messages.OBJECTIONS)


@pytest.mark.parametrize(("level", "kind"), sorted(messages.OBJECTIONS))
def test_a_message_behind_others_is_found(level: int, kind: int) -> None:
    """A descriptor, or a route, however many harmless control messages stand before it."""
    rights = struct.pack("<Qii4s", 20, level, kind, b"\3\0\0\0").ljust(24, b"\0")
    for harmless in (struct.pack("<Qii", 16, 0, 0), struct.pack("<Qiic", 17, 41, 1, b"a").ljust(24, b"\0")):
        for count in range(5):
            assert messages.objection(harmless * count + rights)
            assert not messages.objection(harmless * count)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([(1, 1), (1, 2), (0, 0)]), st.binary(max_size=40)), max_size=5))
def test_descriptors_in_control_messages(parts: list[tuple[tuple[int, int], bytes]]) -> None:
    """Each number of SCM_RIGHTS is found where it stands, nothing else is, and other numbers go where they stood."""
    control, numbers = b"", []
    for kind, data in parts:
        control += (struct.pack("<Qii", 16 + len(data), *kind) + data).ljust((16 + len(data) + 7) & -8, b"\0")
        if kind == messages.RIGHTS:
            numbers += list(struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4]))
    found = messages.descriptors(control)
    assert list(found.values()) == numbers
    assert messages.with_numbers(control, found) == control
    other = {at: n for n, at in enumerate(found)}
    assert messages.descriptors(messages.with_numbers(control, other)) == other


@pytest.mark.parametrize("parts", [(253,), (254,), (200, 53), (200, 54), (1 << 12,)])
def test_no_more_descriptors_than_the_kernel_takes(parts: tuple[int, ...]) -> None:
    """253 with one message, however many control messages hold them (EINVAL)."""
    control = b"".join(struct.pack("<Qii", 16 + 4 * n, 1, 1).ljust((16 + 4 * n + 7) & -8, b"\0") for n in parts)
    found = outcome(lambda: messages.descriptors(control))
    assert found == errno.EINVAL if sum(parts) > 253 else len(found) == sum(parts)  # type: ignore[arg-type]


def test_what_gives_power_over_a_process_is_known() -> None:
    """A pidfd and memory are told by the kernel's own names; other files, of /proc too, are not among them."""

    def never(fd: int) -> str:
        try:
            return sending.never_handed_over(fd)
        finally:
            os.close(fd)

    assert never(os.pidfd_open(os.getpid())) == "a pidfd"
    for place in ("/proc/self/mem", f"/proc/self/task/{os.getpid()}/mem"):
        assert never(os.open(place, os.O_RDONLY)) == "a process's memory"
    for place in ("/proc/self/status", "/proc", "/dev/null", "/"):
        assert never(os.open(place, os.O_RDONLY)) == ""


@given(st.binary(max_size=140))
def test_any_sockaddr(data: bytes) -> None:
    """Any bytes are a family, a host and a port, or none."""
    found = sockaddr.parse(data)
    if found is not None:
        assert isinstance(of_address(found, "tcp").text, str)
        assert 0 <= found.port <= 65535


@settings(max_examples=200)
@given(st.sampled_from(sorted(NUMBERS)), st.lists(words, min_size=6, max_size=6), soups)
def test_any_call_is_classified_and_shown(syscall: str, args: list[int], data: bytes) -> None:
    """Any registers and any memory behind them have a class and a text."""
    name = arguments.classify(syscall, args, abi.MACHINE)
    assert isinstance(name, str)
    assert all(isinstance(text, str) for text in decode_args(syscall, args, Soup(data).read, abi.MACHINE))


def test_netlink_is_made_refused_in_silence_or_reported() -> None:
    """Learned, the supervisor makes it, in init too; with names and not learned it is refused; else it is reported."""
    netlink = "socket AF_NETLINK SOCK_RAW NETLINK_ROUTE"
    call = (NUMBERS["socket"], 16, 3, 0)
    named = guests.profile(*API_ITEMS, runtime_api=True, network=("db.internal:5432",))
    assert action(named, "socket", *call[1:]) == EPERM
    assert action(named, "socket", 16, 3, 12) == NOTIFY
    assert action(guests.profile(*API_ITEMS, runtime_api=True), "socket", *call[1:]) == NOTIFY
    learned = guests.profile(*API_ITEMS, netlink, runtime_api=True, network=("db.internal:5432",))
    assert action(learned, "socket", *call[1:]) == NOTIFY
    assert netlink in _list(described(learned), "brokered")
    early = dataclasses.replace(learned, uses=frozenset(dataclasses.replace(use, phase="init") for use in learned.uses))
    assert action(early, "socket", *call[1:]) == NOTIFY
    both = supervision.filters(early, abi.MACHINE)
    assert "AF_NETLINK SOCK_RAW NETLINK_ROUTE" in supervision.init_items(both)["socket"]
    assert str(NUMBERS["socket"]) not in supervision.init_calls(both)


def test_what_outlasts_the_start() -> None:
    """What threads ask about themselves and wait by goes on after the start; other calls of the start end with it."""
    pair, other = "AF_UNIX SOCK_STREAM", "AF_UNIX SOCK_DGRAM"
    lasting = (("getrusage", ""), ("uname", ""), ("pipe2", ""), ("epoll_create1", ""), ("socketpair", pair))
    uses = frozenset(
        Use("init", *call, 1, frozenset({"learned at cold start"}))
        for call in (*lasting, ("readlink", ""), ("socketpair", other))
    )
    found = dataclasses.replace(profiles()["api"], uses=uses)
    gone = supervision.init_items(supervision.filters(found, abi.MACHINE))
    assert "readlink" in gone
    assert not {"getrusage", "uname", "pipe2", "epoll_create1"} & gone.keys()
    assert list(gone["socketpair"]) == [other]
