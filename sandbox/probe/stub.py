"""Machine code that makes one raw system call whose child may share our stack: it marks a word and exits.

vfork and clone(CLONE_VM) cannot be called from Python: the child would run on the parent's frames. The stub
touches no stack between the call and the child's exit, so every way to make a process is safe through it.
The page must be executable before a filter forbids PROT_EXEC, so it is made with the scene.
"""

from __future__ import annotations

import ctypes
import struct

from sandbox.probe.raw import MACHINE, PROT_RX, map_page

# int64 native(uint64 request[7]): number, five arguments, address of the word that the child sets to 1.
NATIVE = {
    "x86_64": bytes.fromhex(
        "53"  # push rbx
        "4889fb"  # mov rbx, rdi
        "488b03"  # mov rax, [rbx]
        "488b7b08"  # mov rdi, [rbx+8]
        "488b7310"  # mov rsi, [rbx+16]
        "488b5318"  # mov rdx, [rbx+24]
        "4c8b5320"  # mov r10, [rbx+32]
        "4c8b4328"  # mov r8, [rbx+40]
        "0f05"  # syscall
        "4885c0"  # test rax, rax
        "7515"  # jnz out
        "488b5330"  # mov rdx, [rbx+48]
        "c70201000000"  # mov dword [rdx], 1
        "31ff"  # xor edi, edi
        "b83c000000"  # mov eax, exit
        "0f05"  # syscall
        "0f0b"  # ud2
        "5b"  # out: pop rbx
        "c3"  # ret
    ),
    "aarch64": struct.pack(
        "<17I",
        0xAA0003E9,  # mov x9, x0
        0xF9400128,  # ldr x8, [x9]
        0xF9400520,  # ldr x0, [x9, #8]
        0xF9400921,  # ldr x1, [x9, #16]
        0xF9400D22,  # ldr x2, [x9, #24]
        0xF9401123,  # ldr x3, [x9, #32]
        0xF9401524,  # ldr x4, [x9, #40]
        0xD4000001,  # svc #0
        0xB5000100,  # cbnz x0, out
        0xF9401922,  # ldr x2, [x9, #48]
        0x52800021,  # mov w1, #1
        0xB9000041,  # str w1, [x2]
        0xD2800000,  # mov x0, #0
        0xD2800BA8,  # mov x8, exit
        0xD4000001,  # svc #0
        0xD4200000,  # brk #0
        0xD65F03C0,  # out: ret
    ),
}

# int32 int80(uint32 number, uint32 argument, address of the word that a child sets to 1).
INT80 = {
    "x86_64": bytes.fromhex(
        "53"  # push rbx
        "55"  # push rbp
        "4889d5"  # mov rbp, rdx
        "89f8"  # mov eax, edi
        "89f3"  # mov ebx, esi
        "31c9"  # xor ecx, ecx
        "31d2"  # xor edx, edx
        "cd80"  # int 0x80
        "85c0"  # test eax, eax
        "7512"  # jnz out
        "c7450001000000"  # mov dword [rbp], 1
        "31db"  # xor ebx, ebx
        "b801000000"  # mov eax, exit (i386)
        "cd80"  # int 0x80
        "0f0b"  # ud2
        "5d"  # out: pop rbp
        "5b"  # pop rbx
        "c3"  # ret
    ),
}


class Stubs:
    """Both stubs in one executable page of this process and its children.

    Raises OSError where the page cannot be made executable, KeyError on an unknown architecture.
    """

    def __init__(self) -> None:
        native = NATIVE[MACHINE]
        int80 = INT80.get(MACHINE, b"")
        gap = bytes(-len(native) % 16)
        self.page = map_page(PROT_RX, content=native + gap + int80)
        self._native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.page)
        self._int80 = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(
            self.page + len(native) + len(gap)
        )
        self._request = (ctypes.c_uint64 * 7)()

    def native(self, number: int, args: tuple[int, ...], mark: int) -> int:
        """The call's return value or minus its errno; a child sets the word at `mark` and exits."""
        padded = (*args, 0, 0, 0, 0, 0)[:5]
        self._request[:] = [value & 0xFFFF_FFFF_FFFF_FFFF for value in (number, *padded, mark)]
        return int(self._native(ctypes.addressof(self._request)))

    def int80(self, number: int, argument: int, mark: int) -> int:
        """The same through i386's int 0x80; x86_64 only."""
        return int(self._int80(number, argument, mark))
