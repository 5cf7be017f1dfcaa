"""The holder, the process that holds one backup's window: what it is started with, and who is told.

Started as ``python -I -m vzdump_hooks.hold --socket ADDRESS [--config FILE]``.

post-restart starts it and waits for its report; then vzdump goes on, and the holder follows vzdump's log.
It has a session of its own and nothing inherited: vzdump reads the hook's output until its end, and kills the hook's
process group when a job is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from snapshot.base import detached, logfmt
from snapshot.base.clock import SystemClock
from snapshot.base.hardening import harden, open_log
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import SignalGate
from snapshot.config.reading import load_lenient
from snapshot.errors import ApiError, ConfigError, GuestUnfitError, SafeSnapshotError
from snapshot.guard.launcher import ProcessLauncher
from snapshot.guard.link import FREEZING_PHASE
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from snapshot.model import Guest, GuestKind, Node, Upid, Vmid
from snapshot.pve.access import Access, open_access
from snapshot.pve.guests import GuestApi
from vzdump_hooks.hold.backup import hold_window
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.hold.tools import HoldTools
from vzdump_hooks.tasklog.follow import BackupFollower, WorkerLife
from vzdump_hooks.tasklog.lines import ApiLog, FileLog, LogSource

TAKEN_SECONDS = 5.0
"""How long the hook may take to acknowledge a report; it only has to wake up."""


def main(argv: Sequence[str] | None = None) -> int:
    """Hold one window; 0 when it was closed."""
    parser = argparse.ArgumentParser(prog="vzdump-hooks-holder", description="internal: holds one backup's window")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--config", type=Path)
    options = parser.parse_args(argv)
    connection = detached.connect(options.socket)
    if connection is None:
        return 1
    log = open_log("vzdump-hooks-holder")
    reporter = Reporter(connection)
    order: HoldOrder | None = None
    try:
        order = HoldOrder.from_json(detached.read_line(connection))
        for problem in _hold(order, options.config, reporter):
            log.error("%s", logfmt.line("not-recorded", **_log_keys(order), detail=problem))
    except Exception as error:  # noqa: BLE001 - the hook waits for a word, and a guard has what was frozen
        known = isinstance(error, SafeSnapshotError | OSError)
        text = str(error) if known else f"internal error ({type(error).__name__}: {error})"
        reporter(HoldReport(False, f"not frozen by us: {text}"))
        log.error("%s", logfmt.line("hold-failed", **(_log_keys(order) if order else {}), detail=text))
        return 1
    return 0


def _log_keys(order: HoldOrder) -> dict[str, object]:
    return {"vmid": order.vmid, "node": order.node, "phase": FREEZING_PHASE, "upid": order.job}


def _hold(order: HoldOrder, config_path: Path | None, reporter: Reporter) -> list[str]:
    clock = SystemClock()
    # What the order says of the freeze was decided already; the rest of a broken file serves to watch.
    config, _ = load_lenient(config_path)
    access = open_access(config, clock)
    guest = _find(order, access)
    harden("fsfreeze-holder")
    launcher = ProcessLauncher(config, config_path, clock)
    tools = HoldTools(
        config=config,
        access=access,
        clock=clock,
        me=ProcessIdentity.own(),
        open_journal=lambda: Journal(config.journal.path),
        launcher=launcher,
        adopt=launcher.adopt,
        gate=SignalGate(),
        publish=lambda journal: publish(config, journal, clock),
        report=reporter,
        follower=_follower(order, access),
    )
    return hold_window(order, guest, tools)


def _find(order: HoldOrder, access: Access) -> Guest:
    """The guest as PVE lists it. vzdump backs up the guests of its own node: with the API down, or with a token that
    may not see the guest, we know enough to watch.
    """
    try:
        return GuestApi(access.main).find(Vmid(order.vmid))
    except (ApiError, GuestUnfitError):
        if not access.local_node:
            raise
        return Guest(Vmid(order.vmid), Node(order.node), GuestKind.QEMU, name=order.guest_name, running=True)


def _follower(order: HoldOrder, access: Access) -> BackupFollower:
    sources: list[LogSource] = []
    if order.log:
        sources.append(FileLog(Path(order.log)))
    if order.upid:
        with contextlib.suppress(ConfigError, ValueError):
            sources.append(ApiLog(access.main, Upid.parse(order.upid)))
    return BackupFollower(order.vmid, sources, WorkerLife(order.worker_pid, order.worker_start), access.clock)


class Reporter:
    """Tells the waiting hook, once, and learns whether it was still there to listen."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(TAKEN_SECONDS)
        self._done = False

    def __call__(self, report: HoldReport) -> bool:
        """True when the hook took the report, so vzdump goes on; later calls do nothing."""
        if self._done:
            return True
        self._done = True
        try:
            self.connection.sendall(report.to_json().encode() + b"\n")
            return self.connection.recv(1) != b""
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                self.connection.close()


if __name__ == "__main__":
    sys.exit(main())
