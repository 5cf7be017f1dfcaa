"""The guest's clock on ours: the hook's log is in the guest's monotonic time, everything else in this machine's."""

from __future__ import annotations

import re
import time

from tests.lab.guest.base import Guest
from tests.lab.guest.real import RealGuest

_QUESTIONS = 9
_NANOSECONDS = 1e9
# kernel/time/timer_list.c prints, of each clock, what it is ahead of the monotonic one.
_AHEAD = re.compile(r"ktime_get_real\s+\.offset:\s+(\d+) nsecs")


def guest_ahead(guest: Guest) -> tuple[float, float]:
    """What the guest's monotonic clock shows more than ours, and how far off that may be, in seconds.

    The agent is asked for the time, which takes it a millisecond; the quickest of some answers lies in the middle of
    its question. A scripted guest has our own clock from its start on: its last event tells nothing, so 0 is taken.
    """
    if not isinstance(guest, RealGuest):
        raise TypeError("only a real guest has a clock of its own")
    found = _AHEAD.search(guest.shell("cat /proc/timer_list"))
    if found is None:
        raise RuntimeError("the guest's /proc/timer_list does not show its real-time clock")
    answers = []
    with guest.agent() as agent:
        for _ in range(_QUESTIONS):
            agent.sync()
            asked = time.monotonic()
            real = agent.command("guest-get-time")
            answered = time.monotonic()
            monotonic = (int(real) - int(found[1])) / _NANOSECONDS
            answers.append(((answered - asked) / 2, monotonic - (asked + answered) / 2))
    off, ahead = min(answers)
    return ahead, off
