"""``vzdump-hook --self-test GUEST``: all phases of a backup as vzdump's worker calls them, and no backup.

Each phase is a process of its own with vzdump's arguments, its emptied environment and its working directory
(PVE/VZDump.pm, run_hook_script); this process stands for the worker, with a task log of its own beside PVE's, which is
in no list of tasks and is removed at the end. The archive's part is played: PVE is asked for the guest's agent as
vzdump asks, and vzdump's lines are written, behind which the guest is thawed. The window is a real one, of the source
``drill``: no series, ping or silence takes it for a backup. The administrator's own commands are not called.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base.clock import Clock, SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config import reading
from snapshot.config.choice import choose
from snapshot.config.selection import Selection, Term, TermKind
from snapshot.config.settings import Config
from snapshot.errors import GuestUnfitError, SafeSnapshotError, StillFrozenError
from snapshot.model import FreezeState, Guest, GuestKind, Upid, Vmid
from snapshot.pve import agent, locks
from snapshot.pve.access import Access, open_access
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, ApiChannel, CommandNotSentError
from snapshot.pve.atwork import at_work
from snapshot.pve.guests import GuestApi
from snapshot.recovery.frozen import guest_state
from snapshot.thaw.rescue import thaw_now
from vzdump_hooks.call import Mode, Phase
from vzdump_hooks.tasklog.lines import log_path
from vzdump_hooks.tasklog.worker import SELF_TEST

PREFIX = "vzdump-hook: "
PHASE_SECONDS = 600.0
"""vzdump itself has no time limit on a hook; a self-test shall end."""

_EMPTIED = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}
"""All that vzdump leaves of its environment in every phase (PVE/VZDump.pm)."""

_BEFORE = (Phase.JOB_INIT, Phase.JOB_START)
_UP_TO_ARCHIVE = (Phase.BACKUP_START, Phase.PRE_STOP, Phase.PRE_RESTART, Phase.POST_RESTART)
_OF_JOBS = frozenset({Phase.JOB_INIT, Phase.JOB_START, Phase.JOB_END, Phase.JOB_ABORT})


class Played(NamedTuple):
    """One phase, and what came of it."""

    phase: Phase
    status: int
    lines: tuple[str, ...]
    seconds: float

    @property
    def is_well(self) -> bool:
        """Whether vzdump would have gone on, and nothing was warned of."""
        return self.status == 0 and not any(line.startswith(("WARNING", "ERROR")) for line in self.lines)


def main(arguments: Sequence[str], config_path: str | None) -> int:
    """Play all phases for one guest; 0 when each did what it should, else 1."""
    clock = SystemClock()
    try:
        term = Term.parse(arguments[0] if len(arguments) == 1 else "")
        if term.vmid is None and (term.kind is not TermKind.NAME or term.is_glob):
            raise ValueError(f"{str(term)!r} may be several guests")
    except ValueError as error:
        _out(f"ERROR: {error}; usage: vzdump-hook [--config FILE] --self-test GUEST")
        return 1
    try:
        config = reading.load(Path(config_path) if config_path else None)
        access = open_access(config, clock, _out)
        guest = _fit(access, _meant(access, term))
        with _task(config, guest, clock, ProcessIdentity.own()) as log:
            return _Job(guest, access, config_path, log, clock).run()
    except (SafeSnapshotError, OSError) as error:
        _out(f"ERROR: {error}")
        return 1


def _meant(access: Access, term: Term) -> Vmid:
    """The guest's vmid; nobody is asked for one that stands there. GuestUnfitError where not one guest is called so."""
    if term.vmid is not None:
        return term.vmid
    choice = choose(Selection((term,)), GuestApi(access.main).list())
    if len(choice.vmids) != 1:
        several = f"{len(choice.vmids)} guests are called {term}; say which: {', '.join(map(str, choice.vmids))}"
        raise GuestUnfitError(str(choice.unmatched[0]) if choice.unmatched else several)
    return choice.vmids[0]


def _fit(access: Access, vmid: Vmid) -> Guest:
    guest = GuestApi(access.main).find(vmid)
    if guest.kind is not GuestKind.QEMU or not guest.running:
        raise GuestUnfitError(f"guest {vmid} is no virtual machine that runs: nothing would be frozen")
    if not access.is_local(guest):
        raise GuestUnfitError(
            f"guest {vmid} runs on node {guest.node}", remedy="vzdump would run there, and so must we"
        )
    busy = locks.check_of(guest).message if guest.lock else at_work(access, guest)
    if busy:
        raise GuestUnfitError(f"PVE is at work on guest {vmid} ({busy})", remedy="wait for its end")
    return guest


@contextlib.contextmanager
def _task(config: Config, guest: Guest, clock: Clock, me: ProcessIdentity) -> Iterator[int]:
    """A task log by which the hook finds its worker: it is this process' standard output meanwhile, as a background
    worker's is (PVE::RESTEnvironment, fork_worker). What a person sees goes to standard error.
    """
    started = f"{me.pid:08X}:{me.start:08X}:{int(clock.time()):08X}"
    upid = Upid.parse(f"UPID:{guest.node}:{started}:{SELF_TEST}:{guest.vmid}:root@pam:")
    path = log_path(config.local.task_folder, upid)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
    usual = os.dup(1)
    try:
        os.dup2(log, 1)
        yield log
    finally:
        os.dup2(usual, 1)
        os.close(usual)
        os.close(log)
        path.unlink(missing_ok=True)


