"""The verdict of a backup, over every combination of evidence: never better than what the evidence carries."""

from __future__ import annotations

import itertools

import pytest

from snapshot.model import FreezeOutcome, FreezeReply, ThawReport, VerdictKind
from snapshot.window.verdict import Evidence, Proof, broken_word
from snapshot.words import Word
from vzdump_hooks.hold.verdict import RESTS_ON, Seen, judge_hook, judge_watched, watched_word
from vzdump_hooks.tasklog.follow import LogEvidence
from vzdump_hooks.tasklog.wordings import LogEvent

E = LogEvent
ACKNOWLEDGED = FreezeReply(FreezeOutcome.ACKNOWLEDGED, filesystems=2)
FREEZES = (
    None,
    ACKNOWLEDGED,
    *(FreezeReply(outcome) for outcome in FreezeOutcome if outcome is not FreezeOutcome.ACKNOWLEDGED),
)
GOOD_THAW = ThawReport(confirmed=True, attempts=1, filesystems=2)
THAWS = (
    None,
    GOOD_THAW,
    *(ThawReport(confirmed=True, attempts=1, filesystems=count) for count in (None, 0, 1, 3)),
    ThawReport(confirmed=False, attempts=9, filesystems=2),
    ThawReport(confirmed=True, attempts=1, filesystems=2, guest_gone=True),
    ThawReport(confirmed=True, attempts=1, hook_failed=True),
    ThawReport(confirmed=True, attempts=2, filesystems=0, thaw_replies_lost=1),
)
SKIPPED = (E.FREEZE_SKIPPED_FROZEN, E.BACKUP_STARTING, E.POINT_IN_TIME)
WHOLE = (E.FREEZE_ISSUED, E.BACKUP_STARTING, E.THAW_ISSUED, E.POINT_IN_TIME)
UNSAID = (E.FREEZE_ISSUED, E.THAW_ISSUED, E.POINT_IN_TIME)
"""Before 9.1.7 the QMP command is not said."""
LOGS = (
    (),
    UNSAID,
    UNSAID[:2],
    (E.FREEZE_ISSUED, E.FREEZE_FAILED, *UNSAID[1:]),
    (*UNSAID[:2], E.THAW_FAILED, E.POINT_IN_TIME),
    (E.THAW_ISSUED, E.FREEZE_ISSUED, E.POINT_IN_TIME),
    (E.FREEZE_SKIPPED_OPTION, E.POINT_IN_TIME),
    SKIPPED,
    SKIPPED[:2],
    WHOLE,
    WHOLE[:2],
    WHOLE[:3],
    (E.FREEZE_ISSUED, E.FREEZE_REFUSED_FROZEN, *WHOLE[1:]),
    (E.FREEZE_ISSUED, E.FREEZE_FAILED, *WHOLE[1:]),
    (*WHOLE[:3], E.THAW_FAILED, E.POINT_IN_TIME),
    (*WHOLE[:3], E.GUEST_ERROR),
    (E.BACKUP_STARTING, E.FREEZE_ISSUED, E.THAW_ISSUED, E.POINT_IN_TIME),
    (E.FREEZE_ISSUED, E.THAW_ISSUED, E.BACKUP_STARTING, E.POINT_IN_TIME),
    (E.THAW_ISSUED, E.FREEZE_ISSUED, E.BACKUP_STARTING, E.POINT_IN_TIME),
    (E.POINT_IN_TIME, *WHOLE[:3]),
    (E.FREEZE_SKIPPED_NO_AGENT, E.BACKUP_STARTING, E.POINT_IN_TIME),
    (E.FREEZE_SKIPPED_OPTION, E.BACKUP_STARTING, E.POINT_IN_TIME),
    (E.NO_DISKS,),
)
SEEN = tuple(Seen(*flags) for flags in itertools.product((False, True), repeat=3))
SECONDS = (None, 0.1, 8.99, 9.0, 40.0)
BROKEN = ("", "the deadline of 30 s passed before the point in time")


def has_log_order(log: LogEvidence) -> bool:
    in_order = log.in_order(*WHOLE) or (log.in_order(*UNSAID) and not log.saw(E.BACKUP_STARTING))
    return in_order and not log.saw(E.FREEZE_FAILED, E.THAW_FAILED)


def test_a_window_of_ours_is_good_only_with_the_whole_proof() -> None:
    good = 0
    cases = itertools.product(FREEZES, Proof, THAWS, BROKEN, LOGS, SEEN, SECONDS)
    for freeze, proof, thaw, broken_by, events, seen, held in cases:
        log = LogEvidence(events)
        evidence = Evidence(freeze=freeze, proof=proof, thaw=thaw, broken_by=broken_by)
        verdict = judge_hook(evidence, log, seen, held)
        assert verdict.reason
        proven = proof is Proof.STILL_FROZEN and thaw is not None and (thaw.filesystems or 0) >= 2
        by_log = has_log_order(log) and seen.alone and not seen.thawed_early and held in (0.1, 8.99)
        by_log = by_log and thaw is not None and not thaw.hook_failed
        may_be_good = (
            freeze is ACKNOWLEDGED
            and thaw is not None
            and thaw.confirmed
            and not thaw.guest_gone
            and not broken_by
            and log.saw(E.POINT_IN_TIME)
            and (proven or by_log)
        )
        is_good = verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT
        assert is_good == may_be_good, (evidence, events, seen, held, verdict)
        good += is_good
    assert good > 100


