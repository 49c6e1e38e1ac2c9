"""A system call as profiles, policies and reports name it: a syscall with an argument class.

    >>> Call.parse("socket AF_INET SOCK_STREAM")
    Call('socket', 'AF_INET SOCK_STREAM')
    >>> str(Call("umask"))
    'umask'
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_OTHERS = "to others"
"""How the class of a signal ends whose target was not the caller's own process."""


class Call(tuple[str, str]):
    """(syscall, arg_class), ordered like that; `arg_class` is '' for a syscall without classes, or for all of them.

    Not a NamedTuple: the supervisor would load typing and collections for it.
    """

    __slots__ = ()

    def __new__(cls, syscall: str, arg_class: str = "") -> Call:
        """No part is checked: what a table or a log names is a call, too."""
        return tuple.__new__(cls, (syscall, arg_class))

    def __getnewargs__(self) -> tuple[str, str]:
        return (self[0], self[1])

    def __repr__(self) -> str:
        return f"Call({self[0]!r}, {self[1]!r})"

    def __str__(self) -> str:
        """`openat read`, as policies, logs and `responses` write it; `parse` reads it back."""
        return f"{self[0]} {self[1]}" if self[1] else self[0]

    @staticmethod
    def parse(text: str) -> Call:
        """The call that a text names: all after the first space is its class."""
        syscall, _, arg_class = text.partition(" ")
        return Call(syscall, arg_class)

    @property
    def syscall(self) -> str:
        """The name in the kernel's tables."""
        return self[0]

    @property
    def arg_class(self) -> str:
        """The argument class (behaviour/arguments.py)."""
        return self[1]

    def is_taken(self, phase: str, brokered: Collection[Call], init: Collection[Call]) -> bool:
        """Whether a profile has this call for a phase, so that whom it reaches alone decides.

        `brokered` are the calls that are decided so in any phase, `init` what the init phase alone may do.
        """
        return any(
            known in brokered and (phase == "init" or known not in init) for known in (self, Call(self.syscall))
        )

    @property
    def signals_others(self) -> bool:
        """Whether it is a signal to another process than the caller's own."""
        return self[1] == _OTHERS or self[1].endswith(f" {_OTHERS}")

    def to_others(self) -> Call:
        """The same signal, to another process."""
        return Call(self[0], f"{self[1]} {_OTHERS}" if self[1] else _OTHERS)

    def as_compared(self) -> Call:
        """What a filter can compare of it: it does not know whose process a pid is."""
        return Call(self[0], self[1].removesuffix(_OTHERS).removesuffix(" ")) if self.signals_others else self
