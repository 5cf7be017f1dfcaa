"""One round of the drill, played: a victim freezes the guest and dies; the disk and the journal are watched.

Whatever happens, the guest is thawed at the end: by its guard, else by the drill itself, once its window has lasted as
long as it may. Nothing is printed meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from snapshot.base import detached
from snapshot.base.aside import reap
from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity, process_lives
from snapshot.base.signals import Gate
from snapshot.config.settings import Config
from snapshot.drill.cut import write_cut
from snapshot.drill.disk import DiskWatch, Stillness, stillness
from snapshot.drill.rounds import Breakage, SeenRound
from snapshot.drill.victim import VictimOrder
from snapshot.errors import GuardError, InterruptedBySignalError, JournalError, StillFrozenError
from snapshot.guard.link import GuardSpec, spec_of
from snapshot.journal.book import JournalBook
from snapshot.journal.record import DRILL, WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import FreezeState, Guest
from snapshot.pve.access import Access
from snapshot.recovery.frozen import guest_state
from snapshot.recovery.settle import settle
from snapshot.thaw.rescue import thaw_now

HOLD_SECONDS = 1.0
"""How long the guest stands still before the kill: its disks are looked at some times meanwhile."""

SHOW_SECONDS = 3.0
"""How long a guest that the journal calls thawed may take to write something."""

LOOK_SECONDS = 0.5
"""Between two looks at the journal; the disk has a thread of its own."""

CLOSE_SECONDS = 20.0
"""How long the guard may take to close the window of a guest that is thawed."""

VICTIM_SECONDS = 30.0
"""What a victim may take beyond its guard's and its freeze's time limits: to start, above all."""


class PlayTools(NamedTuple):
    """What a round works with."""

    config: Config
    config_path: Path | None
    access: Access
    read_disk: Callable[[], int | None]
    clock: Clock
    me: ProcessIdentity
    gate: Gate
    max_window_seconds: float
    adopt: Callable[[GuardSpec], None]
    """Starts a guard for the window of a guest that nobody could thaw."""


def play(kind: Breakage, guest: Guest, tools: PlayTools) -> SeenRound:
    """Play one round. Raises StillFrozenError when the guest cannot be thawed, InterruptedBySignalError when a signal
    came: the guest is thawed then.
    """
    with DiskWatch(tools.read_disk, tools.clock) as watch, tools.gate.unstoppable():
        return _Round(kind, guest, tools, watch).played()


class _Round:
    def __init__(self, kind: Breakage, guest: Guest, tools: PlayTools, watch: DiskWatch) -> None:
        self._guest = guest
        self._tools = tools
        self._clock = tools.clock
        self._watch = watch
        self._seen = SeenRound(kind)
        self._window_id = ""
        self._cut: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._book = JournalBook(lambda: Journal(tools.config.journal.path))

    def played(self) -> SeenRound:
        try:
            return self._played()
        finally:
            self._remove_cut()

    def _played(self) -> SeenRound:
        signalled: InterruptedBySignalError | None = None
        try:
            with self._victim() as connection, self._tools.gate.open():
                self._follow(connection)
                if self._seen.killed_at is not None:
                    self._wait_for_thaw()
        except InterruptedBySignalError as error:
            signalled = error
        except OSError as error:
            self._now(trouble=f"the process that freezes could not be started or followed ({error})")
        self._make_sure()
        if signalled is not None:
            number = signalled.signal_number
            raise InterruptedBySignalError(number, f"ended by signal {number}; the guest is thawed")
        return self._seen._replace(still=self._still(), window=self._row(), watching=self._watch.problem)

    def _now(self, **values: object) -> None:
        self._seen = self._seen._replace(**values)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def _victim(self) -> Iterator[socket.socket]:
        """A victim with its order. At the end its connection is closed: one that lives thaws then, and ends."""
        tools, kind = self._tools, self._seen.kind
        if kind.cuts_api:
            self._cut = write_cut(tools.config, tools.me)
        arguments = ["snapshot.drill.victim", "--socket", address := detached.new_address("drill")]
        if tools.config_path is not None:
            arguments += ["--config", str(tools.config_path)]
        order = VictimOrder(
            vmid=self._guest.vmid,
            node=self._guest.node,
            guest_name=self._guest.name,
            freeze_timeout_seconds=min(tools.config.freeze.freeze_timeout_seconds, tools.max_window_seconds),
            max_window_seconds=tools.max_window_seconds,
            hold_seconds=HOLD_SECONDS,
            kills_guard=kind.kills_guard,
            guard_config=str(self._cut or ""),
        )
        with detached.listen(address) as listener:
            process = self._process = detached.start_process(arguments)
            connection = detached.accept_from(process, listener, VICTIM_SECONDS, self._clock)
        with connection:
            connection.sendall(json.dumps(order._asdict()).encode() + b"\n")
            yield connection

    def _remove_cut(self) -> None:
        """Unless a guard may go by it still, when it is started again: then the next drill's sweep does it."""
        row = self._row()
        if self._cut is not None and (row is None or row.closed_at is not None):
            self._cut.unlink(missing_ok=True)

    def _follow(self, connection: socket.socket) -> None:
        """What the victim says, until it is dead."""
        config = self._tools.config
        limit = VICTIM_SECONDS + 2 * config.guard.arm_timeout_seconds + self._tools.max_window_seconds
        ends_at = self._clock.monotonic() + limit
        rest = b""
        while True:
            connection.settimeout(max(0.1, ends_at - self._clock.monotonic()))
            data = connection.recv(65536)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._heard(json.loads(line))
            if not data:
                if self._seen.killed_at is None and not self._seen.trouble:
                    self._now(trouble="the process that freezes ended without a word")
                return

    def _heard(self, said: Mapping[str, object]) -> None:
        match said.get("step"):
            case "armed":
                self._window_id = str(said["window"])
                self._now(arm_seconds=float(str(said["seconds"])))
            case "frozen":
                self._now(frozen_at=float(str(said["at"])))
            case "killed":
                killed_at = float(str(said["at"]))
                ago = self._clock.monotonic() - killed_at
                self._now(killed_at=killed_at, killed_wall_at=self._clock.time() - ago)
            case _:
                self._now(trouble=str(said.get("detail", "it failed")))

    def _still(self) -> Stillness:
        seen = self._seen
        if seen.frozen_at is None or seen.killed_at is None:
            return seen.still
        return stillness(self._watch.readings, seen.frozen_at, seen.killed_at)

    def _row(self) -> WindowRecord | None:
        """The round's window, as the journal has it."""
        with contextlib.suppress(JournalError):
            journal = self._book.journal
            if self._window_id:
                return journal.get(self._window_id)
            return next((w for w in journal.open_windows(self._guest.vmid) if w.source == DRILL), None)
        return None

    def _wait_for_thaw(self) -> None:
        """Until the disk and the journal both show it, or its time is over."""
        give_up = self._give_up_at()
        told_at: float | None = None
        while (now := self._clock.monotonic()) < give_up:
            row = self._row()
            if row is not None and row.thawed_at is not None:
                told_at = now if told_at is None else told_at
                if stillness(self._watch.readings, *self._instants).after or now - told_at >= SHOW_SECONDS:
                    return
                give_up = max(give_up, told_at + SHOW_SECONDS + 1.0)
            self._clock.sleep(LOOK_SECONDS)

    @property
    def _instants(self) -> tuple[float, float]:
        frozen_at, killed_at = self._seen.frozen_at or 0.0, self._seen.killed_at
        return frozen_at, frozen_at if killed_at is None else killed_at

    def _give_up_at(self) -> float:
        """When the drill thaws by itself: a broken guard shall not cost the guest more than the window it was given."""
        frozen_at, killed_at = self._instants
        bound = self._seen.kind.bound_seconds(self._seen.arm_seconds)
        return max(frozen_at + self._tools.max_window_seconds, killed_at + bound + 1.0)

    def _make_sure(self) -> None:
        """The guest is thawed and its window closed, whoever had to do it."""
        self._end_victim()
        ends_at = self._clock.monotonic() + CLOSE_SECONDS
        if self._row() is None and self._state() is not FreezeState.FROZEN:
            return  # it came to no window
        while (row := self._row()) is None or row.closed_at is None:
            until = (row.quiet_until_at if row is not None else None) or 0.0
            # One that is started again watches for some seconds in any case.
            if until > self._clock.time() + CLOSE_SECONDS and self._state() is FreezeState.THAWED:
                late = "a freeze whose answer was lost may still come: its guard stays, for an hour at most"
                self._now(trouble=f"{self._seen.trouble}; {late}".removeprefix("; "))
                return
            is_over = row is not None and (row.thawed_at is not None or row.verdict is not None)
            if self._clock.monotonic() >= (ends_at if is_over else self._give_up_at()):
                break
            self._clock.sleep(LOOK_SECONDS)
        is_done = row is not None and (row.closed_at is not None or row.thawed_at is not None)
        if is_done and self._state() is FreezeState.THAWED:
            return  # a window that is not closed yet is its guard's, or the next recovery's
        self._thaw_here(row)

    def _end_victim(self) -> None:
        """One that lives thaws now that nobody listens any more; one that does not end in time is ended."""
        process, config = self._process, self._tools.config
        if process is None:
            return
        limit = config.freeze.freeze_timeout_seconds + config.guard.arm_timeout_seconds + VICTIM_SECONDS
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            reap(process)

    def _state(self) -> FreezeState | None:
        return guest_state(self._guest, self._tools.access)

    def _thaw_here(self, row: WindowRecord | None) -> None:
        """Nobody else has. A guard that hangs is ended, for it may keep us from the agent; systemd starts another."""
        if row is not None and row.guard_pid and process_lives(row.guard_pid, row.guard_pid_start):
            with contextlib.suppress(OSError):
                os.kill(row.guard_pid, signal.SIGKILL)
        try:
            report = thaw_now(self._guest, self._tools.access)
        except StillFrozenError:
            if row is not None:  # we are not the last who tries
                with contextlib.suppress(GuardError):
                    self._tools.adopt(spec_of(row, self._tools.config))
            raise
        self._now(thawed_by_drill=report.route or "an unknown route")
        if row is not None:
            with contextlib.suppress(JournalError):
                settle(self._book, row, report, self._tools.access, self._tools.me)
