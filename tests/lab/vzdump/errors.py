"""Perl's ``die`` and ``eval`` in the vzdump driver.

A failure is a Die with PVE's words, without the newline at its end. A signal dies wherever the worker happens to be, so
any ``eval`` around it may swallow it: that is how PVE loses a TERM inside its freeze.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

from tests.lab.node.errors import Die
from tests.lab.node.tasks import Interrupted

# What an `eval` of PVE's catches.
DEATHS = (Die, Interrupted)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE)

__all__ = ["DEATHS", "Die", "Interrupted", "die_on_signals"]


def die_on_signals(message: str = "interrupted by signal") -> None:
    """Install vzdump's handlers (pve-manager ``PVE/API2/VZDump.pm``)."""

    def handler(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Interrupted(message)

    for number in _SIGNALS:
        signal.signal(number, handler)
