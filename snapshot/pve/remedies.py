"""What to do about it: the second half of an operation's messages, and the fixed words that metrics count by.

Each table is asked from its top; a text's key stands in PVE's or the agent's own words, lower case.
"""

from __future__ import annotations

import re

from snapshot.errors import Failure, GroupEndedError, InterruptedBySignalError
from snapshot.model import FreezeOutcome, FreezeReply, Guest
from snapshot.pve import locks
from snapshot.pve.locks import tool
from snapshot.words import Word

__all__ = ["failure_word", "of_freeze", "of_task", "tool"]

FORBIDDEN_TEXT = "the agent refused the thaw"
"""How the detail of a thaw begins that the agent will not carry out, in the journal too."""
FAILED_TEXT = "the agent failed to thaw"
"""The same of one that it tried."""

_FULL = (
    "free space on the guest's storage, old snapshots hold some too: `pvesm status`; ZFS `zfs list -o space`, LVM-thin "
    "`lvs -a` (its metadata counts as well), Ceph `ceph df`"
)
_NO_QUORUM = (
    "the cluster has no quorum, so nothing can be written below /etc/pve: `pvecm status` on a node shows who is missing"
)
_OFFLINE = (
    "the guest's storage does not answer, or too late: `pvesm status` on its node, and the task's log, show which"
)

_ANOTHER_NAME = "choose another --name"

_OF_TASK = (
    ("no quorum", _NO_QUORUM),
    ("cluster not ready", _NO_QUORUM),
    (re.compile(r"/etc/pve/.*permission denied"), _NO_QUORUM),
    (
        re.compile(r"/etc/pve/.*(?:not connected|input/output error|resource busy)"),
        "/etc/pve does not work on the guest's node: `systemctl status pve-cluster` there",
    ),
    ("got lock request timeout", "another node is at work on this storage right now: try again in a moment"),
    ("can't lock file", "another command is at work on this guest right now: try again in a moment"),
    ("already used", _ANOTHER_NAME),
    ("already exists", f"the storage holds a snapshot of that name which PVE does not list: {_ANOTHER_NAME}"),
    (
        "snapshot already started",
        "QEMU still held a snapshot whose task had been killed; this attempt has ended that: try again",
    ),
    ("feature is not available", "`safe-snapshot check {vmid}` names the disk that is on storage without snapshots"),
    ("no space left", _FULL),
    ("out of space", _FULL),
    ("quota exceeded", _FULL),
    ("threshold", _FULL),
    (re.compile(r"\b(?:insufficient|not enough|no) (?:free|suitable)\b"), _FULL),
    (re.compile(r"\b(?:pool|storage|disk|device) .*\bfull\b"), _FULL),
    ("is not online", _OFFLINE),
    ("is not available", _OFFLINE),
    ("is disabled", _OFFLINE),
    ("connection timed out", _OFFLINE),
    ("connection refused", _OFFLINE),
    ("no route to host", _OFFLINE),
    ("stale file handle", _OFFLINE),
    ("endpoint is not connected", _OFFLINE),
    ("pool i/o is currently suspended", _OFFLINE),
    ("got timeout", _OFFLINE),
    ("does not exist", "the guest's configuration names something that is gone: `{tool} config {vmid}`"),
)
"""A snapshot task's exit statuses (PVE::AbstractConfig, PVE::Cluster, the plugins of PVE::Storage and their tools)."""

_IS_LOCKED = re.compile(r"\bis locked \((?P<lock>[a-z-]+)\)")

_SELINUX = (
    "SELinux keeps the agent out (or its owner does, of a FUSE mount): in the guest `ausearch -m avc -c qemu-ga` shows "
    "it, `setsebool -P virt_qemu_ga_read_nonsecurity_files 1` lets the agent read all mounts"
)
_VSS = (
    "VSS in Windows failed: in the guest `vssadmin list writers` shows which writer (restart its service), and "
    "`vssadmin list providers` whether QEMU's is there; right after a boot give it some minutes"
)
LOOP_MOUNT = (
    "a loop mount lies on a filesystem that is frozen before it (cPanel's /usr/tmpDSK, CloudLinux): `losetup -l` in "
    "the guest shows it; mount a disk or a tmpfs there instead, or switch freezing off, in the guest's PVE options too"
)
ALLOW_COMMAND = (
    "the agent's configuration in the guest forbids it: take it out of block-rpcs, or into allow-rpcs where that is "
    "set (/etc/qemu/qemu-ga.conf; RHEL family: BLACKLIST_RPC, BLOCK_RPCS or FILTER_RPC_ARGS in "
    "/etc/sysconfig/qemu-ga; or the options -b and -a), and restart the agent"
)
NEWER_AGENT = (
    "this agent cannot freeze: install a newer one in the guest, with all its parts (Windows: the VSS provider)"
)
_OF_FREEZE = (
    (
        re.compile("fsfreeze hook|child process has terminated"),
        "the guest's own freeze hook failed: see /etc/qemu/fsfreeze-hook.d and its log in the guest",
    ),
    ("in frozen state", "the guest may be frozen by somebody else: `safe-snapshot status` tells, then try again"),
    (
        re.compile("command is not allowed|for this instance"),
        f"frozen by somebody else (`safe-snapshot status` tells); or {ALLOW_COMMAND}",
    ),
    ("has been disabled", ALLOW_COMMAND),
    ("has not been found", NEWER_AGENT),
    (
        "not currently supported",
        "this agent was built without freezing, or its VSS provider is not installed: install it anew",
    ),
    (re.compile(r"failed to open .*(?:permission denied|operation not permitted)"), _SELINUX),
    (
        re.compile(r"snapshot set|\bvss\b|shadow copy|\bwriters?\b|\bfor backup|backup state|frozen event|hold writes"),
        _VSS,
    ),
    ("deadlock", LOOP_MOUNT),
    (
        "resource busy",
        "something else in the guest freezes it too (LVM, another backup): `fsfreeze --unfreeze <mount>` there",
    ),
    ("input/output error", "a disk of the guest has errors: `dmesg` in the guest"),
    ("agent is not running", "the agent was busy with somebody else, or died: try again"),
)
"""The agent's errors (QEMU's qga/main.c, commands-linux.c, vss-win32/requester.cpp)."""


