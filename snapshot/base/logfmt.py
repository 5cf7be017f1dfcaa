"""One log line as ``key=value``, as Loki's ``logfmt`` parser reads it. Standard library only."""

from __future__ import annotations

import json
import re

_BARE = re.compile(r"[A-Za-z0-9_.:/@!+-]+")


def line(event: str, **values: object) -> str:
    """``event=<event>`` and every value that is not None or "": as it is where that is safe, else quoted.

    A quoted value has ``\\"``, ``\\\\``, ``\\n`` and the like for what would end it or the line.
    """
    found = (f"{key}={_shown(value)}" for key, value in values.items() if value is not None and value != "")
    return " ".join([f"event={event}", *found])


def _shown(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
