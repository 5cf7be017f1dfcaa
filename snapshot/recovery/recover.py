"""The recovery: windows that nobody closed, then the look at the guests (strangers.py).

Ours is what the journal says is ours. A window whose owner or guard lives is left to them, unless its guest may be
frozen past the limit. Guests that others have frozen are the business of strangers.py.
"""

from __future__ import annotations

from collections.abc import Callable

from snapshot.base.procfs import TICKS, ProcessIdentity
from snapshot.errors import (
    GuardError,
    GuestRemovedError,
    JournalError,
    SafeSnapshotError,
    StillFrozenError,
)
from snapshot.guard.link import GuardSpec, spec_of
from snapshot.journal.book import JournalBook
from snapshot.journal.living import ALIVE_MARGIN_SECONDS, is_in_progress, late_seconds
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import WindowRecord, was_never_armed
from snapshot.journal.store import Journal
from snapshot.model import FreezeState, Guest, GuestKind, Node, Say, ThawReport
from snapshot.pve import remedies
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi, Listed
from snapshot.pve.here import qemu_lives
from snapshot.pve.routes import build_ladder
from snapshot.recovery.frozen import guest_state
from snapshot.recovery.overdue import end_who_stands_still, in_vain, needs_help
from snapshot.recovery.settle import close_recovered, watch_behind_another, write
from snapshot.recovery.strangers import LOOKED_NOTE, RECOVER_LIMIT_SECONDS, Recovered, Strangers
from snapshot.states import State
from snapshot.thaw.rescue import thaw_now, what_is_left

RESTART_MARGIN_SECONDS = 60.0
"""How much later than a window's deadline a guest must have been started for the window to be over by that."""


def recover(
    access: Access,
    me: ProcessIdentity,
    open_journal: Callable[[], Journal],
    say: Say,
    adopt: Callable[[GuardSpec], None] | None = None,
    *,
    everywhere: bool = True,
    tell: Say = lambda line, at=None: None,
) -> list[Recovered]:
    """Close every window that was left open, thaw what is ours, leave to the living what is theirs; then look at the
    guests (of this node, where we are on one): who is frozen by somebody else, and of whom nobody knows.

    ``adopt`` starts a guard for a window that has to stay open: its guest does not answer, or may still freeze late.
    ``tell``: see thaw_now.
    A journal that is corrupt is set aside and started anew. While a journal is new it may stand in the place of one
    that got lost, whoever began it, and an open window may not say any more whose it is: then every guest is asked,
    and one that is frozen is an alarm at once. Not ``everywhere`` leaves the look at the guests to the next recovery.
    Raises JournalError when all that was done and the journal cannot be written, the API's error when nobody could be
    looked at.
    """
    is_lost = not access.config.journal.path.exists()
    book = JournalBook(open_journal)
    windows: list[WindowRecord] = []
    note: str | None = None
    looks: dict[str, GuestLook] = {}
    try:
        windows = book.journal.open_windows()
        is_lost = is_lost or bool(book.journal.lost_windows())
        note = None if is_lost else book.journal.note(LOOKED_NOTE)
        looks = book.journal.looks()
    except JournalError as error:
        is_lost, note = True, None
        say(error.message)
        book = JournalBook(open_journal)
    work = _Recovery(access, me, book, say, adopt, tell=tell)
    done = [work.recover(window) for window in windows if not window.is_foreign]
    if everywhere:
        if note is None and is_lost:
            say("the journal does not tell all freezes that may be ours: looking at every guest")
        around = Strangers(access, book, say, tell)
        done += around.look(looks, note)
        work.trouble = work.trouble or around.trouble
        if around.blind is not None and work.trouble is None and all(found.ok for found in done):
            raise around.blind
    if work.trouble is not None:
        raise work.trouble
    return done