KILLED = "unexpected status"
"""How a task ends whose worker was killed."""


def of_task(exitstatus: str, guest: Guest, name: str = "<name>", *, is_chosen: bool = True) -> str:
    """For the exit status of a task that takes the snapshot ``name``. ``is_chosen``: by the operator, not by us."""
    if KILLED in exitstatus:
        steps = locks.steps_of(guest._replace(lock="snapshot"), name)
        return f"the task was killed, and PVE keeps the guest locked: {steps}"
    locked = _IS_LOCKED.search(exitstatus)
    if locked:
        return locks.remedy_of(guest._replace(lock=locked["lock"]))
    found = _find(_OF_TASK, exitstatus, guest) or "the task's log in PVE has more"
    return found if is_chosen else found.replace(_ANOTHER_NAME, "try again, which gives another name")


def of_freeze(reply: FreezeReply, guest: Guest) -> str:
    """For a freeze that did not work. The guest passed every check, so this sends nobody back to them."""
    if reply.outcome is FreezeOutcome.NOTHING_FROZEN:
        return (
            "the agent found nothing it could freeze (ZFS, tmpfs and network filesystems cannot be): set policy never"
        )
    return _find(_OF_FREEZE, reply.detail, guest) or (
        "the agent's own log in the guest has more (`journalctl -u qemu-guest-agent`; Windows: the event viewer)"
    )


UNFREEZE = "`fsfreeze --unfreeze <mount>` inside the guest"


def last_resorts(vmid: int) -> str:
    """What is left where nobody gets into the guest, the mildest first, and the page that says when."""
    return (
        f"without a console, and for Linux alone, `qm sendkey {vmid} alt-sysrq-j`; as a last resort `qm reset {vmid}`; "
        "docs/runbooks/guest-still-frozen.md says when"
    )


def of_forbidden_thaw(vmid: int) -> str:
    """For a thaw that the guest's agent forbids: nobody but the guest itself can help, and no route of ours."""
    return (
        f"{UNFREEZE}, for each of its mounts, then let its agent thaw (guest-fsfreeze-thaw out of block-rpcs, or into "
        "allow-rpcs, in /etc/qemu/qemu-ga.conf) and restart it (while it takes itself for frozen only SIGKILL ends it: "
        f"systemd sends that after 90 s); {last_resorts(vmid)}"
    )


def of_stuck(vmid: int, thaw_detail: str | None) -> str:
    """For a guest that may still be frozen, by what is known of its thaw."""
    if FORBIDDEN_TEXT in (thaw_detail or ""):
        return f"its agent refuses the thaw: {of_forbidden_thaw(vmid)}"
    if FAILED_TEXT in (thaw_detail or ""):
        return (
            f"its agent tries to thaw it and fails: `dmesg` in the guest has the reason; {UNFREEZE}; "
            + last_resorts(vmid)
        )
    return f"run `safe-snapshot thaw {vmid}`"


def of_refusal(description: str) -> str:
    """For a command that the agent refused while nothing was frozen: its answer's text."""
    return NEWER_AGENT if "not been found" in description else ALLOW_COMMAND


def _find(table: tuple[tuple[str | re.Pattern[str], str], ...], text: str, guest: Guest) -> str:
    low = text.lower()
    found = (remedy for key, remedy in table if (key in low if isinstance(key, str) else key.search(low)))
    return next(found, "").format(tool=tool(guest), vmid=guest.vmid)


def failure_word(error: Failure) -> str:
    """A journal's ``failure_reason`` for an error that ended a window."""
    ended = Word.GROUP_ENDED if isinstance(error, GroupEndedError) else Word.NOT_STARTED
    return str((Word.INTERRUPTED if isinstance(error, InterruptedBySignalError) else ended).value)
