"""Guards that share a process: what their host does at its begin, and with each order. See base/host.py.

Each has a thread, a journal connection, a watchdog and ways to PVE of its own: where one waits, nobody else does. What
one raises ends that one. What they share is the end of their process, and then the nursery places each of them anew.
"""

from __future__ import annotations

import json
import logging
import os
from typing import NamedTuple, Self

from snapshot.base import logfmt
from snapshot.base.hardening import harden, open_log
from snapshot.base.host import BROKEN, MOST_BYTES, Calling, Errand
from snapshot.base.signals import SIGNALS
from snapshot.config.settings import Config
from snapshot.guard.__main__ import LOG, NAME, Ready, guard
from snapshot.guard.inbox import STRAY
from snapshot.guard.link import GuardSpec
from snapshot.pve.access import Access

RESTART_SECONDS = 0.5
"""When a guard that has failed begins again: as RestartSec of a guard's unit."""

DONE = 0
FAILED = 1
LEFT = 3
"""It has thawed and ended, for a signal has reached its process, in which nobody is to begin any more."""
NOT_BEGUN = 4
"""The same, and this one has not even begun."""


class Order(NamedTuple):
    """Which guard is wanted: its window, where its owner listens, and where it is watched (sd_notify(3))."""

    spec: GuardSpec
    address: str
    notify: str = ""

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """From what ``launcher.Preloaded`` sends, or ``to_json``. ValueError, TypeError or KeyError for all else."""
        values = json.loads(line)
        return cls(GuardSpec.from_json(values["spec"]), str(values["address"]), str(values.get("notify", "")))

    def to_json(self) -> bytes:
        """For a host. ValueError for what is longer than any order."""
        line = json.dumps({**self._asdict(), "spec": self.spec.to_json()}).encode()
        if len(line) > MOST_BYTES - 8:
            raise ValueError("an endless order")
        return line


class Guards:
    """What a host of the process ``nursery`` does. ``access`` must not be in use there."""

    def __init__(self, config: Config, access: Access, nursery: int) -> None:
        self._config = config
        self._access = access
        self._nursery = nursery
        self.calling = Calling(self._go, (*SIGNALS, *STRAY), begin=_begin)

    def _go(self, errand: Errand) -> int:
        """One guard's whole life. One that fails begins again: by the nursery, or here where that is gone."""
        if errand.signals.pending is not None:
            return NOT_BEGUN
        order = Order.parse(errand.order)
        while (status := self._guard(order, errand)) != DONE:
            if os.getppid() == self._nursery:
                return status
            if errand.signals.wait(RESTART_SECONDS):
                break
        return DONE if errand.signals.pending is None else LEFT

    def _guard(self, order: Order, errand: Errand) -> int:
        ready = Ready(self._config, self._access, errand.signals)
        try:
            return guard(order.spec, order.address, notify=order.notify, ready=ready)
        except Exception as error:  # noqa: BLE001 - no room for a thread, say: nothing was frozen yet
            what = f"{type(error).__name__}: {error}"
            logging.getLogger(LOG).error("%s", logfmt.line("guard-fault", **order.spec.log_keys, detail=what))
            return BROKEN


def _begin() -> None:
    os.setsid()
    open_log(LOG)
    harden(NAME, is_forked=True)
