"""What a filter compares for an argument class: masked register values, and-ed and in alternatives.

The inverse of arguments.classify: for every class c of a syscall, `classify(args) == c` implies that args satisfy
`conditions(c)`.

    >>> conditions("openat", "read", "x86_64")
    ((Condition(argument=2, mask=4194883, value=0),),)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sandbox.behaviour import arguments
from sandbox.behaviour.call import Call
from sandbox.kernel import tables


class Condition(NamedTuple):
    """`args[argument] & mask == value`, over all 64 bits of the register."""

    argument: int
    mask: int
    value: int

    def holds(self, args: Sequence[int]) -> bool:
        """Whether six register values satisfy the condition."""
        return args[self.argument] & self.mask == self.value


Conjunction = tuple[Condition, ...]


def _alternatives(spec: dict[str, Any], arg_class: str) -> Iterator[Conjunction]:
    for conjunction in arguments.table()["partitions"][spec["partition"]]["classes"][arg_class]:
        yield tuple(
            Condition(spec[key], int(mask, 16), int(value, 16)) for key, (mask, value) in sorted(conjunction.items())
        )


def conditions(syscall: str, arg_class: str, arch: str) -> tuple[Conjunction, ...]:
    """What a filter compares for a class: alternatives of and-ed conditions; `((),)` means any arguments.

    Raises ValueError for a class that the syscall does not have, or whose syscall is opaque.
    """
    spec = arguments.table()["syscalls"].get(syscall, {})
    (require,) = anything(syscall)
    if spec.get("opaque"):
        raise ValueError(f"{syscall}: {spec['opaque']}, so that no filter can tell its classes apart")
    if "always" in spec:
        if arg_class != spec["always"]:
            raise ValueError(f"{syscall} has the class {spec['always']!r} only, not {arg_class!r}")
        return (require,)
    if "partition" in spec:
        if arg_class not in arguments.partition_classes(syscall):
            classes = ", ".join(arguments.partition_classes(syscall))
            raise ValueError(f"{syscall} has the classes {classes}; not {arg_class!r}")
        return tuple(tuple(sorted((*found, *require))) for found in _alternatives(spec, arg_class))
    if "fields" in spec:
        split = _split_fields(syscall, spec["fields"], arg_class, arch)
        return tuple(tuple(sorted((*found, *require))) for found in split)
    if arg_class:
        raise ValueError(f"{syscall} has no argument classes; remove {arg_class!r}")
    return (require,)


def anything(syscall: str) -> tuple[Conjunction, ...]:
    """What a filter compares when every class of a syscall is meant: only what is required in any case."""
    spec = arguments.table()["syscalls"].get(syscall, {})
    return (tuple(Condition(i, int(mask, 16), int(value, 16)) for i, mask, value in spec.get("require", ())),)


def _split_fields(syscall: str, fields: Sequence[Sequence[Any]], arg_class: str, arch: str) -> Iterator[Conjunction]:
    words = Call(syscall, arg_class).as_compared().arg_class.split()
    optional = fields[-1][1] == "socket_protocol"
    if len(words) not in ((len(fields) - 1, len(fields)) if optional else (len(fields),)):
        raise ValueError(f"{syscall} takes {' '.join(field[1] for field in fields)}; {arg_class!r} does not fit")
    found = []
    for i, (field, word) in enumerate(zip(fields, words, strict=False)):
        mask = int(field[2], 16) if len(field) > 2 else arguments.LOW
        value = _value(syscall, arguments.group_of(field[1], words[:i]), word, arch)
        if value & mask != value:
            raise ValueError(f"{syscall}: {word} is larger than the {mask:#x} that the kernel reads")
        found.append(Condition(field[0], mask, value))
    if not optional or len(words) == len(fields):
        yield tuple(found)
    else:
        protocol = arguments.DEFAULT_PROTOCOLS.get(words[1]) if words[0] in ("AF_INET", "AF_INET6") else None
        values = [0] + ([tables.constants("socket_protocol", arch)[protocol]] if protocol else [])
        for value in values:
            yield (*found, Condition(fields[-1][0], arguments.LOW, value))


def _value(syscall: str, group: str, word: str, arch: str) -> int:
    known = tables.constants(group, arch) if group else {}
    if word in known:
        return known[word]
    try:
        return int(word, 0)
    except ValueError:
        raise ValueError(f"{syscall}: {word!r} is neither a number nor a name in {group or 'this position'}") from None
