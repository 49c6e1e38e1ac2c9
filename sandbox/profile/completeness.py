"""How likely the next invocation is to need something that training has not seen.

The sampling unit is one invocation (of the init phase: one cold start), never one call. The assumption, which every
report repeats: the training events are drawn like production's.

    novelty: share of samples that the profile of all others would refuse something (learn/leave_one_out.py), the
        leave-one-out estimate of P(next needs something).
    bound: the profile of those before would have allowed each of the last n samples, so with 95 % confidence
        P < 1 - 0.05^(1/n), about 3/n.
    chao2: lower bound on the number of items there are, from those seen once and twice (A. Chao, Biometrics 43, 1987).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable

from sandbox.profile.model import PHASES, Estimate, Phase, Training

CONFIDENCE = 0.95
TARGET = 0.01
"""The chance that people are told how to reach: one new need in a hundred invocations."""


THIN = 0.05
"""A bound or a novelty above this is worth a warning: more than one new need in twenty cannot be ruled out."""


def estimate(phase: Phase, samples: Iterable[Collection[Hashable]], novel: int, quiet: int) -> Estimate:
    """Completeness of a phase from its samples, each the items of one invocation, which are looked at once.

    `novel` is how many of them the others would not have allowed, `quiet` how many of the last those before them would.
    """
    incidence, total = Counter[Hashable](), 0
    for sample in samples:
        incidence.update(sample)
        total += 1
    once = sum(1 for n in incidence.values() if n == 1)
    twice = sum(1 for n in incidence.values() if n == 2)
    return Estimate(
        phase=phase,
        samples=total,
        items=len(incidence),
        once=once,
        novelty=novel / total if total else 1.0,
        quiet=quiet,
        bound=bound(quiet),
        chao2=_chao2(len(incidence), total, once, twice),
    )


def bound(quiet: int) -> float:
    """Upper bound on P(the next sample is not quiet) after so many quiet ones; 1 after none."""
    return 1 - (1 - CONFIDENCE) ** (1 / quiet) if quiet else 1.0


def _chao2(seen: int, samples: int, once: int, twice: int) -> float:
    if not samples:
        return float(seen)
    factor = (samples - 1) / samples
    return seen + factor * (once * once / (2 * twice) if twice else once * (once - 1) / 2)


def still_needed(quiet: int, target: float = TARGET) -> int:
    """How many more quiet samples bring the bound down to the target."""
    needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - target))
    return max(0, needed - quiet)


def best_estimates(trainings: Iterable[Training]) -> tuple[tuple[str, Estimate], ...]:
    """(training id, estimate) of each phase from the training that knows it best, in the order of phases."""
    best: dict[Phase, tuple[str, Estimate]] = {}
    for training in sorted(trainings):
        for estimate in training.estimates:
            if estimate.phase not in best or estimate.bound < best[estimate.phase][1].bound:
                best[estimate.phase] = (training.id, estimate)
    return tuple(best[phase] for phase in PHASES if phase in best)
