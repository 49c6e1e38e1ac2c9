"""The arguments of a refused call as text: flags by name, paths, socket addresses, programs with their arguments.

For people only. What a pointer names can change after it was read, so that nothing here may decide anything.

    >>> decode_args("openat", (0xFFFFFF9C, 0x1000, 0x241, 0o644, 0, 0), lambda address, length: b"/etc/x\\0", "x86_64")
    ['AT_FDCWD', '"/etc/x"', 'O_WRONLY|O_CREAT|O_TRUNC', '0o644']
"""

from __future__ import annotations

from sandbox.behaviour.spelling import quote
from sandbox.errors import printable
from sandbox.kernel import memory, sockaddr, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.kernel.sockaddr import SocketAddress

    Read = Callable[[int, int], bytes]

FULL = 0xFFFFFFFFFFFFFFFF
LOW = 0xFFFFFFFF
LONGEST_ARGUMENT = 256
MOST_ARGUMENTS = 8
HIGHEST = 1 << 63
"""What lies above is the kernel's."""

# Option groups of setsockopt, by level (SOL_IP and its like are the protocol's number).
_LEVELS = {1: "SOL_SOCKET", 0: "IPPROTO_IP", 6: "IPPROTO_TCP", 41: "IPPROTO_IPV6"}
_PROTOCOLS = {2: "socket_protocol", 10: "socket_protocol", 16: "netlink_protocol"}
# F_DUPFD, F_SETFL, F_DUPFD_CLOEXEC, F_SETPIPE_SZ
_FCNTL = {0: "number", 4: "open_flags", 1030: "number", 1031: "number"}
_PRCTL = {15: "text"}  # PR_SET_NAME


def decode_args(
    syscall: str, args: Sequence[int], read: Read, arch: str, named: Callable[[bytes], str] | None = None,
    address: SocketAddress | None = None,
) -> list[str]:  # fmt: skip
    """The arguments that the kernel reads, as text, for any input; never raises, whatever memory holds.

    `args` are six registers. `read(address, length)` gives up to so many bytes of the task's memory, fewer or none
    where it cannot; it is asked for 4 KiB at most. `named(address)` gives the host name of 4 or 16 bytes of an IP
    address, or ''. `address` is what was read already where the call names one socket address: it is shown, and memory
    not asked again, which may hold another by now. A pointer that cannot be read stays a number: `0x7ffe0000`. An
    unknown syscall or architecture shows all registers.
    """
    registers = [value & FULL for value in args[:6]] + [0] * (6 - len(args[:6]))
    if syscall not in tables.every_name() or arch not in tables.ARCHES:
        return [hex(value) for value in registers]
    call = _Call(registers, read, arch, named, address)
    special = {"prctl": _prctl, "fcntl": _fcntl}.get(syscall)
    if special:
        return special(call)
    row = tables.argument_kinds().get(syscall, ())
    found = []
    for i in range(tables.argument_count(syscall)):
        value = registers[i]
        if tables.width(syscall, i) == 32 and not tables.is_pointer(syscall, i):
            value &= LOW
        kind = row[i] if i < len(row) else ""
        found.append(_KINDS[kind.partition(":")[0]](call, value, kind) if kind else _plain(syscall, i, value))
    return found


class _Call:
    """The registers of one call and the way into its memory."""

    __slots__ = ("address", "arch", "args", "named", "reader")

    def __init__(
        self, args: Sequence[int], read: Read, arch: str, named: Callable[[bytes], str] | None,
        address: SocketAddress | None,
    ) -> None:  # fmt: skip
        self.address = address
        self.args = args
        self.reader = read
        self.arch = arch
        self.named = named

    def read(self, address: int, length: int) -> bytes:
        """Bytes of the task's memory, none if they cannot be read."""
        if not 0 < address < HIGHEST or length <= 0:
            return b""
        try:
            return self.reader(address, length)[:length]
        except OSError:
            return b""

    def text(self, address: int, longest: int = memory.PAGE) -> str:
        """A string in quotes, `NULL`, or the address where it cannot be read. No longer than PATH_MAX by default."""
        data, ended = memory.string(self, address, longest)
        if not data and not ended:
            return _pointer(address)
        return quote(data) + ("" if ended else "...")


