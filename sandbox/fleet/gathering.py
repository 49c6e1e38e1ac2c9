"""What a store holds of one function's cold starts, from which its profile is learned.

An aggregation by function: each file of the store gives a part, and parts are united in whatever order, any number of
times, to the same whole. What the cold starts have in common is held once (learn/cold_starts.py), so that it grows
with what is new in them, and with their number by little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sandbox.errors import ObservationError
from sandbox.fleet.extras import FLEET, require
from sandbox.fleet.store import Store, damaged
from sandbox.learn.cold_starts import ColdStart, SharedValues
from sandbox.learn.observations import Reader

BATCH = 64
"""Cold starts that are unpacked at once."""


def united(cold_starts: Iterable[ColdStart]) -> tuple[ColdStart, ...]:
    """Each id once, sorted as `observations.read` gives them: commutative, associative and idempotent."""
    found: dict[str, ColdStart] = {}
    for one in cold_starts:
        known = found.get(one.id)
        found[one.id] = one if known is None else _labelled(known, one)
    return tuple(found[key] for key in sorted(found))


def _labelled(one: ColdStart, other: ColdStart) -> ColdStart:
    """One of two that differ at most by the labels of their events, which a trainer may have written or not."""
    return max(one, other, key=lambda found: [sample.label for sample in found.samples])


def gather(store: Store, function: str) -> tuple[ColdStart, ...]:
    """All cold starts of a function. Raises ObservationError where there are none."""
    require(*FLEET)
    shared = SharedValues()
    files = store.files("observations", function=function)
    found = united(one for path in files for one in _part(path, function, shared))
    if not found:
        raise ObservationError(
            f"holds no observations of {function}", where=store.path,
            todo="run the function with SANDBOX_MODE=learn and ingest its log; `sandbox fleet query STORE "
            "'SELECT DISTINCT function FROM observations'` lists what there is",
        )  # fmt: skip
    return found


def _part(path: str, function: str, shared: SharedValues) -> Iterator[ColdStart]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=["function", "cold_start", "lines"]):
                for name, cold_start, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if name == function:
                        yield from _read(text, cold_start, shared)
    except pyarrow.ArrowException as error:
        raise damaged(path, error) from error


def _read(text: str, cold_start: str, shared: SharedValues) -> Iterator[ColdStart]:
    reader = Reader(f"cold start {cold_start}", shared)
    for number, line in enumerate(text.encode("utf-8", "surrogatepass").split(b"\n"), 1):
        yield from reader.take(line, number)
    yield from reader.end()
