"""What vzdump does to a guest of each kind: the ``PVE::VZDump::Plugin`` of QEMU guests and of containers.

Source: qemu-server ``PVE/VZDump/QemuServer.pm`` and pve-container ``PVE/VZDump/LXC.pm``. The order in which these are
called is tests.lab.vzdump.worker's.
"""

from __future__ import annotations

import io
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.node.qmp import agent_command
from tests.lab.vzdump.backup import DRIVE_NODE, BackupJob, OfflineCopy, size_text
from tests.lab.vzdump.errors import DEATHS, Die, Interrupted, die_on_signals
from tests.lab.vzdump.freeze import Freezer
from tests.lab.vzdump.guests import Guests
from tests.lab.vzdump.log import Logger
from tests.lab.vzdump.options import JobOptions
from tests.lab.vzdump.power import Verb, ask_power

PROVIDER_NAME = "Lab Provider"
_QMP_COMMAND_IS_SAID = (9, 1, 7)
"""Before, no line stood between the freeze and the thaw, and an error of the command had no words in front."""


@dataclass
class GuestTask:
    """One guest's part of a job: PVE's ``$task``. Empty strings are what PVE has not set."""

    vmid: int
    mode: str
    plugin: Plugin | None
    state: str = "todo"  # then ok or err
    message: str = ""
    vmtype: str = ""
    hostname: str = ""
    target: str = ""  # what the hook sees; the file itself for archives that are files
    logfile: str = ""
    tmplog: Path | None = None
    tmpdir: Path | None = None
    image: Path | None = None  # where the lab keeps the copy
    backup_time: int = 0
    stopped_at: float | None = None  # vmstoptime
    size: int = 0
    snapshot_count: int = 0

    def hook_variables(self) -> dict[str, str]:
        names = ("vmtype", "hostname", "target", "logfile")
        return {name.upper(): getattr(self, name) for name in names}


class Plugin:
    """The steps a guest of one kind knows. All may raise Die or be interrupted."""

    type: str
    extension: str

    def __init__(self, options: JobOptions, guests: Guests, logger: Logger) -> None:
        self.options = options
        self.guests = guests
        self.logger = logger

    def prepare(self, task: GuestTask, mode: str) -> None:
        """Read the configuration and log what will be backed up."""
        raise NotImplementedError

    def archive(self, task: GuestTask, part: Path) -> None:
        """Write the copy to ``part``."""
        raise NotImplementedError

    def suspend(self, task: GuestTask) -> None:
        raise NotImplementedError

    def resume(self, task: GuestTask) -> None:
        raise NotImplementedError

    def stop(self, task: GuestTask) -> None:
        self._power("shutdown", task.vmid)

    def start(self, task: GuestTask) -> None:
        self._power("start", task.vmid)

    def running(self, vmid: int) -> bool:
        return self.guests.running(vmid)

    def copy_data(self, task: GuestTask, which: str) -> None:
        """Containers in suspend mode only."""

    def snapshot(self, task: GuestTask) -> None:
        """Nothing for a QEMU guest: its point in time lies in the archive step."""

    def cleanup(self, task: GuestTask) -> None:
        """After the guest was unlocked, and before it is switched on again."""

    def _power(self, verb: Verb, vmid: int) -> None:
        raise NotImplementedError


