"""The hard deny as training needs it: which calls are refused, and with which errno. tools/observer writes the data."""

from __future__ import annotations

import errno
import json
import os

DATA = os.path.join(os.path.dirname(__file__), "data")


class Denials:
    """Of each denied syscall the errno by argument class, '' for every class."""

    def __init__(self, codes: dict[str, dict[str, str]]) -> None:
        """`codes` are {syscall: {class: name of an errno}}."""
        self._codes = codes

    def __contains__(self, syscall: str) -> bool:
        """Whether any class of it is denied."""
        return syscall in self._codes

    def errno(self, syscall: str, arg_class: str) -> int:
        """With what the call is refused; 0 where it is not denied."""
        codes = self._codes.get(syscall, {})
        code = codes.get("", codes.get(arg_class))
        return int(getattr(errno, code)) if code else 0


def load() -> Denials:
    """Those of data/denied.json."""
    with open(os.path.join(DATA, "denied.json"), encoding="utf-8") as file:
        return Denials(json.load(file))
