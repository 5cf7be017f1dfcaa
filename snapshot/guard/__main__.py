"""The guard's process: ``python -I -m snapshot.guard --spec JSON [--socket ADDRESS] [--config FILE]``.

Started by launcher.py, detached or as a systemd unit, in a session of its own, nothing inherited. It connects back to
its owner, imports and opens all it will need, says ``armed``, and waits. Where nobody listens (systemd started it again
after it was killed, or `recover` started it for an orphan) it takes the window over; all it needs to thaw stands in its
arguments, so it does so with a broken journal too, and on a PVE node with a broken configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base import detached, logfmt, unit
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.hardening import Witnessed, harden, open_log
from snapshot.base.interruption import Signals
from snapshot.base.procfs import ProcessIdentity, process_lives
from snapshot.base.watchdog import Watchdog
from snapshot.config import reading
from snapshot.config.settings import Config
from snapshot.errors import ConfigError, SafeSnapshotError
from snapshot.guard.background import BackgroundRecorder
from snapshot.guard.claim import Claim, Holder, take
from snapshot.guard.core import GuardCore
from snapshot.guard.inbox import ProcessInbox
from snapshot.guard.link import GuardSpec, watchdog_seconds
from snapshot.guard.recorder import JournalRecorder
from snapshot.guard.seams import Happening, Recorder
from snapshot.guard.turn import DEADLINE_MARGIN_SECONDS
from snapshot.journal.file import GUARDS_FOLDER
from snapshot.journal.living import late_seconds
from snapshot.journal.record import Cause, WindowRecord, was_never_armed
from snapshot.journal.store import DEFAULT_PATH, Journal
from snapshot.metrics.publish import publish
from snapshot.pve.access import Access, open_access
from snapshot.pve.routes import build_ladder
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.thawer import Thawer

__all__ = ["harden", "main", "open_log"]

NAME, LOG = "fsfreeze-guard", "vzdump-hooks-guard"
"""Of a guard's process, and of what it says in syslog."""


def main(argv: Sequence[str] | None = None) -> int:
    """Guard one window; 0 when it is closed, 1 when no guard could be armed."""
    parser = argparse.ArgumentParser(prog="vzdump-hooks-guard", description="internal: guards one freeze window")
    parser.add_argument("--spec", required=True, type=GuardSpec.from_json)
    parser.add_argument("--socket", default="")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--peer", action="append", default=[], help="another node, where the configuration names none")
    options = parser.parse_args(argv)
    spec, peers = options.spec, options.peer
    return guard(spec, options.socket, config_path=options.config, notify=unit.notify_socket(), peers=peers)


class Ready(NamedTuple):
    """What is there ahead in a process that several guards share (hosted.py); it is hardened, and has a log."""

    config: Config
    access: Access
    """No two use its connections: see Access.apart."""
    signals: Signals
    """Those that reach the process."""


class Armed(NamedTuple):
    """All that a guard has at hand when its guest is put at risk."""

    config: Config
    claim: Claim
    recorder: BackgroundRecorder
    thawer: Thawer
    inbox: ProcessInbox


def guard(
    spec: GuardSpec,
    address: str,
    *,
    notify: str,
    config_path: Path | None = None,
    ready: Ready | None = None,
    peers: Sequence[str] = (),
) -> int:
    """See main. ``notify``: who watches that it moves, as systemd's NOTIFY_SOCKET. Nothing stays open behind it."""
    log = logging.getLogger(LOG) if ready else open_log(LOG)
    clock, me = SystemClock(), ProcessIdentity.own()
    with contextlib.ExitStack() as opened:
        watchdog = Watchdog(notify, clock)
        opened.callback(watchdog.close)
        connection = detached.connect(address) if address else None
        if connection is not None:
            opened.callback(connection.close)
        try:
            may_refuse = connection is not None and not spec.others_freeze
            config = ready.config if ready else _configuration(config_path, spec, log, is_armed_by_owner=may_refuse)
            config = with_peers(config, peers)
            armed = _arm(spec, connection, config, ready, opened, log=log, clock=clock, me=me, watchdog=watchdog)
        except (SafeSnapshotError, OSError) as error:
            log.error("%s", logfmt.line("not-armed", **spec.log_keys, detail=str(error)))
            if connection is not None:
                _say(connection, {"op": "failed", "error": str(error)})
            return 1
        if isinstance(armed, Holder):
            # systemd's was faster than the owner's, or the other way round. It thaws, whoever it is.
            if connection is not None:
                _say(connection, {"op": "taken", **armed._asdict()})
            return 0
        owner = Witnessed(*_owner(spec))
        opened.callback(owner.close)
        core = GuardCore(spec, armed.inbox, armed.thawer, clock, armed.recorder, owner)
        try:
            if connection is not None:
                _say(connection, {"op": "armed", "pid": me.pid})
                core.run()
            else:
                _take_over(core, spec, armed, clock, me=me, was_armed=bool(address), is_alone=ready is None)
        except Exception as error:  # noqa: BLE001 - the guest is thawed, or nothing was frozen (GuardCore)
            log.error("%s", logfmt.line("guard-fault", **spec.log_keys, detail=f"{type(error).__name__}: {error}"))
            return 1  # the window is not closed: systemd starts another guard, else `recover` comes back to it
        finally:
            armed.recorder.finish(moves=watchdog.moves)
        armed.claim.release()
        return 0


