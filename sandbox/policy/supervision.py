"""The second program of a bundle, for a supervisor, and what the supervisor has to know.

What the plain filter refuses is notified here instead, so that it can be reported; what only the init phase uses is
notified, so that it can be refused later; and calls whose pointers name a destination or a program are notified, so
that the supervisor can make them itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sandbox.behaviour import arguments, comparison, destination, listener, proc
from sandbox.behaviour.call import Call
from sandbox.behaviour.comparison import Condition
from sandbox.behaviour.path import OWN_INTERPRETER, rule_of
from sandbox.bundle import SERVED_IN_INIT
from sandbox.kernel import bpf, tables
from sandbox.policy import attended, executables
from sandbox.policy.rules import Rule, Rules, exec_granted, refused_quietly, rules_for
from sandbox.profile import base
from sandbox.profile.executables import by_program
from sandbox.profile.model import SECTIONS, Profile, Use

STATIC = ("seccomp", "prctl")
"""Never notified: a payload that could install a listener of its own could answer its own calls."""

DATAGRAMS = ("SOCK_DGRAM", "SOCK_RAW", "SOCK_SEQPACKET")
"""Socket types on which every message can name another destination."""


@dataclass(frozen=True)
class Filters:
    """The rules of one architecture's two filters, computed once for all that is compiled or described from them.

    `plain` allows what any phase uses; `later` is what remains of it after the init phase, and the same object where a
    function has no phases; `supervised` is what the filter with a supervisor does with it. `listening`: the supervisor
    sees what the function binds.
    """

    arch: str
    plain: Rules
    later: Rules
    supervised: Rules
    listening: bool


def filters(profile: Profile, arch: str) -> Filters:
    """The rules of a profile's filters on an architecture. Raises ProfileError as `rules_for` does."""
    plain = rules_for(profile, arch)
    invoke = _without_init(profile)
    later = plain if invoke is profile else rules_for(invoke, arch)
    return Filters(arch, plain, later, _supervised(profile, later), sees_listeners(profile))


def _supervised(profile: Profile, later: Rules) -> Rules:
    """The rules of the supervised program, from what is allowed after the init phase."""
    arch = later.arch
    numbers = tables.numbers(arch)
    receives = receiving_calls(profile)
    brokered = {numbers[name] for name in (*brokered_calls(profile), *BY_THREAD, *receives) if name in numbers}
    recvfrom = numbers["recvfrom"]
    allow = {nr: found for nr, found in later.allow.items() if nr not in brokered}
    sendto = numbers["sendto"]
    if sendto in allow:
        # The wider class holds the connected sends as well; those the kernel decides alone.
        first = allow[sendto][0]
        connected = comparison.conditions("sendto", "connected", arch)
        allow = {**allow, sendto: tuple(replace(first, arg_class="connected", conditions=found) for found in connected)}
    if recvfrom in brokered and recvfrom in later.allow:
        # Who does not ask for the source is left alone.
        nobody = Condition(SOURCE, arguments.FULL, 0)
        allow = {**allow, recvfrom: (replace(later.allow[recvfrom][0], conditions=(nobody,)),)}
    socket = numbers["socket"]
    if socket in allow:
        allow = {**allow, socket: tuple(rule for rule in allow[socket] if not _is_netlink(rule.call))}
        if not allow[socket]:
            del allow[socket]
    static: dict[int, tuple[Rule, ...]] = {}
    for name in STATIC:
        entries = [entry for entry in base.hard_deny() if entry.syscall == name and not entry.grantable]
        static[numbers[name]] = tuple(
            Rule(name, arg_class, conditions, "floor", "refused in the kernel, whoever supervises")
            for entry in entries
            for arg_class in entry.classes or ("",)
            for conditions in (comparison.conditions(name, arg_class, arch) if arg_class else ((),))
        )
    for entry in refused_quietly(profile):
        rules = [
            Rule(entry.syscall, arg_class, conditions, "runtime client", entry.because)
            for arg_class in entry.classes
            for conditions in comparison.conditions(entry.syscall, arg_class, arch)
        ]
        static[numbers[entry.syscall]] = (*static.get(numbers[entry.syscall], ()), *rules)
    return replace(
        later,
        allow=allow,
        refuse={nr: number for nr, number in later.refuse.items() if nr not in static},
        static=static,
        default=bpf.USER_NOTIF,
    )


