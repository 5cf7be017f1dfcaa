"""What the journal and the task index tell: what happened, and what should have and did not. Reads only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config
from snapshot.errors import JournalError
from snapshot.journal import outbox, silences
from snapshot.journal.file import is_absent
from snapshot.journal.living import is_manned
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import WindowRecord
from snapshot.journal.silence import Silence
from snapshot.journal.silences import JOB_NOTE
from snapshot.journal.store import Journal
from snapshot.recovery.overdue import needs_help

NIGHTS_SECONDS = 3 * 86400.0
"""How far back backups that ran without us are looked for; of longer than KEPT_SECONDS nothing is known."""

MOST_TASKS = 50


class Past(NamedTuple):
    """What is known of before."""

    absent: bool = True
    """There is no journal yet."""
    error: JournalError | None = None
    silences: tuple[Silence, ...] = ()
    letters: tuple[str, ...] = ()
    """Lines about ways on which nobody could be told."""
    in_need: tuple[WindowRecord, ...] = ()
    manned: Mapping[int, WindowRecord] = {}
    """By vmid: windows that a living process of ours has in hand."""
    last_runs: Mapping[str, float] = {}
    """When the last guarded run of each guest ended, by its id."""
    looks: Mapping[str, GuestLook] = {}
    unhooked: tuple[tuple[str, float], ...] = ()
    """Backup tasks of the last nights in which our hook was not called, and when they ended; the newest last."""
    is_writable: bool | None = None
    """Whether the journal's folder can be written to; None: not there yet."""
    free_bytes: int | None = None
    has_textfile_folder: bool = True
    """Whether the metrics' folder is there."""
    textfile_at: float | None = None
    """When the metrics were last written."""


def look(config: Config, now: float, me: ProcessIdentity) -> Past:
    """Everything. Never raises."""
    path = config.journal.path
    textfile = config.metrics.textfile
    past = _folder(path)._replace(
        textfile_at=_written_at(textfile), has_textfile_folder=textfile is None or textfile.parent.is_dir()
    )
    try:
        if is_absent(path):
            return past
        with closing(Journal(path, read_only=True, mends=False, say=lambda line: None)) as journal:
            windows = journal.open_windows()
            return past._replace(
                absent=False,
                manned={w.vmid: w for w in windows if is_manned(w, me)},
                silences=tuple(silences.found_silent(journal, config, now)),
                letters=tuple(outbox.lines(journal, now)),
                in_need=tuple(w for w in windows if needs_help(w, config, now, me)),
                last_runs=silences.last_runs(journal),
                looks=journal.looks(),
                unhooked=_unhooked(journal, config, now),
            )
    except (ValueError, TypeError) as error:  # an odd value, which nothing of ours has written
        odd = JournalError(f"the journal holds what makes no sense: {error}", remedy="`safe-snapshot history` shows it")
        return past._replace(absent=False, error=odd)
    except JournalError as error:
        return past._replace(absent=False, error=error)


def _unhooked(journal: Journal, config: Config, now: float) -> tuple[tuple[str, float], ...]:
    if not config.metrics.run_limit_seconds:
        return ()
    ended = [pair for pair in silences.ended_backups(config.local.task_folder) if now - NIGHTS_SECONDS < pair[1] <= now]
    return tuple(
        (upid.text, at)
        for upid, at in ended[-MOST_TASKS:]
        if journal.note(f"{JOB_NOTE}{upid.pid}:{upid.pstart}") is None
    )


def _folder(path: Path) -> Past:
    folder = path.parent
    try:
        found = os.statvfs(folder)
    except OSError:
        return Past()
    return Past(is_writable=can_write(folder), free_bytes=found.f_bavail * found.f_frsize)


def can_write(folder: Path) -> bool:
    """Whether this process can; root cannot either where the file system is mounted read-only."""
    return os.access(folder, os.W_OK)


def _written_at(path: Path | None) -> float | None:
    try:
        return path.stat().st_mtime if path is not None else None
    except OSError:
        return None
