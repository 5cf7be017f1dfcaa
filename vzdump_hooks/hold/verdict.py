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

Even so it is the log's word and the agent's, and the verdict says so: whoever thaws inside the guest, behind the
agent's back, in a window that short is not seen (RESTS_ON).
"""

from __future__ import annotations

from typing import NamedTuple

from snapshot.base.text import counted
from snapshot.model import FreezeOutcome, Verdict, VerdictKind
from snapshot.window.verdict import Evidence, judge
from snapshot.words import Word
from vzdump_hooks.tasklog.follow import LogEvidence
from vzdump_hooks.tasklog.wordings import LogEvent

SELF_THAW_SECONDS = 9.0
"""Windows lets go of its writes 10 s after a freeze (VSS): evidence from a log holds for no longer than this."""

RESTS_ON = "by its log and the agent's word (a thaw from inside the guest would not show)"
"""The agent's status is its memory, and vzdump takes the thaw's count: `fsfreeze --unfreeze` or SysRq j inside the
guest leave no trace that we could see in time."""


class Seen(NamedTuple):
    """What the agent said to us while vzdump froze and thawed by itself."""

    frozen: bool = False
    """It said frozen between vzdump's freeze and vzdump's thaw."""
    thawed_early: bool = False
    """It said thawed when it had to be frozen, before vzdump asked for its thaw."""
    alone: bool = True
    """No other window of ours was open for this guest."""
    found_frozen: bool = False
    """It said frozen before vzdump asked for its freeze: somebody else's."""
    nothing_to_freeze: bool = False
    """A freeze of ours right before vzdump's froze no filesystem."""
    answered: bool = False
    """It answered at all, where there was no log to follow."""


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
            f"{counted(freeze.filesystems, 'filesystem')} frozen, and thawed by vzdump "
            f"after the point in time, {RESTS_ON}",
        )
    return plain


def asked_in_vain(log: LogEvidence) -> str:
    """Why a guest frozen at the knock may not have been so at vzdump's point in time; "" when it was.

    A ping of vzdump's that is ended by a TERM is taken for an agent that is not there (PVE::QemuServer::Agent,
    qga_check_running: its eval swallows the signal), and the knock may have been another's. So vzdump must have found
    the guest frozen, or, before qemu-server 9.1.10, have had its own freeze answered, which waits behind ours.
    """
    if log.saw(LogEvent.FREEZE_SKIPPED_FROZEN):
        return ""
    if log.saw(LogEvent.FREEZE_ISSUED) and not log.saw(LogEvent.FREEZE_FAILED):
        return ""
    said = "went on without its agent" if log.saw(LogEvent.FREEZE_SKIPPED_NO_AGENT) else "does not say it found it so"
    todo = "back it up again, and should that come back, set at_the_knock = false for this guest"
    return f"the guest was frozen, but perhaps not before the point in time: vzdump {said}; {todo}"


def judge_watched(
    log: LogEvidence, seen: Seen, window_seconds: float | None, broken_by: str, thaw_confirmed: bool
) -> Verdict:
    """The verdict where vzdump froze by itself and we watched."""
    if log.saw(LogEvent.NO_DISKS):
        return NO_DISKS
    not_frozen = next((reason for event, reason in _NOT_FROZEN if log.saw(event)), "")
    was_nothing = not seen.frozen and (seen.nothing_to_freeze or seen.thawed_early)
    too_long = window_seconds is None or window_seconds >= SELF_THAW_SECONDS
    crash, unknown = VerdictKind.CRASH_CONSISTENT, VerdictKind.UNKNOWN
    doubts = (
        (bool(not_frozen), crash, not_frozen),
        (bool(broken_by), crash, broken_by),
        (not log.saw(LogEvent.FREEZE_ISSUED), crash, "vzdump did not freeze the guest"),
        (seen.found_frozen, crash, "somebody else had frozen the guest before vzdump did: nothing is proven"),
        (log.saw(LogEvent.THAW_FAILED), unknown, "vzdump's thaw failed: see its log"),
        (not log.is_whole, unknown, "vzdump's log does not show freeze, backup and thaw in their order"),
        (was_nothing, crash, "vzdump's freeze froze no filesystem: the agent did not say frozen after it"),
        (seen.thawed_early, crash, "the guest was not frozen any more before vzdump's thaw: something else thawed it"),
        (not seen.frozen, unknown, "vzdump logged a freeze, but the agent never said frozen to us"),
        (not seen.alone, unknown, "another window of ours was open: its guard may have thawed the guest"),
        (not thaw_confirmed, unknown, "vzdump logged a thaw, but the agent does not say thawed"),
        (too_long, unknown, "too long a freeze for a proof from vzdump's log alone"),
    )
    found = next((Verdict(kind, reason) for applies, kind, reason in doubts if applies), None)
    return found or Verdict(
        VerdictKind.FILESYSTEM_CONSISTENT,
        f"vzdump froze and thawed around the point in time, {RESTS_ON}",
    )


def judge_unheard(seen: Seen, broken_by: str, thaw_confirmed: bool) -> Verdict:
    """The verdict where vzdump's log could not be followed: nothing tells when the point in time was."""
    crash, unknown = VerdictKind.CRASH_CONSISTENT, VerdictKind.UNKNOWN
    if broken_by:
        return Verdict(crash, broken_by)
    if seen.found_frozen:
        return Verdict(crash, "the guest was found frozen by somebody else: nothing is proven")
    if not thaw_confirmed:
        return Verdict(unknown, "vzdump's log could not be followed, and the agent does not say thawed")
    if seen.frozen:
        return Verdict(
            unknown, "vzdump's log could not be followed: the guest was frozen, but when it was saved is not known"
        )
    silent = "was never seen frozen" if seen.answered else "did not answer"
    return Verdict(unknown, f"vzdump's log could not be followed, and the agent {silent}")


NO_DISKS = Verdict(VerdictKind.CRASH_CONSISTENT, "the backup contains no disks: there is nothing to be consistent")

_NOT_FROZEN = (
    (LogEvent.FREEZE_SKIPPED_NO_AGENT, "vzdump found no running guest agent and did not freeze"),
    (LogEvent.FREEZE_SKIPPED_OPTION, "the agent, or freezing, is switched off in the guest's PVE options"),
    (LogEvent.FREEZE_SKIPPED_FROZEN, "vzdump found the guest frozen by somebody else: nothing is proven"),
    (LogEvent.FREEZE_FAILED, "vzdump could not freeze the guest: see its log"),
    (LogEvent.FREEZE_REFUSED_FROZEN, "vzdump found the guest frozen by somebody else: nothing is proven"),
)


def watched_word(log: LogEvidence, broken: Word | None) -> Word:
    """Why vzdump's own freeze proves nothing, for the journal."""
    words = (
        (LogEvent.FREEZE_SKIPPED_NO_AGENT, Word.AGENT_NOT_RUNNING),
        (LogEvent.FREEZE_SKIPPED_OPTION, Word.OPTION_OFF),
        (LogEvent.FREEZE_SKIPPED_FROZEN, Word.FOREIGN_FREEZE),
        (LogEvent.FREEZE_FAILED, Word.REFUSED),
        (LogEvent.FREEZE_REFUSED_FROZEN, Word.FOREIGN_FREEZE),
    )
    found = next((word for event, word in words if log.saw(event)), None)
    return found or broken or Word.NO_PROOF
