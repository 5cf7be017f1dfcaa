"""vzdump itself: the order of phases, locks, logs and failures of one job.

Source: pve-manager ``PVE/VZDump.pm`` (new, getlock, run_hook_script, exec_backup_task, exec_backup), followed step by
step, so that a method here can be read beside the one it is named after. What PVE's ``eval`` catches is caught here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.vzdump.command import check_script, hook_environment, run_command
from tests.lab.vzdump.errors import DEATHS, Die, Interrupted, die_on_signals
from tests.lab.vzdump.guests import Guests
from tests.lab.vzdump.log import Logger, PerlFile
from tests.lab.vzdump.options import JobOptions
from tests.lab.vzdump.plugins import PROVIDER_NAME, GuestTask, LxcPlugin, Plugin, QemuPlugin

INTERRUPTED = "interrupted by signal"
_LOCK_POLL_SECONDS = 0.02
_ARCHIVE_NAMES = {"file": "vzdump", "dumpdir": "vzdump", "pbs": "Proxmox Backup Server", "provider": PROVIDER_NAME}


class Vzdump:
    """One job, inside its worker."""

    def __init__(self, options: JobOptions, logger: Logger) -> None:
        self.options = options
        self.logger = logger
        self.guests = Guests(options)
        self.plugins: dict[str, Plugin] = {
            plugin.type: plugin(options, self.guests, logger) for plugin in (QemuPlugin, LxcPlugin)
        }
        self.tasks: list[GuestTask] = []
        # Of a storage, PVE learns the folder only after job-init.
        self._dump = self.guests.dump_folder()
        self._dumpdir = str(self._dump) if options.storage_kind == "dumpdir" else ""

    def run(self, upid: str) -> None:
        """The worker's work from its start to its end. Raises Die or Interrupted: the task's error."""
        die_on_signals()
        try:
            self._new()
            with self._locked(upid):
                self._exec_backup()
        finally:
            results_path(self.options.root, upid).write_text(self._results())

    # -- new, getlock --------------------------------------------------------------------------------------------------

    def _new(self) -> None:
        (self.options.root / "var/log/vzdump").mkdir(parents=True, exist_ok=True)
        errors = []
        try:
            self._run_hook("job-init")
        except DEATHS as error:
            errors.append(str(error))
        if self.options.writes_files:
            self._dump.mkdir(parents=True, exist_ok=True)
            self._dumpdir = str(self._dump)
        if errors:
            raise Die("\n".join(errors))

    @contextlib.contextmanager
    def _locked(self, upid: str) -> Iterator[None]:
        """The node-wide lock: one job at a time, its name in vzdump.pid."""
        folder = self.options.root / "var/run"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "vzdump.lock").open("a") as lock:
            try:
                self._wait_for_lock(lock.fileno())
            except DEATHS as error:
                text = f"can't acquire lock '/var/run/vzdump.lock' - {error}"
                self.logger.error(text)
                os._exit(255)  # PVE's worker exits here without a last word: the task's status is unexpected
            scratch = folder / f"vzdump.pid.tmp.{os.getpid()}"
            scratch.write_text(upid)
            scratch.rename(folder / "vzdump.pid")
            yield
            (folder / "vzdump.pid").unlink()  # only after a job without errors

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + self.options.lockwait_seconds
        waited = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    self.logger.info("trying to get global lock - waiting...")
                waited = True
                if time.monotonic() >= deadline:
                    raise Die("got timeout") from None
                time.sleep(_LOCK_POLL_SECONDS)
            else:
                if waited:
                    self.logger.info("got global lock")
                return

    # -- run_hook_script -----------------------------------------------------------------------------------------------

    def _run_hook(self, phase: str, task: GuestTask | None = None, *, guest_log: bool = True) -> None:
        script = self.options.script
        if script is None:
            return
        check_script(script)
        variables = {"STOREID": self.options.storage, "DUMPDIR": self._dumpdir}
        command = [script, phase]
        if task is not None:
            command += [task.mode, str(task.vmid)]
            variables |= task.hook_variables()
        self.logger.before_fork()
        run_command(
            command,
            hook_environment(variables),
            lambda line: self.logger.message("info", line, guest_too=guest_log),
        )

    # -- exec_backup ---------------------------------------------------------------------------------------------------

    def _exec_backup(self) -> None:
        self.logger.task_only(f"starting new backup job: {self._command_line()}")
        if elsewhere := self.guests.on_other_nodes():
            self.logger.task_only(f"skip external VMs: {', '.join(map(str, elsewhere))}")
        for vmid in sorted(v for v in self.options.vmids if v not in elsewhere):
            kind = self.guests.kind(vmid)
            self.tasks.append(GuestTask(vmid, self.options.mode, self.plugins[kind] if kind else None))
        failure: Exception | None = None
        try:
            self._run_hook("job-start")
            for task in self.tasks:
                self._exec_backup_task(task)
            self._run_hook("job-end")
        except DEATHS as error:
            failure = error
        if failure is not None:
            text = str(failure)
            try:
                self._run_hook("job-abort")
            except DEATHS as error:
                text += f"\n{error}"
            self.logger.error(f"Backup job failed - {text}")
            raise Die(text)
        failed = any(task.state != "ok" for task in self.tasks)
        self.logger.info(f"Backup job finished {'with errors' if failed else 'successfully'}")
        if failed:
            raise Die("job errors")

    def _command_line(self) -> str:
        words = ["vzdump", *map(str, sorted(self.options.vmids)), "--mode", self.options.mode]
        words += ["--script", self.options.script] if self.options.script else []
        words += ["--storage", self.options.storage] if self.options.storage else ["--dumpdir", self._dumpdir]
        return shlex.join(words)

    # -- exec_backup_task ----------------------------------------------------------------------------------------------

    def _exec_backup_task(self, task: GuestTask) -> None:
        task.backup_time = int(time.time())
        cleanup = _Cleanup()
        failure: Exception | None = None
        try:
            self._back_up(task, cleanup)
        except DEATHS as error:
            failure = error
        if task.plugin is not None:
            self._clean_up(task, task.plugin, cleanup)
        if task.image is not None:
            _temporary(task.image).unlink(missing_ok=True)
        if task.tmpdir is not None:
            shutil.rmtree(task.tmpdir, ignore_errors=True)
        if failure is not None:
            task.state, task.message = "err", str(failure)
            self.logger.error(f"Backup of VM {task.vmid} failed - {failure}")
            self.logger.task_only(f"Failed at {_now()}")
            with self._only_warns():
                self._run_hook("backup-abort", task)
        else:
            task.state = "ok"
            elapsed = time.strftime("%H:%M:%S", time.gmtime(time.time() - task.backup_time))
            self.logger.info(f"Finished Backup of VM {task.vmid} ({elapsed})")
            self.logger.task_only(f"Backup finished at {_now()}")
        self.logger.close_guest_log()
        if task.tmplog is not None and task.logfile:
            shutil.copyfile(task.tmplog, task.logfile)
        with self._only_warns():
            self._run_hook("log-end", task)
        if failure is not None and str(failure) == INTERRUPTED:
            raise Interrupted(INTERRUPTED)

    def _back_up(self, task: GuestTask, cleanup: _Cleanup) -> None:
        plugin = task.plugin
        if plugin is None:
            raise Die(f"unable to find VM '{task.vmid}'")
        task.tmplog = self._name_files(task, plugin)
        self.logger.guest_log = PerlFile(task.tmplog)
        if task.logfile:
            Path(task.logfile).unlink(missing_ok=True)
        self.logger.info(f"Starting Backup of VM {task.vmid} ({plugin.type})")
        self.logger.task_only(f"Backup started at {_now()}")
        running = plugin.running(task.vmid)
        self.logger.info(f"status = {'running' if running else 'stopped'}")
        self.guests.lock(task.vmid)
        cleanup.unlock = True
        mode = task.mode if running else "stop"
        if mode == "snapshot":
            try:
                plugin.prepare(task, mode)
            except DEATHS as error:
                if not str(error).startswith("mode failure"):
                    raise
                self.logger.info(str(error))
                self.logger.info("trying 'suspend' mode instead")
                mode = "suspend"
        cleanup.prepared = True
        task.mode = mode
        self.logger.info(f"backup mode: {mode}")
        self.logger.info("ionice priority: 7")
        {"stop": self._stop, "suspend": self._suspend, "snapshot": self._snapshot}[mode](task, plugin, cleanup, running)
        assert task.image is not None
        self.logger.info(f"creating {_ARCHIVE_NAMES[self.options.storage_kind]} archive '{task.target}'")
        part = _temporary(task.image)
        plugin.archive(task, part)
        part.rename(task.image)
        if self.options.writes_files:
            task.size = task.image.stat().st_size
            self.logger.info(f"archive file size: {_format_size(task.size)}")
        self._run_hook("backup-end", task)

    def _name_files(self, task: GuestTask, plugin: Plugin) -> Path:
        """Fill in the archive's names; returns the guest's log."""
        options = self.options
        task.vmtype = plugin.type
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.localtime(task.backup_time))
        base = f"vzdump-{plugin.type}-{task.vmid}-{stamp}"
        if options.writes_files:
            compressed = ".zst" if options.compress else ""
            task.logfile = str(self._dump / f"{base}.log")
            task.image = self._dump / f"{base}{plugin.extension}{compressed}"
            task.target = str(task.image)
            task.tmpdir = self._dump / f"{base}.tmp"
        else:
            group = f"{'vm' if plugin.type == 'qemu' else 'ct'}/{task.vmid}"
            task.target = f"{group}/{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(task.backup_time))}"
            task.image = options.root / "remote" / options.storage / f"{task.target}{plugin.extension}"
            task.image.parent.mkdir(parents=True, exist_ok=True)
            task.tmpdir = options.root / "var/tmp" / f"vzdumptmp{os.getpid()}_{task.vmid}"
        shutil.rmtree(task.tmpdir, ignore_errors=True)
        task.tmpdir.mkdir(parents=True)
        return options.root / f"var/log/vzdump/{plugin.type}-{task.vmid}.log"

    def _stop(self, task: GuestTask, plugin: Plugin, cleanup: _Cleanup, running: bool) -> None:
        plugin.prepare(task, "stop")
        self._run_hook("backup-start", task)
        if running:
            self.logger.info("stopping virtual guest")
            task.stopped_at = time.time()
            self._run_hook("pre-stop", task)
            plugin.stop(task)
            cleanup.restart = True

    def _suspend(self, task: GuestTask, plugin: Plugin, cleanup: _Cleanup, _running: bool) -> None:
        plugin.prepare(task, "suspend")
        self._run_hook("backup-start", task)
        plugin.copy_data(task, "first")
        self.logger.info("suspending guest")
        task.stopped_at = time.time()
        self._run_hook("pre-stop", task)
        plugin.suspend(task)
        cleanup.resume = True
        if plugin.type == "lxc":
            plugin.copy_data(task, "final")
            self.logger.info("resuming guest")
            cleanup.resume = False
            self._run_hook("pre-restart", task)
            plugin.resume(task)
            self._run_hook("post-restart", task)
            self._log_online_again(task)

    def _snapshot(self, task: GuestTask, plugin: Plugin, cleanup: _Cleanup, _running: bool) -> None:
        self._run_hook("backup-start", task)
        self._run_hook("pre-stop", task)
        if task.snapshot_count > 1:
            self.logger.info("suspend vm to make snapshot")
            task.stopped_at = time.time()
            plugin.suspend(task)
            cleanup.resume = True
        plugin.snapshot(task)
        self._run_hook("pre-restart", task)
        if task.snapshot_count > 1:
            self.logger.info("resume vm")
            cleanup.resume = False
            plugin.resume(task)
            self._log_online_again(task)
        self._run_hook("post-restart", task)

    def _clean_up(self, task: GuestTask, plugin: Plugin, cleanup: _Cleanup) -> None:
        if cleanup.unlock:
            with self._only_says():
                self.guests.unlock(task.vmid)
        if cleanup.prepared:
            with self._only_says():
                plugin.cleanup(task)
        if not (cleanup.resume or cleanup.restart):
            return
        with self._only_says():
            self._run_hook("pre-restart", task)
            if cleanup.resume:
                self.logger.info("resume vm")
                plugin.resume(task)
            elif not plugin.running(task.vmid):
                self.logger.info("restarting vm")
                plugin.start(task)
            self._run_hook("post-restart", task)
            self._log_online_again(task)

    def _log_online_again(self, task: GuestTask) -> None:
        if task.stopped_at is not None:
            seconds = int(time.time() - task.stopped_at)
            self.logger.info(f"guest is online again after {seconds or '<1'} seconds")

    def _results(self) -> str:
        return json.dumps(
            [
                {
                    "vmid": task.vmid,
                    "state": task.state,
                    "message": task.message,
                    "mode": task.mode,
                    "target": task.target,
                    "image": str(task.image) if task.image is not None and task.image.exists() else None,
                    "log": str(task.tmplog) if task.tmplog is not None else None,
                }
                for task in self.tasks
            ]
        )

    @contextlib.contextmanager
    def _only_warns(self) -> Iterator[None]:
        """A failure becomes a warning, and the task ends `TASK WARNINGS`."""
        try:
            yield
        except DEATHS as error:
            self.logger.message("warn", str(error), guest_too=False)

    @contextlib.contextmanager
    def _only_says(self) -> Iterator[None]:
        """A failure is printed as Perl's `warn` does: no prefix, nothing counted."""
        try:
            yield
        except DEATHS as error:
            self.logger.raw(f"{error}\n")


class _Cleanup:
    """What has to be undone when the backup of a guest ends."""

    def __init__(self) -> None:
        self.unlock = self.prepared = self.resume = self.restart = False


def results_path(root: Path, upid: str) -> Path:
    """Where a worker that came to its end leaves what became of each guest: a JSON list."""
    return root / "lab" / f"vzdump-{upid}.json"


def _temporary(image: Path) -> Path:
    """Where the copy is written before it gets its name."""
    return image.with_suffix(".dat")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _format_size(size: int) -> str:
    """format_size of PVE/VZDump.pm."""
    if size < 1024 * 1024:
        return f"{size // 1024}KB"
    if size < 1024**3:
        return f"{size // 1024**2}MB"
    return f"{size / 1024**3:.2f}GB"
