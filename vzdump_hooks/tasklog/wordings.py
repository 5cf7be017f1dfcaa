"""Every line of a vzdump task log that means something to us, of PVE 7.4, 8 and 9, in one table. Pure.

Sources: src/PVE/VZDump/QemuServer.pm and src/PVE/QemuServer/Agent.pm (qemu-server), PVE/VZDump.pm (pve-manager), and
earlier releases of the same files. A line looks like ``INFO: text``. Each row is anchored at the line's beginning,
where vzdump has a text of its own before anything a guest can say; what a guest does say (an agent's error) comes
behind ``ERROR: `` and can only make its own verdict worse.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class LogEvent(Enum):
    """What a line says."""

    GUEST_BEGUN = "this guest's backup begins, or another one of it in the same job"
    FREEZE_ISSUED = "vzdump asks for a freeze"
    FREEZE_SKIPPED_FROZEN = "vzdump found the guest frozen"
    FREEZE_SKIPPED_NO_AGENT = "vzdump found no agent"
    FREEZE_SKIPPED_OPTION = "the agent, or freezing, is switched off in the guest's options"
    FREEZE_REFUSED_FROZEN = "vzdump's freeze was refused because the guest is frozen"
    FREEZE_FAILED = "vzdump's freeze failed"
    FREEZE_SLOW = "vzdump still waits for its freeze"
    BACKUP_STARTING = "the QMP command is about to be sent"
    THAW_ISSUED = "vzdump asks for a thaw; the QMP command has returned"
    THAW_FAILED = "vzdump's thaw failed"
    POINT_IN_TIME = "the QMP command has returned without an error"
    NO_DISKS = "the backup contains no disks"
    GUEST_ERROR = "an error of this guest's backup"
    GUEST_DONE = "this guest's backup has ended"
    TASK_END = "the task has ended"


ENDS = frozenset({LogEvent.GUEST_DONE, LogEvent.TASK_END, LogEvent.GUEST_ERROR, LogEvent.NO_DISKS})
"""After any of these the guest's backup has no point in time any more."""


class Row(NamedTuple):
    """A line that begins with ``start`` and contains all of ``words`` is an ``event``."""

    event: LogEvent
    start: str
    words: tuple[str, ...] = ()


GUEST_START = "INFO: Starting Backup of VM "
STARTED = "INFO: started backup task '"
ERROR = "ERROR: "
QMP_ERROR = "ERROR: VM "
"""How PVE::QMPClient begins its own errors, the backup command's among them."""

TABLE: tuple[Row, ...] = (
    # since qemu-server 9.1.10; before; the third one between 9.1.6 and 9.1.9
    Row(LogEvent.FREEZE_SKIPPED_FROZEN, "INFO: skipping guest filesystem freeze - already frozen"),
    Row(LogEvent.FREEZE_SKIPPED_NO_AGENT, "INFO: skipping guest filesystem freeze - agent configured but not running"),
    Row(LogEvent.FREEZE_SKIPPED_NO_AGENT, "INFO: skipping guest-agent 'fs-freeze', agent configured but not running"),
    Row(LogEvent.FREEZE_SKIPPED_OPTION, "INFO: skipping guest-agent 'fs-freeze', agent not configured in VM options"),
    Row(LogEvent.FREEZE_SKIPPED_OPTION, "INFO: skipping guest filesystem freeze - disabled in VM options"),
    Row(LogEvent.FREEZE_SKIPPED_OPTION, "INFO: skipping guest-agent 'fs-freeze', disabled in VM options"),
    Row(LogEvent.FREEZE_ISSUED, "INFO: issuing guest-agent 'fs-freeze' command"),
    # Printed without a level by PVE::QemuServer::Agent, and never in the guest's own log.
    Row(LogEvent.FREEZE_SLOW, "still waiting on guest fs freeze"),
    Row(LogEvent.THAW_ISSUED, "INFO: issuing guest-agent 'fs-thaw' command"),
    # since qemu-server 9.1.7; before, no line stands between the freeze and the thaw
    Row(LogEvent.BACKUP_STARTING, "INFO: starting backup via QMP command"),
    Row(LogEvent.BACKUP_STARTING, "INFO: setting up snapshot-access for backup"),
    Row(LogEvent.POINT_IN_TIME, STARTED),
    # A backup provider's point in time has no line of its own: the next one is about the guest's resumption.
    Row(LogEvent.POINT_IN_TIME, "INFO: resuming VM again"),
    Row(LogEvent.POINT_IN_TIME, "INFO: starting NBD server"),
    Row(LogEvent.NO_DISKS, "INFO: backup contains no disks"),
    Row(LogEvent.GUEST_ERROR, "INFO: aborting backup job"),
    Row(LogEvent.GUEST_DONE, "INFO: Finished Backup of VM "),
    Row(LogEvent.GUEST_DONE, "INFO: Failed at "),
    Row(LogEvent.GUEST_DONE, GUEST_START),
    Row(LogEvent.TASK_END, "TASK OK"),
    Row(LogEvent.TASK_END, "TASK ERROR"),
    Row(LogEvent.TASK_END, "TASK WARNINGS"),
    # How an agent says that it is frozen: before QEMU 9.1, and since (qga/main.c).
    Row(LogEvent.FREEZE_REFUSED_FROZEN, ERROR, ("unable to freeze guest fs", "in frozen state")),
    Row(LogEvent.FREEZE_REFUSED_FROZEN, ERROR, ("unable to freeze guest fs", "the command is not allowed")),
    Row(LogEvent.FREEZE_FAILED, ERROR, ("unable to freeze guest fs",)),
    Row(LogEvent.FREEZE_FAILED, ERROR, ("querying status after freezing guest fs failed",)),
    Row(LogEvent.FREEZE_FAILED, ERROR, ("'guest-fsfreeze-freeze' failed",)),
    Row(LogEvent.THAW_FAILED, ERROR, ("'guest-fsfreeze-thaw' failed",)),
    Row(LogEvent.GUEST_ERROR, ERROR),
)


