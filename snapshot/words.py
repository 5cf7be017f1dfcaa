"""Why a run failed, as a fixed word with its sentence: ``failure_reason`` in the journal, ``reason`` in the metrics.

A word travels with what went wrong, from where it is known; it is never cut out of a message. Standard library only.
"""

from __future__ import annotations

from enum import Enum


class Word(Enum):
    """A reason, and what it says to an operator."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Word:
        """Members are known by their word; the sentence comes along."""
        member = object.__new__(cls)
        member._value_ = value
        member.sentence = sentence
        return member

    AGENT = "agent", "the agent did not answer"
    AGENT_OPTION = "agent-option", "the agent is not switched on in the guest's PVE options"
    FREEZE_COMMANDS = "freeze-commands", "the agent's freeze commands are disabled in the guest"
    PRIVILEGES = "privileges", "this token may not ask the agent"
    PROOF = "proof", "policy `require`, and this qemu-server thaws the guest itself: nothing could be proven"
    API = "api", "PVE gave no answer about the agent, or none that makes sense"
    RUNNING = "running", "the guest's state could not be used"
    REFUSED = "refused", "the agent said no before it froze anything"
    FAILED = "failed", "the agent gave up in the middle of its freeze"
    NOTHING_FROZEN = "nothing-frozen", "there was no filesystem that could be frozen"
    UNKNOWN = "unknown", "no answer came in time; the guest was thawed and watched for a late freeze"
    AGENT_NOT_RUNNING = "agent-not-running", "vzdump found no agent that answers"
    OPTION_OFF = "option-off", "the agent, or freezing, is switched off in the guest's PVE options"
    FOREIGN_FREEZE = "foreign-freeze", "somebody else had frozen the guest"
    DEADLINE = "deadline", "the point in time did not come before the deadline"
    THAWED_EARLY = "thawed-early", "something else thawed the guest inside the window"
    NO_PROOF = "no-proof", "the agent did not confirm that the guest stayed frozen until after the point in time"
    COUNT_MISMATCH = "count-mismatch", "fewer filesystems were thawed than had been frozen"
    REPLY_LOST = "reply-lost", "PVE's answer about the snapshot was lost while the guest was frozen"
    BACKUP_FAILED = "backup-failed", "the backup itself ended without one"
    GUARD_DIED = "guard-died", "the guard died, so the guest was thawed at once"
    OWNER_DIED = "owner-died", "the process that had frozen the guest died"
    OWNER_STOPPED = "owner-stopped", "the process that had frozen the guest stood still past the deadline"
    NOT_CLEAN = "not-clean", "the disk in the snapshot says that it was in use"
    TASK = "task", "PVE could not take the snapshot"
    INTERRUPTED = "interrupted", "a signal ended the run"
    NO_ANSWER = "no-answer", "no thaw was confirmed, by whatever route"
    NOT_CONFIRMED = "not-confirmed", "the owner's time was over before a thaw was confirmed"
    GROUP_ENDED = "group-ended", "another guest of its group could not follow, which ended it for all"
    NOT_STARTED = "not-started", "no guard could be armed, and without one nothing is frozen"
