"""What was left behind: windows that nobody closed, guests that are frozen. Recover, heal, status, and the rescue thaw.

Ours is what the journal says is ours. A window whose owner still lives and is within its limits is left to its owner.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from snapshot.clock import Clock
from snapshot.config import Config, ForeignFreeze
from snapshot.errors import (
    ApiError,
    ForeignFreezeError,
    GuardError,
    GuestRemovedError,
    JournalError,
    SafeSnapshotError,
    StillFrozenError,
)
from snapshot.journal import Journal, WindowRecord
from snapshot.model import FreezeState, Guest, GuestKind, Node, Report, ThawReport, VerdictKind, Vmid
from snapshot.procfs import boot_id, process_lives
from snapshot.pve import agent
from snapshot.pve.agent import ApiChannel
from snapshot.pve.guests import GuestApi
from snapshot.pve.routes import Access, build_ladder, fastest_channel
from snapshot.recording import JournalBook
from snapshot.states import State
from snapshot.window.guardcore import Cause
from snapshot.window.guardlink import GuardSpec
from snapshot.window.thaw import Thawer
from snapshot.window.thawing import late_seconds, spec_of, thawing_of, was_never_armed

ALIVE_MARGIN_SECONDS = 10.0
"""How long past its deadline a living owner is trusted to be thawing still, on top of its own limit for that."""

RECOVER_LIMIT_SECONDS = 20.0
"""How long `recover` tries one guest before it turns to the next; a guard of its own goes on where one can be had."""

LOOKED_NOTE = "every-guest-looked-at"
"""In the journal: since it was begun, a recovery has looked at every guest and left none frozen."""


class Healed(Enum):
    """Whose freeze was found, in words for a message."""

    OWN = "an earlier run"
    FOREIGN = "somebody else"
    LEFT_ALONE = "nobody"


class Recovered(NamedTuple):
    """What became of one open window or one frozen guest."""

    vmid: int
    node: str
    outcome: str
    """``thawed``, ``was-thawed``, ``watched``, ``in-progress``, ``foreign``, ``unreachable``."""
    detail: str
    window_id: str | None = None
    ok: bool = True


def heal(guest: Guest, access: Access, book: JournalBook, *, thaw_foreign: bool) -> Healed:
    """Thaw a guest that was found frozen, if it is ours or ``thaw_foreign`` says so.

    Raises StillFrozenError when the thaw could not be confirmed, ForeignFreezeError when a living run of ours owns it.
    """
    try:
        windows = book.journal.open_windows(guest.vmid)
    except JournalError:
        windows = []
    now = access.clock.time()
    living = next((w for w in windows if is_in_progress(w, access.config, now)), None)
    if living is not None:
        raise ForeignFreezeError(
            f"guest {guest.vmid} is in another run's freeze window (pid {living.owner_pid})",
            remedy="wait for it to end",
        )
    if not windows and not thaw_foreign:
        return Healed.LEFT_ALONE
    report = thaw_now(guest, access)
    for window in windows:
        settle(book, window, report, access)
    return Healed.OWN if windows else Healed.FOREIGN


def settle(book: JournalBook, window: WindowRecord, report: ThawReport, access: Access) -> float:
    """Close a window whose processes are gone, after a confirmed thaw; 0 then.

    A thaw says nothing of a freeze that may still come: such a window stays open, for `recover` and its guards, and the
    answer is for how many seconds that may be. What cannot be written is left to the next recovery too.
    """
    clock = access.clock
    late = 0.0 if was_never_armed(window) else late_seconds(window, access.config, clock)
    if late > 0:
        _note(book, window, thawed_at=clock.time(), state=State.UNKNOWN.value)
    else:
        close_recovered(book, window, report, clock)
    return late


def thaw_now(guest: Guest, access: Access, limit_seconds: float | None = None) -> ThawReport:
    """Thaw one guest, retried within ``limit_seconds`` (the owner's limit). StillFrozenError when not confirmed."""
    limit = access.config.thaw.owner_limit_seconds if limit_seconds is None else limit_seconds
    thawer = Thawer(build_ladder(access, guest), thawing_of(access.config), access.clock)
    report = thawer.until_confirmed(limit)
    if not report.confirmed:
        raise StillFrozenError(
            f"GUEST {guest.vmid} MAY STILL BE FROZEN: no thaw was confirmed in {limit:g} s ({report.detail})",
            remedy="look at its console; inside it `fsfreeze --unfreeze <mount>`; as a last resort "
            f"`qm reset {guest.vmid}`",
        )
    return report


def is_in_progress(window: WindowRecord, config: Config, now: float) -> bool:
    """Whether the window's owner or guard lives and may still be within its limits."""
    if window.boot_id != boot_id():
        return False
    limit = config.thaw.owner_limit_seconds + ALIVE_MARGIN_SECONDS
    if _lives(window.owner_pid, window.owner_pid_start) and now < window.deadline_at + limit:
        return True
    return _lives(window.guard_pid, window.guard_pid_start)


def recover(
    access: Access,
    open_journal: Callable[[], Journal],
    say: Report,
    adopt: Callable[[GuardSpec], None] | None = None,
    *,
    everywhere: bool = True,
) -> list[Recovered]:
    """Close every window that was left open: thaw what is ours, leave to the living what is theirs.

    ``adopt`` starts a guard for a window that has to stay open: its guest does not answer, or may still freeze late.
    A journal that is corrupt is set aside and started anew. A journal that no recovery has seen yet may stand in the
    place of one that got lost, whoever began it: every running guest with an agent (of this node, where we are on one)
    is looked at, until none is frozen, and reported when frozen, or thawed where the configuration says so. That takes
    seconds for each agent that is silent; not ``everywhere`` leaves it to the next recovery. Raises JournalError when
    all that was done and the journal cannot be written.
    """
    is_lost = not access.config.journal.path.exists()
    book = JournalBook(open_journal)
    windows: list[WindowRecord] = []
    is_new = True
    try:
        windows = book.journal.open_windows()
        is_new = book.journal.note(LOOKED_NOTE) is None
    except JournalError as error:
        is_lost = True
        say(error.message)
        book = JournalBook(open_journal)
    work = _Recovery(access, book, say, adopt)
    done = [work.recover(window) for window in windows]
    if is_new and everywhere:
        if is_lost:
            say("no journal tells which freezes are ours: looking at every guest")
        found = [work.found_frozen(guest) for guest in frozen_guests(access, lambda guest: _is_known(book, guest))]
        done += found
        try:
            journal = book.journal  # perhaps a new one, for the next window
            if all(guest.ok for guest in found):
                journal.set_note(LOOKED_NOTE, "1", access.clock.time())
        except JournalError as error:
            work.trouble = work.trouble or error
    if work.trouble is not None:
        raise work.trouble
    return done


def _is_known(book: JournalBook, guest: Guest) -> bool:
    """Whether a window says whose freeze this is: it was seen to already, or has begun since and is its owner's."""
    try:
        return bool(book.journal.open_windows(guest.vmid))
    except JournalError:
        return False


class _Recovery:
    """One run of `recover`."""

    def __init__(
        self, access: Access, book: JournalBook, say: Report, adopt: Callable[[GuardSpec], None] | None
    ) -> None:
        self._access = access
        self._config = access.config
        self._clock = access.clock
        self._book = book
        self._say = say
        self._adopt = adopt
        self.trouble: JournalError | None = None

    def recover(self, window: WindowRecord) -> Recovered:
        """Do what one open window needs."""
        try:
            outcome, detail, ok = self._outcome(window)
        except StillFrozenError as error:
            self._note(window, state=State.STUCK.value, failure_stage="thaw", failure_reason="no-answer")
            outcome, detail, ok = "unreachable", f"{error.message}; {self._hand_over(window)}", False
        return self._told(Recovered(window.vmid, window.node, outcome, detail, window.id, ok))

    def found_frozen(self, guest: Guest) -> Recovered:
        """A frozen guest of which nobody knows whose it is."""
        if self._access.settings_for(guest).foreign is ForeignFreeze.THAW:
            try:
                report = thaw_now(guest, self._access, self._limit)
            except StillFrozenError as error:
                return self._told(Recovered(guest.vmid, guest.node, "unreachable", error.message, ok=False))
            return self._told(Recovered(guest.vmid, guest.node, "thawed", f"confirmed over {report.route}"))
        detail = f"frozen, and no journal tells by whom: `safe-snapshot thaw {guest.vmid}` thaws it"
        return self._told(Recovered(guest.vmid, guest.node, "foreign", detail, ok=False))

    def _outcome(self, window: WindowRecord) -> tuple[str, str, bool]:
        now = self._clock.time()
        if is_in_progress(window, self._config, now):
            if (
                now < window.deadline_at + ALIVE_MARGIN_SECONDS
                or was_never_armed(window)  # a plain snapshot, say, whose task takes long: whoever froze, it was not us
                or self._state(window.guest) is not FreezeState.FROZEN
            ):
                return "in-progress", "its owner or its guard is alive", True
            # Alive and idle: stopped, or hung. The window stays theirs.
            report = thaw_now(window.guest, self._access, self._limit)
            return "thawed", f"its owner and its guard had not by its deadline; confirmed over {report.route}", True
        if window.kind == GuestKind.LXC.value:
            self._close(window, None)
            return "was-thawed", "a container is never frozen by us", True
        if was_never_armed(window):
            self._close(window, None)
            return "was-thawed", "its guard was never armed, so nothing was frozen", True
        try:
            guest = GuestApi(self._access.main).find(Vmid(window.vmid))
        except GuestRemovedError as error:
            self._close(window, None)
            return "was-thawed", error.message, True
        except SafeSnapshotError:
            guest = window.guest  # the node's own routes may still do
        if guest.kind is GuestKind.LXC:
            self._close(window, None)
            return "was-thawed", "the guest is a container now", True
        late = late_seconds(window, self._config, self._clock)
        if window.thawed_at is not None and late > 0 and self._state(guest) is FreezeState.THAWED:
            # An earlier round thawed it: another thaw would only run the guest's thaw hooks again. But not at the end:
            # an agent that was restarted may say thawed of a late freeze that it has forgotten (see GuardCore).
            return "watched", f"thawed; a late freeze is still possible; {self._hand_over(window)}", True
        report = thaw_now(guest, self._access, self._limit)
        if late > 0:
            again = {"late_freezes": window.late_freezes + 1} if window.thawed_at is not None else {}
            self._note(window, thawed_at=self._clock.time(), state=State.UNKNOWN.value, **again)
            how = "the guest is off" if report.guest_gone else "thawed"
            return "watched", f"{how}; a late freeze is still possible; {self._hand_over(window)}", True
        if window.thawed_at is not None and not report.filesystems:
            self._close(window, None)
            return "was-thawed", "no late freeze can come any more", True
        self._close(window, report)
        how = "the guest is off" if report.guest_gone else f"confirmed over {report.route}"
        return "thawed", how, True

    def _told(self, found: Recovered) -> Recovered:
        self._say(f"guest {found.vmid} on {found.node}: {found.outcome} ({found.detail})")
        return found

    @property
    def _limit(self) -> float:
        return min(RECOVER_LIMIT_SECONDS, self._config.thaw.owner_limit_seconds)

    def _state(self, guest: Guest) -> FreezeState | None:
        return guest_state(guest, self._access)

    def _hand_over(self, window: WindowRecord) -> str:
        """Start a guard that goes on where this run ends."""
        if self._adopt is None:
            return "the next recovery looks again"
        try:
            self._adopt(spec_of(window, self._config))
        except GuardError as error:
            return f"the next recovery looks again ({error.message})"
        return "a guard goes on"

    def _close(self, window: WindowRecord, report: ThawReport | None) -> None:
        self._keep(close_recovered(self._book, window, report, self._clock))

    def _note(self, window: WindowRecord, **values: object) -> None:
        self._keep(_note(self._book, window, **values))

    def _keep(self, trouble: JournalError | None) -> None:
        self.trouble = self.trouble or trouble


def close_recovered(
    book: JournalBook, window: WindowRecord, report: ThawReport | None, clock: Clock
) -> JournalError | None:
    """Close a window whose owner is gone. What cannot be written is returned, and tried again by the next recovery."""
    values: dict[str, object] = {
        "closed_at": clock.time(),
        "state": State.THAWED.value,
        "guard_cause": window.guard_cause or Cause.RECOVERY.value,
        "failure_stage": window.failure_stage or "hold",
        "failure_reason": window.failure_reason or Cause.OWNER_DIED.value,
    }
    if report is not None:
        values |= {
            "thawed_at": clock.time(),
            "thaw_attempts": report.attempts,
            "thaw_route": report.route,
            "filesystems_thawed": report.filesystems,
        }
    if window.verdict is None:
        values |= {"verdict": VerdictKind.UNKNOWN.value, "reason": "its owner died; recovered afterwards"}
    return _note(book, window, **values)


def frozen_guests(access: Access, leave_out: Callable[[Guest], bool] = lambda guest: False) -> Iterator[Guest]:
    """Running QEMU guests (of this node, where we are on one) whose agent says frozen.

    ``leave_out`` is asked first: an agent answers one client at a time, and another may be thawing through it. Raises
    ApiError when the API does not answer and this machine is no node.
    """
    for guest in _running_guests(access):
        if not leave_out(guest) and guest_state(guest, access) is FreezeState.FROZEN:
            yield guest


def _running_guests(access: Access) -> Iterable[Guest]:
    here = access.local_node
    try:
        listed = GuestApi(access.main).list()
    except ApiError:
        if not here:
            raise
        sockets = sorted(access.config.local.socket_folder.glob("*.qga"))
        vmids = [Vmid(int(path.stem)) for path in sockets if path.stem.isdigit()]
        return [Guest(vmid, Node(here), GuestKind.QEMU, running=True) for vmid in vmids]
    return [g for g in listed if g.kind is GuestKind.QEMU and g.running and (not here or g.node == here)]


def guest_state(guest: Guest, access: Access) -> FreezeState | None:
    """What the guest's agent says, over the fastest channel, else over the API; None when it does not answer."""
    for channel in (fastest_channel(access, guest), ApiChannel(access.main, guest)):
        try:
            return agent.status(channel)
        except (agent.CommandNotSentError, agent.AgentReplyLostError, agent.AgentRefusedError):
            continue
    return None


def _note(book: JournalBook, window: WindowRecord, **values: object) -> JournalError | None:
    try:
        book.update(window.id, **values)
    except JournalError as error:
        return error  # the window stays open in the journal, so the next recovery comes back to it
    return None


def _lives(pid: int | None, start: int | None) -> bool:
    return pid != os.getpid() and process_lives(pid, start)
