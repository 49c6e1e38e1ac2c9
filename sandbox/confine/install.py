"""The installation, in the one order that works: NoNewPrivs, Landlock, the filter, proofs.

No prctl where the bit is set already (Lambda-like guests refuse it), and everything that needs a file or memory before
the filter.
"""

from __future__ import annotations

import errno
import os

from sandbox.confine import landlock_rules, single_exec
from sandbox.errors import CanaryPassed, InstallRefused, KernelUnsupported, ListenerBusy, shortage
from sandbox.kernel import abi, bpf, landlock, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.bundle import Policy
    from sandbox.confine import Command

LANDLOCK_NETWORK = 4
LANDLOCK_SCOPES = 6

# How it is told what an exec started (sandbox/supervise/seized.py).
WHAT_STARTS = "programs: what starts is compared "
SEIZED = "before its first instruction (ptrace)"
STOPPED = "before its first instruction (SIGSTOP; ptrace(2) is refused)"
MET = "at its first call that is notified (ptrace(2) is refused)"

WARN = "set SANDBOX_ON_UNAVAILABLE=warn to run without what is missing, knowing so"


class InForce:
    """What the status line says: asked of the kernel, enforced, let through and reported, not enforced and why.

    `filters` counts the seccomp filters of this process afterwards; None where the kernel does not tell.
    """

    __slots__ = ("degraded", "enforced", "filters", "reported", "requested")

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.enforced: list[str] = []
        self.reported: list[str] = []
        self.degraded: list[str] = []
        self.filters: int | None = None


class Platform:
    """Facts before the installation. `proc` is False where /proc cannot be read; then filter counts are unknown."""

    __slots__ = ("filters", "kernel", "landlock", "no_new_privs", "proc", "threads")

    def __init__(self, fields: dict[str, str] | None, landlock_abi: int) -> None:
        self.proc = fields is not None
        fields = fields or {}
        self.no_new_privs = fields.get("NoNewPrivs") == "1"
        self.threads = int(fields.get("Threads", "1"))
        # Seccomp_filters is there from Linux 5.9 on.
        self.filters = int(fields["Seccomp_filters"]) if "Seccomp_filters" in fields else None
        self.landlock = landlock_abi
        self.kernel = os.uname().release


def look() -> Platform:
    """Facts about the calling process."""
    try:
        fields = seccomp.read_status()
    except OSError:
        fields = None
    return Platform(fields, landlock.abi_version())


def looks_at_files(policy: Policy, landlock_abi: int, files: str, *, audit: bool) -> bool:
    """Whether path calls are notified, so that the supervisor sees what Landlock refuses of them; audit always looks.

    `files` is SANDBOX_FILES. Unasked nobody looks where any signal ends a call that waits, and changes its result.
    """
    if not policy.files.listed or not landlock_abi:
        return False
    wanted = audit or files == "look"
    return wanted or (files == "auto" and seccomp.knows(seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV))


