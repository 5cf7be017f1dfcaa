"""The nouns of this project as named tuples and enums. Standard library only; no I/O, no policy.

Words are PVE's and the guest agent's own: vmid, node, upid, freeze, thaw. Durations are in seconds, instants are Unix
times (``*_at``) unless a name ends in ``_monotonic``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, NewType, Protocol

Vmid = NewType("Vmid", int)
Node = NewType("Node", str)

VMID_MIN, VMID_MAX = 100, 999_999_999
"""PVE's limits for a vmid (pve-common, PVE::JSONSchema, format pve-vmid)."""

NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
"""A node's name (PVE::JSONSchema, pve-node): it stands in paths, so nothing else is taken for one."""

_VMID = re.compile(r"[1-9][0-9]{2,8}\Z")
_SNAPSHOT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}\Z")
_UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?):(?P<pid>[0-9A-Fa-f]{8}):"
    r"(?P<pstart>[0-9A-Fa-f]{8,9}):(?P<start>[0-9A-Fa-f]{8}):(?P<kind>[^:\s/]+):(?P<id>[^:\s/]*):(?P<user>[^:\s/]+):\Z"
)
UPID_MAX = 320
"""PVE's own user names have at most 64 characters, and its tasks' ids are vmids, disks and storages."""

_RESERVED_NAMES = frozenset({"current", "pending"})


def parse_vmid(text: str) -> Vmid:
    """The vmid in ``text``. Raises ValueError, whose text is fit for the operator, for anything but PVE's range."""
    if not _VMID.match(text) or not VMID_MIN <= int(text) <= VMID_MAX:
        raise ValueError(f"{text!r} is not a vmid: PVE numbers guests from {VMID_MIN} to {VMID_MAX}")
    return Vmid(int(text))


def check_snapshot_name(name: str) -> str:
    """``name`` if PVE takes it as a snapshot's name; ValueError with the rule otherwise (PVE::JSONSchema, pve-
    configid).
    """
    if not _SNAPSHOT_NAME.match(name):
        raise ValueError(
            f"{name!r} is not a snapshot name: PVE takes 2 to 40 letters, digits, '-' and '_', a letter first"
        )
    if name.lower() in _RESERVED_NAMES:
        raise ValueError(f"{name!r} is reserved by PVE: choose another name")
    return name


DESCRIPTION_MAX = 8192
"""Our own limit: PVE takes more in a snapshot's description, but shows and keeps it in one small file."""


def check_description(text: str) -> str:
    """``text`` if it is fit for a snapshot's description; ValueError with the rule otherwise."""
    if len(text) > DESCRIPTION_MAX:
        raise ValueError(f"a description of {len(text)} characters: at most {DESCRIPTION_MAX} are taken")
    if any(not (c.isprintable() or c in "\n\t") for c in text):
        raise ValueError("a description with control characters: PVE shows text only")
    return text


class GuestKind(Enum):
    """PVE's two kinds of guests, as they stand in API paths."""

    QEMU = "qemu"
    LXC = "lxc"


class Policy(Enum):
    """What to do when a guest cannot be frozen."""

    REQUIRE = "require"
    PREFER = "prefer"
    NEVER = "never"


class Owner(Enum):
    """Who issued a freeze."""

    HOOK = "hook"
    VZDUMP = "vzdump"
    SNAPSHOT = "snapshot"
    FOREIGN = "foreign"


class FreezeState(Enum):
    """What ``guest-fsfreeze-status`` says: the agent's own memory, which is not always the kernel's truth."""

    FROZEN = "frozen"
    THAWED = "thawed"


