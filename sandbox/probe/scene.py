"""The surroundings of one attempt, made by the parent before the fork: the targets, and what shows an effect.

Everything lies in a directory of its own and in processes of its own, so that a bare run harms nobody.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import pty
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import termios
import tty
from pathlib import Path
from types import TracebackType

from sandbox.errors import InstallRefused
from sandbox.probe import raw
from sandbox.probe.stub import Stubs

ORIGINAL = b"original"
ORIGINAL_MODE = 0o600
WRITTEN = b"WRITTEN!"
SECRET_SIZE = 16
LIMITS = (17, 17)  # soft and hard RLIMIT_NOFILE that an attempt forces on the victim
# Layout of the shared page: a word that a new process sets; a word that process_vm_writev overwrites;
# the value that the decisive call returned; the bytes that process_vm_readv stole.
MARK, TARGET, RETURNED, STOLEN = 0, 8, 16, 32
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_PTRACER = 1, 4, 0x59616D61  # linux/prctl.h
PR_SET_PTRACER_ANY = (1 << 64) - 1
PREFERRED_FOLDERS = ("/var/tmp", "/dev/shm")


class Scene:
    """Listeners, files, a victim process and shared pages for one attempt under `uid` (None: the caller's).

    Use as a context manager. Raises InstallRefused if no directory or no victim can be made.
    """

    def __init__(self, uid: int | None = None) -> None:
        self.uid = os.geteuid() if uid is None else uid
        self._sockets: list[socket.socket] = []
        self._descriptors: list[int] = []
        self._buffers: list[ctypes.Array[ctypes.c_char]] = []
        self.pid = 0  # the attempt's own, set in its process before a filter may refuse getpid
        self.victim = 0
        self.victim_status: int | None = None
        self.dir = self._folder()
        try:
            self.page = mmap.mmap(-1, raw.PAGE)
            self.page_address = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
            self.stubs = Stubs()
            self._files()
            self._network()
            self._victim()
            self._terminal()
            self._words()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _folder(self) -> Path:
        """Outside /tmp where that is possible: functions are often allowed to write there."""
        for folder in (*PREFERRED_FOLDERS, tempfile.gettempdir()):
            try:
                made = Path(tempfile.mkdtemp(prefix=f"sandbox-probe-{os.getpid()}-", dir=folder))
            except OSError:
                continue
            self._own(made)
            return made
        raise InstallRefused(
            "no directory for the attempts' files can be made",
            where="probe",
            todo=f"make one of {', '.join(PREFERRED_FOLDERS)} or $TMPDIR writable",
        )

    def _own(self, path: Path) -> None:
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.uid)

    def _files(self) -> None:
        self.marker = self.dir / "marker"
        self.file = self.dir / "file"
        self.file.write_bytes(ORIGINAL)
        self.file.chmod(ORIGINAL_MODE)
        self._own(self.file)
        self.new = self.dir / "new"
        self.script = self.dir / "script"
        self.script.write_text(f"#!/bin/sh\necho > {self.marker}\n")
        self.script.chmod(0o755)
        self._own(self.script)
        # A real program whose effect can be seen, for the attempts that execute from memory.
        program = Path("/bin/touch")
        self.touch = program.read_bytes()
        self.program_fd = self._keep(os.open(program, os.O_RDONLY | os.O_CLOEXEC))
        self.file_fd = self._keep(os.open(self.file, os.O_RDONLY | os.O_CLOEXEC))

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _network(self) -> None:
        self.v4_port = self._listen(socket.AF_INET, ("127.0.0.1", 0))
        try:
            self.v6_port = self._listen(socket.AF_INET6, ("::1", 0))
        except OSError:
            self.v6_port = 1  # a host without IPv6: the attempt says so by its errno
        self.abstract = b"\0sandbox-probe-" + os.urandom(8).hex().encode()
        self._listen(socket.AF_UNIX, self.abstract)
        self.unix_path = self.dir / "socket"
        self._listen(socket.AF_UNIX, str(self.unix_path))
        self._own(self.unix_path)
        self.sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets.append(self.sink)
        self.sink.bind(("127.0.0.1", 0))
        self.udp_port: int = self.sink.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
            free.bind(("127.0.0.1", 0))
            self.free_port: int = free.getsockname()[1]

    def _listen(self, family: socket.AddressFamily, where: str | bytes | tuple[str, int]) -> int:
        listener = socket.socket(family, socket.SOCK_STREAM)
        self._sockets.append(listener)
        listener.bind(where)
        listener.listen(8)
        name = listener.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    def readable(self, timeout: float) -> bool:
        """Whether a connection waits at one of the listeners, or a datagram at the sink (seconds)."""
        ready, _, _ = select.select(self._sockets, [], [], timeout)
        return bool(ready)

    def _victim(self) -> None:
        """A child that sleeps, under the attempt's uid, and that may be attached to where Yama allows it."""
        self.secret = os.urandom(SECRET_SIZE)
        hiding_place = self.buffer(bytes(SECRET_SIZE))
        self.hidden = raw.address(hiding_place)
        parent = os.getpid()
        ready, told = os.pipe()
        victim = os.fork()
        if victim == 0:
            try:
                os.setsid()
                become(self.uid)
                raw.call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
                raw.call("prctl", PR_SET_PTRACER, PR_SET_PTRACER_ANY)
                if os.getppid() == parent:
                    ctypes.memmove(self.hidden, self.secret, SECRET_SIZE)
                    os.write(told, b"1")
                    while True:
                        signal.pause()
            finally:
                os._exit(70)
        self.victim = victim
        os.close(told)
        with open(ready, "rb") as answer:
            if answer.read(1) != b"1":
                raise InstallRefused("the victim process did not start", where="probe")
        try:
            self.victim_pidfd = self._keep(os.pidfd_open(victim))
        except OSError:
            self.victim_pidfd = -1

    def victim_dead(self) -> bool:
        """Whether a signal has ended the victim."""
        if self.victim and self.victim_status is None:
            pid, status = os.waitpid(self.victim, os.WNOHANG)
            self.victim_status = status if pid else None
        return self.victim_status is not None

    def _terminal(self) -> None:
        """A raw pseudo-terminal; the attempt makes its slave its controlling terminal."""
        try:
            master, slave = pty.openpty()
        except OSError:
            self.tty = -1
            return
        self._keep(master)
        self.tty = self._keep(slave)
        tty.setraw(slave)

    def typed(self) -> bool:
        """Whether input waits at the terminal (nobody but an attempt puts any there)."""
        if self.tty < 0:
            return False
        waiting = fcntl.ioctl(self.tty, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) > 0

    def _words(self) -> None:
        """The names that a table of calls may use for an argument."""
        writable = raw.map_page(content=b"\xc3")
        stolen = self.buffer(struct.pack("=QQ", self.page_address + STOLEN, SECRET_SIZE))
        hidden = self.buffer(struct.pack("=QQ", self.hidden, SECRET_SIZE))
        written = self.buffer(WRITTEN)
        loot = self.buffer(struct.pack("=QQ", raw.address(written), len(WRITTEN)))
        target = self.buffer(struct.pack("=QQ", self.page_address + TARGET, len(WRITTEN)))
        queued = self.buffer(struct.pack("=iii", signal.SIGKILL, 0, -1) + bytes(116))
        self.words: dict[str, int] = {
            "dir": self.pointer(bytes(self.dir)),
            "file": self.pointer(bytes(self.file)),
            "new": self.pointer(bytes(self.new)),
            "zeros": self.pointer(bytes(256)),
            "key_type": self.pointer(b"user"),
            "key_name": self.pointer(b"sandbox-probe"),
            "how_write": self.pointer(struct.pack("=QQQ", os.O_WRONLY | os.O_CREAT, 0o600, 0)),
            "limits": self.pointer(struct.pack("=QQ", *LIMITS)),
            "steal_to": raw.address(stolen),
            "steal_from": raw.address(hidden),
            "write_from": raw.address(loot),
            "write_to": raw.address(target),
            "siginfo": raw.address(queued),
            "byte": self.pointer(b"x"),
            "writable_page": writable,
            "file_fd": self.file_fd,
            "victim": self.victim,
            "victim_pidfd": self.victim_pidfd,
            "tty": self.tty,
        }

    def buffer(self, content: bytes) -> ctypes.Array[ctypes.c_char]:
        """A buffer with this content that lives as long as the scene."""
        made = ctypes.create_string_buffer(content, len(content))
        self._buffers.append(made)
        return made

    def pointer(self, content: bytes) -> int:
        """The address of this content and a NUL, kept as long as the scene."""
        return raw.address(self.buffer(content + b"\0"))

    def vector(self, items: tuple[bytes, ...]) -> int:
        """The address of a NULL-terminated array of pointers to these strings (argv, envp)."""
        pointers = [*(self.pointer(item) for item in items), 0]
        return raw.address(self.buffer(struct.pack(f"={len(pointers)}Q", *pointers)))

    def remember(self, value: int) -> None:
        """Put what the decisive call returned where the parent finds it."""
        struct.pack_into("=q", self.page, RETURNED, value)

    def returned(self) -> int:
        """What the decisive call returned."""
        value: int = struct.unpack_from("=q", self.page, RETURNED)[0]
        return value

    def mark(self) -> None:
        """Called in a process that an attempt has made."""
        self.page[MARK] = 1

    def close(self) -> None:
        """End the victim, close everything, remove the directory."""
        if self.victim and not self.victim_dead():
            os.kill(self.victim, signal.SIGKILL)
            _, self.victim_status = os.waitpid(self.victim, 0)
        for opened in self._sockets:
            opened.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._sockets.clear()
        self._descriptors.clear()
        shutil.rmtree(self.dir, ignore_errors=True)


def become(uid: int) -> None:
    """Take on a uid (and the gid of that number) for good, staying open to inspection by the parent."""
    if uid != os.geteuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # A change of uid makes a process undumpable, which hides its /proc entries from itself.
        raw.call("prctl", PR_SET_DUMPABLE, 1)