def install(
    policy: Policy, addresses: Sequence[int], api_port: int | None, in_force: InForce | None = None, *,
    tell: Callable[[int | None], None] | None = None, audit: bool = False, files: str = "off",
    command: Command | None = None, refuses: Sequence[tuple[int, int]] = (),
) -> InForce:  # fmt: skip
    """Confine the calling process. `addresses` are the three of its one later execve, `api_port` the Runtime API's.

    `command` is what that execve will start, for the rules on files and programs; without it there are none.

    With `tell` the supervised program is installed and `tell` hears its listener; where there is none, the plain
    program is installed, `tell` hears None, and the status line says so. `audit` leaves out what the supervisor could
    not let through. Without a supervisor audit is refused: it would enforce. `files` is SANDBOX_FILES: auto, look, off.

    `refuses` are numbers of syscalls with the errnos of a platform that this host imitates, whatever the policy says.

    `in_force` is filled in on the way, so that its owner knows after an error how far it came, and returned.

    Raises InstallRefused, KernelUnsupported, ListenerBusy or CanaryPassed. After an error the process may be confined
    in part; it must end, or say so.
    """
    in_force = in_force or InForce()
    in_force.requested += ["syscalls", f"exec: {policy.exec}", f"signals: {policy.signals}"]
    platform = look()
    if platform.threads != 1:
        raise InstallRefused(
            f"this process has {platform.threads} threads, and the others would stay free",
            where="/proc/self/status", todo="install from a single-threaded process",
        )  # fmt: skip
    _no_new_privs(platform)
    scoped = False
    if audit:
        if policy.files.listed:
            in_force.requested.append("files")
            if platform.landlock:
                in_force.reported.append("files")
            else:
                in_force.degraded.append(f"files: not reported ({_missing(platform)}: nothing would refuse them)")
        _restrict(platform, landlock_rules.Plan(), in_force, supervised=True)
    else:
        scoped = _landlock(policy, platform, api_port, in_force, command, supervised=tell is not None)
    first = bpf.refusing(refuses, abi.AUDIT_ARCH)
    single_use = policy.exec == "single-use"
    own_pid = os.getpid() if policy.signals == "self" else None
    before = _open_status() if platform.proc else -1
    looking = False
    try:
        looks = looks_at_files(policy, platform.landlock, files, audit=audit)
        if tell and _install_supervised(
            policy, addresses, tell, in_force, first, scoped=scoped, looks=looks, audit=audit
        ):
            looking = looks
            if looks and not audit:
                in_force.reported.append("files: what Landlock refuses")
                in_force.enforced += policy.looked
            if not looks and files == "auto" and policy.files.listed and platform.landlock:
                in_force.degraded.append(
                    f"files: what Landlock refuses has no line (Linux {platform.kernel}; needs 5.19, or "
                    "SANDBOX_FILES=look)"
                )
            _read_back(before, platform, in_force)
        elif audit:
            raise KernelUnsupported(
                "audit mode needs a supervisor, and there is none", where="seccomp(2)",
                todo="unset SANDBOX_SUPERVISE, or audit on a host that gives a notification listener",
            )  # fmt: skip
        else:
            in_force.degraded += policy.unsupervised
            if policy.reads_netlink:
                _give_up_network(in_force)
            _install(policy, addresses if single_use else None, own_pid, first)
            _read_back(before, platform, in_force)
            _exec_canary(single_use)
    finally:
        if before >= 0:
            os.close(before)
    _canary()
    if not looking and not audit and command:
        _say_unlooked(policy, platform, in_force)
    held = ["syscalls", f"exec: {policy.exec}", f"signals: {policy.signals}"]
    if refuses:
        in_force.enforced.append(f"platform: calls {', '.join(str(nr) for nr, _ in refuses)} fail as there")
    if audit:
        in_force.enforced.append("syscalls: hard-denied ones")
        in_force.reported += [*held, "network: destinations"]
    else:
        in_force.enforced += held
    return in_force


def _no_new_privs(platform: Platform) -> None:
    if platform.no_new_privs:
        return
    try:
        seccomp.set_no_new_privs()
    except OSError as error:
        raise InstallRefused(
            f"NoNewPrivs is not set, and prctl(2) does not set it: {error.strerror}", where="PR_SET_NO_NEW_PRIVS",
            todo=f"start it with NoNewPrivs (Kubernetes: allowPrivilegeEscalation: false), or {WARN}",
        ) from error


def _landlock(
    policy: Policy, platform: Platform, api_port: int | None, in_force: InForce, command: Command | None, *,
    supervised: bool,
) -> bool:  # fmt: skip
    """One ruleset: TCP by its ports, files, programs and the own domain for signals, as far as can be.

    Returns whether signals are held in the domain. A supervisor lies outside it; the function's children do not.
    """
    scoped = 0
    if platform.landlock >= LANDLOCK_SCOPES and (supervised or policy.signals == "self"):
        scoped = landlock.SCOPE_SIGNAL
    if platform.landlock >= LANDLOCK_SCOPES and policy.abstract == "own":
        scoped |= landlock.SCOPE_ABSTRACT_UNIX_SOCKET
    network, ports, said = _network(policy, platform, api_port, in_force)
    plan = _files(policy, platform, in_force, command)
    _restrict(platform, plan, in_force, network=network, ports=ports, scoped=scoped, supervised=supervised)
    in_force.enforced += said
    _say_files(policy, plan, platform, in_force)
    return bool(scoped & landlock.SCOPE_SIGNAL)


