"""A handler that never comes up: importing it raises, so that the runtime reports an initialisation error."""

from __future__ import annotations

raise RuntimeError("this module cannot be imported")
