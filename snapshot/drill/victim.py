"""The victim: a process that freezes a guest as every run of ours does, and kills itself in the middle of it.

Started by rounds.py as ``python -I -m snapshot.drill.victim --socket ADDRESS [--config FILE]``. Its window is the real
one, with a real guard. When the drill goes away, or says so by hanging up, it thaws and ends in peace.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base import detached
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import NoGate
from snapshot.config import reading
from snapshot.config.settings import Config
from snapshot.errors import SafeSnapshotError
from snapshot.guard.launcher import ProcessLauncher
from snapshot.journal.book import open_book
from snapshot.journal.record import DRILL
from snapshot.journal.store import Journal
from snapshot.model import FreezeOutcome, Guest, GuestKind, Node, Owner, Verdict, VerdictKind, Vmid
from snapshot.pve.access import open_access
from snapshot.pve.agent import ApiChannel
from snapshot.pve.routes import build_ladder
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.thawer import Thawer
from snapshot.window.parts import WindowSpec, WindowTools
from snapshot.window.window import Window

Tell = Callable[..., None]


class VictimOrder(NamedTuple):
    """What the drill wants done. Durations in seconds."""

    vmid: int
    node: str
    guest_name: str
    freeze_timeout_seconds: float
    max_window_seconds: float
    hold_seconds: float
    """How long the guest stands still before the kill, so that its disks show it."""
    kills_guard: bool
    guard_config: str
    """The configuration that the guard is started with; "": this process' own."""

    @property
    def guest(self) -> Guest:
        """The guest to freeze."""
        return Guest(Vmid(self.vmid), Node(self.node), GuestKind.QEMU, name=self.guest_name, running=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Freeze one guest and die; 0 when that was not to be."""
    parser = argparse.ArgumentParser(prog="vzdump-hooks-drill", description="internal: a drill's window")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--config", type=Path)
    options = parser.parse_args(argv)
    connection = detached.connect(options.socket)
    if connection is None:
        return 1

    def tell(step: str, **values: object) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps({"step": step, **values}).encode() + b"\n")

    try:
        order = VictimOrder(**json.loads(detached.read_line(connection)))
        config = reading.load(options.config)
        window = _window(order, config, options.config, SystemClock())
        _freeze_and_die(order, window, connection, tell)
    except Exception as error:  # noqa: BLE001 - the drill waits for a word
        known = isinstance(error, SafeSnapshotError | OSError)
        tell("failed", detail=str(error) if known else f"internal error ({type(error).__name__}: {error})")
    return 0


def _freeze_and_die(order: VictimOrder, window: Window, connection: socket.socket, tell: Tell) -> None:
    clock = SystemClock()
    began = clock.monotonic()
    why = "the drill went away"
    with window:
        tell("armed", window=window.id, guard=window.guard_pid, seconds=clock.monotonic() - began)
        reply = window.freeze()
        if reply.outcome is not FreezeOutcome.ACKNOWLEDGED:
            why = f"freeze {reply.outcome.value}: {reply.detail}"
        else:
            tell("frozen", at=clock.monotonic(), filesystems=reply.filesystems)
            if not _hangs_up(connection, order.hold_seconds):
                _die(order, window, tell, clock)
    window.close(Verdict(VerdictKind.UNKNOWN, f"a drill: {why}"), None, None)
    tell("failed", detail=why)


def _die(order: VictimOrder, window: Window, tell: Tell, clock: Clock) -> None:
    """As the kernel does it when memory runs out: nothing of ours has a say in it."""
    if order.kills_guard and window.guard_pid:
        os.kill(window.guard_pid, signal.SIGKILL)
    tell("killed", at=clock.monotonic())
    signal.raise_signal(signal.SIGKILL)


def _hangs_up(connection: socket.socket, seconds: float) -> bool:
    """Whether the drill ends its connection within ``seconds``; it says nothing else."""
    readable, _, _ = select.select([connection], [], [], seconds)
    return bool(readable)


def _window(order: VictimOrder, config: Config, config_path: Path | None, clock: Clock) -> Window:
    access = open_access(config, clock)
    guest = order.guest
    spec = WindowSpec(
        guest=guest,
        source=DRILL,
        owner=Owner.SNAPSHOT,
        freeze_timeout_seconds=order.freeze_timeout_seconds,
        max_window_seconds=order.max_window_seconds,
        late_freeze_seconds=config.freeze.late_freeze_seconds,
        owner_limit_seconds=config.thaw.owner_limit_seconds,
    )
    guards = Path(order.guard_config) if order.guard_config else config_path
    return Window(
        spec,
        WindowTools(
            clock=clock,
            me=ProcessIdentity.own(),
            book=open_book(lambda: Journal(config.journal.path)),
            launcher=ProcessLauncher(config, guards, clock),
            thawer=Thawer(build_ladder(access, guest, ahead=True), thawing_of(config), clock),
            freezing=ApiChannel(access.main, guest),
            gate=NoGate(),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