class VerdictKind(Enum):
    """What a snapshot or backup may be called."""

    APPLICATION_CONSISTENT = "application-consistent"
    FILESYSTEM_CONSISTENT = "filesystem-consistent"
    CRASH_CONSISTENT = "crash-consistent"
    OFFLINE = "offline"
    MEMORY = "memory"
    UNKNOWN = "unknown"

    @property
    def is_consistent(self) -> bool:
        """Whether a restore needs no journal replay: frozen with proof, shut down, or saved with its memory."""
        return self.is_of_a_freeze or self in (VerdictKind.OFFLINE, VerdictKind.MEMORY)

    @property
    def is_of_a_freeze(self) -> bool:
        """Whether the guest was proven to be frozen at the point in time, whatever its applications knew of it."""
        return self in (VerdictKind.APPLICATION_CONSISTENT, VerdictKind.FILESYSTEM_CONSISTENT)


class AtRest(Enum):
    """What the disk in a snapshot says of the moment it was taken in."""

    CLEAN = "clean"
    """It was at rest, as a freeze or a clean unmount leaves it."""
    NOT_CLEAN = "not-clean"
    """It was in use: mounting it replays its journal."""
    CANNOT_TELL = "cannot-tell"


class DiskWord(NamedTuple):
    """The disk's word of a whole snapshot, and why."""

    word: AtRest
    reason: str


class Verdict(NamedTuple):
    """A kind, and always the reason for it, in words for the operator."""

    kind: VerdictKind
    reason: str

    @property
    def is_consistent(self) -> bool:
        """See VerdictKind."""
        return self.kind.is_consistent

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.reason}"


class FreezeOutcome(Enum):
    """What became of a freeze request. Every outcome but REFUSED is followed by a thaw."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """Cleanly: it never reached the agent, or the agent said no before it froze anything. Frozen already, say: that is
    another's freeze, whose consistency a thaw of ours would destroy."""
    FAILED = "failed"
    """The agent answered with an error from the middle of its work; no later freeze can come of it."""
    NOTHING_FROZEN = "nothing-frozen"
    UNKNOWN = "unknown"
    """The reply was lost: the guest may be frozen, or may freeze later."""


class FreezeReply(NamedTuple):
    """The answer to one freeze request: the outcome, how many filesystems, and the detail behind an outcome."""

    outcome: FreezeOutcome
    filesystems: int = 0
    detail: str = ""


class ThawReport(NamedTuple):
    """What it took to thaw a guest.

    ``filesystems`` is the highest count any acknowledged thaw of this window returned; None when no count was ever seen
    (the thaw hook failed, or replies were lost). ``confirmed`` means: at least one thaw acknowledged *and* the status
    then said thawed, or the guest is off. ``guest_gone`` is set when a reboot or power-off ended the freeze instead.
    """

    confirmed: bool
    attempts: int
    filesystems: int | None = None
    route: str = ""
    hook_failed: bool = False
    guest_gone: bool = False
    detail: str = ""
    thaw_replies_lost: int = 0
    forbidden: bool = False
    """The agent's last word: the command is switched off in the guest, so no route of ours can thaw it."""
    from_inside: bool = False
    """The agent forbids the thaw, but says thawed, and the guest writes again: somebody thawed it there."""

    @property
    def how(self) -> str:
        """What confirmed it, for a message."""
        if self.guest_gone:
            return "the guest is off"
        if self.from_inside:
            return "thawed from inside: its agent says so and it writes again"
        return f"confirmed over {self.route}"


class Upid(NamedTuple):
    """A PVE task's identity, ``UPID:<node>:<pid>:<pstart>:<starttime>:<type>:<id>:<user>:`` (PVE/UPID.pm)."""

    text: str
    node: Node
    pid: int
    pstart: int
    started_at: int
    kind: str
    id: str
    user: str

    @classmethod
    def parse(cls, text: str) -> Upid:
        """Parse PVE's text form; ValueError when it is anything else."""
        found = _UPID.match(text)
        if found is None or len(text) > UPID_MAX or not text.isprintable():
            raise ValueError(f"{text[:120]!r} is not a UPID")
        return cls(
            text=text,
            node=Node(found["node"]),
            pid=int(found["pid"], 16),
            pstart=int(found["pstart"], 16),
            started_at=int(found["start"], 16),
            kind=found["kind"],
            id=found["id"],
            user=found["user"],
        )

    @property
    def log_folder(self) -> str:
        """The sub-folder of /var/log/pve/tasks: the last hex digit of the start time, upper case."""
        return f"{self.started_at & 0xF:X}"

    def __str__(self) -> str:
        return self.text


