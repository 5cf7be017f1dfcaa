"""job-start, job-end, job-abort: the configuration's check, the sweeps, the job's last word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from snapshot.base.clock import SystemClock
from snapshot.base.text import counted
from snapshot.config.settings import Config
from snapshot.config.token import token
from snapshot.errors import ConfigError, SafeSnapshotError
from snapshot.journal import silences
from snapshot.journal.jobs import WorkersJob, job_ended, pings_file
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.metrics.publish import publish
from vzdump_hooks import trouble
from vzdump_hooks.call import Call, Phase, Say
from vzdump_hooks.phases import plan
from vzdump_hooks.phases.backup_end import has_failed, worth
from vzdump_hooks.phases.sweep import sweep
from vzdump_hooks.settings import Loaded, load, open_journal
from vzdump_hooks.tasklog.worker import Worker, find_worker


def run(call: Call) -> bool:
    """Never fails a job."""
    found = load(call.config_path)
    config, phase = found.config, call.invocation.phase
    worker = find_worker(config)
    if phase is Phase.JOB_START:
        trouble.broken(phase, found, call.say)
    with closing(open_journal(config)) as journal:
        if phase is Phase.JOB_START and not worker.is_self_test:
            _note_job(found, worker, journal, call.say)
        left_open = journal.open_windows()
        if phase is not Phase.JOB_START:
            newest = _newest(worker, journal)
            _summary(newest, call.say)
            try:
                _end(call, config, worker, journal, newest)
            except SafeSnapshotError as error:  # what was left open is more important
                call.say(f"WARNING: {error}")
        else:
            _check_credentials(config, call.say)
    if left_open:
        sweep(config, call)
    if phase is not Phase.JOB_START:
        _publish(config, call)
    return False


def _note_job(found: Loaded, worker: Worker, journal: Journal, say: Say) -> None:
    """A job whose guests are all skipped leaves no window, and is no job that went past us."""
    now = SystemClock().time()
    try:
        silences.note_job(journal, worker.pid, worker.start, now)
        silences.note_config(journal, found.problems, now)
    except SafeSnapshotError as error:
        say(f"WARNING: {error}")


def _check_credentials(config: Config, say: Say) -> None:
    """On a node everything works without the API's token, only slower: one that is meant to be used must not go unused
    without a word.
    """
    api = config.api
    try:
        if api.token_id or api.token_file.exists():
            token(config)
        if api.ca_file is not None and not api.ca_file.is_file():
            raise ConfigError(f"the CA file {api.ca_file} does not exist", remedy="see [api] ca_file")
    except ConfigError as error:
        say(f"WARNING: {error}; until then pvesh is used in place of the API, which is slower")


def _end(call: Call, config: Config, worker: Worker, journal: Journal, newest: Sequence[WindowRecord]) -> None:
    """Write down how the job ended, for the minute's recovery to tell, and forget what its phases left."""
    is_well = (
        call.invocation.phase is Phase.JOB_END
        and not plan.has_failed(journal, worker)
        and not any(has_failed(window) for window in newest)
    )
    job = WorkersJob(worker.pid, worker.start, worker.job)
    is_wanted = pings_file(config) is not None and not worker.is_self_test
    with journal.transaction("written") as db:
        plan.forget_job(db, worker)
        job_ended(db, job, SystemClock().time(), is_well=is_well, is_wanted=is_wanted)


def _newest(worker: Worker, journal: Journal) -> list[WindowRecord]:
    """The last window of each guest."""
    found: dict[int, WindowRecord] = {}
    for window in plan.windows_of_job(journal, worker):
        found.setdefault(window.vmid, window)
    return list(found.values())


def _summary(newest: Sequence[WindowRecord], say: Say) -> None:
    if newest:
        counts = Counter(worth(window) for window in newest)
        say(f"{counted(len(newest), 'guest')}: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())))


def _publish(config: Config, call: Call) -> None:
    say, path = call.say, Path(call.config_path) if call.config_path else None
    missing = silences.textfile_line(config)
    if missing:
        say(f"metrics: {missing}")
    for line in (*silences.folder_lines(config), *silences.config_lines(config, path)):
        say(f"WARNING: {line}")
    try:
        with closing(open_journal(config)) as journal:
            for problem in publish(config, journal, SystemClock()):
                say(f"metrics: {problem}")
    except SafeSnapshotError as error:
        say(f"metrics: {error}")
