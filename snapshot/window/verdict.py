"""What a snapshot or backup may be called, from the evidence alone. Pure functions.

``filesystem-consistent`` needs all of: the freeze of at least one filesystem acknowledged before the point in time, the
agent still ``frozen`` after it, and a thaw acknowledged for as many filesystems as were frozen.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from snapshot.base.text import counted
from snapshot.model import FreezeOutcome, FreezeReply, ThawReport, Verdict, VerdictKind
from snapshot.words import Word


class Proof(Enum):
    """What ``fsfreeze-status`` said after the point in time and before the thaw."""

    STILL_FROZEN = "still frozen"
    NOT_FROZEN = "not frozen any more"
    NO_ANSWER = "no answer"
    NOT_ASKED = "not asked"


class Evidence(NamedTuple):
    """Everything the verdict rests on. ``broken_by`` names what ended the window before its point in time, if known."""

    freeze: FreezeReply | None = None
    proof: Proof = Proof.NOT_ASKED
    thaw: ThawReport | None = None
    broken_by: str = ""
    not_frozen_because: str = ""
    """Why no freeze was tried at all."""


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a point in time that was taken of a running guest without its memory."""
    crash = VerdictKind.CRASH_CONSISTENT
    freeze, thaw = evidence.freeze, evidence.thaw
    if freeze is None:
        return Verdict(crash, evidence.not_frozen_because or "the guest was not frozen")
    if freeze.outcome is FreezeOutcome.UNKNOWN:
        return Verdict(crash, f"the answer to the freeze was lost ({freeze.detail})")
    if freeze.outcome is not FreezeOutcome.ACKNOWLEDGED:
        return Verdict(crash, f"the freeze failed: {freeze.detail}")
    if freeze.filesystems < 1:
        return Verdict(crash, "the freeze was acknowledged for no filesystem at all")
    if evidence.broken_by:
        return Verdict(crash, evidence.broken_by)
    if evidence.proof is Proof.NOT_FROZEN:
        return Verdict(crash, "the guest was not frozen any more after the point in time: something else thawed it")
    if evidence.proof is not Proof.STILL_FROZEN:
        return Verdict(VerdictKind.UNKNOWN, "the agent did not say whether the guest was still frozen")
    if thaw is None or not thaw.confirmed:
        return Verdict(VerdictKind.UNKNOWN, "the thaw is not confirmed")
    if thaw.guest_gone:
        return Verdict(VerdictKind.UNKNOWN, "the guest went off while it was frozen")
    if thaw.filesystems is None:
        why = "the guest's thaw hook failed" if thaw.hook_failed else "the thaw's reply was lost"
        why = "the agent refused the thaw, the guest was thawed from inside" if thaw.from_inside else why
        return Verdict(VerdictKind.UNKNOWN, f"no count of thawed filesystems: {why}")
    if thaw.filesystems < freeze.filesystems:
        if thaw.thaw_replies_lost:
            return Verdict(
                VerdictKind.UNKNOWN,
                f"{freeze.filesystems} filesystems frozen, {thaw.filesystems} counted at the thaw: a reply was lost",
            )
        return Verdict(
            crash, f"{freeze.filesystems} filesystems were frozen but only {thaw.filesystems} were still so at the thaw"
        )
    return Verdict(
        VerdictKind.FILESYSTEM_CONSISTENT,
        f"{counted(freeze.filesystems, 'filesystem')} frozen, proven after the point in time, and thawed",
    )


def broken_word(proof: Proof, broken: Word | None) -> Word:
    """Why a window that was frozen was not held, for the journal."""
    return broken or {Proof.NOT_FROZEN: Word.THAWED_EARLY, Proof.NO_ANSWER: Word.NO_PROOF}.get(
        proof, Word.COUNT_MISMATCH
    )