class Guest(NamedTuple):
    """A guest as ``/cluster/resources`` and its own status show it."""

    vmid: Vmid
    node: Node
    kind: GuestKind
    name: str = ""
    running: bool = False
    template: bool = False
    lock: str = ""
    tags: tuple[str, ...] = ()
    pool: str = ""

    @property
    def path(self) -> str:
        """The guest's API path, without a leading slash."""
        return f"nodes/{self.node}/{self.kind.value}/{self.vmid}"

    @property
    def id(self) -> str:
        """The id as prometheus-pve-exporter writes it, e.g. ``qemu/100``."""
        return f"{self.kind.value}/{self.vmid}"


class CheckResult(Enum):
    """What one preflight check found."""

    OK = "ok"
    WARNING = "warning"
    NO_FREEZE = "no-freeze"
    """The guest cannot be frozen: `require` fails, `prefer` goes on without."""
    FAILED = "failed"
    """Nothing can be done with this guest, whatever the policy."""


class Check(NamedTuple):
    """One named preflight check: what was found, and what the operator can do about it."""

    name: str
    result: CheckResult
    message: str
    remedy: str = ""
    code: str = ""
    """What was found, as one fixed word with a heading in docs/findings.md; empty where all is well."""


class Health(NamedTuple):
    """The preflight's result: every check in order, and what was learned about the guest on the way."""

    guest: Guest | None
    checks: tuple[Check, ...]
    facts: Mapping[str, object] = MappingProxyType({})
    frozen: bool = False
    """The agent says the guest is frozen right now, before we did anything."""
    freeze_disabled_by_option: bool = False
    """The guest's own PVE option (freeze-fs=0) turns freezing off."""
    pve_may_freeze: bool = False
    """In its own snapshot task PVE may freeze the guest by itself: its agent is switched on, and answers."""
    config: Mapping[str, object] = MappingProxyType({})
    """The guest's configuration as PVE goes by it now; empty where it was not read."""

    def worst(self, *results: CheckResult) -> Check | None:
        """The first check with one of ``results``, or None."""
        return next((c for c in self.checks if c.result in results), None)

    @property
    def agent_up(self) -> bool | None:
        """Whether the guest's agent answered; None when it was not asked, for it is not switched on or we may not."""
        found = {check.name: check.result for check in self.checks}
        if found.get("agent-option") is not CheckResult.OK or "agent" not in found:
            return None
        answered = found["agent"] is CheckResult.OK
        may_ask = found.get("privileges", CheckResult.OK) is CheckResult.OK
        return answered if answered or may_ask else None

    @property
    def failure(self) -> Check | None:
        """The check that makes any snapshot impossible, or None."""
        return self.worst(CheckResult.FAILED)

    @property
    def obstacle(self) -> Check | None:
        """The check that makes a freeze impossible, or None."""
        return self.worst(CheckResult.FAILED, CheckResult.NO_FREEZE)


class WindowTimes(NamedTuple):
    """The parts of a freeze window, in seconds; None for a part that did not happen."""

    freezing_seconds: float | None = None
    held_seconds: float | None = None
    thawing_seconds: float | None = None

    @property
    def window_seconds(self) -> float | None:
        """From the freeze request being sent to the thaw being confirmed; None while (or when never) confirmed."""
        if self.freezing_seconds is None or self.thawing_seconds is None:
            return None
        return self.freezing_seconds + (self.held_seconds or 0.0) + self.thawing_seconds


class Say(Protocol):
    """Takes one progress line for a person; must not raise."""

    def __call__(self, line: str, at: float | None = None) -> None:
        """``at`` is the monotonic instant the line is about; None: now. Nothing is printed while a guest is frozen."""
        ...