def _arm(
    spec: GuardSpec,
    connection: socket.socket | None,
    config: Config,
    ready: Ready | None,
    opened: contextlib.ExitStack,
    *,
    log: logging.Logger,
    clock: Clock,
    me: ProcessIdentity,
    watchdog: Watchdog,
) -> Armed | Holder:
    """Open all that the guard will need; or who has this window already. SafeSnapshotError, OSError."""
    watchdog.begins(watchdog_seconds(config))
    claim = _claim(spec, config.journal.path.parent / GUARDS_FOLDER, me)
    if not isinstance(claim, Claim):
        return claim
    opened.callback(claim.let_go)
    access = ready.access.apart(watchdog.moves) if ready else open_access(config, clock, moves=watchdog.moves)
    opened.callback(access.close)
    recorder = BackgroundRecorder(_recorder(spec, config, clock, me, log))
    opened.callback(lambda: recorder.finish(moves=watchdog.moves))
    thawer = prepare(spec, access, ahead=connection is not None)
    if ready is None:
        harden(NAME)
    watch = spec.watch if connection else [_owner(spec)]
    inbox = ProcessInbox(connection, watch, clock, watchdog.moves, signals=ready.signals if ready else None)
    opened.callback(inbox.end)
    return Armed(config, claim, recorder, thawer, inbox)


def _take_over(
    core: GuardCore,
    spec: GuardSpec,
    armed: Armed,
    clock: Clock,
    *,
    me: ProcessIdentity,
    was_armed: bool,
    is_alone: bool,
) -> None:
    """Nobody listens: thaw, if the journal does not say that it is not needed."""
    try:
        orphan = _orphan(spec, armed.inbox, armed.config, clock, armed.recorder, me=me, is_alone=is_alone)
    except Exception:  # noqa: BLE001 - whatever it met, its guest may be frozen
        orphan = unknown_orphan(spec, clock)
    if orphan is not None:
        cause = orphan.cause or (Cause.OWNER_DIED if was_armed else Cause.RECOVERY)
        core.take_over(cause, late_seconds=orphan.late_seconds, due=orphan.due)


def with_peers(config: Config, peers: Sequence[str]) -> Config:
    """With the other nodes that the owner goes by, where the configuration names none."""
    return config if config.api.peers else config._replace(api=config.api._replace(peers=tuple(peers)))


def _configuration(path: Path | None, spec: GuardSpec, log: logging.Logger, *, is_armed_by_owner: bool) -> Config:
    """The configuration. A broken one ends a guard that is being armed: no guest has been frozen (ConfigError).

    One that was started again has a guest to thaw: what can be read counts, and the defaults find a node's agents.
    """
    try:
        return reading.load(path)
    except ConfigError:
        if is_armed_by_owner:
            raise
    config, problems = reading.load_lenient(path)
    for problem in problems:
        log.error("%s", logfmt.line("defaults-used", **spec.log_keys, detail=problem))
    return config


