"""Ways of Python code to make a process, connect, write and run code: `ways.py FOLDER PORT`; one JSON line of outcomes.

FOLDER/closed is what no profile of a test lets it write to. Each way says what it got: `happened`, or the error. A
process leaves a file FOLDER/closed/NAME, and whoever listens on PORT knows of connections; the test looks there.
"""

import asyncio
import contextlib
import ctypes
import http.client
import json
import mmap
import os
import pathlib
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

FOLDER, PORT = sys.argv[1], int(sys.argv[2])
CLOSED = f"{FOLDER}/closed"
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"x86_64": {"clone": 56, "openat": 257, "connect": 42, "mprotect": 10, "execve": 59}}.get(
    os.uname().machine, {"clone": 220, "openat": 56, "connect": 203, "mprotect": 226, "execve": 221}
)
TOUCH = "/usr/bin/touch"


def touch(name: str) -> list[str]:
    """The arguments of a program that leaves the mark of a way."""
    return [TOUCH, f"{CLOSED}/{name}"]


def forked(name: str, fork: Callable[[], Any] = os.fork) -> None:
    """Fork, and leave the mark in the child."""
    pid = fork()
    pid = pid[0] if isinstance(pid, tuple) else pid
    if pid == 0:
        with contextlib.suppress(OSError), open(f"{CLOSED}/{name}", "w"):
            pass
        os._exit(0)
    checked(pid)
    os.waitpid(pid, 0)


def checked(result: Any) -> Any:
    """The result of a C function, or its errno as an OSError."""
    if result in (-1, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def ended(status: int) -> None:
    """Raises ChildProcessError for the status of a shell that did not do it."""
    if status:
        raise ChildProcessError(f"status {status}")


def spawned_by_symbol(name: str) -> None:
    """posix_spawn(3) by its address."""
    place = ctypes.cast(LIBC.posix_spawn, ctypes.c_void_p).value or 0
    function = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 6)(place)
    words = [word.encode() for word in touch(name)]
    pid, arguments = ctypes.c_int(), (ctypes.c_char_p * 3)(*words, None)
    path = ctypes.c_char_p(words[0])
    code = function(ctypes.addressof(pid), ctypes.cast(path, ctypes.c_void_p), None, None, ctypes.addressof(arguments),
                    None)  # fmt: skip
    if code:
        raise OSError(code, os.strerror(code))
    os.waitpid(pid.value, 0)


def streamed(name: str) -> None:
    """popen(3) of the C library."""
    LIBC.popen.restype = ctypes.c_void_p
    LIBC.pclose.argtypes = [ctypes.c_void_p]
    LIBC.pclose(checked(LIBC.popen(" ".join(touch(name)).encode(), b"r")))


def by_number(name: str) -> None:
    """clone(2) through syscall(2)."""
    forked(name, lambda: LIBC.syscall(NUMBERS["clone"], 17, 0, 0, 0, 0))


class Gadget:
    """What a pickle of a stranger holds."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (" ".join(touch(self.name)),)


def address() -> bytes:
    """A struct sockaddr_in of loopback."""
    return socket.AF_INET.to_bytes(2, "little") + PORT.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)


def connected(call: Callable[..., Any]) -> None:
    """Connect a socket by a C function."""
    with socket.socket() as found:
        checked(call(found.fileno(), address(), 16))


def fetched(_: str) -> None:
    """An HTTP request."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=3)
    connection.connect()
    connection.close()


def sent(_: str) -> None:
    """A datagram."""
    with socket.socket(type=socket.SOCK_DGRAM) as found:
        found.sendto(b"x", ("127.0.0.1", PORT))


def message(_: str) -> None:
    """A datagram by sendmsg(2)."""
    with socket.socket(type=socket.SOCK_DGRAM) as found:
        found.sendmsg([b"x"], [], 0, ("127.0.0.1", PORT))


def simple(_: str) -> None:
    """connect(2)."""
    with socket.socket() as found:
        found.connect(("127.0.0.1", PORT))


async def streams() -> None:
    """A connection of asyncio."""
    _, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.close()


def renamed(name: str) -> None:
    """A file of an open folder becomes one of a closed one."""
    pathlib.Path(f"{FOLDER}/open/{name}").write_text("x")
    os.rename(f"{FOLDER}/open/{name}", f"{CLOSED}/{name}")


