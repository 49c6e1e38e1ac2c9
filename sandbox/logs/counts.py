"""How much of a log was read, and what of it could not be."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Counts:
    """`lines` are those of the file (of its content, where it is compressed); `ours` what of ours was in them: the
    supervisor's, and of those `kernel` the kernel's own records of type 1326.

    `starts` are status lines, each the start of one process. `problems` counts by reason what looks like ours, or like
    an envelope, and could not be read; `envelopes` what carried lines of ours, where anything did.
    """

    lines: int = 0
    ours: int = 0
    kernel: int = 0
    starts: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    envelopes: dict[str, int] = field(default_factory=dict)

    @property
    def not_understood(self) -> int:
        """How often something could not be read that looked like ours or like an envelope of ours."""
        return sum(self.problems.values())

    @property
    def nothing_ours(self) -> bool:
        """Whether there was something to read, and neither a line of a supervisor nor of a start in it."""
        return not self.ours and not self.starts and (self.lines > 0 or self.not_understood > 0)

    def problem(self, reason: str) -> None:
        """Count one."""
        self.problems[reason] = self.problems.get(reason, 0) + 1

    def verdict(self) -> str:
        """`120 lines read: 1 start and 3 lines of a supervisor (docker); 1 not understood: ...`."""
        text = f"{many(self.lines, 'line')} read: "
        if self.nothing_ours:
            text += "none of a supervisor or a start, which says nothing about violations"
        elif not self.lines:
            text += "nothing was written there"
        else:
            envelopes = [name for name, _ in sorted(self.envelopes.items(), key=lambda item: -item[1])]
            kernel = f", {many(self.kernel, 'record')} of the kernel" if self.kernel else ""
            text += f"{many(self.starts, 'start')} and {many(self.ours - self.kernel, 'line')} of a supervisor{kernel}"
            text += f" ({', '.join(envelopes)})" if envelopes else ""
        if self.problems:
            reasons = (f"{reason} ({count})" for reason, count in sorted(self.problems.items()))
            text += f"; {self.not_understood} not understood: {', '.join(reasons)}"
        return text


def many(count: int, what: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{count} {what}{'s' * (count != 1)}"
