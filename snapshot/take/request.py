"""One run of safe-snapshot as data: what it is asked, what it works with, what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import Gate
from snapshot.config.settings import Config
from snapshot.errors import Failure
from snapshot.guard.link import Launcher
from snapshot.journal.store import Journal
from snapshot.model import (
    Check,
    DiskWord,
    FreezeOutcome,
    FreezeReply,
    Guest,
    Policy,
    Say,
    ThawReport,
    Upid,
    Verdict,
    VerdictKind,
    Vmid,
    WindowTimes,
)
from snapshot.preflight.preflight import FoundAhead
from snapshot.pve.access import Access
from snapshot.pve.tasks import TaskEnd
from snapshot.take.fence import Fence, NoFence
from snapshot.window.verdict import Proof


@dataclass(frozen=True)
class Request:
    """What the operator asked for. None: as the configuration says."""

    vmid: Vmid
    name: str | None = None
    description: str = ""
    policy: Policy | None = None
    freeze_timeout_seconds: float | None = None
    max_window_seconds: float | None = None
    memory: bool = False
    dry_run: bool = False
    verify: bool | None = None
    """Whether the disk in the snapshot is asked."""


@dataclass(frozen=True)
class Tools:
    """The collaborators of an operation."""

    config: Config
    access: Access
    clock: Clock
    me: ProcessIdentity
    open_journal: Callable[[], Journal]
    launcher: Launcher
    gate: Gate
    publish: Callable[[Journal], list[str]]
    say: Say
    commands: Path | None = None
    """The folder of the administrator's own commands."""
    found: FoundAhead | None = None
    """The guest, where PVE was asked for it already."""
    fence: Fence = field(default_factory=NoFence)
    """Where a member of a group waits for the others."""
    tell: Say = lambda line, at=None: None
    """What is said while a guest may be frozen: it must not block, so a thread of its own has it (base/aloud.py)."""
    wait_seconds: float | None = None
    """How long another run of the guest is waited for; None: whoever has called sees to that."""


def frozen_seconds(freeze: FreezeReply | None, times: WindowTimes) -> float | None:
    """How long the guest was frozen; None when it was not, or nobody knows."""
    was_frozen = freeze is not None and freeze.outcome is FreezeOutcome.ACKNOWLEDGED
    return times.window_seconds if was_frozen else None


@dataclass(frozen=True)
class Result:
    """Everything that happened, for whoever renders it. Made by Run.result, at the end."""

    vmid: Vmid
    name: str
    policy: Policy
    guest: Guest | None = None
    checks: tuple[Check, ...] = ()
    plan: str = ""
    expected: VerdictKind | None = None
    """In a dry run that would take it: what it would be worth."""
    freeze: FreezeReply | None = None
    proof: Proof = Proof.NOT_ASKED
    thaw: ThawReport | None = None
    times: WindowTimes = field(default_factory=WindowTimes)
    window_id: str | None = None
    upid: Upid | None = None
    task: TaskEnd | None = None
    snapshot_exists: bool | None = False
    """Whether the snapshot is there; None when PVE did not say."""
    verdict: Verdict | None = None
    disk: DiskWord | None = None
    """What the disk in the snapshot says; None where it was not asked."""
    group_id: str | None = None
    """The group that it is a member of, as the journal has it."""
    warnings: tuple[str, ...] = ()
    error: Failure | None = None

    @property
    def frozen_seconds(self) -> float | None:
        """How long the guest was frozen; None when it was not, or nobody knows."""
        return frozen_seconds(self.freeze, self.times)

    @property
    def exit_code(self) -> int:
        """0, or the error's."""
        return self.error.exit_code if self.error else 0