class _Recovery:
    """One run of `recover`."""

    def __init__(
        self,
        access: Access,
        me: ProcessIdentity,
        book: JournalBook,
        say: Say,
        adopt: Callable[[GuardSpec], None] | None,
        *,
        tell: Say,
    ) -> None:
        self._access = access
        self._me = me
        self._config = access.config
        self._clock = access.clock
        self._book = book
        self._say = say
        self._adopt = adopt
        self._tell = tell
        self.trouble: JournalError | None = None
        self._listing: dict[int, Listed] | None = None
        self._hidden: set[int] = set()
        """Guests of windows that PVE's list lacks, though nothing says that they were removed."""

    def recover(self, window: WindowRecord) -> Recovered:
        """Do what one open window needs."""
        try:
            outcome, detail, ok = self._outcome(window)
        except StillFrozenError as error:
            stuck = {"failure_stage": "thaw", "failure_reason": "no-answer", "thaw_detail": error.message}
            self._write(window, state=State.STUCK.value, **stuck)
            hidden = "; PVE does not list it for this token" if window.vmid in self._hidden else ""
            detail = f"{error.message}{hidden}; {self._hand_over(window)}; {error.remedy}"
            outcome, ok = "unreachable", False
        return self._told(Recovered(window.vmid, window.node, outcome, detail, window.id, ok))

    def _outcome(self, window: WindowRecord) -> tuple[str, str, bool]:
        now = self._clock.time()
        if is_in_progress(window, self._config, now, self._me):
            return self._living(window, now)
        if window.kind == GuestKind.LXC.value:
            self._close(window, None)
            return "was-thawed", "a container is never frozen by us", True
        if was_never_armed(window):
            self._close(window, None)
            return "was-thawed", "its guard was never armed, so nothing was frozen", True
        # Given up, and perhaps still there: stopped on the agent's socket, it keeps everybody else from it.
        end_who_stands_still(window, now, self._me, may_be_frozen=window.thawed_at is None)
        if window.state == State.THAWED.value:
            self._close(window, None)  # it had only its verdict to write: who is frozen now is so by somebody else
            return "was-thawed", "its owner had left nothing frozen", True
        try:
            listed = self._find(window)
        except GuestRemovedError as error:
            self._close(window, None)
            return "was-thawed", error.message, True
        guest = self._guest_of(window) if listed is None else listed.guest  # the node's own routes may still do
        if guest.kind is GuestKind.LXC:
            self._close(window, None)
            return "was-thawed", "the guest is a container now", True
        late = late_seconds(window, self._config, self._clock, self._me)
        is_another = late <= 0 and listed is not None and _started_since(window, listed, now, self._me)
        if is_another and self._state(guest) is None:
            # Nobody to thaw it through, and none who holds it. One that answers gets its thaw.
            self._close(window, None)
            return "was-thawed", "the guest was started again since: nothing is left of its freeze", True
        if window.thawed_at is not None and late > 0 and self._state(guest) is FreezeState.THAWED:
            # An earlier round thawed it: another thaw would only run the guest's thaw hooks again. But not at the end:
            # an agent that was restarted may say thawed of a late freeze that it has forgotten (see GuardCore).
            return "watched", f"thawed; a late freeze is still possible; {self._hand_over(window)}", True
        report = thaw_now(guest, self._access, self._limit, tell=self._tell)
        watch_behind_another(window._replace(node=guest.node), report, self._access, self._me, self._limit)
        if late_seconds(window, self._config, self._clock, self._me, report) > 0:
            again = {"late_freezes": window.late_freezes + 1} if window.thawed_at is not None else {}
            self._write(window, thawed_at=self._clock.time(), state=State.UNKNOWN.value, **again)
            how = report.how if report.guest_gone or report.from_inside else "thawed"
            return "watched", f"{how}; a late freeze is still possible; {self._hand_over(window)}", True
        if window.thawed_at is not None and not report.filesystems:
            self._close(window, None)
            return "was-thawed", "no late freeze can come any more", True
        self._close(window, report)
        return "thawed", report.how, True

    def _living(self, window: WindowRecord, now: float) -> tuple[str, str, bool]:
        """A window whose owner or guard lives. Past its deadline nobody is believed who may stand still."""
        is_late = now >= window.deadline_at + ALIVE_MARGIN_SECONDS and not was_never_armed(window)
        # A plain snapshot, say, whose task takes long: whoever froze, it was not us.
        in_need = needs_help(window, self._config, now, self._me)
        if not is_late and not in_need:
            return "in-progress", "its owner or its guard is alive", True
        has_ended = end_who_stands_still(window, now, self._me)
        if has_ended and not is_in_progress(window, self._config, now, self._me):
            return self._outcome(window)
        # Until then a guard that tries in vain is told, and its guest's agent is its own.
        state = self._state(window.guest) if is_late else None
        if is_late and state is not FreezeState.THAWED and (state is FreezeState.FROZEN or window.thawed_at is None):
            # Who was stopped while it sat on the agent's socket keeps everybody else from it, the guard too.
            has_ended |= end_who_stands_still(window, now, self._me, may_be_frozen=True)
        if state is FreezeState.FROZEN or (in_need and (state is FreezeState.THAWED or has_ended)):
            report = thaw_now(window.guest, self._access, self._limit, tell=self._tell)
            if in_need:  # for `status`, and the next recovery
                was_stuck = window.state == State.STUCK.value
                self._write(window, thawed_at=now, **({"state": State.UNKNOWN.value} if was_stuck else {}))
            return "thawed", f"its owner and its guard had not by its deadline; {report.how}", True
        if in_need:
            text = f"GUEST {window.vmid} MAY STILL BE FROZEN: {in_vain(window, now)}"
            is_forbidden = remedies.FORBIDDEN_TEXT in (window.thaw_detail or "")
            left = what_is_left(window.guest, self._access, is_offline=False, is_forbidden=is_forbidden)
            return "stuck", f"{text}; {left}", False
        return "in-progress", "its owner or its guard is alive", True

    def _guest_of(self, window: WindowRecord) -> Guest:
        """The guest by what the window says, and what this node sees."""
        guest, here = window.guest, self._access.local_node
        if here and guest.node != here and qemu_lives(self._config.local.socket_folder, guest.vmid):
            return guest._replace(node=Node(here))
        return guest

    def _find(self, window: WindowRecord) -> Listed | None:
        """The guest as PVE lists it; None when PVE does not tell. GuestRemovedError when it certainly is no more."""
        if self._listing is None:
            try:
                rows = GuestApi(self._access.main).listing()
            except SafeSnapshotError:
                return None
            self._listing = {listed.guest.vmid: listed for listed in rows}
        if not self._listing:
            return None  # a token that suddenly sees no guest at all: that is no word on this one
        if window.vmid not in self._listing:
            build_ladder(self._access, window.guest).relocate()  # a list alone is no proof: the token may not see it
            self._hidden.add(window.vmid)
            return None
        listed, here = self._listing[window.vmid], self._access.local_node
        if here and listed.guest.node != here and qemu_lives(self._config.local.socket_folder, window.vmid):
            return Listed(listed.guest._replace(node=Node(here)))  # the list is older than its move
        return listed

    def _told(self, found: Recovered) -> Recovered:
        self._say(found.line)
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

    def _write(self, window: WindowRecord, **values: object) -> None:
        self._keep(write(self._book, window, **values))

    def _keep(self, trouble: JournalError | None) -> None:
        self.trouble = self.trouble or trouble


def _started_since(window: WindowRecord, listed: Listed, now: float, me: ProcessIdentity) -> bool:
    """Whether this QEMU was started when the window was over: a freeze does not outlive the process.

    By the wall clock, which may have been set forward, and by the time since this machine's boot, which nobody sets:
    the guard was started right before the freeze, or in an earlier boot; we were started just now. In doubt it was not.
    One that has moved is younger than its guest.
    """
    if listed.status != "running" or listed.uptime is None or listed.guest.node != window.node or not window.boot_id:
        return False
    lasted = max(0.0, window.deadline_at - window.intent_at) + RESTART_MARGIN_SECONDS
    if window.boot_id != me.boot_id:
        since = lasted = 0.0
    elif window.guard_pid_start is None:
        return False
    else:
        since = window.guard_pid_start / TICKS
    is_young = listed.uptime + lasted < me.start / TICKS - since
    return is_young and now - listed.uptime > window.deadline_at + RESTART_MARGIN_SECONDS
