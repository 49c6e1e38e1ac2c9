"""Every way to execute a program in place: by path, by descriptor, from memory, past the single exec."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from sandbox.probe import raw
from sandbox.probe.attempt import Attempt, Effect
from sandbox.probe.process import shell_line
from sandbox.probe.scene import Scene

ENVIRONMENT = (b"PATH=/usr/bin:/bin",)
GUESSES = 64
# Where a payload would look first: the lowest addresses that the kernel maps, and those that loaders like.
FIXED_GUESSES = (0x10000, 0x20000, 0x400000, 0x600000, 0x10000000, 0x20000000, 0x7F0000000000)
_guesses = random.Random()


def _refused(name: str, value: int) -> Effect:
    """execve only comes back when it failed."""
    return Effect(False, -value, name)


def _execve(scene: Scene) -> Effect:
    arguments = scene.vector((b"sh", b"-c", shell_line(scene).encode()))
    environment = scene.vector(ENVIRONMENT)
    return _refused("execve", raw.call("execve", scene.pointer(b"/bin/sh"), arguments, environment))


def _execve_script(scene: Scene) -> Effect:
    path = bytes(scene.script)
    arguments = scene.vector((path,))
    return _refused("execve", raw.call("execve", scene.pointer(path), arguments, scene.vector(ENVIRONMENT)))


def _execveat(scene: Scene) -> Effect:
    arguments = scene.vector((b"sh", b"-c", shell_line(scene).encode()))
    path, environment = scene.pointer(b"/bin/sh"), scene.vector(ENVIRONMENT)
    return _refused("execveat", raw.call("execveat", raw.AT_FDCWD, path, arguments, environment, 0))


def _memory_file(scene: Scene) -> int:
    """A memfd that holds a program, as a dropper makes one."""
    descriptor = raw.require("memfd_create", scene.pointer(b"dropped"), 0)
    content = scene.buffer(scene.touch)
    written = 0
    while written < len(scene.touch):
        written += raw.require(
            "write", descriptor, raw.address(content) + written, len(scene.touch) - written
        )
    return descriptor


def _touch_vector(scene: Scene) -> int:
    return scene.vector((b"touch", bytes(scene.marker)))


def _memfd_execveat(scene: Scene) -> Effect:
    descriptor = _memory_file(scene)
    path, arguments, environment = scene.pointer(b""), _touch_vector(scene), scene.vector(ENVIRONMENT)
    value = raw.call("execveat", descriptor, path, arguments, environment, raw.AT_EMPTY_PATH)
    return _refused("execveat", value)


def _memfd_proc(scene: Scene) -> Effect:
    path = f"/proc/self/fd/{_memory_file(scene)}".encode()
    value = raw.call("execve", scene.pointer(path), _touch_vector(scene), scene.vector(ENVIRONMENT))
    return _refused("execve", value)


def _inherited_execveat(scene: Scene) -> Effect:
    path, arguments, environment = scene.pointer(b""), _touch_vector(scene), scene.vector(ENVIRONMENT)
    value = raw.call("execveat", scene.program_fd, path, arguments, environment, raw.AT_EMPTY_PATH)
    return _refused("execveat", value)


def _guess_exec_pointers(scene: Scene) -> Effect:
    """A launcher's execve passes at three addresses only; try some that a payload can choose itself."""
    name = b"/bin/sh\0"
    strings = [scene.pointer(text) for text in (b"sh", b"-c", shell_line(scene).encode())]
    vector = struct.pack(f"={len(strings) + 1}Q", *strings, 0)
    tries, last = 0, 0
    for turn in range(GUESSES):
        if turn < len(FIXED_GUESSES):
            base = FIXED_GUESSES[turn]
            wanted = [base, base + raw.PAGE, base + 2 * raw.PAGE]
        else:
            wanted = [_guesses.getrandbits(35) << 12 for _ in range(3)]  # 47-bit user space
        try:
            path, arguments, environment = (
                raw.map_page(at=where, content=content)
                for where, content in zip(wanted, (name, vector, bytes(8)), strict=True)
            )
        except OSError:
            continue  # taken, or below mmap_min_addr: a guess lost
        last = -raw.call("execve", path, arguments, environment)
        tries += 1
    if not tries:
        return Effect(False, None, "no page could be placed at any guessed address")
    return Effect(False, last, f"execve, {tries} guesses")


def _exec(
    id: str, title: str, technique: str, syscall: str, args: tuple[int, ...], run: Callable[[Scene], Effect]
) -> Attempt:
    return Attempt(
        id=id,
        group="exec",
        title=title,
        technique=technique,
        syscall=syscall,
        args=args,
        run=run,
        live="the program takes the attempt's place and makes a file",
        evidence="marker",
    )


EMPTY = (1, 1, 1, 1, raw.AT_EMPTY_PATH)
EXEC_ATTEMPTS: tuple[Attempt, ...] = (
    _exec("exec-execve", "Execute a shell (execve)", "T1059.004", "execve", (1, 1, 1), _execve),
    _exec("exec-script", "Execute a dropped script", "T1059.004", "execve", (1, 1, 1), _execve_script),
    _exec(
        "exec-execveat",
        "Execute a shell (execveat)",
        "T1059.004",
        "execveat",
        (raw.AT_FDCWD & 0xFFFF_FFFF_FFFF_FFFF, 1, 1, 1, 0),
        _execveat,
    ),
    _exec("exec-memfd", "Execute a program from memory (memfd)", "T1620", "execveat", EMPTY, _memfd_execveat),
    _exec(
        "exec-memfd-proc",
        "Execute a program from memory through /proc/self/fd",
        "T1620",
        "execve",
        (1, 1, 1),
        _memfd_proc,
    ),
    _exec(
        "exec-descriptor",
        "Execute a program by an inherited descriptor",
        "T1106",
        "execveat",
        EMPTY,
        _inherited_execveat,
    ),
    _exec(
        "exec-guess-ticket",
        "Guess the addresses at which the launcher's own execve passes",
        "T1106",
        "execve",
        (1, 1, 1),
        _guess_exec_pointers,
    ),
)
