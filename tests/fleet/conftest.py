"""The fleet's tests run in an environment of their own, which tools/environment makes: .cache/fleet."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

if missing := [name for name in ("ibis", "duckdb", "pyarrow", "fsspec") if find_spec(name) is None]:
    pytest.skip(f"{', '.join(missing)} is not installed here", allow_module_level=True)
