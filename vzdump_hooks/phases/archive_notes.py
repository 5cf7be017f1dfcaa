"""Writes the verdict into the notes that PVE's storage keeps with a backup; the journal's notes are not meant.

An option: log-end loads this file, and what speaks to PVE, only where it is set.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from urllib.parse import quote

from snapshot.base.clock import SystemClock
from snapshot.config.settings import Config
from snapshot.errors import SafeSnapshotError
from snapshot.journal.record import WindowRecord
from snapshot.pve.access import open_access
from vzdump_hooks.call import Invocation
from vzdump_hooks.phases.backup_end import is_without_backup
from vzdump_hooks.phases.plan import windows_of_job
from vzdump_hooks.settings import load_config, open_journal
from vzdump_hooks.tasklog.worker import find_worker


def write_verdict(invocation: Invocation, config_path: str | None, say: Callable[[str], None]) -> None:
    """Append this backup's verdict to its notes. A failure is a warning. Raises ConfigError, JournalError."""
    config = load_config(config_path)
    volume = volume_of(invocation.store_id, invocation.target)
    if not config.hook.write_notes or volume is None or invocation.vmid is None:
        return
    worker = find_worker(config)
    with closing(open_journal(config)) as journal:
        window = next(iter(windows_of_job(journal, worker, invocation.vmid)), None)
    if window is None or window.verdict is None or is_without_backup(window):
        return
    try:
        _write(config, window, invocation.store_id, volume)
    except SafeSnapshotError as error:
        say(f"WARNING: the verdict could not be written into the backup's notes ({error})")


def volume_of(store_id: str, target: str) -> str | None:
    """The volume id of a backup (PVE/VZDump.pm, exec_backup_task); None when there is no storage, or no archive.

    ``target`` is a path where the archive is a file on the node, else the storage's own name for the backup.
    """
    name = target.rpartition("/")[2] if target.startswith("/") else target
    return f"{store_id}:backup/{name}" if store_id and name and target != "-" else None


def _write(config: Config, window: WindowRecord, store_id: str, volume: str) -> None:
    """Append to the notes through the storage API, which has no way to append."""
    api = open_access(config, SystemClock()).main
    path = f"nodes/{window.node}/storage/{quote(store_id, safe='')}/content/{quote(volume, safe='')}"
    answer = api.request("GET", path)
    old = str(answer.get("notes") or "") if isinstance(answer, dict) else ""
    line = f"vzdump-hooks: {window.verdict}: {window.reason}"
    api.request("PUT", path, {"notes": f"{old}\n{line}" if old else line})