def _restrict(
    platform: Platform, plan: landlock_rules.Plan, in_force: InForce, *, supervised: bool, network: int = 0,
    ports: Mapping[int, int] | None = None, scoped: int = 0,
) -> None:  # fmt: skip
    """Enter a Landlock domain. With a supervisor in any case: only from a domain can nobody look into its memory."""
    if supervised and not (network or scoped or plan.handled):
        plan = landlock_rules.bare_domain(platform.landlock)
    try:
        if network or scoped or plan.handled:
            landlock.restrict(
                network=network, ports=dict(ports or {}), scoped=scoped, files=plan.handled, beneath=plan.beneath
            )
    except OSError as error:
        raise shortage(error) or InstallRefused(
            f"Landlock refused its rules: {error.strerror}", where=f"Landlock ABI {platform.landlock}", todo=WARN
        ) from error
    finally:
        plan.close()


def _network(
    policy: Policy, platform: Platform, api_port: int | None, in_force: InForce
) -> tuple[int, dict[int, int], list[str]]:
    """The accesses of TCP to handle and {port: accesses} to allow, as far as policy and kernel can, and what to say."""
    own = [api_port] if policy.network == "runtime-api" and api_port else []
    to = f"TCP to port {api_port}{policy.network_shown} only" if own else policy.network_shown or "no TCP"
    handled, opened, said = 0, dict[int, int](), list[str]()
    connects, binds = landlock.ACCESS_NET_CONNECT_TCP, landlock.ACCESS_NET_BIND_TCP
    for what, limited, access, ports, text, otherwise in (
        ("network", policy.network != "family", connects, [*own, *policy.network_ports], to, "by family only"),
        ("listening", policy.bind == "ports", binds, policy.bind_ports, policy.bind_shown, "TCP on any port"),
    ):
        if not limited:
            continue
        in_force.requested.append(f"{what}: {text}")
        if platform.landlock < LANDLOCK_NETWORK:
            in_force.degraded.append(f"{what}: {otherwise} ({_missing(platform)}; ports need ABI 4)")
            continue
        said.append(f"{what}: {text}, by Landlock ABI {platform.landlock}")
        handled |= access
        for port in ports:
            opened[port] = opened.get(port, 0) | access
    if policy.network == "family":
        in_force.requested.append("network: by family")
        in_force.enforced.append("network: by family only")
    elif handled and policy.bind == "none":
        handled |= binds
    return handled, opened, said


def _missing(platform: Platform) -> str:
    return f"{f'Landlock ABI {platform.landlock}' if platform.landlock else 'no Landlock'} on Linux {platform.kernel}"


def _files(policy: Policy, platform: Platform, in_force: InForce, command: Command | None) -> landlock_rules.Plan:
    """The rules on files and programs; none where there is no Landlock, which the status line then says."""
    wanted = [
        what for what, asked in (("files", policy.files.listed), ("programs", policy.files.limited))
        if asked and command
    ]  # fmt: skip
    in_force.requested += wanted
    if command and platform.landlock:
        return landlock_rules.plan(policy, platform.landlock, command)
    in_force.degraded += [f"{what}: not enforced ({_missing(platform)})" for what in wanted]
    return landlock_rules.Plan()


def _say_files(policy: Policy, plan: landlock_rules.Plan, platform: Platform, in_force: InForce) -> None:
    by = f"by Landlock ABI {platform.landlock}"
    in_force.degraded += [f"programs: {path} lies where the function writes" for path in plan.exposed]
    if plan.handled & landlock_rules.READ:
        places = _some(plan.write) or "nothing"
        in_force.enforced.append(f"files: read {plan.read} places, write {places}, {by}")
        if landlock_rules.others_readable():
            in_force.degraded.append("files: /proc shows environment and maps of processes outside (CAP_PERFMON)")
    if plan.handled & landlock_rules.EXECUTE:
        in_force.enforced.append(f"programs: {_some(plan.programs) or 'none but the command'}, {by}")
        if policy.files.memfd:
            in_force.degraded.append("programs: what memfd_create makes can be started")
    elif policy.exec == "granted" and not policy.files.limited:
        in_force.enforced.append("programs: any")
    if plan.absent:
        in_force.enforced.append(f"not here: {_some(plan.absent)}")


