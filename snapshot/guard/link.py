"""What an owner and its guard say to each other: the order it is armed with (GuardSpec) and the messages (Op).

Here are the interfaces Guard and Launcher, as an owner uses them. Starting the process is launcher.py's.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import NamedTuple, Protocol

from snapshot.config.settings import Config
from snapshot.errors import GuardError
from snapshot.journal.record import WindowRecord
from snapshot.model import Guest, GuestKind, Node, Vmid

FREEZING_PHASE = "post-restart"
"""vzdump's phase in which a backup's window is opened; no other follows before it is closed (PVE/VZDump.pm)."""

STEP_SECONDS = 20.0
"""What one step of a guard may need beyond an attempt's own limit: pvesh's start and end (7 s), or, where that is
longer, one question amid a thaw over pvesh (12 s); the rest is for a machine that is busy."""


class Op(Enum):
    """What an owner tells its guard. The end of the connection without DISARM means: the owner died."""

    ARM = "arm"
    FREEZING = "freezing"
    """A freeze is about to be sent: from now on the guest is at risk, and the deadline runs. ``sits`` above 0: the
    owner keeps the agent's seat from before it to behind the thaw. ``deadline_seconds``: what is left of the deadline
    that a group's windows share; without it the order's counts."""
    FROZEN = "frozen"
    """The freeze was answered: no late freeze can come of it."""
    THAWING = "thawing"
    """The owner is about to send a request of its thaw: stay back as long as one may take."""
    ASKING = "asking"
    """The owner asks the agent for its proof, or keeps its seat over a freeze of vzdump's: until its next word it may
    sit on the agent's socket. Before any freeze a deadline runs from here, after which it must not stand still."""
    DISARM = "disarm"
    """The thaw is confirmed (or nothing was ever frozen). ``late_seconds`` above 0: watch for a late freeze so long."""
    ABANDON = "abandon"
    """The owner could not thaw within its limit: over to the guard."""


class GuardSpec(NamedTuple):
    """What the guard needs to know of its window. Durations in seconds, counted from FREEZING."""

    window_id: str
    vmid: int
    node: str
    guest_name: str
    source: str
    deadline_seconds: float
    owner_limit_seconds: float
    late_freeze_seconds: float
    owner_pid: int
    owner_pid_start: int
    upid: str = ""
    """The vzdump task whose backup the window is for; "" for a snapshot of ours."""
    watch: tuple[tuple[int, int], ...] = ()
    """(pid, start time in clock ticks) of processes whose death ends the window: the vzdump worker."""
    at_risk: bool = False
    """A freeze may have been sent already: this guard stands in for one that died."""
    others_freeze: bool = False
    """vzdump freezes, and the owner only follows: a freeze may come though the owner, who would tell, is gone."""

    @property
    def guest(self) -> Guest:
        """The guest to thaw: only QEMU guests have an agent."""
        return Guest(Vmid(self.vmid), Node(self.node), GuestKind.QEMU, name=self.guest_name, running=True)

    @property
    def log_keys(self) -> dict[str, object]:
        """What every log line about this window begins with."""
        phase = FREEZING_PHASE if self.upid else ""
        return {
            "vmid": self.vmid,
            "node": self.node,
            "window": self.window_id[:8],
            "phase": phase,
            "upid": self.upid,
        }

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> GuardSpec:
        """The inverse of to_json. ValueError or TypeError for anything else."""
        values = json.loads(text)
        values["watch"] = tuple((int(pid), int(start)) for pid, start in values.get("watch", ()))
        return cls(**values)


def spec_of(record: WindowRecord, config: Config) -> GuardSpec:
    """The guard's order for a window that is known from the journal alone."""
    return GuardSpec(
        window_id=record.id,
        vmid=record.vmid,
        node=record.node,
        guest_name=record.guest_name,
        source=record.source,
        deadline_seconds=0.0,
        owner_limit_seconds=config.thaw.owner_limit_seconds,
        late_freeze_seconds=config.freeze.late_freeze_seconds,
        owner_pid=record.owner_pid,
        owner_pid_start=record.owner_pid_start,
        upid=record.upid or "",
    )


def watchdog_seconds(config: Config) -> float:
    """How long a guard may be silent before systemd takes it for hung: longer than any step of it takes."""
    return config.thaw.attempt_timeout_seconds + STEP_SECONDS


class Guard(Protocol):
    """An armed guard, as its owner holds it. No method raises: a guard that is gone shows in is_alive."""

    pid: int

    def tell(self, op: Op, **values: float) -> None:
        """Send one message; it is in the guard's hands when this returns, or the guard is dead."""
        ...

    def is_alive(self) -> bool:
        """Whether the guard's end of the connection is open. Costs one system call."""
        ...

    def release(self) -> None:
        """Close the connection."""
        ...


class AnotherGuardError(GuardError):
    """Another guard has this window already: systemd was faster. It thaws when its owner ends or dawdles."""

    def __init__(self, pid: int, pid_start: int) -> None:
        super().__init__(f"another guard (pid {pid}) has this window")
        self.pid = pid
        self.pid_start = pid_start


class Launcher(Protocol):
    """Starts guards."""

    def arm(self, spec: GuardSpec) -> Guard:
        """Start a guard and wait until it says that it is armed. Raises GuardError, or its AnotherGuardError."""
        ...
