"""The C function that a Python frame calls, which has no frame of its own: from the frame's value stack.

Callable and arguments of a call stay on the value stack until it returns (Python/bytecodes.c). The instruction says how
many arguments there are, and those before it how deep the stack is (bytecode.py).
"""

from __future__ import annotations

import struct

from sandbox.sensor import bytecode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.sensor.offsets import Offsets
    from sandbox.sensor.stack import Stack

CALLABLE_FIRST = (3, 13)
"""From this version on the callable lies below the empty slot or the object of a method call, before above it."""
MOST_LOCALS = 1 << 12
LONGEST = 200
"""Bytes of a name in C."""
OF_MODULE = "builtin_function_or_method"
COMPILED = "cython_function_or_method"
"""How the type of Cython's functions ends; they begin as those of OF_MODULE."""
OF_TYPE = ("method_descriptor", "classmethod_descriptor")


def entry(layout: Offsets) -> int:
    """Where a frame has the flag that code in C has called it, in 3.11; -1 where frames of C stand between instead."""
    return layout.at["frame_owner"] - 1 if layout.version[:2] == (3, 11) else -1


def c_function(stack: Stack, frame: int, head: bytes, code: int, instruction: int) -> str:
    """`module.function` or `module.Type.method` that a frame calls; its code object begins with `head`, at `code`.

    '' where it calls no function in C, or cannot be told which. Raises Unreadable where memory does not fit together.
    """
    at, minor = stack.layout.at, stack.layout.version[:2]
    opcodes = bytecode.table().get(minor)
    size = instruction - code - at["code_start"]
    if opcodes is None or size % 2 or not 0 < size <= bytecode.LARGEST:
        return ""
    data = stack.exactly(instruction - size, size + 2)
    opcode, count = data[-2:]
    if opcode in opcodes.unpacked:
        count = 1 + count % 2
    elif opcode in opcodes.with_names:
        count += 1
    elif opcode not in opcodes.calls:
        return ""
    # co_exceptiontable stands behind co_consts and co_names, and co_nlocalsplus behind co_firstlineno.
    (handlers,) = struct.unpack_from("<Q", head, at["bytes_size"] + 24)
    (own,) = struct.unpack_from("<i", head, at["code_first"] + 4)
    base = bytecode.depth(minor, data[:-2], stack.table(handlers)) - 2 - count
    if base < 0 or not 0 <= own <= MOST_LOCALS:
        return ""
    values = frame + (at["frame_owner"] | 7) + 1  # localsplus stands behind the owner
    one, two = struct.unpack("<QQ", stack.exactly(values + 8 * (own + base), 16))
    if minor >= CALLABLE_FIRST:
        called, of_type = one, bool(two)
    else:
        called, of_type = (one or two), bool(one)
    kind = _type_name(stack, stack.word(called + at["object_type"]))
    if of_type:
        return _method(stack, called) if kind in OF_TYPE else ""
    return _function(stack, called) if kind == OF_MODULE or kind.endswith(COMPILED) else ""


def _function(stack: Stack, address: int) -> str:
    """Of a PyCFunctionObject (cpython/methodobject.h): m_ml, m_self and m_module behind the head of an object."""
    head = stack.layout.at["bytes_size"]
    method, self_, module = struct.unpack("<QQQ", stack.exactly(address + head, 24))
    name = _text(stack, stack.word(method))
    of = ""
    if module:
        of = stack.text(module)
    elif self_:
        of = _type_name(stack, stack.word(self_ + stack.layout.at["object_type"]))
    return ".".join(filter(None, (of, name))) if name else ""


def _method(stack: Stack, address: int) -> str:
    """Of a PyMethodDescrObject (cpython/descrobject.h): d_type, d_name, d_qualname and d_method behind the head."""
    type_, _, _, method = struct.unpack("<QQQQ", stack.exactly(address + stack.layout.at["bytes_size"], 32))
    of, name = _type_name(stack, type_), _text(stack, stack.word(method))
    return f"{of}.{name}" if of and name else ""


def _type_name(stack: Stack, address: int) -> str:
    return _text(stack, stack.word(address + stack.layout.at["type_name"]))


def _text(stack: Stack, address: int) -> str:
    """A name that C spells in printable ASCII; '' for anything else."""
    data, ended, _ = stack.some(address, LONGEST).partition(b"\0")
    return data.decode() if ended and data.isascii() and data.decode().isprintable() else ""
