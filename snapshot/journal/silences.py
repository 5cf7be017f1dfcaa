"""What should have happened and did not: the facts behind metrics, alerts and lines of `status`.

What did not happen leaves no record: a guest that no run comes to, a backup that ran without our hook, a configuration
that cannot be read. So the journal is compared with what PVE says is there. Standard library only.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base import files
from snapshot.base.clock import iso
from snapshot.base.text import named
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.errors import JournalError
from snapshot.journal import families, outbox
from snapshot.journal.broken import BEGUN_ANEW_NOTE
from snapshot.journal.file import GUARDS_FOLDER
from snapshot.journal.labelruns import label_silences
from snapshot.journal.looks import GuestLook, Why
from snapshot.journal.record import printable
from snapshot.journal.silence import Silence
from snapshot.journal.store import Journal
from snapshot.model import Upid

CONFIG_NOTE = "config-broken"
UNHOOKED_NOTE = "unhooked-backup"
TASKS_NOTE = "tasks-seen-until"
JOB_NOTE = "job:"
BEGUN = "begun"
"""What a job's note says while it runs; jobs.py says what, when it has ended."""

KEPT_SECONDS = 8 * 86400.0
"""How long it is remembered that a job had our hook: no backup takes longer."""

EVENT_SECONDS = 86400.0
"""How long an event stays a line in `status`."""

SETTLED_SECONDS = 2.0

NOT_KNOWN_SECONDS = 1800.0
"""How long a guest that writes nothing may stay one of which nobody knows whether it is frozen."""

LOOK_SECONDS = 900.0
"""How old the last look at the guests may get: it is due each minute."""


_NO_SILENCE = frozenset({Why.NOT_ASKED.value, Why.AGENT_OFF.value, "our-window"})
"""Not known, and nothing to say about: its turn will come, nobody can freeze it, or somebody sees to it."""

_FINISHED = ("OK", "WARNINGS", "job errors")
"""How a task ends that came to its guests: one that failed before may have had no chance to call the hook."""


class UnhookedBackup(NamedTuple):
    """A vzdump task that ended without our hook having been called."""

    upid: str
    ended_at: float


def not_known_since(look: GuestLook) -> float | None:
    """Since when nobody knows whether a guest that writes nothing is frozen; None where that is no silence."""
    if not look.running or look.state or look.why in _NO_SILENCE:
        return None
    return look.still_since_at


def run_limit_seconds(look: GuestLook, config: Config) -> float:
    """How old the guest's last guarded run may get; 0: none is expected."""
    if look.run_limit_seconds is not None:
        return look.run_limit_seconds
    return config.for_guest(look.vmid).run_limit_seconds  # rules by tag and pool need PVE's word


def note_config(journal: Journal, problems: Sequence[str], now: float) -> None:
    """Note in the journal what is wrong with the configuration, or that nothing is. JournalError."""
    text = printable(problems[0])[:300] if problems else ""
    if text:
        journal.set_note(CONFIG_NOTE, text, now)
    elif journal.note(CONFIG_NOTE) is not None:
        journal.drop_notes(CONFIG_NOTE)


def note_job(journal: Journal, pid: int, start: int, now: float) -> None:
    """Our hook was called in the job of this vzdump worker, whether or not one of its guests leaves a window."""
    journal.set_note(f"{JOB_NOTE}{pid}:{start}", BEGUN, now)
    journal.drop_notes(f"{JOB_NOTE}*", before_at=now - KEPT_SECONDS)


def keep_watch(journal: Journal, config: Config, problems: Sequence[str], now: float) -> list[str]:
    """The part of the minute's recovery that looks for silences. Lines about what it has just found. JournalError."""
    note_config(journal, problems, now)
    return [_unhooked_line(backup) for backup in look_at_tasks(journal, config, now)]


def look_at_tasks(journal: Journal, config: Config, now: float) -> list[UnhookedBackup]:
    """vzdump tasks of this node that have ended since the last look, and in which our hook was not called.

    The newest one is remembered for metrics and `status`. The first look finds none: what was before us is not ours.
    Nothing is looked for where no backup is expected to be guarded ([metrics] run_limit_seconds = 0). JournalError.
    """
    if not config.metrics.run_limit_seconds:
        return []
    until = now - SETTLED_SECONDS  # a second has room for more than one end
    seen_until = _number(journal.note(TASKS_NOTE))
    if seen_until is None or seen_until > now:  # the first look, or a clock that went back
        journal.set_note(TASKS_NOTE, repr(until), now)
        return []
    ended = [(upid, at) for upid, at in ended_backups(config.local.task_folder) if seen_until < at <= until]
    found = [
        UnhookedBackup(upid.text, at)
        for upid, at in ended
        if journal.note(f"{JOB_NOTE}{upid.pid}:{upid.pstart}") is None
    ]
    if found:
        journal.set_note(UNHOOKED_NOTE, json.dumps(found[-1]), found[-1].ended_at)
    if ended:
        journal.set_note(TASKS_NOTE, repr(max(at for _, at in ended)), now)
    return found