def _give_up_network(in_force: InForce) -> None:
    """Give up CAP_NET_ADMIN: a netlink socket that is made to read could change the network with it.

    A supervisor makes such sockets itself, without it (sandbox/egress/netlink.py).
    """
    from sandbox.kernel.capabilities import NET_ADMIN, Rights  # few starts are root's, and without a supervisor

    try:
        rights = Rights()
        if not (rights.effective | rights.permitted) & NET_ADMIN:
            return
        rights.put_on(without=NET_ADMIN, for_good=True)
    except OSError as error:
        in_force.degraded.append(f"network: routes and addresses can be changed ({error.strerror} of capset(2))")
    else:
        in_force.enforced.append("network: netlink reads (CAP_NET_ADMIN is given up)")


def _say_unlooked(policy: Policy, platform: Platform, in_force: InForce) -> None:
    """What Landlock has no right for, where nobody looks."""
    if policy.files.listed and platform.landlock:
        in_force.degraded += policy.unlooked
        if platform.landlock < landlock_rules.FIRST_TRUNCATE:
            in_force.degraded.append(f"files: truncate(2) stays free ({_missing(platform)}; needs ABI 3, or a look)")


def _some(places: Sequence[str]) -> str:
    more = len(places) - landlock_rules.SHOWN
    return ", ".join(places[: landlock_rules.SHOWN]) + (f" and {more} more" if more > 0 else "")


def _install_supervised(
    policy: Policy, addresses: Sequence[int], tell: Callable[[int | None], None], in_force: InForce, first: bytes, *,
    scoped: bool, looks: bool, audit: bool,
) -> bool:  # fmt: skip
    """Install the supervised program; False, after telling, where the kernel gives no listener."""
    # Where the kernel does not keep signals in the domain, the supervisor looks at each that leaves the process.
    own_pid = os.getpid() if policy.signals == "self" or not scoped else None
    # The supervisor is the parent: no signal to it, to everybody, or to the process group that it is in.
    from sandbox.confine.parent import above, refuses_duplicates, seizes

    guarded = (os.getppid(), above() or os.getppid(), -1, -os.getpgrp())
    found = single_exec.block(addresses, own_pid, bpf.USER_NOTIF, guarded)
    program = single_exec.put(found, policy.supervised, policy.supervised_head)
    follows = policy.exec == "granted" and policy.files.limited
    seized = follows and seizes()  # asked before there is a filter that would answer
    refused = refuses_duplicates()
    if refused:
        program = bpf.pack(_own_sockets(policy)) + program
    if looks:
        program = bpf.pack(_paths(policy)) + program
    program = first + program
    in_force.requested.append("supervision")
    exposed = _memory_is_open(os.getppid())
    for flags in (seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV, seccomp.FLAG_NEW_LISTENER):
        try:
            listener = seccomp.install(program, flags)
        except OSError as error:
            if error.errno == errno.EINVAL and flags != seccomp.FLAG_NEW_LISTENER:
                continue  # before Linux 5.19
            if error.errno not in (errno.EINVAL, errno.EBUSY):
                raise _refusal(error) from error
            why = "a listener stands above" if error.errno == errno.EBUSY else "this kernel gives no listener"
            in_force.degraded.append(f"supervision: {why}")
            tell(None)
            return False
        in_force.enforced.append("supervision")
        if exposed:
            why = "no Landlock, and prctl is refused or the function is root's"
            in_force.degraded.append(f"memory: the supervisor's is open to the function ({why})")
        if refused:
            in_force.enforced.append(f"destinations: on sockets that the supervisor makes ({refused})")
        if follows:
            stopped = flags != seccomp.FLAG_NEW_LISTENER
            held = in_force.enforced if seized or stopped else in_force.degraded
            (in_force.reported if audit else held).append(
                WHAT_STARTS + (SEIZED if seized else STOPPED if stopped else MET)
            )
        tell(listener)
        return True
    return False


