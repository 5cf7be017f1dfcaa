"""No combination without the full evidence is ever called filesystem-consistent."""

from __future__ import annotations

import itertools

import pytest

from snapshot.model import FreezeOutcome, FreezeReply, ThawReport, VerdictKind
from snapshot.window.verdict import Evidence, Proof, judge

FREEZES = [None, *(FreezeReply(outcome, count, "why") for outcome in FreezeOutcome for count in (0, 1, 3))]
THAWS = [
    None,
    *(
        ThawReport(
            confirmed=confirmed,
            attempts=1,
            filesystems=filesystems,
            hook_failed=hook_failed,
            guest_gone=guest_gone,
            thaw_replies_lost=lost,
        )
        for confirmed, filesystems, hook_failed, guest_gone, lost in itertools.product(
            (True, False), (None, 0, 1, 2, 3, 4), (True, False), (True, False), (0, 1)
        )
    ),
]
COMBINATIONS = [
    Evidence(freeze, proof, thaw, broken_by, not_frozen)
    for freeze, proof, thaw, broken_by, not_frozen in itertools.product(
        FREEZES, Proof, THAWS, ("", "the deadline passed"), ("", "policy never")
    )
]
GOOD = Evidence(
    FreezeReply(FreezeOutcome.ACKNOWLEDGED, 2),
    Proof.STILL_FROZEN,
    ThawReport(confirmed=True, attempts=1, filesystems=2),
)


def has_full_evidence(evidence: Evidence) -> bool:
    """Promise 2 of the design, in its own words and nothing else."""
    freeze, thaw = evidence.freeze, evidence.thaw
    if freeze is None or freeze.outcome is not FreezeOutcome.ACKNOWLEDGED or freeze.filesystems < 1:
        return False
    if evidence.broken_by or evidence.proof is not Proof.STILL_FROZEN:
        return False
    if thaw is None or not thaw.confirmed or thaw.guest_gone or thaw.filesystems is None:
        return False
    return thaw.filesystems >= freeze.filesystems


def test_the_full_evidence_is_called_filesystem_consistent() -> None:
    verdict = judge(GOOD)
    assert verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT
    assert "2 filesystems" in verdict.reason


def test_exactly_the_combinations_with_full_evidence_are_filesystem_consistent() -> None:
    assert len(COMBINATIONS) > 20_000
    wrong = [
        evidence
        for evidence in COMBINATIONS
        if (judge(evidence).kind is VerdictKind.FILESYSTEM_CONSISTENT) is not has_full_evidence(evidence)
    ]
    assert not wrong, f"{len(wrong)} of {len(COMBINATIONS)} are judged wrongly, the first: {wrong[0]}"


def test_every_verdict_on_a_running_guest_has_a_reason_and_one_of_three_kinds() -> None:
    kinds = {VerdictKind.FILESYSTEM_CONSISTENT, VerdictKind.CRASH_CONSISTENT, VerdictKind.UNKNOWN}
    for evidence in COMBINATIONS:
        verdict = judge(evidence)
        assert verdict.kind in kinds, evidence
        assert verdict.reason.strip(), evidence


@pytest.mark.parametrize("outcome", [o for o in FreezeOutcome if o is not FreezeOutcome.ACKNOWLEDGED])
def test_a_freeze_without_acknowledgement_is_crash_consistent_and_says_why(outcome: FreezeOutcome) -> None:
    verdict = judge(Evidence(FreezeReply(outcome, 1, "the agent is away"), GOOD.proof, GOOD.thaw))
    assert verdict.kind is VerdictKind.CRASH_CONSISTENT
    assert "the agent is away" in verdict.reason


def test_the_reason_of_a_broken_window_is_what_broke_it() -> None:
    verdict = judge(Evidence(GOOD.freeze, GOOD.proof, GOOD.thaw, broken_by="the guard died"))
    assert (verdict.kind, verdict.reason) == (VerdictKind.CRASH_CONSISTENT, "the guard died")


@pytest.mark.parametrize("proof", [Proof.NO_ANSWER, Proof.NOT_ASKED])
def test_a_window_without_an_answer_to_the_proof_is_unknown(proof: Proof) -> None:
    assert judge(Evidence(GOOD.freeze, proof, GOOD.thaw)).kind is VerdictKind.UNKNOWN


def test_a_thaw_count_below_the_freeze_count_breaks_the_verdict() -> None:
    fewer = ThawReport(confirmed=True, attempts=1, filesystems=1)
    verdict = judge(Evidence(GOOD.freeze, GOOD.proof, fewer))
    assert verdict.kind is VerdictKind.CRASH_CONSISTENT
    assert "only 1" in verdict.reason


def test_a_low_count_after_a_lost_thaw_reply_is_unknown_not_broken() -> None:
    fewer = ThawReport(confirmed=True, attempts=2, filesystems=0, thaw_replies_lost=1)
    assert judge(Evidence(GOOD.freeze, GOOD.proof, fewer)).kind is VerdictKind.UNKNOWN


def test_a_thaw_hook_that_failed_leaves_no_count_and_no_consistency() -> None:
    failed = ThawReport(confirmed=True, attempts=1, hook_failed=True)
    verdict = judge(Evidence(GOOD.freeze, GOOD.proof, failed))
    assert verdict.kind is VerdictKind.UNKNOWN
    assert "hook" in verdict.reason


def test_a_guest_that_was_never_frozen_is_crash_consistent_for_the_reason_given() -> None:
    assert judge(Evidence(not_frozen_because="policy never")).reason == "policy never"
    assert judge(Evidence()).kind is VerdictKind.CRASH_CONSISTENT