def _is_netlink(call: Call) -> bool:
    """Whether it makes a netlink socket: the supervisor makes it in its place (sandbox/egress/netlink.py)."""
    return call.syscall == "socket" and call.arg_class.startswith(tables.NETLINK)


def _without_init(profile: Profile) -> Profile:
    """The profile of the invoke phase alone; a plain program has one phase and stays as it is."""
    if not profile.function.runtime_api:
        return profile
    kept = frozenset(use for use in profile.uses if use.phase != "init" or outlasts_init(use))
    return replace(profile, uses=kept)


def outlasts_init(use: Use) -> bool:
    """Whether a use of the init phase says that there will be more of it.

    Who compiles code at the start goes on when it runs hot, which a training of few events does not see (V8, HotSpot).
    Who waits by pipes and the like has threads that may not be ready when the phase ends, and more of them under load
    (tokio, Node's workers).
    """
    compiles = use.arg_class in COMPILES and arguments.classification(use.syscall) in MEMORY
    return compiles or use.call in PAIRS or use.syscall in ("execve", "execveat", *MEASURES, *WAITS)


def brokered_calls(profile: Profile) -> tuple[str, ...]:
    """The calls that the supervisor makes itself or decides by what their pointers name."""
    found = ["connect", "execve", "execveat"]
    sockets = [use.arg_class.split() for use in profile.uses if use.syscall in ("socket", "socketpair")]
    if any(len(words) < 2 or words[1] in DATAGRAMS for words in sockets):
        found += ["sendmsg", "sendmmsg"]
    return (*found, *tables.LISTENS) if sees_listeners(profile) else tuple(found)


def sees_listeners(profile: Profile) -> bool:
    """Whether the supervisor makes bind and listen: to decide where, or to know what is the function's own."""
    return listener.decided(profile.listen) or destination.OWN in profile.network


def receiving_calls(profile: Profile) -> tuple[str, ...]:
    """The calls that the supervisor makes where a socket has asked a resolver; none for a profile without names."""
    named = any(entry.kind in ("name", "suffix") for entry in destination.entries(profile.network))
    return tuple(sorted(profile.names_receives)) if named else ()


MEASURES = ("getrusage", "times", "sysinfo", "uname", "getpriority")
"""What tells of the caller and its host no more than it was told at the start: runtimes' own threads (collectors of
garbage, compilers) ask again by the clock, and not by the event."""

WAITS = (
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2",
    "pipe", "pipe2", "poll", "ppoll", "select", "pselect6", "timerfd_create", "timerfd_settime",
)  # fmt: skip
"""By what threads of one process wait for and wake each other: it reaches nothing that is not open already."""
PAIRS = (Call("socketpair", "AF_UNIX SOCK_STREAM"),)
"""The same by sockets; a pair of datagram sockets could send to others."""

COMPILES = ("exec-anon", "exec-write", "exec")
MEMORY = ("mapping", "protection")
"""Classes of memory that is written and run; `exec-file` is a library, and those of init are loaded."""

NETLINK_FAMILY = "AF_NETLINK"
SOURCE = 4
"""The argument of recvfrom(2) that says where the source goes."""

BY_THREAD = ("tkill", "pidfd_send_signal")
"""Signals whose target no constant in a filter can tell from the supervisor."""

BROKERED = (
    *tables.WITH_DESTINATION, "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", *BY_THREAD
)  # fmt: skip
"""The calls about which the supervisor decides by whom they reach."""
BY_POINTER = (*tables.WITH_DESTINATION, *tables.LISTENS, *tables.EXECS)
"""The calls of which registers alone say too little; those that listen only where listening is decided by address."""


def _brokered_items(filters: Filters, receives: Sequence[str]) -> set[str]:
    """The texts of the calls that the profile allows of BROKERED and `receives`, in any phase."""
    found: set[str] = set()
    brokered = (*BROKERED, *tables.LISTENS) if filters.listening else BROKERED
    for call in _items(filters.plain):
        if call.syscall in (*brokered, *receives) or _is_netlink(call):
            classes = (call.arg_class,) if call.arg_class else arguments.partition_classes(call.syscall) or ("",)
            found.update(str(Call(call.syscall, arg_class)) for arg_class in classes)
    return found


