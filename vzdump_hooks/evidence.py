"""The verdict of a backup from the window's evidence and vzdump's own log. Pure.

The window's own proof (still frozen after the point in time, the count of the thaw) is the strongest. Where vzdump
thaws by itself the proof cannot come from a status afterwards, so it comes from the log's order, and only for windows
that are shorter than what any guest holds by itself, in which nobody was seen to thaw and no other window of ours was
open whose guard might have:

- PVE before 9.1.10, owner ``hook``: our freeze was acknowledged; vzdump then asked for one of its own all the same,
  which can only be refused *because the guest is frozen* (some versions log that, some do not) or succeed because
  somebody had thawed it; either way the guest was frozen, and vzdump thawed after its QMP command, without an error.
- owner ``vzdump``: vzdump's freeze had no error, the agent then said frozen to us (it says so only when at least one
  filesystem is), and vzdump thawed after its QMP command, without an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from snapshot.model import FreezeOutcome, Verdict, VerdictKind
from snapshot.window.verdict import Evidence, Proof, judge
from vzdump_hooks.wordings import LogEvent

SELF_THAW_SECONDS = 9.0
"""Windows lets go of its writes 10 s after a freeze (VSS): evidence from a log holds for no longer than this."""

WHOLE_BACKUP_START = (
    LogEvent.FREEZE_ISSUED,
    LogEvent.BACKUP_STARTING,
    LogEvent.THAW_ISSUED,
    LogEvent.POINT_IN_TIME,
)
"""Before 9.1.7 vzdump does not say that it is about to send its QMP command, only that it has returned."""


class LogEvidence(NamedTuple):
    """What vzdump's log said, in order, from the guest's start to the point in time."""

    events: tuple[LogEvent, ...] = ()

    def saw(self, *events: LogEvent) -> bool:
        """Whether any of ``events`` was logged."""
        return any(event in self.events for event in events)

    def in_order(self, *events: LogEvent) -> bool:
        """Whether all of ``events`` were logged, in this order."""
        rest: Iterable[LogEvent] = iter(self.events)
        return all(any(found is wanted for found in rest) for wanted in events)

    @property
    def is_whole(self) -> bool:
        """Whether vzdump froze, sent its QMP command and thawed, in this order."""
        says_so = self.saw(LogEvent.BACKUP_STARTING)
        return self.in_order(*(e for e in WHOLE_BACKUP_START if says_so or e is not LogEvent.BACKUP_STARTING))


class Seen(NamedTuple):
    """What the agent said to us while vzdump froze and thawed by itself."""

    frozen: bool = False
    """It said frozen between vzdump's freeze and vzdump's thaw."""
    thawed_early: bool = False
    """It said thawed when it had to be frozen, before vzdump asked for its thaw."""
    alone: bool = True
    """No other window of ours was open for this guest."""


def judge_hook(evidence: Evidence, log: LogEvidence, seen: Seen, held_seconds: float | None) -> Verdict:
    """The verdict where our hook froze. Without a line of the point in time there is none to judge."""
    plain = judge(evidence)
    freeze, thaw = evidence.freeze, evidence.thaw
    if freeze is None or freeze.outcome is not FreezeOutcome.ACKNOWLEDGED or evidence.broken_by:
        return plain
    if not log.saw(LogEvent.POINT_IN_TIME):
        return Verdict(VerdictKind.UNKNOWN, "vzdump's log does not show that its backup task was started")
    if plain.kind is VerdictKind.FILESYSTEM_CONSISTENT or not log.saw(LogEvent.FREEZE_ISSUED):
        return plain
    # Our thaw's count says nothing here: vzdump's own thaw may have come first.
    by_log = (
        log.is_whole
        and not log.saw(LogEvent.FREEZE_FAILED, LogEvent.THAW_FAILED)
        and thaw is not None
        and thaw.confirmed
        and not thaw.guest_gone
        and not thaw.hook_failed
        and seen.alone
        and not seen.thawed_early
        and held_seconds is not None
        and held_seconds < SELF_THAW_SECONDS
    )
    if by_log:
        return Verdict(
            VerdictKind.FILESYSTEM_CONSISTENT,
            f"{freeze.filesystems} filesystem{'s' if freeze.filesystems != 1 else ''} frozen; by vzdump's log it "
            "thawed the guest itself after the point in time (PVE before 9.1.10)",
        )
    return plain


def judge_watched(
    log: LogEvidence, seen: Seen, window_seconds: float | None, broken_by: str, thaw_confirmed: bool
) -> Verdict:
    """The verdict where vzdump froze by itself and we watched."""
    crash, unknown = VerdictKind.CRASH_CONSISTENT, VerdictKind.UNKNOWN
    for event, reason in _NOT_FROZEN:
        if log.saw(event):
            return Verdict(crash, reason)
    if broken_by:
        return Verdict(crash, broken_by)
    if not log.saw(LogEvent.FREEZE_ISSUED):
        return Verdict(crash, "vzdump did not freeze the guest")
    if log.saw(LogEvent.THAW_FAILED):
        return Verdict(unknown, "vzdump's thaw failed: see its log")
    if not log.is_whole:
        return Verdict(unknown, "vzdump's log does not show freeze, backup and thaw in their order")
    if seen.thawed_early:
        return Verdict(crash, "the guest was not frozen any more before vzdump's thaw: something else thawed it")
    if not seen.frozen:
        return Verdict(unknown, "vzdump logged a freeze, but the agent never said frozen to us")
    if not seen.alone:
        return Verdict(unknown, "another window of ours was open: its guard may have thawed the guest")
    if not thaw_confirmed:
        return Verdict(unknown, "vzdump logged a thaw, but the agent does not say thawed")
    if window_seconds is None or window_seconds >= SELF_THAW_SECONDS:
        return Verdict(unknown, "too long a freeze for a proof from vzdump's log alone")
    return Verdict(
        VerdictKind.FILESYSTEM_CONSISTENT,
        "vzdump froze and thawed without an error, and the agent said frozen in between",
    )


_NOT_FROZEN = (
    (LogEvent.FREEZE_SKIPPED_NO_AGENT, "vzdump found no running guest agent and did not freeze"),
    (LogEvent.FREEZE_SKIPPED_OPTION, "the agent, or freezing, is switched off in the guest's PVE options"),
    (LogEvent.FREEZE_SKIPPED_FROZEN, "vzdump found the guest frozen by somebody else: nothing is proven"),
    (LogEvent.FREEZE_FAILED, "vzdump could not freeze the guest: see its log"),
    (LogEvent.FREEZE_REFUSED_FROZEN, "vzdump found the guest frozen by somebody else: nothing is proven"),
)


def hook_word(proof: Proof, broken_by: str) -> str:
    """A fixed word for metrics: why a window that was frozen did not hold."""
    if "deadline" in broken_by:
        return "deadline"
    if "guard" in broken_by:
        return "guard-died"
    if broken_by:
        return "backup-failed"
    return {Proof.NOT_FROZEN: "thawed-early", Proof.NO_ANSWER: "no-proof"}.get(proof, "count-mismatch")


def watched_word(log: LogEvidence, broken_by: str) -> str:
    """A fixed word for metrics: why vzdump's own freeze proves nothing."""
    words = (
        (LogEvent.FREEZE_SKIPPED_NO_AGENT, "agent-not-running"),
        (LogEvent.FREEZE_SKIPPED_OPTION, "option-off"),
        (LogEvent.FREEZE_SKIPPED_FROZEN, "foreign-freeze"),
        (LogEvent.FREEZE_FAILED, "refused"),
        (LogEvent.FREEZE_REFUSED_FROZEN, "foreign-freeze"),
    )
    found = next((word for event, word in words if log.saw(event)), None)
    if found is not None:
        return found
    if "deadline" in broken_by:
        return "deadline"
    return "backup-failed" if broken_by else "no-proof"
