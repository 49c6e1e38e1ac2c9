"""Settings of the whole suite: the same examples in every run, so that a change is judged by what it changed.

HYPOTHESIS_PROFILE=explore draws new ones: for looking, not for judging.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