def ended_backups(task_folder: Path) -> Iterator[tuple[Upid, float]]:
    """vzdump tasks of this node and when they ended, oldest first, from PVE's archive index (PVE::RESTEnvironment,
    active_workers: `<upid> <end, 8 hex digits> <status>`).
    """
    for name in ("index.1", "index"):
        try:
            lines = (task_folder / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if ":vzdump:" not in line:
                continue
            text, _, rest = line.partition(" ")
            end, _, status = rest.partition(" ")
            try:
                upid, ended_at = Upid.parse(text), float(int(end, 16))
            except ValueError:
                continue
            if upid.kind == "vzdump" and status.startswith(_FINISHED):
                yield upid, ended_at


def last_unhooked(journal: Journal) -> UnhookedBackup | None:
    """The newest vzdump task in which our hook was not called."""
    try:
        upid, ended_at = json.loads(journal.note(UNHOOKED_NOTE) or "")
        return UnhookedBackup(str(upid), float(ended_at))
    except (ValueError, TypeError):
        return None


def begun_anew_at(journal: Journal) -> float | None:
    """When this journal was begun in place of a broken one."""
    return _number(journal.note(BEGUN_ANEW_NOTE))


def textfile_line(config: Config) -> str:
    """What to say where nobody would hear of an alarm, for the metrics' folder is not there; "" where it is."""
    path = config.metrics.textfile
    if path is None or config.metrics.pushgateway is not None or path.parent.is_dir():
        return ""
    return (
        f"no metrics are written, so no alert can come: there is no folder {path.parent}; install "
        'prometheus-node-exporter, or set [metrics] textfile (textfile = "" where metrics are not wanted)'
    )


def folder_lines(config: Config, me: int | None = None) -> list[str]:
    """What to say where strangers may change what root relies on; at most a line for the journal, and one for the
    metrics. ``me`` is the user that this process runs as.

    The journal says which freezes are ours, and a guard's claim lies beside it; the folders above count, for who may
    rename one of them puts another in its place.
    """
    me = os.geteuid() if me is None else me
    folder = config.journal.path.absolute().parent
    own = (folder, config.journal.path.absolute(), folder / GUARDS_FOLDER)
    above = dict.fromkeys((*folder.parents, *Path(os.path.realpath(folder)).parents))
    lines = [_strangers_line(own, above, me, "replace the journal, and with it what is known of frozen guests")]
    path = config.metrics.textfile
    if path is not None and not _is_a_services(path.parent):
        lines.append(_strangers_line((path.absolute().parent,), (), me, "replace the metrics, and silence the alerts"))
    return [line for line in lines if line]


def config_lines(config: Config, path: Path | None, me: int | None = None) -> list[str]:
    """What to say, in a line at most, where strangers may change the configuration at ``path`` (None: the usual place),
    which names the programs that root runs, or the one of them that it chooses.
    """
    me = os.geteuid() if me is None else me
    own = [(path or DEFAULT_PATH).absolute(), *([config.notify.sendmail] if config.notify.mail_to else [])]
    above = dict.fromkeys(way for one in own for way in (*one.parents, *Path(os.path.realpath(one)).parents))
    line = _strangers_line(own, above, me, "choose the programs that we run", "keep it elsewhere")
    return [line] if line else []


def _is_a_services(folder: Path) -> bool:
    """Whether a service's account owns the folder (Debian gives people uids from 1000): it is the exporter's, who tells
    the metrics anyway, and nobody else may write there.
    """
    try:
        found = folder.stat()
    except OSError:
        return True  # textfile_line speaks of one that is missing
    return 0 < found.st_uid < 1000 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _strangers_line(
    own: Sequence[Path],
    above: Iterable[Path],
    me: int,
    harm: str,
    elsewhere: str = "choose another folder ([journal] path)",
) -> str:
    found: list[str] = []
    steps: list[str] = []
    for path in (*own, *above):
        why = files.stranger_at(path, me)
        if not why:
            continue
        found.append(f"{path} {why}")
        name = shlex.quote(str(path))
        if not why.startswith("belongs"):
            steps.append(f"chmod go-w {name}")
        elif path in own:
            steps.append(f"chown {me or 'root'} {name} && chmod go-w {name}")
    if not found:
        return ""
    move = f"`{' && '.join(steps)}`" if steps else elsewhere
    return printable(f"{', '.join(found)}: whoever that is may {harm}; {move} mends it")


def silences(journal: Journal, config: Config, now: float) -> list[str]:
    """A line for each silence, and for each way on which nobody could be told of them. JournalError."""
    return [*(silence.line for silence in found_silent(journal, config, now)), *outbox.lines(journal, now)]


def found_silent(journal: Journal, config: Config, now: float) -> Iterator[Silence]:
    """Each silence. JournalError."""
    broken = journal.note(CONFIG_NOTE)
    if broken:
        yield Silence("config-broken", f"the configuration cannot be used as it is: {printable(broken)}")
    metrics = textfile_line(config)
    if metrics:
        yield Silence("metrics", metrics)
    anew = begun_anew_at(journal)
    if anew is not None and now - anew < EVENT_SECONDS:
        line = f"the journal was broken and was begun anew at {iso(anew)}: the old one is kept beside it"
        yield Silence(f"journal-begun-anew:{anew:.0f}", line, anew, has_end=False)
    unhooked = last_unhooked(journal)
    if unhooked is not None and now - unhooked.ended_at < EVENT_SECONDS:
        key = f"backup-without-hook:{printable(unhooked.upid)}"
        yield Silence(key, _unhooked_line(unhooked), unhooked.ended_at, has_end=False)
    looks = journal.looks()
    newest = max((look.seen_at for look in looks.values()), default=None)
    if newest is not None and now - newest > LOOK_SECONDS:
        line = (
            f"nobody has looked at this node's guests since {iso(newest)}: see `systemctl status "
            "safe-snapshot-recover.timer`"
        )
        yield Silence("look-old", line, newest)
    runs = last_runs(journal)
    for look in looks.values():
        yield from _of_guest(look, runs.get(look.id), config, now)
    yield from label_silences(journal, looks, now)


def _unhooked_line(backup: UnhookedBackup) -> str:
    return (
        f"the backup job {printable(backup.upid)} ran without vzdump-hook: its guests were not guarded; look at "
        "`script:` in /etc/vzdump.conf on this node, and at the job's own"
    )


def last_runs(journal: Journal) -> dict[str, float]:
    """When the last guarded run of each guest ended, by its id, wherever the guest was and whoever ran it."""
    found: dict[str, float] = {}
    for row in journal.series():
        if row.name == families.LAST_RUN.name:
            found[row.id] = max(row.value, found.get(row.id, 0.0))
    return found


def _of_guest(look: GuestLook, last_run: float | None, config: Config, now: float) -> Iterator[Silence]:
    guest = f"guest {named(look.vmid, look.name)} on {look.node}"
    limit = run_limit_seconds(look, config)
    if look.running and limit > 0:
        setting = "[[guest]] run_limit_seconds says how long that may be, 0: none is expected"
        if last_run is not None and now - last_run > limit:
            line = f"{guest}: its last guarded backup or snapshot is {_hours(now - last_run)} old; {setting}"
            yield Silence(f"last-run-old:{look.id}", line, last_run, look)
        elif last_run is None and now - (look.first_seen_at or now) > limit:
            line = f"{guest} runs here and has never had a guarded backup or snapshot; {setting}"
            yield Silence(f"never-guarded:{look.id}", line, look.first_seen_at, look)
    since = not_known_since(look)
    if since is not None and now - since > NOT_KNOWN_SECONDS:
        line = f"{guest}: nobody knows whether it is frozen ({look.why}); it has written nothing since {iso(since)}"
        yield Silence(f"guest-not-known:{look.id}", line, since, look)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e11 else None


def told_by(path: Path, config: Config, now: float) -> list[str]:
    """`folder_lines`, and `silences` of the journal at ``path``; what keeps it from being read is said elsewhere."""
    strangers = folder_lines(config)
    if not path.exists():
        return [*strangers, *filter(None, [textfile_line(config)])]
    try:
        journal = Journal(path, read_only=True)
    except JournalError:
        return strangers
    try:
        return [*strangers, *silences(journal, config, now)]
    except JournalError:
        return strangers
    finally:
        journal.close()
