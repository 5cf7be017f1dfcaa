"""What the steps of a run share: what they work with, and what is known so far. Its Result is made here, at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Container

from snapshot.base.slots import Slot
from snapshot.config.naming import free_name
from snapshot.errors import Failure, GroupEndedError, NotRecordedError
from snapshot.journal.book import open_book
from snapshot.journal.silences import folder_lines
from snapshot.model import (
    Check,
    DiskWord,
    Guest,
    GuestKind,
    Owner,
    Policy,
    Verdict,
    VerdictKind,
    WindowTimes,
)
from snapshot.preflight.preflight import FoundAhead
from snapshot.pve.agent import ApiChannel
from snapshot.pve.guests import AgentOption
from snapshot.pve.routes import build_ladder
from snapshot.take.fence import Milestone
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.request import Request, Result, Tools
from snapshot.take.waiting import ThawNews
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.telling import Answers
from snapshot.thaw.thawer import Thawer
from snapshot.window.parts import WindowSpec, WindowTools
from snapshot.window.snapshot import SnapshotWindow
from snapshot.window.verdict import Proof


class Run:
    """One run. The steps write down here what they find."""

    def __init__(self, request: Request, tools: Tools) -> None:
        config = tools.config
        self.request = request
        self.tools = tools
        self.began_at = tools.clock.time()
        """Or when its turn came: Unix time."""
        self.name = self.named(())
        """Of the snapshot. Not the last word before the guest's other ones are known."""
        self.settings = config.for_guest(request.vmid)
        """For this guest; its tags and pool count once they are known."""
        self.book = open_book(tools.open_journal)
        self.alone = Slot()
        """Of the guest, until its own commands have run."""
        self.turn = Slot()
        """Of the guest's node, until all is recorded."""
        self.freezes = Slot()
        """A call's turn at the guest's node, of the first there of a group."""
        self.beside = 1
        """How many of its group are on the guest's node, itself included."""
        self.found: FoundAhead | None = None
        """The guest, where PVE was asked for it a moment ago."""
        self.guest: Guest | None = None
        self.checks: tuple[Check, ...] = ()
        self.plan = ""
        self.expected: VerdictKind | None = None
        """In a dry run: what the snapshot would be worth if all goes as planned."""
        self.pve_may_freeze = self.pve_option_off = False
        self.option = AgentOption.parse(None)
        """The guest's, in PVE."""
        self.failure: tuple[str, str] | tuple[None, None] = (None, None)
        """Stage and reason, where the guest was to be frozen and cannot be."""
        self.snapshot: PveSnapshot | None = None
        self.window: SnapshotWindow | None = None
        """Once it is over."""
        self.answers = Answers()
        """What each way has answered to the newest window's thaw that did not do."""
        self.is_closed = False
        """Whether the window has its verdict."""
        self.verdict: Verdict | None = None
        self.disk: DiskWord | None = None
        """What the disk in the snapshot says, where it was asked."""
        self.is_contradicted = False
        """Whether it says otherwise than the answers did."""
        self.still: tuple[float | None, float | None] = None, None
        """From when until when (monotonic) a guest that is off was seen to be so."""
        self.warnings: list[str] = []
        self._is_recorded = True

    @property
    def policy(self) -> Policy:
        """What was asked for, or what is set for this guest. In a group that is all or none every guest must be frozen
        that can be at all, which a container cannot.
        """
        asked = self.request.policy or self.settings.policy
        is_qemu = self.guest is not None and self.guest.kind is GuestKind.QEMU
        is_strict = self.tools.fence.all_or_none and is_qemu and asked is Policy.PREFER
        return Policy.REQUIRE if is_strict else asked

    def named(self, taken: Container[str]) -> str:
        """The name that was asked for; else one that none of the guest's snapshots ``taken`` has."""
        prefix = self.tools.config.snapshot.name_prefix
        self.name = self.request.name or free_name(prefix, "", self.began_at, taken)
        return self.name

    def window_of(self, guest: Guest, *, others_freeze: bool = False) -> SnapshotWindow:
        """A new window of ours; see WindowSpec."""
        config, request, settings, tools = self.tools.config, self.request, self.settings, self.tools
        self.answers = Answers(ThawNews(guest.vmid, tools).heard)
        turns = tools.access.turns if tools.fence.group_id is None else None  # a group has its own: together.py
        spec = WindowSpec(
            guest=guest,
            source="snapshot",
            owner=Owner.SNAPSHOT,
            freeze_timeout_seconds=request.freeze_timeout_seconds or settings.freeze_timeout_seconds,
            max_window_seconds=request.max_window_seconds or settings.max_window_seconds,
            late_freeze_seconds=config.freeze.late_freeze_seconds,
            owner_limit_seconds=config.thaw.owner_limit_seconds,
            snapshot_name=self.name,
            others_freeze=others_freeze,
            group_id=tools.fence.group_id,
        )
        return SnapshotWindow(
            spec,
            WindowTools(
                clock=tools.clock,
                me=tools.me,
                book=self.book,
                launcher=tools.launcher,
                thawer=Thawer(
                    build_ladder(tools.access, guest, ahead=True), thawing_of(config), tools.clock, self.answers
                ),
                freezing=ApiChannel(tools.access.main, guest),
                gate=tools.gate,
                turn=lambda waits: turns.call(guest.node, self.sleep, waits) if turns is not None else Slot(),
                thawed=self._thawed,
            ),
        )

    def sleep(self, seconds: float) -> None:
        """Wait, where a signal may come through."""
        with self.tools.gate.open():
            self.tools.clock.sleep(seconds)

    def _thawed(self) -> None:
        """The rest of the group is frozen still, and its turn comes: nothing is written before."""
        with contextlib.suppress(GroupEndedError):
            self.tools.fence.reach(Milestone.THAWED, lambda: None)

    def snapshot_of(self, guest: Guest, mark: str) -> PveSnapshot:
        """This run's snapshot in PVE, which nothing is done about yet."""
        self.snapshot = PveSnapshot(guest, self.request, self.tools, name=self.name, mark=mark, warnings=self.warnings)
        return self.snapshot

    def close(self, window: SnapshotWindow, verdict: Verdict, stage: str | None, word: str | None) -> None:
        """Record the window's verdict; what cannot be written is a warning."""
        window.close(verdict, stage, word)
        self.is_closed = True
        self.warnings += window.unrecorded
        window.unrecorded.clear()

    def publish(self) -> None:
        """Metrics, last: they change nothing."""
        if self.request.dry_run:
            return
        problems = self.book.publish(self.tools.publish)
        self.warnings += [*problems, *folder_lines(self.tools.config)]
        self._is_recorded = not (problems or self.book.failed)

    def result(self, error: Failure | None) -> Result:
        """Everything that happened, and the error that ended it."""
        window, snapshot = self.window, self.snapshot
        if error is None and not (self._is_recorded and (snapshot is None or snapshot.is_described)):
            error = NotRecordedError(
                "the snapshot was taken, but not everything about it could be written", remedy="see the warnings"
            )
        return Result(
            vmid=self.request.vmid,
            name=self.name,
            policy=self.policy,
            guest=self.guest,
            checks=self.checks,
            plan=self.plan,
            expected=self.expected,
            freeze=window.reply if window else None,
            proof=window.proof if window else Proof.NOT_ASKED,
            thaw=window.report if window else None,
            times=window.times if window else WindowTimes(),
            window_id=window.id if window else None,
            upid=snapshot.upid if snapshot else None,
            task=snapshot.task if snapshot else None,
            snapshot_exists=snapshot.exists if snapshot else False,
            verdict=self.verdict,
            disk=self.disk,
            group_id=self.tools.fence.group_id,
            warnings=tuple(self.warnings),
            error=error,
        )