class QemuPlugin(Plugin):
    """A QEMU guest: frozen, if at all, around the command that starts the backup job."""

    type = "qemu"
    extension = ".vma"  # the name only: the content is a qcow2 image, which oracles can read

    def __init__(self, options: JobOptions, guests: Guests, logger: Logger) -> None:
        super().__init__(options, guests, logger)
        self._was_running = False
        self._was_paused = False
        self._disks = 0

    def prepare(self, task: GuestTask, mode: str) -> None:
        vmid = task.vmid
        running = self.guests.running(vmid)
        if running and self._job(vmid).cancel_left_over():
            self.logger.message("warn", "left-over backup job still running inside QEMU - canceling now")
        found = self.guests.load(vmid)
        if found.name is not None:
            self.logger.info(f"VM Name: {found.name}")
        self._was_running = running
        self._was_paused = running and self._qmp(vmid, "query-status")["status"] == "paused"
        task.hostname = found.name or ""
        self._disks = len(found.disks)
        for key, volume in found.disks.items():
            self.logger.info(f"include disk '{key}' '{volume}'")

    def suspend(self, task: GuestTask) -> None:
        if not self._was_paused:
            self.logger.before_fork()  # `qm suspend`
            self._qmp(task.vmid, "stop")

    def resume(self, task: GuestTask) -> None:
        if not self._was_paused:
            self.logger.before_fork()  # `qm resume`
            self._qmp(task.vmid, "cont")

    def archive(self, task: GuestTask, part: Path) -> None:
        if self._provider:
            self.logger.info(f"starting external backup via {PROVIDER_NAME}")
        elif not self._disks:
            self.logger.info("backup contains no disks")
            self.logger.info("starting diskless backup")
            part.touch()
            return
        die_on_signals()
        copy: BackupJob | OfflineCopy | None = None
        try:
            if self.running(task.vmid):
                self._was_running = True
                copy = self._job(task.vmid, part)
            else:
                self.logger.info("starting kvm to execute backup task")
                copy = OfflineCopy(self.options, self.guests.run_folder(task.vmid), task.vmid, part)
            if self._provider:
                self.logger.info("using backup mechanism 'file-handle'")
            copy.attach()
            self._start(task, copy)
            if self._provider:
                self.logger.info("starting NBD server")
                self.logger.info(f"adding NBD export for {DRIVE_NODE}")
            task.size = copy.follow(self.logger)
        except DEATHS as error:
            self.logger.error(str(error))
            if copy is not None and not self._provider:
                self._cancel(copy)
            self._resume_after_start(task)
            raise
        finally:
            if not self._was_running:
                self.logger.info("stopping kvm after backup task")

    def _start(self, task: GuestTask, copy: BackupJob | OfflineCopy) -> None:
        """The window: freeze, the command that starts the job, thaw, whatever became of it."""
        limits = self.options.limits
        if self.options.compress and self.options.writes_files:
            self.logger.before_fork()  # the compressor
        freezer = Freezer(
            lambda command, limit: self._ask_agent(task.vmid, command, limit),
            self.logger,
            limits,
            self.options.version,
            self.options.term_in_freeze,
        )
        may_freeze = task.mode != "stop" and self._was_running and not self._was_paused
        thaw_again = may_freeze and freezer.freeze(self.guests.load(task.vmid).agent)
        if self._provider:
            self.logger.info("setting up snapshot-access for backup")
        elif self.options.version >= _QMP_COMMAND_IS_SAID:
            self.logger.info("starting backup via QMP command")
        failure: Exception | None = None
        try:
            copy.start(limits.start_file if self.options.writes_files else limits.start_pbs)
        except DEATHS as error:
            failure = error
        if thaw_again:
            freezer.thaw()
        if failure is not None:
            raise self._start_failure(task.vmid, failure)
        if not self._provider:
            self.logger.info(f"started backup task '{copy.uuid}'")
        self._resume_after_start(task)

    def _start_failure(self, vmid: int, error: Exception) -> Exception:
        """PVE's words for it. Since 9.1.7 a signal loses its own text with a file: that job goes on."""
        if self.options.writes_files and self.options.version >= _QMP_COMMAND_IS_SAID:
            return Die(f"executing QMP command to start backup failed - {error}")
        if isinstance(error, Interrupted) or self.options.writes_files:
            return error
        command = "backup-access-setup" if self._provider else "backup"
        return Die(f"VM {vmid} qmp command '{command}' failed - {error}")

    def _cancel(self, copy: BackupJob | OfflineCopy) -> None:
        self.logger.info("aborting backup job")
        try:
            copy.cancel()
        except DEATHS as error:
            self.logger.error(str(error))

    def _resume_after_start(self, task: GuestTask) -> None:
        """resume_vm_after_job_start: in every mode, also for a guest that was never paused."""
        if not self._was_running or self._was_paused:
            return
        if task.stopped_at is None:
            self.logger.info("resuming VM again")
        else:
            self.logger.info(f"resuming VM again after {int(time.time() - task.stopped_at)} seconds")
            task.stopped_at = None
        if self.running(task.vmid):
            self._qmp(task.vmid, "cont")
        else:
            self.start(task)

    def _power(self, verb: Verb, vmid: int) -> None:
        self.logger.before_fork()  # `qm shutdown`, `qm start`
        if self.options.power_socket is not None:
            ask_power(self.options.power_socket, verb, vmid)
        else:
            self._qmp(vmid, "stop" if verb == "shutdown" else "cont")

    @property
    def _provider(self) -> bool:
        return self.options.storage_kind == "provider"

    def _job(self, vmid: int, target: Path | None = None) -> BackupJob:
        return BackupJob(self.options, self.guests.run_folder(vmid), vmid, target or Path())

    def _qmp(self, vmid: int, command: str) -> Any:
        return self._job(vmid).qmp(command)

    def _ask_agent(self, vmid: int, command: str, limit: float) -> Any:
        if not self.running(vmid):
            raise Die(f"VM {vmid} not running")
        path = self.guests.run_folder(vmid) / f"{vmid}.qga"
        if not path.exists():
            raise Die("unable to open monitor socket")
        return agent_command(vmid, path, command, timeout=limit)


