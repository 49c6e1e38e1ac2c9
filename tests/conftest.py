"""Settings of the whole suite: the same examples in every run, so that a change is judged by what it changed.

HYPOTHESIS_PROFILE=explore draws new ones: for looking, not for judging.
"""

from __future__ import annotations

import os

from hypothesis import Phase, settings

# Shrinking can take minutes, and is for whoever looks into a failure.
QUICK = (Phase.explicit, Phase.generate)
settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True, phases=QUICK)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

pytest_plugins = ("promised_tests",)
