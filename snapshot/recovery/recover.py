"""What was left behind: windows that nobody closed, guests that are frozen. Recover, heal, and the rescue thaw.

Ours is what the journal says is ours. A window whose owner or guard lives is left to them, unless its guest may be
frozen past the limit. Guests that others have frozen are the business of strangers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from snapshot.base.clock import Clock
from snapshot.base.hardening import end_if_it_stands_still
from snapshot.base.procfs import TICKS, ProcessIdentity, process_lives
from snapshot.config.settings import Config
from snapshot.errors import (
    ForeignFreezeError,
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
from snapshot.journal.record import Cause, may_be_frozen, was_never_armed
from snapshot.journal.store import Journal, WindowRecord
from snapshot.model import FreezeState, Guest, GuestKind, Node, Say, ThawReport, VerdictKind
from snapshot.pve import remedies
from snapshot.pve.access import Access
from snapshot.pve.guests import GuestApi, Listed
from snapshot.pve.here import qemu_lives
from snapshot.pve.routes import build_ladder
from snapshot.recovery import foreign
from snapshot.recovery.frozen import guest_state
from snapshot.recovery.strangers import LOOKED_NOTE, RECOVER_LIMIT_SECONDS, Recovered, Strangers
from snapshot.states import State
from snapshot.thaw.rescue import thaw_now, what_is_left
from snapshot.thaw.thawer import CARRIED_OUT_SECONDS
from snapshot.words import Word

RESTART_MARGIN_SECONDS = 60.0
"""How much later than a window's deadline a guest must have been started for the window to be over by that."""


class Healed(Enum):
    """Whose freeze was found, in words for a message."""

    OWN = "an earlier run"
    FOREIGN = "somebody else"
    LEFT_ALONE = "nobody"


def heal(
    guest: Guest,
    access: Access,
    book: JournalBook,
    me: ProcessIdentity,
    *,
    thaw_foreign: bool,
    is_locked: bool = False,
) -> Healed:
    """Thaw a guest that was found frozen, if it is ours or ``thaw_foreign`` says so.

    ``is_locked``: PVE's lock of this backup is on the guest, so nobody can be taking a snapshot of it: whoever froze it
    proves nothing by that any more.

    Raises StillFrozenError when the thaw could not be confirmed; ForeignFreezeError when a living run of ours owns it,
    or when it is somebody else's freeze that may not have lasted for as long as a window may: then it is recorded, so
    that the next one who asks knows since when.
    """
    try:
        windows = book.journal.open_windows(guest.vmid)
    except JournalError:
        windows = []
    now = access.clock.time()
    ours = [window for window in windows if not window.is_foreign]
    living = next((w for w in ours if is_in_progress(w, access.config, now, me)), None)
    if living is not None and living.state == State.STUCK.value:
        raise StillFrozenError(
            f"GUEST {guest.vmid} MAY STILL BE FROZEN: {in_vain(living, now)}",
            remedy=remedies.of_stuck(guest.vmid, living.thaw_detail),
        )
    if living is not None:
        raise ForeignFreezeError(
            f"guest {guest.vmid} is in another run's freeze window (pid {living.owner_pid})",
            remedy="wait for it to end",
        )
    if not ours:
        if not thaw_foreign:
            return Healed.LEFT_ALONE
        if not is_locked:
            windows = [_foreign_long_enough(guest, windows, access, book)]
    report = thaw_now(guest, access)
    for window in windows:
        if window.is_foreign:
            foreign.close(book, window, f"thawed before a run of ours, over {report.route}", access.clock)
        else:
            settle(book, window, report, access)
    return Healed.OWN if ours else Healed.FOREIGN