def test_a_window_of_vzdumps_is_good_only_when_it_was_seen_frozen_and_thawed_in_order() -> None:
    good = 0
    for events, seen, seconds, broken_by, thawed in itertools.product(LOGS, SEEN, SECONDS, BROKEN, (False, True)):
        log = LogEvidence(events)
        verdict = judge_watched(log, seen, seconds, broken_by, thawed)
        assert verdict.reason
        may_be_good = (
            has_log_order(log)
            and not log.saw(E.FREEZE_REFUSED_FROZEN)
            and seen == Seen(frozen=True, thawed_early=False, alone=True)
            and seconds in (0.1, 8.99)
            and not broken_by
            and thawed
        )
        is_good = verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT
        assert is_good == may_be_good, (events, seen, seconds, broken_by, thawed, verdict)
        good += is_good
    assert good == 4


def test_a_verdict_from_vzdumps_log_says_what_it_rests_on() -> None:
    """A thaw from inside the guest leaves the agent's status as it was, and its count goes to vzdump."""
    log = LogEvidence(WHOLE)
    watched = judge_watched(log, Seen(frozen=True), 0.1, "", True)
    evidence = Evidence(
        freeze=ACKNOWLEDGED, proof=Proof.NOT_FROZEN, thaw=ThawReport(confirmed=True, attempts=1, filesystems=0)
    )
    by_log = judge_hook(evidence, log, Seen(), 0.1)
    proven = judge_hook(evidence._replace(proof=Proof.STILL_FROZEN, thaw=GOOD_THAW), LogEvidence(SKIPPED), Seen(), 0.1)
    assert {v.kind for v in (watched, by_log, proven)} == {VerdictKind.FILESYSTEM_CONSISTENT}
    assert [RESTS_ON in v.reason for v in (watched, by_log, proven)] == [True, True, False]


def test_a_freeze_that_nobody_saw_is_unknown() -> None:
    """vzdump's freeze may take a millisecond: its log alone does not say that one filesystem was frozen."""
    verdict = judge_watched(LogEvidence(WHOLE), Seen(), 0.001, "", True)
    assert verdict.kind is VerdictKind.UNKNOWN
    assert "never said frozen" in verdict.reason


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((E.FREEZE_SKIPPED_NO_AGENT,), "no running guest agent"),
        ((E.FREEZE_SKIPPED_OPTION,), "switched off"),
        ((E.FREEZE_SKIPPED_FROZEN,), "somebody else"),
        ((E.FREEZE_ISSUED, E.FREEZE_REFUSED_FROZEN), "somebody else"),
        ((E.FREEZE_ISSUED, E.FREEZE_FAILED), "could not freeze"),
        ((), "did not freeze"),
    ],
)
def test_why_vzdump_did_not_freeze_is_said(events: tuple[LogEvent, ...], said: str) -> None:
    log = LogEvidence((*events, E.BACKUP_STARTING, E.POINT_IN_TIME))
    verdict = judge_watched(log, Seen(), None, "", True)
    assert verdict.kind is VerdictKind.CRASH_CONSISTENT
    assert said in verdict.reason


def test_a_backup_that_failed_at_its_start_is_never_good() -> None:
    """Before 9.1.10 vzdump thaws, and lets go of us, before it says that its QMP command failed."""
    evidence = Evidence(freeze=ACKNOWLEDGED, proof=Proof.STILL_FROZEN, thaw=GOOD_THAW)
    verdict = judge_hook(evidence, LogEvidence(WHOLE[:3]), Seen(), 0.1)
    assert verdict.kind is VerdictKind.UNKNOWN


@pytest.mark.parametrize(
    ("word", "proof", "broken"),
    [
        (Word.DEADLINE, Proof.NOT_ASKED, Word.DEADLINE),
        (Word.GUARD_DIED, Proof.NOT_FROZEN, Word.GUARD_DIED),
        (Word.THAWED_EARLY, Proof.NOT_FROZEN, None),
        (Word.NO_PROOF, Proof.NO_ANSWER, None),
        (Word.COUNT_MISMATCH, Proof.STILL_FROZEN, None),
    ],
)
def test_every_failure_has_its_word(word: Word, proof: Proof, broken: Word | None) -> None:
    assert broken_word(proof, broken) is word


@pytest.mark.parametrize(
    ("word", "events", "broken"),
    [
        (Word.AGENT_NOT_RUNNING, (E.FREEZE_SKIPPED_NO_AGENT,), None),
        (Word.OPTION_OFF, (E.FREEZE_SKIPPED_OPTION,), None),
        (Word.FOREIGN_FREEZE, (E.FREEZE_SKIPPED_FROZEN,), None),
        (Word.FOREIGN_FREEZE, (E.FREEZE_REFUSED_FROZEN,), None),
        (Word.REFUSED, (E.FREEZE_FAILED,), Word.DEADLINE),
        (Word.DEADLINE, WHOLE, Word.DEADLINE),
        (Word.BACKUP_FAILED, WHOLE, Word.BACKUP_FAILED),
        (Word.NO_PROOF, WHOLE, None),
    ],
)
def test_every_failure_of_a_watch_has_its_word(word: Word, events: tuple[LogEvent, ...], broken: Word | None) -> None:
    assert watched_word(LogEvidence(events), broken) is word