def init_items(filters: Filters) -> Mapping[str, tuple[str, ...]]:
    """{syscall: classes} that are allowed until the first connection to the Runtime API and not after it.

    A call without classes has the class ''.
    """
    found: dict[str, list[str]] = {}
    for call in sorted(_items(filters.plain) - _items(filters.later)):
        found.setdefault(call.syscall, []).append(call.arg_class)
    return {syscall: tuple(classes) for syscall, classes in found.items()}


def init_calls(filters: Filters, receives: Sequence[str] = ()) -> dict[str, list[list[list[int]]]]:
    """{number: alternatives of [argument, mask, value]} of the init items that registers alone decide."""
    items = init_items(filters)
    found: dict[str, list[list[list[int]]]] = {}
    for nr, rules in filters.plain.allow.items():
        for rule in rules:
            decides = rule.syscall not in tables.LISTENS or filters.listening
            if rule.arg_class not in items.get(rule.syscall, ()):
                continue
            if decides and rule.syscall in (*BY_POINTER, *BY_THREAD, *receives):
                continue
            if _is_netlink(rule.call):
                continue
            if arguments.target_argument(rule.syscall) is None:
                found.setdefault(str(nr), []).append([list(condition) for condition in rule.conditions])
    return found


def served_calls(profile: Profile, filters: Filters) -> dict[str, list[list[list[int]]]]:
    """{number: alternatives} of what resolvers make and send, for which an attendant may stand in; and of sockets,
    which it makes where it cannot duplicate those of the function.

    What the init phase alone does stands under its number with bundle.SERVED_IN_INIT. Netlink sockets are left out
    where an entry allows the whole family: those may change things.
    """
    numbers = tables.numbers(filters.arch)
    netlink = not _changes_netlink(profile)
    found: dict[str, list[list[list[int]]]] = {}
    for name in ("socket", "bind", "sendto", "sendmsg", "sendmmsg", "recvfrom"):
        if name == "recvfrom" and name not in receiving_calls(profile):
            continue
        number = numbers.get(name, -1)
        later = [rule.conditions for rule in filters.later.allow.get(number, ())]
        for rule in filters.plain.allow.get(number, ()):
            if netlink or not _is_netlink(rule.call):
                marked = number if rule.conditions in later else number | SERVED_IN_INIT
                found.setdefault(str(marked), []).append([list(condition) for condition in rule.conditions])
    return found


def _changes_netlink(profile: Profile) -> bool:
    """Whether an entry allows the whole family, and so changes of the network."""
    return any(entry.value == NETLINK_FAMILY for entry in destination.entries(profile.network))


def reads_netlink(profile: Profile, compiled: Iterable[Filters]) -> bool:
    """Whether the function may make netlink sockets that are to change nothing."""
    made = any(_is_netlink(call) for both in compiled for call in _items(both.plain))
    return made and not _changes_netlink(profile)


def socket_calls(filters: Filters) -> list[list[list[int]]]:
    """Alternatives of [argument, mask, value] with which socket(2) passes after the init phase.

    Where the supervisor cannot duplicate the function's sockets it makes them, and these are what it makes.
    """
    rules = filters.later.allow.get(tables.numbers(filters.arch)["socket"], ())
    return [[list(condition) for condition in rule.conditions] for rule in rules]


def path_calls(profile: Profile, filters: Filters) -> dict[str, list[list[list[int]]]]:
    """{number: alternatives} of the calls by a path that the rules on files hold and that pass after the init phase.

    Reading is left out where the function may read everywhere: nothing could be seen there, and programs read most.
    """
    numbers = tables.numbers(filters.arch)
    anywhere = "/" in {rule_of(pattern)[1] for pattern in (*profile.reads, *profile.writes) if rule_of(pattern)[2]}
    found: dict[str, list[list[list[int]]]] = {}
    for name in tables.BY_PATH:
        for rule in filters.later.allow.get(numbers.get(name, -1), ()):
            if not (anywhere and name in tables.OPENS and rule.arg_class == "read"):
                found.setdefault(str(numbers[name]), []).append([list(condition) for condition in rule.conditions])
    return found


def looks(profile: Profile, compiled: Iterable[Filters]) -> str:
    """Who may answer a call by its path alone: a word of bundle.FIELDS.

    The decider alone where a function may change what its paths mean (mounts, chroot), so that whoever reads them must
    stand where it stands; and where a person said how such a call is answered.
    """
    found = {call for both in compiled for call in _items(both.plain)}
    moves = any(call.syscall in tables.MOVE_ROOT or call.arg_class == "namespace" for call in found)
    answered = any(Call.parse(text).syscall in tables.BY_PATH for text, _ in profile.responses)
    return "decider" if moves or answered else "attendant"