def recognise(line: str) -> LogEvent | None:
    """The event in one line taken alone, or None. What it means in its place is LogReader's business."""
    for row in TABLE:
        if line.startswith(row.start) and all(word in line for word in row.words):
            return row.event
    return None


class LogReader:
    """Reads one guest's lines in their order: nothing before the guest's own start counts.

    A log that is read from its beginning, or again from its beginning, is no trouble therefore.
    """

    def __init__(self, vmid: int) -> None:
        self._start = f"{GUEST_START}{vmid} ("
        self.restart()

    def restart(self) -> None:
        """The log will be read again from its beginning."""
        self.begun = False
        self._stage: LogEvent | None = None
        self._before: LogEvent | None = None
        """The event of the line before, where that was an error."""

    def read(self, line: str) -> LogEvent | None:
        """The event in the next line, or None."""
        if line.startswith(self._start):
            self.restart()
            self.begun = True
            return LogEvent.GUEST_BEGUN
        event, before = (recognise(line) if self.begun else None), self._before
        if event is LogEvent.GUEST_ERROR and line.startswith(ERROR):
            # vzdump logs each line of an error by itself (PVE/VZDump.pm, debugmsg): what follows an agent's is its own.
            goes_on = before is LogEvent.THAW_FAILED and not line.startswith(QMP_ERROR)
            event = LogEvent.THAW_FAILED if goes_on else self._whose_error(line)
        elif event is LogEvent.POINT_IN_TIME and not line.startswith(STARTED):
            event = self._whose_resumption()
        if event in _STAGES:
            self._stage = event
        self._before = event if line.startswith(ERROR) else None
        return event

    def _whose_resumption(self) -> LogEvent | None:
        """The guest's resumption also ends a backup that failed before its QMP command."""
        if self._stage is LogEvent.POINT_IN_TIME:
            return None
        began = self._stage in (LogEvent.BACKUP_STARTING, LogEvent.THAW_ISSUED)
        return LogEvent.POINT_IN_TIME if began else LogEvent.GUEST_ERROR

    def _whose_error(self, line: str) -> LogEvent:
        """Between its freeze and its QMP command nothing but the freeze can fail (VZDump/QemuServer.pm, qga_fs_freeze).

        Behind its thaw the QMP command's own error is logged too: there only the agent's words are the thaw's.
        """
        if self._stage is LogEvent.FREEZE_ISSUED:
            frozen = "in frozen state" in line or "the command is not allowed" in line
            return LogEvent.FREEZE_REFUSED_FROZEN if frozen else LogEvent.FREEZE_FAILED
        if self._stage is LogEvent.THAW_ISSUED and line.startswith(f"{ERROR}Agent error: "):
            return LogEvent.THAW_FAILED
        return LogEvent.GUEST_ERROR


_STAGES = frozenset({LogEvent.FREEZE_ISSUED, LogEvent.BACKUP_STARTING, LogEvent.THAW_ISSUED, LogEvent.POINT_IN_TIME})
