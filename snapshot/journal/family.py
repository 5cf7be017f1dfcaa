"""What a metric family is; which there are stands in families.py. Standard library only."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

GUEST_LABELS = ("id", "vmid", "node", "source")
"""``id`` as prometheus-pve-exporter writes it (``qemu/100``), so that both can be joined."""


class Kind(Enum):
    """Prometheus' metric types, as they stand in a ``# TYPE`` line."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """One metric family. ``help`` is one sentence without a full stop, ``meaning`` what an operator reads out of it."""

    name: str
    kind: Kind
    help: str
    meaning: str
    labels: tuple[str, ...] = GUEST_LABELS