def connects(told: Mapping[str, Any]) -> str:
    """When a connect is decided by its address alone, on every architecture: a word of bundle.FIELDS.

    `told` is a description.
    """
    call, brokered = Call("connect"), frozenset(map(Call.parse, told["brokered"]))
    known = [
        {Call(syscall, arg_class) for syscall, classes in found.items() for arg_class in classes}
        for found in told["init"].values()
    ]
    if not all(call.is_taken("init", brokered, init) for init in known):
        return "never"
    return "always" if all(call.is_taken("invoke", brokered, init) for init in known) else "init"


def needs_decider(profile: Profile) -> bool:
    """Whether the function will surely ask for what no table answers: another destination, a program, a listener.

    Where detectors have a say no table answers any destination. Changes of attributes by a path are the decider's;
    utimensat(2) is most often made without a path.
    """
    changes = any(use.syscall in tables.ATTRIBUTES and use.syscall != "utimensat" for use in profile.uses)
    if profile.on_anomaly or changes:
        return True
    others = {entry for entry in destination.entries(profile.network) if not attended.is_attended(entry)}
    if others or {*receiving_calls(profile)} - {"recvfrom"}:
        return True
    return bool(profile.listen - {listener.ANY}) or (exec_granted(profile) and bool(profile.processes))


def users(profile: Profile) -> dict[str, dict[str, list[str]]]:
    """{section: {entry: distributions}} of what training knew, `phase syscall class` under `syscalls`."""
    found: dict[str, dict[str, list[str]]] = {
        section: known for section in SECTIONS if (known := profile.users(section))
    }
    calls = {f"{use.phase} {use.call}": sorted(use.by) for use in sorted(profile.uses) if use.by}
    return {**found, **({"syscalls": calls} if calls else {})}


def _items(rules: Rules) -> set[Call]:
    return {rule.call for found in rules.allow.values() for rule in found}


def description(profile: Profile, compiled: Mapping[str, Filters]) -> dict[str, object]:
    """What a policy tells the supervisor (sandbox/supervised.py); `compiled` holds the filters by architecture.

    Raises ProfileError for a destination or a listener that means nothing.
    """
    for text in sorted(profile.network):
        destination.parse(text)
    for text in sorted(profile.listen):
        listener.parse(text)
    granted = {grant.syscall for grant in profile.grants}
    receives = receiving_calls(profile)
    denied: dict[str, list[str]] = {}
    for entry in base.hard_deny():
        if entry.syscall not in granted:
            denied.setdefault(entry.syscall, []).extend(entry.classes)
    return {
        "runtime-api": profile.function.runtime_api,
        "init": {arch: {syscall: list(classes) for syscall, classes in init_items(both).items()}
                 for arch, both in compiled.items()},
        "sockets": {arch: socket_calls(both) for arch, both in compiled.items()},
        "messages": any(use.syscall == "sendmsg" for use in profile.uses),
        "destinations": sorted(profile.network),
        "listen": sorted(profile.listen),
        "brokered": sorted({item for both in compiled.values() for item in _brokered_items(both, receives)}),
        "terminate": sorted(entry.syscall for entry in base.hard_deny() if entry.response == "terminate"
                            and entry.syscall not in granted),
        "responses": dict(sorted(profile.responses)),
        "on-anomaly": dict(sorted(profile.on_anomaly)),
        "denied": denied,
        "tolerates": sorted(f"{entry.phase} {entry.at} {entry.call}" for entry in profile.tolerates),
        "contents": {program: sorted(digests) for program, digests in sorted(by_program(profile.digests).items())},
        "interpreters": executables.description(profile).interpreters,
        "free-interpreters": sorted(profile.processes & {path for _, path in profile.interpreters}),
        "own-interpreter": OWN_INTERPRETER in profile.processes,
        "proc": proc.allowing((*profile.reads, *profile.writes)),
        "by": users(profile),
        "most": dict(sorted(profile.most)),
        "libraries": sorted({library.name for library in profile.libraries}),
        "never-granted": sorted(str(Call(entry.syscall, arg_class)) for entry in base.hard_deny()
                                if not entry.grantable for arg_class in entry.classes or ("",)),
    }  # fmt: skip

