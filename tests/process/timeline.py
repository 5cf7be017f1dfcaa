"""When the guest's writes stood still, seen from outside: the bounds of the promises are measured here.

For a real guest QEMU's own block statistics are sampled; the writer inside writes some fifty lines a second, so a gap
is a freeze. For a scripted guest it is the model's kernel. Nobody's word is taken for it, the agent's included.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.lab.guest.base import Guest
from tests.lab.guest.oracle import writes_seen
from tests.lab.guest.qmp import QmpClient
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest

_SAMPLE_SECONDS = 0.005
# An emulated guest on a busy machine may take so long between two writes without being frozen.
QUIET_SECONDS = 0.3


@dataclass
class Timeline:
    """The instants (time.monotonic) at which writes were seen, or the freezes themselves."""

    guest: Guest
    _writes: list[float] = field(default_factory=list)
    _looked_at: float = 0.0

    def freezes(self) -> list[tuple[float, float]]:
        """(from, to) of every stretch without writes so far; one that lasts still ends now."""
        if isinstance(self.guest, ScriptedGuest):
            return self._held()
        return [(start, end) for start, end in self._gaps() if end - start > QUIET_SECONDS]

    def _gaps(self) -> list[tuple[float, float]]:
        """Every stretch between two writes, the last one up to the last look."""
        writes = [*self._writes, max(self._looked_at, self._writes[-1])] if self._writes else []
        return list(itertools.pairwise(writes))

    def _held(self) -> list[tuple[float, float]]:
        assert isinstance(self.guest, ScriptedGuest)
        with self.guest.held() as (model, now):
            offset = time.monotonic() - now
            changes = [(at + offset, mounts) for at, mounts in model.transitions]
        found: list[tuple[float, float]] = []
        since: float | None = None
        for at, mounts in changes:
            if mounts and since is None:
                since = at
            elif not mounts and since is not None:
                found.append((since, at))
                since = None
        return found if since is None else [*found, (since, time.monotonic())]

    def is_frozen(self) -> bool:
        """Whether the guest stands still right now."""
        if isinstance(self.guest, ScriptedGuest):
            return self.guest.is_frozen()
        return bool(self._writes) and self._looked_at - self._writes[-1] > QUIET_SECONDS

    def frozen_after(self, instant: float) -> float:
        """The longest time in one piece without a write after ``instant``; so far, when it still lasts."""
        held = self._held() if isinstance(self.guest, ScriptedGuest) else self._gaps()
        return max((end - max(start, instant) for start, end in held if end > instant), default=0.0)

    def wait_until_thawed_for(self, quiet: float, timeout: float = 30.0) -> None:
        """Watch until the guest has not been frozen for ``quiet`` seconds from now. AssertionError when it stays so."""
        since = time.monotonic()
        deadline = since + timeout
        while True:
            freezes = self.freezes()
            last = max(since, freezes[-1][1]) if freezes else since
            if time.monotonic() - last >= quiet and not self.is_frozen():
                return
            assert time.monotonic() < deadline, f"guest {self.guest.vmid} is still frozen: {freezes}"
            time.sleep(0.02)

    def sample(self, stop: threading.Event) -> None:
        """Watch a real guest's drive until ``stop``."""
        with QmpClient(self.guest.qmp_tests) as monitor:
            last = None
            while not stop.is_set():
                try:
                    now = writes_seen(monitor, self.guest.drive_node)
                except (OSError, LookupError):
                    return  # the guest was powered off: what was seen stands
                self._looked_at = time.monotonic()
                if now != last:
                    self._writes.append(self._looked_at)
                last = now
                stop.wait(_SAMPLE_SECONDS)


@contextmanager
def watched(guest: Guest) -> Iterator[Timeline]:
    """A timeline of ``guest`` that is kept during the block."""
    timeline = Timeline(guest)
    if not isinstance(guest, RealGuest):
        yield timeline
        return
    stop = threading.Event()
    thread = threading.Thread(target=timeline.sample, args=(stop,), name="timeline")
    thread.start()
    try:
        yield timeline
    finally:
        stop.set()
        thread.join()
