"""The copy itself: a real backup job in the guest's QEMU, started like PVE's and followed to its end.

PVE's QEMU has a QMP command ``backup``; a plain QEMU has ``blockdev-backup``, whose point in time lies inside the
``transaction`` that starts it. The target is attached before, so that only the start stands between freeze and thaw.
The disk of a guest that is off is copied with qemu-img.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.node.errors import Die
from tests.lab.node.qmp import qmp_command
from tests.lab.packages import tool
from tests.lab.vzdump.log import Logger
from tests.lab.vzdump.options import JobOptions

DRIVE_NODE = "drive0"
_QCOW2_MAGIC = b"QFI\xfb"
_NAMES = "vzdump-"  # what our jobs and nodes in QEMU are called, so that a killed driver's are found again
_FAILED_START = "backup connect failed: command error: http request failed: 503 Service Unavailable"
_FAILED_COPY = "job failed with err -5 - Input/output error"


class BackupJob:
    """One backup of one guest's disk to ``target``. ``uuid`` is what PVE prints as the backup task."""

    def __init__(self, options: JobOptions, run: Path, vmid: int, target: Path) -> None:
        self._options = options
        self._socket = run / f"{vmid}.qmp2"
        self._vmid = vmid
        self._target = target
        self.uuid = str(uuid.uuid4())
        self._job = f"{_NAMES}{self.uuid[:8]}"
        self._node = f"{self._job}-target"
        self._began = 0.0

    def qmp(self, command: str, arguments: dict[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """A QMP command over a connection of its own, with PVE's limit. Raises Die."""
        limit = self._options.limits.other if timeout is None else timeout
        return qmp_command(self._vmid, self._socket, command, arguments, timeout=limit)

    def cancel_left_over(self) -> bool:
        """End what a killed driver left in QEMU; tells whether a job was still running."""
        running = False
        for job in self.qmp("query-jobs"):
            if job["id"].startswith(_NAMES):
                running = running or job["status"] != "concluded"
                self._end(job["id"])
        for node in self.qmp("query-named-block-nodes", {"flat": True}):
            if node["node-name"].startswith(_NAMES):
                self.qmp("blockdev-del", {"node-name": node["node-name"]})
        return running

    def attach(self) -> None:
        """Make the target and give it to QEMU: before the freeze."""
        nodes = {node["node-name"]: node for node in self.qmp("query-named-block-nodes", {"flat": True})}
        if image := nodes[DRIVE_NODE].get("image"):  # a scripted guest's disk has no image
            _qemu_img("create", "-q", "-f", "qcow2", str(self._target), str(image["virtual-size"]))
        file = {"driver": "file", "filename": str(self._target)}
        self.qmp("blockdev-add", {"driver": "qcow2", "node-name": self._node, "file": file})

    def start(self, limit: float) -> None:
        """The command whose return PVE waits for with the guest frozen. Raises Die with QEMU's words alone."""
        delay = self._options.backup_delay
        if delay >= limit:
            time.sleep(limit)
            raise Die("got timeout")
        time.sleep(delay)
        if self._options.fail_backup == "start":
            raise Die(_FAILED_START)
        action = {
            "job-id": self._job,
            "device": DRIVE_NODE,
            "target": self._node,
            "sync": "full",
            "auto-dismiss": False,
        }
        try:
            self.qmp("transaction", {"actions": [{"type": "blockdev-backup", "data": action}]}, timeout=limit - delay)
        except Die as error:
            raise Die(str(error).partition(" failed - ")[2] or str(error)) from None
        self._began = time.monotonic()

    def follow(self, logger: Logger) -> int:
        """Wait for the end with PVE's progress lines; returns the number of bytes. Raises Die when it failed."""
        progress = _Progress(logger)
        done = total = 0
        while True:
            jobs = [job for job in self.qmp("query-jobs", timeout=self._options.limits.cancel) if self._is_ours(job)]
            if self._options.fail_backup == "copy":
                raise Die(_FAILED_COPY)
            if jobs:
                done, total = jobs[0]["current-progress"], jobs[0]["total-progress"]
            # A scripted guest's jobs are gone when they have ended.
            ended = not jobs or jobs[0]["status"] == "concluded"
            if ended and time.monotonic() - self._began >= self._options.archive_seconds:
                if jobs and "error" in jobs[0]:
                    raise Die(str(jobs[0]["error"]))
                progress.end(total, total)
                self.detach()
                return int(total)
            progress.look(done, total)
            time.sleep(self._options.limits.poll)

    def cancel(self) -> None:
        """backup-cancel: end the job, however far it came. Raises Die."""
        for job in self.qmp("query-jobs"):
            if self._is_ours(job):
                self._end(job["id"])
        self.detach()

    def detach(self) -> None:
        """Take the finished job and the target out of QEMU."""
        for job in self.qmp("query-jobs"):
            if self._is_ours(job) and job["status"] == "concluded":
                self.qmp("job-dismiss", {"id": job["id"]})
        with contextlib.suppress(Die):  # it may never have been attached
            self.qmp("blockdev-del", {"node-name": self._node})

    def _is_ours(self, job: dict[str, Any]) -> bool:
        return bool(job["id"] == self._job)

    def _end(self, job_id: str) -> None:
        with contextlib.suppress(Die):  # concluded meanwhile
            self.qmp("job-cancel", {"id": job_id}, timeout=self._options.limits.cancel)
        deadline = time.monotonic() + self._options.limits.cancel
        while time.monotonic() < deadline:
            left = [job for job in self.qmp("query-jobs") if job["id"] == job_id]
            if not left:
                return
            if left[0]["status"] == "concluded":
                self.qmp("job-dismiss", {"id": job_id})
                return
            time.sleep(0.01)


class OfflineCopy:
    """A backup of a guest that is off. PVE starts a paused QEMU for it; the lab copies the file."""

    def __init__(self, options: JobOptions, run: Path, vmid: int, target: Path) -> None:
        self._options = options
        self._source = run / f"{vmid}.qcow2"
        self._target = target
        self.uuid = str(uuid.uuid4())

    def attach(self) -> None:
        """Nothing: there is no QEMU to attach the target to."""

    def cancel(self) -> None:
        """Nothing: the copy is made in one go."""

    def start(self, limit: float) -> None:
        """Raises Die with QEMU's words alone, as BackupJob does."""
        time.sleep(min(self._options.backup_delay, limit))
        if self._options.backup_delay >= limit:
            raise Die("got timeout")
        if self._options.fail_backup == "start":
            raise Die(_FAILED_START)
        if _is_qcow2(self._source):
            _qemu_img("convert", "-f", "qcow2", "-O", "qcow2", str(self._source), str(self._target))
        else:
            shutil.copyfile(self._source, self._target)

    def follow(self, logger: Logger) -> int:
        time.sleep(self._options.archive_seconds)
        if self._options.fail_backup == "copy":
            raise Die(_FAILED_COPY)
        size = self._target.stat().st_size
        _Progress(logger).end(size, size)
        return size


class _Progress:
    """The lines of query_backup_status_loop: at most one every three seconds, and one at the end."""

    def __init__(self, logger: Logger, now: Callable[[], float] = time.time) -> None:
        self._logger = logger
        self._now = now
        self._start = self._last_time = int(now())
        self._last_percent = -1
        self._last_done = 0

    def look(self, done: int, total: int) -> None:
        now = int(self._now())
        percent = done * 100 // total if total else 100
        if percent != self._last_percent and now - self._last_time > 2:
            self._say(percent, done, total, now)
            self._last_percent, self._last_time, self._last_done = percent, now, done

    def end(self, done: int, total: int) -> None:
        now = int(self._now())
        if self._last_percent < 100:
            self._say(100, done, total, now)
        if not done:
            return
        if seconds := now - self._start:
            self._logger.info(f"transferred {size_text(done)} in {seconds} seconds ({_speed(done, seconds)})")
        else:
            self._logger.info(f"transferred {size_text(done)} in <1 seconds")

    def _say(self, percent: int, done: int, total: int, now: int) -> None:
        speed = _speed(done - self._last_done, (now - self._last_time) or 1)
        sizes = f"{size_text(done, 1)} of {size_text(total, 1)}"
        self._logger.info(f"{percent:3d}% ({sizes}) in {_duration(now - self._start)}, read: {speed}, write: {speed}")


def size_text(count: float, digits: int = 2) -> str:
    """render_bytes of pve-common's PVE/Format.pm."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = 0
    while count > 1023 and power < len(units) - 1:
        count /= 1024
        power += 1
    return f"{count:.{digits}f} {units[power]}"


def _speed(count: int, seconds: int) -> str:
    return f"{size_text(count // seconds, 1)}/s" if count > 0 else "0 B/s"


def _duration(seconds: int) -> str:
    """render_duration of pve-common's PVE/Format.pm, for what fits in a day."""
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return " ".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def _is_qcow2(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_QCOW2_MAGIC)) == _QCOW2_MAGIC


def _qemu_img(*arguments: str) -> None:
    done = subprocess.run([tool("qemu-img"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Die(f"qemu-img {arguments[0]} failed: {done.stderr.strip()}")