def linked_to(name: str) -> None:
    """Another name for a file of the same file system."""
    pathlib.Path(f"{FOLDER}/open/linked").touch()
    os.link(f"{FOLDER}/open/linked", f"{CLOSED}/{name}")


def by_link(name: str) -> None:
    """Through a link in an open folder."""
    os.symlink(CLOSED, f"{FOLDER}/open/{name}")
    with open(f"{FOLDER}/open/{name}/{name}", "w"):
        pass


def by_link_to_nothing(name: str) -> None:
    """Through a link in an open folder to what is not there."""
    os.symlink(f"{CLOSED}/{name}", f"{FOLDER}/open/{name}")
    with open(f"{FOLDER}/open/{name}", "w"):
        pass


def opened_by_number(name: str) -> None:
    """openat(2) through syscall(2)."""
    path, flags = f"{CLOSED}/{name}".encode(), os.O_CREAT | os.O_WRONLY
    os.close(checked(LIBC.syscall(NUMBERS["openat"], -100, path, flags, 0o600)))


def streamed_to(name: str) -> None:
    """fopen(3) of the C library."""
    LIBC.fopen.restype = ctypes.c_void_p
    LIBC.fclose.argtypes = [ctypes.c_void_p]
    LIBC.fclose(checked(LIBC.fopen(f"{CLOSED}/{name}".encode(), b"w")))


def protected(call: Callable[..., Any]) -> None:
    """Memory that was data becomes code."""
    memory = mmap.mmap(-1, 4096)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    checked(call(ctypes.c_void_p(begin), ctypes.c_size_t(4096), 5))


def by_instruction(name: str) -> None:
    """open(2) by an instruction of the C library's: the foreign function interface counts doubles in the register that
    holds a system call's number (x86_64).
    """
    lines = [line.split() for line in pathlib.Path("/proc/self/maps").read_text().splitlines()]
    begin, end = next(line[0].split("-") for line in lines if "x" in line[1] and "/libc.so" in line[-1])
    place = int(begin, 16) + ctypes.string_at(int(begin, 16), int(end, 16) - int(begin, 16)).index(b"\x0f\x05\xc3")
    call = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_char_p, *[ctypes.c_long] * 2, *[ctypes.c_double] * 2)(place)
    number = -call(f"{CLOSED}/{name}".encode(), os.O_CREAT | os.O_WRONLY, 0o600, 0.0, 0.0)
    if number > 0:
        raise OSError(number, os.strerror(number))


def by_version(name: str) -> None:
    """fork(3) by dlvsym(3), which names the version of a symbol."""
    LIBC.dlvsym.restype = ctypes.c_void_p
    version = b"GLIBC_2.2.5" if os.uname().machine == "x86_64" else b"GLIBC_2.17"
    forked(name, ctypes.CFUNCTYPE(ctypes.c_int, use_errno=True)(checked(LIBC.dlvsym(None, b"fork", version))))


def by_namespace(name: str) -> None:
    """creat(3) of a second C library, which dlmopen(3) loads into a namespace of its own."""
    LIBC.dlmopen.restype = LIBC.dlsym.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(checked(LIBC.dlmopen(ctypes.c_long(-1), b"libc.so.6", os.RTLD_NOW)))
    creat = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int)(checked(LIBC.dlsym(handle, b"creat")))
    os.close(checked(creat(f"{CLOSED}/{name}".encode(), 0o600)))


def by_file(name: str) -> None:
    """creat(3) where the C library's file says that it lies, by its section headers (man 5 elf)."""
    line = next(line for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    data = pathlib.Path(line.split()[-1]).read_bytes()
    begin, size, count = *struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQII", data, begin + size * number) for number in range(count)]
    symbols = next(section for section in sections if section[1] == 11)  # SHT_DYNSYM
    names = sections[symbols[6]][4]
    for at in range(symbols[4], symbols[4] + symbols[5], 24):
        called, value = *struct.unpack_from("<I", data, at), *struct.unpack_from("<Q", data, at + 8)
        if data[names + called :].startswith(b"creat\0"):
            creat = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int)(int(line.split("-")[0], 16) + value)
            os.close(checked(creat(f"{CLOSED}/{name}".encode(), 0o600)))
            return