def _own_sockets(policy: Policy) -> bpf.Program:
    """Notifies socket(2) where the profile has it: the supervisor makes what it cannot duplicate later.

    Everything else goes on to the program, which refuses or notifies it as ever.
    """
    return bpf.before(bpf.returning(abi.number("socket"), policy.supervision.sockets, bpf.USER_NOTIF), abi.AUDIT_ARCH)


def _paths(policy: Policy) -> bpf.Program:
    """Notifies the path calls that the profile has and Landlock holds: the supervisor reads them, and they go on."""
    body: list[bpf.Instruction] = []
    for number, alternatives in policy.path_calls.items():
        body += bpf.returning(int(number), alternatives, bpf.USER_NOTIF)
    return bpf.before(tuple(body), abi.AUDIT_ARCH)


def _memory_is_open(pid: int) -> bool:
    """Whether this process, in its Landlock domain, may open another's memory; asks the kernel, not the settings."""
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _install(policy: Policy, addresses: Sequence[int] | None, own_pid: int | None, first: bytes) -> None:
    found = single_exec.block(addresses, own_pid, bpf.ERRNO | errno.EPERM)
    try:
        seccomp.install(first + single_exec.put(found, policy.program, policy.head))
    except OSError as error:
        raise _refusal(error) from error


def _refusal(error: OSError) -> InstallRefused:
    """The error that a user can act on. EACCES: no NoNewPrivs; EPERM: a filter above; EBUSY: a listener above."""
    where = "seccomp(2)"
    if error.errno == errno.ENOSYS:
        release = os.uname().release
        return KernelUnsupported(f"this kernel has no seccomp filters (Linux {release})", where=where, todo=WARN)
    if error.errno == errno.EBUSY:
        return ListenerBusy("a notification listener stands above this process", where=where, todo=WARN)
    if error.errno == errno.EACCES:
        return InstallRefused("NoNewPrivs is not set", where=where, todo=f"start the function with it, or {WARN}")
    if error.errno == errno.EPERM:
        return InstallRefused("a filter above this process refuses seccomp(2)", where=where, todo=WARN)
    return InstallRefused(f"the kernel refused it: {error.strerror}", where=where, todo=f"compile again, or {WARN}")


def _open_status() -> int:
    # Opened before the filters and read after them: its text is made at the moment of the read.
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


def _read_back(fd: int, platform: Platform, in_force: InForce) -> None:
    if fd < 0:
        in_force.degraded.append("read-back: /proc is not mounted")
        return
    fields = seccomp.parse_status(os.read(fd, 1 << 16))
    if fields.get("Seccomp") != "2":
        raise CanaryPassed(
            f"the kernel says Seccomp: {fields.get('Seccomp')} after the installation", where="/proc/self/status",
            todo="do not trust this host; report this with the kernel's version",
        )  # fmt: skip
    if platform.filters is not None:
        in_force.filters = int(fields["Seccomp_filters"])
        if in_force.filters != platform.filters + 1:
            raise CanaryPassed(
                f"{platform.filters} filters became {in_force.filters}, not {platform.filters + 1}",
                where="/proc/self/status", todo="do not trust this host; report this with the kernel's version",
            )  # fmt: skip


def _canary() -> None:
    code = seccomp.canary()
    if code != errno.EPERM:
        raise CanaryPassed(
            f"seccomp(2) answered {errno.errorcode.get(code, code)}, not EPERM", where="canary",
            todo="do not trust this host; report this with the kernel's version",
        )  # fmt: skip


def _exec_canary(single_use: bool) -> None:
    if single_use and not single_exec.exec_refused():
        raise CanaryPassed(
            "execve with other addresses was not refused", where="canary",
            todo="do not trust this host; report this with the kernel's version",
        )  # fmt: skip
