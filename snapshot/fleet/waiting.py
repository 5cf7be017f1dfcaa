"""How long a guest that cannot be done now is tried again. Pure.

A guest under backup, or locked for another reason, keeps no slot while it waits. It is looked at again soon at first
and then from time to time, once more when its time is over, and is named then.
"""

from __future__ import annotations

FIRST_SECONDS, SLOWEST_SECONDS = 2.0, 30.0


def next_try(since: float, now: float, tries: int, budget_seconds: float) -> float | None:
    """When it is tried again; None when its time is over. ``since``: when it was found so first; ``tries``: how often
    it has been found so.
    """
    end = since + budget_seconds
    if now >= end:
        return None
    pause: float = min(SLOWEST_SECONDS, FIRST_SECONDS * 2.0 ** min(tries - 1, 10))
    return min(end, now + pause)