def _claim(
    spec: GuardSpec, folder: Path = DEFAULT_PATH.parent / GUARDS_FOLDER, me: ProcessIdentity | None = None
) -> Claim | Holder:
    """The lock that lets one guard at a time have this window; or the process that holds it already."""
    found = take(folder, spec.window_id, me)
    if isinstance(found, Claim) and not found.is_held:
        logging.getLogger(LOG).warning("%s", logfmt.line("no-claim", **spec.log_keys, folder=folder))
    return found


class Orphan(NamedTuple):
    """A window to take over: how long a late freeze is possible, and from when on its owner must not stand still.

    ``cause``: why, where its owner lives.
    """

    late_seconds: float
    due: float
    cause: Cause | None = None


def unknown_orphan(spec: GuardSpec, clock: Clock) -> Orphan:
    """What is assumed of a window that could not be looked up: the latest that its order allows."""
    due = float("inf")
    with contextlib.suppress(Exception):  # a clock that fails, too: the thaw needs none
        due = clock.monotonic() + spec.deadline_seconds + DEADLINE_MARGIN_SECONDS
    return Orphan(spec.late_freeze_seconds, due, Cause.GUARD_FAULT)


def _orphan(
    spec: GuardSpec,
    inbox: ProcessInbox,
    config: Config,
    clock: Clock,
    recorder: Recorder,
    *,
    me: ProcessIdentity,
    is_alone: bool = True,
) -> Orphan | None:
    """Nobody armed us, so somebody died. None: nothing is to be done.

    What to do stands in the journal, if that can be read. A living owner has seen the end of the guard before us, and
    thaws by itself: this waits until it dies or its deadline has passed. ``is_alone``: in its process. Where others
    share that, a process that lives says nothing of this window's guard, and our claim says that there is no other.
    """
    record = _look_up(spec, config)
    due, cause = clock.monotonic(), None
    if record is None or record.closed_at is None:
        deadline_at = record.deadline_at if record is not None else clock.time() + spec.deadline_seconds
        left = min(max(0.0, deadline_at - clock.time()), spec.deadline_seconds) + DEADLINE_MARGIN_SECONDS
        due += left
        message = inbox.wait(left)
        cause = Cause.DEADLINE
        if message is not None:
            inbox.put_back(message)  # a signal ends the watch, not the thaw
            cause = Cause.SIGNAL if message.what is Happening.SIGNAL else None
        record = _look_up(spec, config)
    if record is None:
        return Orphan(spec.late_freeze_seconds, due, cause)
    if record.closed_at is not None or (is_alone and _has_another_guard(record, me)):
        return None
    if was_never_armed(record):
        if not process_lives(record.owner_pid, record.owner_pid_start):
            recorder.closed(by_owner=False)
        return None  # an owner that lives, held up by a slow disk, say, closes its window itself
    return Orphan(min(late_seconds(record, config, clock, me), spec.late_freeze_seconds), due, cause)


def _has_another_guard(record: WindowRecord, me: ProcessIdentity) -> bool:
    """Whether the owner armed a new guard when it saw the end of this one."""
    return record.guard_pid != me.pid and process_lives(record.guard_pid, record.guard_pid_start)


def _look_up(spec: GuardSpec, config: Config) -> WindowRecord | None:
    try:
        with contextlib.closing(Journal(config.journal.path)) as journal:
            return journal.get(spec.window_id)
    except Exception:  # noqa: BLE001 - whatever a journal holds, a guest may be frozen
        return None


def prepare(spec: GuardSpec, access: Access, *, ahead: bool = True) -> Thawer:
    """A thawer; its connections open, where nothing is at risk yet (``ahead``): a guest that may be frozen waits for
    nobody's answer.
    """
    return Thawer(build_ladder(access, spec.guest, ahead=ahead), thawing_of(access.config), access.clock)


def _owner(spec: GuardSpec) -> tuple[int, int]:
    return spec.owner_pid, spec.owner_pid_start


def _recorder(
    spec: GuardSpec, config: Config, clock: Clock, me: ProcessIdentity, log: logging.Logger
) -> JournalRecorder:
    return JournalRecorder(
        spec, lambda: Journal(config.journal.path), lambda journal: publish(config, journal, clock), clock, log, me=me
    )


def _say(connection: socket.socket, message: dict[str, object]) -> None:
    """Tell the owner; one that is gone shows in the inbox."""
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