class _Job:
    """One job of one guest."""

    def __init__(self, guest: Guest, access: Access, config_path: str | None, log: int, clock: Clock) -> None:
        self._guest = guest
        self._access = access
        self._log = log
        self._clock = clock
        own = ["--config", str(Path(config_path).absolute())] if config_path else []
        self._script = [os.path.abspath(sys.argv[0]), *own, "--no-commands"]
        self._played: list[Played] = []

    def run(self) -> int:
        """vzdump's order of things; then whether the guest is thawed."""
        _out(f"SELF-TEST: no backup is made; guest {self._guest.vmid} is frozen for a moment")
        try:
            self._phases()
        finally:
            is_thawed = self._is_thawed()
        bad = [played for played in self._played if not played.is_well]
        if bad or not is_thawed:
            _out(f"SELF-TEST FAILED: {', '.join(played.phase.value for played in bad) or 'the guest was not thawed'}")
            return 1
        _out("SELF-TEST: every phase did what it should; nothing of it counts as a backup")
        return 0

    def _phases(self) -> None:
        self._write("INFO: starting new backup job: a self-test")
        if not all(self._play(phase) for phase in _BEFORE):
            return
        self._write(f"INFO: Starting Backup of VM {self._guest.vmid} (qemu)")
        if all(self._play(phase) for phase in _UP_TO_ARCHIVE):
            self._archive()
            self._play(Phase.BACKUP_END)
            self._write(f"INFO: Finished Backup of VM {self._guest.vmid} (00:00:00)")
        else:
            self._play(Phase.BACKUP_ABORT)
            self._write(f"ERROR: Backup of VM {self._guest.vmid} failed - a self-test")
        self._play(Phase.LOG_END)
        self._play(Phase.JOB_END)
        self._write("TASK OK")

    def _play(self, phase: Phase) -> bool:
        """One phase as vzdump calls it; whether vzdump would go on."""
        began = self._clock.monotonic()
        is_of_job = phase in _OF_JOBS
        arguments = [] if is_of_job else [Mode.SNAPSHOT.value, str(self._guest.vmid)]
        done = subprocess.run(  # noqa: S603 - ourselves, without a shell
            [*self._script, phase.value, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(_EMPTIED if is_of_job else self._environment()),
            cwd="/",
            timeout=PHASE_SECONDS,
            check=False,
        )
        lines = tuple(done.stdout.decode(errors="replace").splitlines())
        for line in lines:
            self._write(f"INFO: {line}")
        seconds = self._clock.monotonic() - began
        played = Played(phase, done.returncode, tuple(line.removeprefix(PREFIX) for line in lines), seconds)
        self._played.append(played)
        _out(f"{phase.value:13} {'ok' if done.returncode == 0 else f'exit {done.returncode}':7} {seconds:6.2f} s")
        for line in played.lines:
            _out(f"  {line}")
        return done.returncode == 0

    def _environment(self) -> Mapping[str, str]:
        return {**_EMPTIED, "VMTYPE": self._guest.kind.value, "HOSTNAME": self._guest.name}

    def _archive(self) -> None:
        """Between post-restart and backup-end, as qemu-server has done it since 9.1.10: a guest that is found frozen is
        not frozen by vzdump; one that is not, is, and is thawed behind the point in time.
        """
        channel = ApiChannel(self._access.main, self._guest)
        try:
            is_frozen = agent.status(channel) is FreezeState.FROZEN
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            self._write("INFO: skipping guest filesystem freeze - agent configured but not running?")
            self._write("INFO: starting backup via QMP command")
        else:
            self._point_in_time(channel, is_frozen=is_frozen)
        self._write("INFO: started backup task 'self-test'")
        self._write("INFO: resuming VM again")

    def _point_in_time(self, channel: ApiChannel, *, is_frozen: bool) -> None:
        if is_frozen:
            self._write("INFO: skipping guest filesystem freeze - already frozen")
            self._write("INFO: starting backup via QMP command")
            return
        settings = self._access.settings_for(self._guest)
        self._write("INFO: issuing guest-agent 'fs-freeze' command")
        try:
            agent.freeze(channel, settings.freeze_timeout_seconds)
            self._write("INFO: starting backup via QMP command")
            self._write("INFO: issuing guest-agent 'fs-thaw' command")
        finally:
            thaw_now(self._guest, self._access)

    def _is_thawed(self) -> bool:
        """Whether the agent says so, without us; else it is thawed here."""
        if guest_state(self._guest, self._access) is FreezeState.THAWED:
            return True
        try:
            report = thaw_now(self._guest, self._access)
        except StillFrozenError as error:
            _out(f"ERROR: {error}")
        else:
            _out(f"ERROR: guest {self._guest.vmid} was left frozen; it is thawed now, over {report.route}")
        return False

    def _write(self, line: str) -> None:
        os.write(self._log, line.encode() + b"\n")


def _out(line: str) -> None:
    """A line for a person. Never raises."""
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="replace") + b"\n")