def _plain(syscall: str, argument: int, value: int) -> str:
    if tables.is_pointer(syscall, argument):
        return _pointer(value)
    if tables.width(syscall, argument) == 32:
        return str(_signed(value))
    return str(value) if value < 1 << 32 else hex(value)


def _pointer(value: int) -> str:
    return hex(value) if value else "NULL"


def _signed(value: int) -> int:
    value &= LOW
    return value - (1 << 32) if value >> 31 else value


def flags(group: str, value: int, arch: str, rest: int = FULL) -> list[str]:
    """The names of the bits of `value` (of those in `rest`), compound names first served; what has none as a number."""
    named = [
        (bits, name) for name, bits in tables.constants(group, arch).items()
        if bits & rest and tables.name_of(group, bits, arch) == name
    ]  # fmt: skip
    left, found = value & rest, []
    for bits, name in sorted(named, key=lambda entry: (-entry[0].bit_count(), entry[0])):
        if left & bits == bits:
            found.append((bits, name))
            left &= ~bits
    words = [name for _, name in sorted(found)]
    return [*words, hex(left)] if left else words


def _bits(group: str, value: int, arch: str, zero: str) -> str:
    return "|".join(flags(group, value, arch)) or zero


def _open_flags(call: _Call, value: int, _kind: str = "") -> str:
    access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & 3]
    return "|".join([access, *flags("open_flags", value, call.arch, FULL & ~3)])


def _clone_flags(call: _Call, value: int, _kind: str = "") -> str:
    # The low byte is the signal at the child's end (CSIGNAL); unshare and setns share the bits but CLONE_NEWTIME.
    number = value & 0x7F
    ending = [tables.name_of("signal", number, call.arch) or str(number)] if number else []
    return "|".join(flags("clone_flags", value, call.arch, FULL & ~0x7F) + ending) or "0"


def _clone_args(call: _Call, value: int, _kind: str) -> str:
    data = call.read(value, 8)  # struct clone_args begins with the flags (linux/sched.h)
    return f"{{flags={_clone_flags(call, int.from_bytes(data, 'little'))}}}" if len(data) == 8 else _pointer(value)


def _open_how(call: _Call, value: int, _kind: str) -> str:
    data = call.read(value, 24)  # struct open_how: flags, mode, resolve (linux/openat2.h)
    if len(data) < 24:
        return _pointer(value)
    how, mode, resolve = (int.from_bytes(data[i : i + 8], "little") for i in (0, 8, 16))
    return f"{{flags={_open_flags(call, how)}, mode={oct(mode)}, resolve={hex(resolve)}}}"


def _socket_type(call: _Call, value: int, _kind: str) -> str:
    kind = tables.name_of("socket_type", value & 0xF, call.arch) or str(value & 0xF)
    return "|".join([kind, *flags("socket_flags", value, call.arch, FULL & ~0xF)])


def _socket_protocol(call: _Call, value: int, _kind: str) -> str:
    group = _PROTOCOLS.get(call.args[0] & LOW)
    name = tables.name_of(group, value, call.arch) if group else None
    return name if name and (value or group == "netlink_protocol") else str(_signed(value))


def _socket_option(call: _Call, value: int, _kind: str) -> str:
    level = _LEVELS.get(call.args[1] & LOW)
    return (tables.name_of(f"socket_option.{level}", value, call.arch) if level else None) or str(_signed(value))


def _sockaddr(call: _Call, value: int, kind: str) -> str:
    length = call.args[int(kind.partition(":")[2])] & LOW
    return _address(call, value, length)