def read_memory() -> None:
    """Memory of a process, here of its own, by process_vm_readv(2)."""
    source, target = ctypes.create_string_buffer(b"secret"), ctypes.create_string_buffer(6)
    here, there = ((ctypes.c_size_t * 2)(ctypes.addressof(one), 6) for one in (target, source))
    checked(LIBC.process_vm_readv(os.getpid(), here, 1, there, 1, 0))


WAYS: dict[str, Callable[[str], object]] = {
    "os.fork": forked,
    "os.forkpty": lambda name: forked(name, os.forkpty),
    "os.system": lambda name: ended(os.system(" ".join(touch(name)))),
    "os.popen": lambda name: os.popen(" ".join(touch(name))).close(),
    "os.posix_spawn": lambda name: os.waitpid(os.posix_spawn(TOUCH, touch(name), os.environ), 0),
    "os.posix_spawnp": lambda name: os.waitpid(os.posix_spawnp("touch", touch(name), os.environ), 0),
    "os.spawnv": lambda name: os.spawnv(os.P_WAIT, TOUCH, touch(name)),
    "subprocess": lambda name: subprocess.run(touch(name), check=True),
    "subprocess with preexec_fn": lambda name: subprocess.run(touch(name), check=True, preexec_fn=lambda: None),
    "subprocess through a shell": lambda name: subprocess.run(" ".join(touch(name)), shell=True, check=True),
    "ctypes: fork": lambda name: forked(name, LIBC.fork),
    "ctypes: system": lambda name: ended(LIBC.system(" ".join(touch(name)).encode())),
    "ctypes: popen": streamed,
    "ctypes: posix_spawn by address": spawned_by_symbol,
    "ctypes: syscall(clone)": by_number,
    "pickle": lambda name: ended(pickle.loads(pickle.dumps(Gadget(name)))),
    "socket.connect": simple,
    "asyncio": lambda name: asyncio.run(streams()),
    "http.client": fetched,
    "socket.sendto": sent,
    "socket.sendmsg": message,
    "ctypes: connect": lambda name: connected(LIBC.connect),
    "ctypes: syscall(connect)": lambda name: connected(lambda *rest: LIBC.syscall(NUMBERS["connect"], *rest)),
    "open": lambda name: open(f"{CLOSED}/{name}", "w").close(),
    "os.mkdir": lambda name: os.mkdir(f"{CLOSED}/{name}"),
    "os.rename": renamed,
    "os.symlink": lambda name: os.symlink("x", f"{CLOSED}/{name}"),
    "open through a link": by_link,
    "open through a link to nothing": by_link_to_nothing,
    "open by a long path": lambda name: open(f"{CLOSED}{'/.' * 600}/{name}", "w").close(),
    "tempfile": lambda name: tempfile.mkstemp(dir=CLOSED),
    "ctypes: fopen": streamed_to,
    "ctypes: syscall(openat)": opened_by_number,
    "mmap": lambda name: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "ctypes: mprotect": lambda name: protected(LIBC.mprotect),
    "ctypes: syscall(mprotect)": lambda name: protected(lambda *rest: LIBC.syscall(NUMBERS["mprotect"], *rest)),
    "os.memfd_create": lambda name: os.memfd_create(name),
    "ctypes: process_vm_readv": lambda name: read_memory(),
    "os.link": linked_to,
    "os.mkfifo": lambda name: os.mkfifo(f"{CLOSED}/{name}"),
    "ctypes: dlvsym": by_version,
    "ctypes: dlmopen": by_namespace,
    "ctypes: a symbol's address in the C library's file": by_file,
    **({"ctypes: an instruction of the C library's": by_instruction} if os.uname().machine == "x86_64" else {}),
    "os.execv": lambda name: os.execv(TOUCH, touch(name)),
}


def attempt(way: Callable[[str], object], name: str) -> str:
    """What a way got."""
    try:
        way(name)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "happened"


if __name__ == "__main__":
    only = sys.argv[3:]
    found = {}
    for number, (said, way) in enumerate(WAYS.items()):
        if said != "os.execv" and (not only or said in only):
            found[said] = attempt(way, f"mark-{number}")
            ctypes.set_errno(0)
    pathlib.Path(f"{FOLDER}/open/neighbour").write_text("x")
    print(json.dumps(found), flush=True)
    if not only:
        os.execv(TOUCH, [TOUCH, f"{CLOSED}/mark-{len(WAYS) - 1}"])
