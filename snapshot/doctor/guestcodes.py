"""The table of findings, second part: those of one guest. See codes.py."""

from __future__ import annotations

from collections.abc import Mapping

from snapshot.doctor.codes import Code


def _of_guest(severity: str, meaning: str, remedy: str) -> Code:
    return Code(severity, "guest", meaning, remedy)


_G = _of_guest

GUEST_CODES: Mapping[str, Code] = {
    # -- a guest's agent
    "guest-not-found": _G(
        "error",
        "There is no such guest, or the token may not see it.",
        "`qm list`, `pct list`; privileges.md.",
    ),
    "agent-off": _G(
        "warning",
        "The guest agent is not switched on in PVE (step 1 of 2): the guest cannot be frozen.",
        "`qm set <vmid> --agent 1`, then a full stop and start of the guest, and the agent inside it.",
    ),
    "agent-pending": _G(
        "warning",
        "The agent's option was changed and waits for a full stop and start; a reboot inside the guest is not enough.",
        "`qm shutdown <vmid> && qm start <vmid>`.",
    ),
    "agent-silent": _G(
        "warning",
        "The agent does not answer: not installed in the guest (step 2 of 2), stopped, hung, or busy.",
        "Inside the guest: install qemu-guest-agent and start it; runbooks/agent-down.md.",
    ),
    "agent-not-asked": _G(
        "warning",
        "PVE gave no answer, or none that makes sense, so nothing is known of the agent.",
        "Check `[api] host` and `port`, and pveproxy and pvedaemon on the node.",
    ),
    "agent-broken": _G(
        "warning",
        "The agent answers, and not as an agent does: it says neither frozen nor thawed.",
        "Install another agent in the guest.",
    ),
    "agent-too-old": _G(
        "warning",
        "The agent does not know the freeze commands.",
        "Install a newer one, on Windows with its VSS provider.",
    ),
    "freeze-blocked": _G(
        "warning",
        "The agent's own configuration forbids freeze, thaw or status: the usual default of the RHEL family.",
        "Take them out of block-rpcs in the guest, and restart the agent.",
    ),
    "thaw-blocked": _G(
        "error",
        "The agent's own configuration forbids the thaw, and not the freeze. We freeze no such guest, but PVE does, in "
        "a backup, a snapshot, for replication: then nobody can thaw it from outside. Where PVE freezes nothing either "
        "(`freeze-fs=0`, and effective) it is a warning.",
        "Take guest-fsfreeze-thaw out of block-rpcs in the guest, and restart the agent; until then "
        "`qm set <vmid> --agent enabled=1,freeze-fs-on-backup=0` and a full stop and start.",
    ),
    "commands-not-known": _G(
        "note",
        "The agent does not list its commands in a way that makes sense; a freeze is tried.",
        "A newer agent, if freezes fail.",
    ),
    "filesystems-not-known": _G(
        "note",
        "The agent does not list its filesystems in a way that makes sense: whether any can be frozen, and "
        "whether one of them is known trouble, is not known. A freeze is tried.",
        "A newer agent, if freezes fail.",
    ),
    "freeze-off": _G(
        "note",
        "The guest's own PVE option (`freeze-fs=0`) turns freezing off: it is left alone, and its snapshots and "
        "backups are crash-consistent.",
        "`qm set <vmid> --agent 1` and a full stop and start, or `ignore_freeze_option = true` in a `[[guest]]` table.",
    ),
    "frozen-now": _G(
        "error",
        "The guest is frozen right now: beside a backup or snapshot that runs this is normal for a moment.",
        "`safe-snapshot status` tells whose freeze it is, `safe-snapshot thaw <vmid>` ends it.",
    ),
    "nothing-to-freeze": _G(
        "warning",
        "Nothing in the guest can be frozen: ZFS, tmpfs and network filesystems take no freeze.",
        '`policy = "never"` for it; what it writes is as safe as its own journal makes it.',
    ),
    "loop-mount": _G(
        "warning",
        "A loop mount whose file lies on a filesystem of the guest can deadlock it in a freeze (cPanel's /usr/tmpDSK, "
        "CloudLinux).",
        "Mount a disk or a tmpfs there instead, or switch freezing off for this guest.",
    ),
    "virtfs": _G(
        "warning",
        "cPanel mounts the same filesystem again for each user, which older agents fail on.",
        "Install a newer agent in the guest.",
    ),
    # -- a guest's disks, state and backups
    "disk-no-snapshot": _G(
        "note",
        "A disk is on storage that cannot take snapshots: `safe-snapshot` takes none of this guest. Backups go on.",
        "`qm move-disk` to LVM-thin, ZFS, Ceph or qcow2; the finding names the disk.",
    ),
    "storage-not-known": _G(
        "note",
        "PVE does not say whether the guest's disks can be snapshotted; it is tried.",
        "`pvesm status` on its node.",
    ),
    "cache-unsafe": _G(
        "warning",
        "A disk has `cache=unsafe`: QEMU drops the guest's flushes, a freeze's too. What a snapshot on LVM-thin, ZFS "
        "or Ceph then holds is not certain, whatever was proven about the freeze; a crash of the node loses writes. A "
        "backup reads through QEMU and is not affected.",
        "Set the disk's cache to `none` or `writeback`, with the guest off.",
    ),
    "disk-not-in-backup": _G(
        "note",
        "A disk has `backup=0`: it is in no backup.",
        "Set `backup=1` for it, if that was not meant.",
    ),
    "not-in-a-job": _G(
        "note",
        "No backup job that is switched on holds this guest.",
        "Add it to one, or ignore this where backups are made another way.",
    ),
    "label-odd": _G(
        "warning",
        "A tag of the guest looks like a label (`snap-daily-7`) and is not taken as it stands: it is none, or another "
        "word than was meant.",
        "Write the tag anew: a label and how many to keep; many-guests.md.",
    ),
    "require-not-met": _G(
        "error",
        "Policy `require`, and the guest cannot be frozen: it has no backup and no snapshot until that is mended.",
        "The finding beside it says why; or another policy for this guest.",
    ),
    "replicated": _G(
        "note",
        "PVE replicates the guest's disks and freezes it for that by itself, as often as each minute; a thaw that "
        "fails is a warning in that task's log alone. `safe-snapshot recover` notices.",
        "Nothing, as long as `recover` runs on its node.",
    ),
    "guest-locked": _G(
        "note",
        "PVE holds a lock on the guest: somebody works on it, or a killed task left it.",
        "Wait for the task; the finding has the steps for a lock whose task is gone.",
    ),
    "hibernated": _G(
        "note",
        "The guest is hibernated: its RAM is on disk, its filesystems are as mounted as they were.",
        "`qm resume <vmid>`, before a snapshot.",
    ),
    "template": _G("note", "A template: it needs no snapshots.", "Nothing."),
    "container": _G(
        "note",
        "A container has no guest agent: PVE stops its processes and syncs, nothing proves more. Crash-consistent at "
        "best.",
        "Policy prefer or never; a database in it needs a dump of its own, in hooks.d.",
    ),
    "processors-stand-still": _G(
        "warning",
        "The guest's processors stand still (paused, io-error): its agent cannot answer.",
        "`qm resume <vmid>`; for io-error, mend its storage first.",
    ),
    "running-not-known": _G(
        "warning",
        "PVE does not say clearly whether the guest runs: it is taken for one that does.",
        "`qm status <vmid> --verbose` on its node.",
    ),
    "own-machine": _G(
        "note",
        "The doctor runs inside this very guest. A program that freezes the disk it runs on never thaws it, so from "
        "here it is refused.",
        "Run safe-snapshot on a node or on another machine.",
    ),
    "in-a-window": _G(
        "note",
        "The guest is in a window of ours, or is watched for a late freeze.",
        "`safe-snapshot status`.",
    ),
    "last-run-old": _G(
        "warning",
        "The guest's last guarded backup or snapshot is older than `run_limit_seconds`.",
        "runbooks/last-run-old.md.",
    ),
    "never-guarded": _G(
        "warning",
        "The guest runs here, and no guarded backup or snapshot ever came to it.",
        "runbooks/never-guarded.md.",
    ),
    "guest-not-known": _G(
        "warning",
        "The guest has written nothing for half an hour, and nobody could say whether it is frozen.",
        "runbooks/guest-not-known.md.",
    ),
}