def _address(call: _Call, address: int, length: int) -> str:
    found = call.address or sockaddr.parse(call.read(address, min(length, sockaddr.LONGEST)))
    if found is None:
        return _pointer(address)
    name = call.named(found.value) if call.named and isinstance(found.value, bytes) else ""
    return printable(found.endpoint()) + (f" ({printable(name)})" if name else "")


def _message(call: _Call, value: int, _kind: str) -> str:
    if call.address:
        return f"{{name={_address(call, 0, 0)}}}"
    header = memory.message_header(call, value)
    return f"{{name={_address(call, header.name, header.name_length)}}}" if header else _pointer(value)


def _argv(call: _Call, value: int, _kind: str) -> str:
    words: list[str] = []
    for i in range(MOST_ARGUMENTS + 1):
        data = call.read(value + 8 * i, 8)
        if len(data) < 8:
            return f"[{', '.join([*words, '...'])}]" if words else _pointer(value)
        pointer = int.from_bytes(data, "little")
        if not pointer:
            break
        words.append("..." if i == MOST_ARGUMENTS else call.text(pointer, LONGEST_ARGUMENT))
    return f"[{', '.join(words)}]"


def _named(group: str, signed: bool = True) -> Callable[[_Call, int, str], str]:
    def show(call: _Call, value: int, _kind: str) -> str:
        name = tables.name_of(group, value, call.arch)
        return name or (str(_signed(value)) if signed else hex(value))

    return show


def _prctl(call: _Call) -> list[str]:
    option = call.args[0] & LOW
    name = tables.name_of("prctl_option", option, call.arch) or str(_signed(option))
    second = call.text(call.args[1], 16) if _PRCTL.get(option) else hex(call.args[1])
    return [name, second, *[hex(value) for value in call.args[2:5]]]


def _fcntl(call: _Call) -> list[str]:
    command = call.args[1] & LOW
    name = tables.name_of("fcntl_command", command, call.arch) or str(_signed(command))
    kind = _FCNTL.get(command, "")
    third = {"open_flags": _open_flags(call, call.args[2]), "number": str(call.args[2])}.get(kind, hex(call.args[2]))
    return [str(_signed(call.args[0])), name, third]


_KINDS: Mapping[str, Callable[[_Call, int, str], str]] = {
    "fd": lambda _call, value, _kind: str(_signed(value)),
    "dirfd": lambda _call, value, _kind: "AT_FDCWD" if _signed(value) == -100 else str(_signed(value)),
    "path": lambda call, value, _kind: call.text(value),
    "text": lambda call, value, _kind: call.text(value, LONGEST_ARGUMENT),
    "size": lambda _call, value, _kind: str(value) if value < 1 << 32 else hex(value),
    "hex": lambda _call, value, _kind: hex(value),
    "mode": lambda _call, value, _kind: oct(value),
    "pointer": lambda _call, value, _kind: _pointer(value),
    "open_flags": _open_flags,
    "clone_flags": _clone_flags,
    "mmap_prot": lambda call, value, _kind: _bits("mmap_prot", value, call.arch, "PROT_NONE"),
    "mmap_flags": lambda call, value, _kind: _bits("mmap_flags", value, call.arch, "0"),
    "clone_args": _clone_args,
    "open_how": _open_how,
    "socket_type": _socket_type,
    "socket_protocol": _socket_protocol,
    "socket_option": _socket_option,
    "sockaddr": _sockaddr,
    "message": _message,
    "argv": _argv,
    "socket_family": _named("socket_family"),
    "socket_level": _named("socket_level"),
    "signal": _named("signal"),
    "resource": _named("resource"),
    "clock": _named("clock"),
    "madvise": _named("madvise"),
    "ptrace_request": _named("ptrace_request", signed=False),
    "ioctl_request": _named("ioctl_request", signed=False),
    "arch_prctl_code": _named("arch_prctl_code", signed=False),
}