class LxcPlugin(Plugin):
    """A container: frozen by the kernel's cgroup and snapshotted by its storage, without any agent."""

    type = "lxc"
    extension = ".tar"

    def __init__(self, options: JobOptions, guests: Guests, logger: Logger) -> None:
        super().__init__(options, guests, logger)
        self._stopped: set[int] = set()
        self._snapshotted = False

    def running(self, vmid: int) -> bool:
        return vmid not in self._stopped and super().running(vmid)

    def prepare(self, task: GuestTask, mode: str) -> None:
        found = self.guests.load(task.vmid)
        if found.name is not None:
            self.logger.info(f"CT Name: {found.name}")
        task.hostname = found.name or f"CT{task.vmid}"
        self.logger.info("including mount point rootfs ('/') in backup")
        if mode == "snapshot":
            if not found.storage_snapshots:
                raise Die("mode failure - some volumes do not support snapshots")
            task.snapshot_count = 1

    def snapshot(self, task: GuestTask) -> None:
        self.logger.info("create storage snapshot 'vzdump'")
        self.guests.unlock(task.vmid)
        self.guests.lock(task.vmid)
        self._snapshotted = True

    def copy_data(self, task: GuestTask, which: str) -> None:
        """rsync of a running (``first``) and of a suspended (``final``) container."""
        self.logger.before_fork()
        self.logger.info(f"starting {which} sync /proc/{task.vmid}/root/ to {task.tmpdir}")
        self.logger.info(f"{which} sync finished - transferred 1.00K bytes in 1s")

    def suspend(self, task: GuestTask) -> None:
        """The kernel's freezer: nothing of it can be seen in the logs."""

    def resume(self, task: GuestTask) -> None:
        """The kernel's freezer again."""

    def archive(self, task: GuestTask, part: Path) -> None:
        self.logger.before_fork()  # tar, or proxmox-backup-client
        time.sleep(self.options.archive_seconds)
        if self.options.fail_backup:
            raise Die("command 'tar' failed: exit code 2")
        content = f"arch: amd64\nhostname: {task.hostname}\n".encode("utf-8", "surrogateescape")
        entry = tarfile.TarInfo("./etc/vzdump/pct.conf")
        entry.size = len(content)
        with tarfile.open(part, "w") as archive:
            archive.addfile(entry, io.BytesIO(content))
        task.size = part.stat().st_size
        self.logger.info(f"Total bytes written: {task.size} ({size_text(task.size)}, 1.0MiB/s)")

    def cleanup(self, task: GuestTask) -> None:
        if self._snapshotted:
            self.logger.info("cleanup temporary 'vzdump' snapshot")
            self._snapshotted = False

    def _power(self, verb: Verb, vmid: int) -> None:
        if verb == "shutdown":
            self._stopped.add(vmid)
        else:
            self._stopped.discard(vmid)