def _foreign_long_enough(guest: Guest, known: list[WindowRecord], access: Access, book: JournalBook) -> WindowRecord:
    """The window of somebody else's freeze that may be thawed by now; ForeignFreezeError when it may not."""
    settings, now = access.settings_for(guest), access.clock.time()
    window = next(iter(known), None)
    if window is None:
        window = foreign.first_seen(guest, settings, now)
        book.try_begin(window)
    wait = foreign.thaw_wait_seconds(window, access.config, settings, now)
    if wait > 0:
        raise ForeignFreezeError(
            f"guest {guest.vmid} is frozen by somebody else, for {foreign.span(now - window.intent_at)} as far as is "
            "known: that may be a window of another machine of ours, which a thaw would break",
            remedy=f"try again in {wait:.0f} s, or `safe-snapshot thaw {guest.vmid}` thaws it now",
        )
    return window


def settle(book: JournalBook, window: WindowRecord, report: ThawReport, access: Access) -> float:
    """Close a window whose processes are gone, after a confirmed thaw; 0 then.

    A thaw that counted nothing says nothing of a freeze that may still come: such a window stays open, for `recover`
    and its guards, and the answer is for how many seconds that may be. What cannot be written is left to the next one.
    """
    clock = access.clock
    _watch_behind_another(window, report, access)
    late = 0.0 if was_never_armed(window) else late_seconds(window, access.config, clock, report)
    if late > 0:
        _note(book, window, thawed_at=clock.time(), state=State.UNKNOWN.value)
    else:
        close_recovered(book, window, report, clock)
    return late


def _watch_behind_another(
    window: WindowRecord, report: ThawReport, access: Access, limit_seconds: float | None = None
) -> None:
    """A thaw that counted a filesystem has undone the window's one freeze, unless another's was in front of it in PVE's
    queue: it is watched for as long as a guard would, for nobody does afterwards.

    StillFrozenError when it was, and cannot be thawed.
    """
    if report.filesystems and not was_never_armed(window) and late_seconds(window, access.config, access.clock) > 0:
        access.clock.sleep(CARRIED_OUT_SECONDS)
        if guest_state(window.guest, access) is not FreezeState.THAWED:
            thaw_now(window.guest, access, limit_seconds)


def needs_help(window: WindowRecord, config: Config, now: float, me: ProcessIdentity) -> bool:
    """Whether an open window is somebody's to look at: nobody sees to it, or who does has not thawed its guest in time.

    A guest that may be frozen past its deadline is told at once: whoever lives goes on, but it may not get there.
    """
    if window.is_foreign:
        return now >= window.deadline_at
    if not is_in_progress(window, config, now, me) or window.state == State.STUCK.value:
        return True
    return may_be_frozen(window) and now >= window.deadline_at + ALIVE_MARGIN_SECONDS


def end_who_stands_still(window: WindowRecord, now: float, me: ProcessIdentity, *, may_be_frozen: bool = False) -> bool:
    """End a process of ours that was stopped and is past its window's deadline; True when one has ended.

    It may hold the agent's seat, and turns every later run away for as long as it stands there, whatever the agent
    says. Who holds a backup's window may be paused with vzdump while its guest is thawed, but not when it
    ``may_be_frozen``.
    """
    if window.is_foreign or window.boot_id != me.boot_id or was_never_armed(window):
        return False
    if now < window.deadline_at + ALIVE_MARGIN_SECONDS:
        return False
    has_ended = end_if_it_stands_still(window.guard_pid, window.guard_pid_start)
    if window.source == "snapshot" or may_be_frozen:
        has_ended |= end_if_it_stands_still(window.owner_pid, window.owner_pid_start)
    return has_ended


def in_vain(window: WindowRecord, now: float) -> str:
    """Who tries to thaw the guest of a window that needs help, though somebody lives who sees to it."""
    if window.state == State.STUCK.value:
        return "nobody can thaw it, its guard goes on trying"
    late = foreign.span(now - window.deadline_at)
    return f"{late} past its deadline no thaw is confirmed; its owner or its guard is alive and goes on trying"


