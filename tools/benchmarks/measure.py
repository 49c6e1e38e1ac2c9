"""Interleaved rounds, their spread, and ratios of cases that ran in the same rounds."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class BenchmarkFailed(Exception):
    """A command that is to be measured did not run as it must."""


@dataclass(frozen=True)
class Series:
    """The times of one case, one for each round, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """The fastest round."""
        return min(self.values)

    @property
    def median(self) -> float:
        """The middle of all rounds."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds is below the first, a quarter above the second."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def combine(self, operation: Callable[[float, float], float], other: Series) -> Series:
        """Round by round with another case: differences, ratios."""
        return Series(tuple(operation(a, b) for a, b in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True)
class Bar:
    """A target: `value` may be at most `limit`, both ratios. `spread` are the quartiles of the single rounds."""

    text: str
    value: float
    limit: float
    spread: tuple[float, float]

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.limit


def ratio(text: str, part: Series, whole: Series, limit: float) -> Bar:
    """A bar on the ratio of two medians, with the spread of the rounds' own ratios."""
    rounds = part.combine(lambda a, b: a / b, whole)
    return Bar(text, part.median / whole.median, limit, rounds.quartiles)


def interleave(rounds: int, cases: Mapping[str, Callable[[], float]]) -> dict[str, Series]:
    """Run all cases in each of `rounds` rounds, after one round that does not count.

    Each round has an order of its own: what runs behind a larger neighbour finds the caches cold.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    chance = random.Random(rounds)
    for number in range(-1, rounds):
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for name in chance.sample(list(cases), len(cases)):
            value = cases[name]()
            if number >= 0:
                taken[name].append(value)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return {name: Series(tuple(values)) for name, values in taken.items()}


def timed(command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> float:
    """Seconds from the spawn of a command to its exit, with everything that it prints thrown away.

    Raises BenchmarkFailed, with what it printed to standard error on a second run, when it does not exit with 0.
    """
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    took = time.perf_counter() - started
    if done.returncode:
        output(command, environment, cwd)
        raise BenchmarkFailed(f"{command[0]}: exit status {done.returncode}, but not a second time")
    return took


def output(command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> str:
    """What a command prints. Raises BenchmarkFailed, with its errors, when it does not exit with 0."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkFailed(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
