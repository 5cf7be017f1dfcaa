"""A failure's stage and reason, two fixed words, as a sentence and what to do about it.

The sentences stand in snapshot/words.py; reasons that are codes of a check's or an error's are explained where these
are (snapshot/doctor, snapshot/errors.py). ``<vmid>`` in a remedy is filled in by whoever knows the guest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot import errors
from snapshot.doctor.codes import CODES
from snapshot.doctor.guestcodes import GUEST_CODES
from snapshot.words import Word


class Meaning(NamedTuple):
    """What happened, and what to do."""

    sentence: str
    remedy: str


STAGES: Mapping[str, str] = {
    "preflight": "not begun",
    "freeze": "freeze failed",
    "hold": "window broke",
    "snapshot": "no snapshot",
    "disk": "the disk contradicts",
    "thaw": "THAW FAILED",
    "guard": "no guard",
}
"""What a stage means for the run."""

_CHECK = "`safe-snapshot check <vmid>` names what is missing and the command that mends it"
_HISTORY = "`safe-snapshot history <vmid> --failed` has each of them in its own words"
_AGENT_LOG = "see the agent's log in the guest: `journalctl -u qemu-guest-agent`, or the event viewer of Windows"
_OUR_PROCESS = "`journalctl -t vzdump-hooks-guard` and the kernel's log (`dmesg`: out of memory?) say what ended it"

REMEDIES: Mapping[Word, str] = {
    Word.AGENT: f"{_CHECK}; in the guest `systemctl status qemu-guest-agent`",
    Word.AGENT_OPTION: "`qm set <vmid> --agent 1`, then a full stop and start of the guest",
    Word.FREEZE_COMMANDS: "take the freeze commands out of block-rpcs in the guest's agent, and restart it",
    Word.PRIVILEGES: "`safe-snapshot doctor` names the privilege that the token lacks",
    Word.PROOF: f"upgrade PVE, or see docs/safe-snapshot.md for what proves it before 9.1.10; {_CHECK}",
    Word.API: "`systemctl status pveproxy pvedaemon` on the guest's node",
    Word.RUNNING: _CHECK,
    Word.REFUSED: f"a failing hook in the guest, SELinux, or another freeze under way: {_HISTORY}",
    Word.FAILED: f"a mount that the agent cannot open, or a VSS writer after a boot: {_AGENT_LOG}",
    Word.NOTHING_FROZEN: 'if it has only tmpfs, network or ZFS mounts: set policy = "never" for it in a [[guest]] rule',
    Word.UNKNOWN: "a slow disk or a busy guest: look at its I/O; raise freeze_timeout_seconds if it is honestly slow",
    Word.AGENT_NOT_RUNNING: f"install or start the agent in the guest; {_CHECK}",
    Word.OPTION_OFF: _CHECK,
    Word.FOREIGN_FREEZE: "`safe-snapshot status`; find out who else freezes it: another backup product, replication",
    Word.DEADLINE: "the storage was too slow: look at its load at that hour; max_window_seconds allows for more",
    Word.THAWED_EARLY: "another backup product, `fsfreeze -u` in a cron job, or Windows, which lets go after 10 s",
    Word.NO_PROOF: _AGENT_LOG,
    Word.COUNT_MISMATCH: "mounts that come and go while it is frozen; in the guest `findmnt`, and the agent's log",
    Word.REPLY_LOST: "`systemctl status pveproxy pvedaemon` on the guest's node, and the task's log",
    Word.BACKUP_FAILED: "the backup's own error stands in its task log in PVE",
    Word.GUARD_DIED: _OUR_PROCESS,
    Word.OWNER_DIED: _OUR_PROCESS,
    Word.OWNER_STOPPED: f"somebody stopped it (SIGSTOP, swap, a debugger): {_OUR_PROCESS}",
    Word.TASK: f"PVE's log of that task says why; {_HISTORY}",
    Word.NOT_CLEAN: "`safe-snapshot check <vmid>` and docs/runbooks/disk-contradicts.md: what in the guest thaws "
    "it, or was it stopped, not shut down?",
    Word.INTERRUPTED: "nothing, if it was you; else look who ends the run",
    Word.NO_ANSWER: "`safe-snapshot status` now: is it thawed? `safe-snapshot thaw <vmid>` if not",
    Word.NOT_CONFIRMED: "`safe-snapshot status` now: is it thawed? `safe-snapshot thaw <vmid>` if not",
    Word.GROUP_ENDED: "mend what the guest lacks that could not follow: the other failures of that run name it",
    Word.NOT_STARTED: "`safe-snapshot doctor` examines how guards are started; memory and systemd on this machine",
}

_SENTENCES: Mapping[str, Meaning] = {
    **{
        cls.code: Meaning(" ".join((cls.__doc__ or "").split()), _HISTORY)
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.SafeSnapshotError)
    },
    **{code: Meaning(found.meaning, found.remedy) for code, found in {**CODES, **GUEST_CODES}.items()},
    **{word.value: Meaning(word.sentence, REMEDIES.get(word, _HISTORY)) for word in Word},
}


def told(reason: str) -> Meaning:
    """Of a failure's reason. A word that nobody knows, a newer version's say, has no sentence but a remedy."""
    return _SENTENCES.get(reason, Meaning("", _HISTORY))