def recover(
    access: Access,
    me: ProcessIdentity,
    open_journal: Callable[[], Journal],
    say: Say,
    adopt: Callable[[GuardSpec], None] | None = None,
    *,
    everywhere: bool = True,
) -> list[Recovered]:
    """Close every window that was left open, thaw what is ours, leave to the living what is theirs; then look at the
    guests (of this node, where we are on one): who is frozen by somebody else, and of whom nobody knows.

    ``adopt`` starts a guard for a window that has to stay open: its guest does not answer, or may still freeze late.
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
    work = _Recovery(access, me, book, say, adopt)
    done = [work.recover(window) for window in windows if not window.is_foreign]
    if everywhere:
        if note is None and is_lost:
            say("the journal does not tell all freezes that may be ours: looking at every guest")
        around = Strangers(access, book, say)
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
    ) -> None:
        self._access = access
        self._me = me
        self._config = access.config
        self._clock = access.clock
        self._book = book
        self._say = say
        self._adopt = adopt
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
            self._note(window, state=State.STUCK.value, **stuck)
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
        late = late_seconds(window, self._config, self._clock)
        is_another = late <= 0 and listed is not None and _started_since(window, listed, now, self._me)
        if is_another and self._state(guest) is None:
            # Nobody to thaw it through, and none who holds it. One that answers gets its thaw.
            self._close(window, None)
            return "was-thawed", "the guest was started again since: nothing is left of its freeze", True
        if window.thawed_at is not None and late > 0 and self._state(guest) is FreezeState.THAWED:
            # An earlier round thawed it: another thaw would only run the guest's thaw hooks again. But not at the end:
            # an agent that was restarted may say thawed of a late freeze that it has forgotten (see GuardCore).
            return "watched", f"thawed; a late freeze is still possible; {self._hand_over(window)}", True
        report = thaw_now(guest, self._access, self._limit)
        _watch_behind_another(window._replace(node=guest.node), report, self._access, self._limit)
        if late_seconds(window, self._config, self._clock, report) > 0:
            again = {"late_freezes": window.late_freezes + 1} if window.thawed_at is not None else {}
            self._note(window, thawed_at=self._clock.time(), state=State.UNKNOWN.value, **again)
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
            report = thaw_now(window.guest, self._access, self._limit)
            if in_need:  # for `status`, and the next recovery
                was_stuck = window.state == State.STUCK.value
                self._note(window, thawed_at=now, **({"state": State.UNKNOWN.value} if was_stuck else {}))
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

    def _note(self, window: WindowRecord, **values: object) -> None:
        self._keep(_note(self._book, window, **values))

    def _keep(self, trouble: JournalError | None) -> None:
        self.trouble = self.trouble or trouble


def close_recovered(
    book: JournalBook, window: WindowRecord, report: ThawReport | None, clock: Clock
) -> JournalError | None:
    """Close a window that its owner did not. What cannot be written is returned, and tried again by the next recovery.

    An owner may live and be given up all the same: the clock has jumped, or it stands still. It has not died.
    """
    lives = process_lives(window.owner_pid, window.owner_pid_start)
    values: dict[str, object] = {
        "closed_at": clock.time(),
        "state": State.THAWED.value,
        "guard_cause": window.guard_cause or Cause.RECOVERY.value,
        "failure_stage": window.failure_stage or "hold",
        "failure_reason": window.failure_reason or (Word.DEADLINE if lives else Word.OWNER_DIED).value,
    }
    if report is not None:
        values |= {"thawed_at": clock.time(), **foreign.thawed_values(report)}
    if window.verdict is None:
        why = "its owner had not closed it by its deadline" if lives else "its owner died"
        values |= {"verdict": VerdictKind.UNKNOWN.value, "reason": f"{why}; recovered afterwards"}
    return _note(book, window, **values)


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


def _note(book: JournalBook, window: WindowRecord, **values: object) -> JournalError | None:
    try:
        book.update(window.id, **values)
    except JournalError as error:
        return error  # the window stays open in the journal, so the next recovery comes back to it
    return None
