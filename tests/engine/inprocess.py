"""One safe snapshot inside this process, against a lab node: for tests of hundreds of runs.

Everything is real but two things: the guard is a fake that does nothing (its own tests are in tests/process), and no
request waits longer than CAP_SECONDS.
"""

from __future__ import annotations

from collections.abc import Mapping

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import NoGate
from snapshot.config import reading
from snapshot.guard.link import GuardSpec, Op
from snapshot.journal.store import Journal
from snapshot.model import Policy, Vmid
from snapshot.pve.access import open_access
from snapshot.pve.transport import Transport
from snapshot.pve.turns import Turns
from snapshot.take.operation import safe_snapshot
from snapshot.take.request import Request, Result, Tools
from tests.lab.site import Site

CAP_SECONDS = 0.5
# Above the largest pid that Linux gives out: a site kills the guards that a test left behind.
NO_PROCESS = 1 << 23


class IdleGuard:
    """A guard that is there and does nothing."""

    pid = NO_PROCESS

    def tell(self, op: Op, **values: float) -> None:
        pass

    def is_alive(self) -> bool:
        return True

    def release(self) -> None:
        pass


class IdleLauncher:
    def arm(self, spec: GuardSpec) -> IdleGuard:
        return IdleGuard()


class Capped:
    """A transport that never waits long."""

    def __init__(self, transport: Transport) -> None:
        self.name = transport.name
        self.requests: list[str] = []
        """Method and path of each."""
        self._transport = transport

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        self.requests.append(f"{method} {path}")
        return self._transport.request(method, path, params, timeout_seconds=min(timeout_seconds, CAP_SECONDS))

    def close(self) -> None:
        self._transport.close()


def snapshot(
    lab: Site, name: str, policy: Policy, requests: list[str] | None = None, turns: Turns | None = None
) -> Result:
    """Take one. Raises only what is a bug. ``requests`` gets Capped.requests as they are sent."""
    config = reading.load(lab.config_path)
    clock = SystemClock()
    access = open_access(config, clock)
    assert access.api is not None
    capped = Capped(access.api)
    capped.requests = capped.requests if requests is None else requests
    try:
        return safe_snapshot(
            Request(vmid=Vmid(100), name=name, policy=policy),
            Tools(
                config=config,
                access=access._replace(api=capped, turns=turns),
                clock=clock,
                me=ProcessIdentity.own(),
                open_journal=lambda: Journal(config.journal.path),
                launcher=IdleLauncher(),
                gate=NoGate(),
                publish=lambda journal: [],
                say=lambda line, at=None: None,
            ),
        )
    finally:
        capped.close()
