"""The columns of a window's row that its owner writes. What they mean is in journal/record.py."""

from __future__ import annotations

from snapshot.model import FreezeReply, ThawReport, Verdict, WindowTimes
from snapshot.states import State
from snapshot.words import Word


def not_started(reason: str, stage: str, at: float) -> dict[str, object]:
    """No freeze was sent, and none will be."""
    return {
        "state": State.THAWED.value,
        "closed_at": at,
        "failure_stage": stage,
        "failure_reason": Word.NOT_STARTED.value,
        "reason": reason,
    }


def outcome(reply: FreezeReply | None, report: ThawReport | None, times: WindowTimes) -> dict[str, object]:
    """What came of the freeze and of the thaw."""
    values: dict[str, object] = {
        "freezing_seconds": times.freezing_seconds,
        "held_seconds": times.held_seconds,
        "thawing_seconds": times.thawing_seconds,
        "window_seconds": times.window_seconds,
    }
    if reply is not None:
        values |= {
            "freeze_outcome": reply.outcome.value,
            "freeze_detail": reply.detail,
            "filesystems_frozen": reply.filesystems,
        }
    if report is not None:
        values |= {
            "filesystems_thawed": report.filesystems,
            "thaw_attempts": report.attempts,
            "thaw_route": report.route,
            "thaw_detail": "thaw hook failed" if report.hook_failed else report.detail,
        }
    return values


def judged(verdict: Verdict, failure_stage: str | None, failure_reason: str | None) -> dict[str, object]:
    """The verdict."""
    return {
        "verdict": verdict.kind.value,
        "reason": verdict.reason,
        "failure_stage": failure_stage,
        "failure_reason": failure_reason,
    }
