"""A profile's promises: the few words in which people read it first."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.profile import base
from sandbox.profile.model import Use


def promises_of(uses: Iterable[Use]) -> tuple[str, ...]:
    """The promises that these uses need, in the order of profiles/base/promises.yaml, `other` last."""
    needed = {base.promise_of(use.call) for use in uses}
    order = [promise.name for promise in base.promises()] + ["other"]
    return tuple(name for name in order if name in needed)


def uses_by_promise(uses: Iterable[Use]) -> dict[str, tuple[Use, ...]]:
    """The uses of each promise, sorted."""
    found: dict[str, list[Use]] = {}
    for use in sorted(uses):
        found.setdefault(base.promise_of(use.call), []).append(use)
    return {name: tuple(found[name]) for name in promises_of(uses)}
