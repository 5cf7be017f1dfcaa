"""How a thaw is retried, from the configuration. The retrying itself is in thawer.py."""

from __future__ import annotations

from snapshot.base.retry import Pace
from snapshot.config.settings import Config
from snapshot.thaw.thawer import Thawing


def thawing_of(config: Config) -> Thawing:
    """How the configuration wants the thaw retried."""
    thaw = config.thaw
    return Thawing(
        pace=Pace(first_seconds=thaw.first_retry_seconds, slowest_seconds=thaw.slowest_retry_seconds),
        attempt_seconds=thaw.attempt_timeout_seconds,
    )
