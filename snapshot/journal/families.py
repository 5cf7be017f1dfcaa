"""The one table of metric families: source of the exposition, its help, docs/metrics.md and the dashboard.

Standard library only: the journal's transactions import the names. Labels never hold a snapshot's name, a UPID or free
text; the words of ``stage``, ``reason``, ``cause``, ``verdict`` and ``phase`` are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from snapshot.journal.family import GUEST_LABELS, Family, Kind
from snapshot.journal.labelfamilies import LABEL_FAMILIES
from snapshot.journal.record import Cause
from snapshot.model import AtRest, VerdictKind
from snapshot.words import Word

BUCKETS_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

DISK_WORDS = tuple(word.value for word in AtRest)
VERDICTS = tuple(kind.value for kind in VerdictKind)
CONSISTENT_VERDICTS = frozenset(kind.value for kind in VerdictKind if kind.is_consistent)

GUARD_CAUSES = tuple(cause.value for cause in Cause)

_REASONS: Mapping[str, tuple[Word, ...]] = {
    "preflight": (Word.AGENT, Word.AGENT_OPTION, Word.FREEZE_COMMANDS, Word.PRIVILEGES, Word.PROOF, Word.RUNNING),
    "freeze": (
        Word.REFUSED,
        Word.FAILED,
        Word.NOTHING_FROZEN,
        Word.UNKNOWN,
        Word.AGENT_NOT_RUNNING,
        Word.OPTION_OFF,
        Word.FOREIGN_FREEZE,
    ),
    "hold": (
        Word.REFUSED,
        Word.FOREIGN_FREEZE,
        Word.DEADLINE,
        Word.THAWED_EARLY,
        Word.NO_PROOF,
        Word.COUNT_MISMATCH,
        Word.REPLY_LOST,
        Word.BACKUP_FAILED,
        Word.GUARD_DIED,
        Word.OWNER_DIED,
        Word.OWNER_STOPPED,
        Word.INTERRUPTED,
    ),
    "snapshot": (Word.TASK, Word.BACKUP_FAILED),
    "disk": (Word.NOT_CLEAN,),
    "thaw": (Word.NO_ANSWER, Word.NOT_CONFIRMED),
    "guard": (Word.NOT_STARTED,),
}

FAILURES = tuple((stage, word.value) for stage, words in _REASONS.items() for word in words)
"""(stage, reason) pairs that our code knows. A guest has series for those that it has met; rarer pairs are possible."""

HOOK_PHASES = (
    *("job-init", "job-start", "job-end", "job-abort"),
    *("backup-start", "backup-end", "backup-abort", "log-end"),
    *("pre-stop", "pre-restart", "post-restart"),
)

_WORD = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")


def _per_guest(*more: str) -> tuple[str, ...]:
    return (*GUEST_LABELS, *more)


WINDOW = Family(
    "pve_fsfreeze_window_seconds",
    Kind.HISTOGRAM,
    "Freeze windows by their length, from the freeze request to the confirmed thaw",
    "How long guests stand still. A window that nobody could measure (its owner died) counts from its intent.",
)
LAST_WINDOW = Family(
    "pve_fsfreeze_last_window_seconds",
    Kind.GAUGE,
    "Length of the last freeze window",
    "Compare with `pve_fsfreeze_window_limit_seconds`.",
)
LAST_FREEZE = Family(
    "pve_fsfreeze_last_freeze_seconds",
    Kind.GAUGE,
    "Time the last freeze request took to be answered",
    "Long: the guest writes out many dirty pages, or its freeze hook is slow.",
)
LAST_THAW = Family(
    "pve_fsfreeze_last_thaw_seconds",
    Kind.GAUGE,
    "Time from the decision to thaw to the confirmed thaw of the last window",
    "Long: the thaw had to be repeated, see `pve_fsfreeze_thaw_retries_total`.",
)
MAX_WINDOW = Family(
    "pve_fsfreeze_max_window_seconds",
    Kind.GAUGE,
    "Longest freeze window on record",
    "The worst this guest has had, since the journal began or the guest was forgotten.",
)
WINDOW_LIMIT = Family(
    "pve_fsfreeze_window_limit_seconds",
    Kind.GAUGE,
    "How long the last freeze window was allowed to last",
    "The deadline that was in force: `max_window_seconds` of the configuration, or of the guest's own rule.",
)
ATTEMPTS = Family(
    "pve_fsfreeze_attempts_total",
    Kind.COUNTER,
    "Windows in which a freeze was sent",
    "The base of every failure rate.",
)
FAILURES_TOTAL = Family(
    "pve_fsfreeze_failures_total",
    Kind.COUNTER,
    "Windows that failed, by the stage and the reason of the failure",
    "A window counts once, with the first failure that was recorded for it. Only what a guest has met, from 0.",
    _per_guest("stage", "reason"),
)
THAW_RETRIES = Family(
    "pve_fsfreeze_thaw_retries_total",
    Kind.COUNTER,
    "Thaw requests after the first of a window",
    "Above 0: the first thaw was not acknowledged. Rising: the agent or the API is unreliable.",
)
GUARD_THAWS = Family(
    "pve_fsfreeze_guard_thaws_total",
    Kind.COUNTER,
    "Windows in which the guard had to thaw the guest, by the cause",
    "The process that froze the guest died, hung or was too slow: the guest was saved. Only causes it has met, from 0.",
    _per_guest("cause"),
)
LATE_FREEZES = Family(
    "pve_fsfreeze_late_freezes_total",
    Kind.COUNTER,
    "Freezes that the agent executed after everybody had given up waiting for them",
    "Each was thawed when it was seen. The agent was stopped, swapped out or starved.",
)
GUEST_FROZEN = Family(
    "pve_fsfreeze_guest_frozen",
    Kind.GAUGE,
    "1 while a window is open in which the guest may be frozen, else 0",
    "1 for seconds at most in a healthy window; for longer, the guest's writes are standing still.",
)
FROZEN_SINCE = Family(
    "pve_fsfreeze_frozen_since_timestamp_seconds",
    Kind.GAUGE,
    "Unix time since which the guest may be frozen; only present while it may be",
    "`time() - ...` is how long the guest has stood still.",
)
LAST_RUN = Family(
    "pve_fsfreeze_last_run_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the end of the last run, whatever became of it",
    "Old: no snapshot and no guarded backup has been made since.",
)
LAST_SUCCESS = Family(
    "pve_fsfreeze_last_success_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the end of the last run without a failure; 0: never",
    "A run that was not to freeze (policy `never`, a container) and did what it should is a success too.",
)
LAST_CONSISTENT = Family(
    "pve_fsfreeze_last_consistent_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the end of the last run with a consistent verdict; 0: never",
    "Consistent: application- or filesystem-consistent, offline or memory.",
)
LAST_VERDICT = Family(
    "pve_fsfreeze_last_verdict",
    Kind.GAUGE,
    "The verdict of the last run: 1 for the one it got, 0 for the others",
    "A state set: sum it by verdict to see the fleet.",
    _per_guest("verdict"),
)
LAST_DISK_WORD = Family(
    "pve_fsfreeze_last_disk_word",
    Kind.GAUGE,
    "What the disk in the last snapshot said of itself: 1 for the word it has, 0 for the others; absent: not asked",
    "`clean`, `not-clean` or `cannot-tell`: docs/verify.md. A verdict that it contradicts fails at stage `disk`.",
    _per_guest("word"),
)
LAST_FAILURE = Family(
    "pve_fsfreeze_last_failure",
    Kind.GAUGE,
    "1 with the stage and the reason for which the last run failed; absent when it did not fail",
    "What the alerts about the last run look at: it goes with the next good run.",
    _per_guest("stage", "reason"),
)
FILESYSTEMS = Family(
    "pve_fsfreeze_filesystems_frozen",
    Kind.GAUGE,
    "Filesystems that the last acknowledged freeze froze",
    "A sudden change: a mount appeared, went, or became read-only in the guest.",
)
AGENT_UP = Family(
    "pve_fsfreeze_agent_up",
    Kind.GAUGE,
    "Whether the guest agent answered when it was last asked",
    "Asked at the beginning of each run that may freeze. A 0 goes with a run that needs no agent: shut down, or never "
    "to be frozen.",
    ("id", "vmid", "node"),
)
HOOK_ERRORS = Family(
    "pve_fsfreeze_hook_errors_total",
    Kind.COUNTER,
    "Hook phases of vzdump that ended with an error of ours",
    "The backup went on unless the policy is `require`; the task log has the line.",
    ("node", "phase"),
)
_GUEST = ("id", "vmid", "node")

GUEST_INFO = Family(
    "pve_fsfreeze_guest_info",
    Kind.GAUGE,
    "Always 1, with the guest's name in Proxmox VE",
    "Where a number stands for the guest, this has its name; the alerts' texts take it from here.",
    (*_GUEST, "name"),
)
GUEST_RUNNING = Family(
    "pve_fsfreeze_guest_running",
    Kind.GAUGE,
    "1 for each guest that ran at the last look at this node, guarded or not",
    "What the alerts about silence begin with: a guest that no run comes to has these series all the same.",
    _GUEST,
)
GUEST_KNOWN = Family(
    "pve_fsfreeze_guest_state_known",
    Kind.GAUGE,
    "Whether the last look knew if a running guest is frozen or thawed",
    "0: its agent was not asked yet, does not answer, or may not be asked. A guest that writes is known to be thawed.",
    _GUEST,
)
NOT_KNOWN_SINCE = Family(
    "pve_fsfreeze_guest_not_known_since_timestamp_seconds",
    Kind.GAUGE,
    "Unix time since which a guest has written nothing and nobody could tell whether it is frozen; else absent",
    "`why` says what keeps the answer away.",
    (*_GUEST, "why"),
)
SEEN_SINCE = Family(
    "pve_fsfreeze_guest_seen_since_timestamp_seconds",
    Kind.GAUGE,
    "Unix time since which a running guest is known on this node",
    "From it on the guest has `pve_fsfreeze_run_limit_seconds` for its first guarded run.",
    _GUEST,
)
RUN_LIMIT = Family(
    "pve_fsfreeze_run_limit_seconds",
    Kind.GAUGE,
    "How old the last guarded run of a running guest may get; absent where none is expected",
    "`[metrics] run_limit_seconds`, or the guest's own rule; 0 there: none is expected.",
    _GUEST,
)
LAST_LOOK = Family(
    "pve_fsfreeze_last_look_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the last look at this node's guests",
    "It is due each minute; old: safe-snapshot-recover.timer does not run, and a freeze by others is not noticed.",
    ("node",),
)
LAST_UNHOOKED = Family(
    "pve_fsfreeze_last_unhooked_backup_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the end of the last vzdump task on this node that ran without vzdump-hook; absent without one",
    "`script:` was lost from vzdump.conf, a job has a script of its own, or the node is new.",
    ("node",),
)
CONFIG_BROKEN = Family(
    "pve_fsfreeze_config_broken",
    Kind.GAUGE,
    "1 while the configuration cannot be used as it is",
    "What can be read of it holds, defaults stand for the rest: limits, policies and rules may not be those you wrote.",
    ("node",),
)
BEGUN_ANEW = Family(
    "pve_fsfreeze_journal_begun_anew_timestamp_seconds",
    Kind.GAUGE,
    "Unix time at which a broken journal was set aside and a new one begun; absent without one",
    "What could be read was carried over; the broken file is kept beside the new one.",
    ("node",),
)
LAST_DRILL = Family(
    "pve_fsfreeze_last_drill_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the end of the last drill on this node; absent without one",
    "VzdumpHooksDrill fires on it, to show that alerts arrive; `kept`: whether every bound was. No other series moves.",
    ("node", "kept"),
)
BUILD_INFO = Family(
    "pve_fsfreeze_build_info",
    Kind.GAUGE,
    "Always 1, with the version of vzdump-hooks and of Python that wrote these metrics",
    "Its absence means that nothing is exported any more.",
    ("version", "python"),
)

FAMILIES = (
    WINDOW,
    LAST_WINDOW,
    LAST_FREEZE,
    LAST_THAW,
    MAX_WINDOW,
    WINDOW_LIMIT,
    ATTEMPTS,
    FAILURES_TOTAL,
    THAW_RETRIES,
    GUARD_THAWS,
    LATE_FREEZES,
    GUEST_FROZEN,
    FROZEN_SINCE,
    LAST_RUN,
    LAST_SUCCESS,
    LAST_CONSISTENT,
    LAST_VERDICT,
    LAST_DISK_WORD,
    LAST_FAILURE,
    FILESYSTEMS,
    AGENT_UP,
    HOOK_ERRORS,
    GUEST_INFO,
    GUEST_RUNNING,
    GUEST_KNOWN,
    NOT_KNOWN_SINCE,
    SEEN_SINCE,
    RUN_LIMIT,
    LAST_LOOK,
    LAST_UNHOOKED,
    CONFIG_BROKEN,
    BEGUN_ANEW,
    LAST_DRILL,
    *LABEL_FAMILIES,
    BUILD_INFO,
)


def word(text: str | None) -> str:
    """``text`` if it is a fixed word fit for a label, ``other`` for anything else, ``unspecified`` for nothing."""
    if not text:
        return "unspecified"
    return text if _WORD.match(text) else "other"
