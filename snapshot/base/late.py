"""What is imported when it is asked for: the start-up cost of what only some runs need.

Where it stands is written as ``"module:name"``. tests/unit/house.py reads that as an import, so that the floors hold.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def load(where: str) -> Any:
    """What ``where`` names. ImportError and AttributeError when there is no such thing."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def late(where: str) -> Callable[..., Any]:
    """A function that loads the one that ``where`` names when it is called, and calls it.

    The real one is imported beside it for whoever reads types, under ``if TYPE_CHECKING``.
    """

    def called(*args: Any, **values: Any) -> Any:
        return load(where)(*args, **values)

    return called
