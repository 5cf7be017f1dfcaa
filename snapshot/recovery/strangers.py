"""The minute's look at the guests, and what is done about those that somebody else has frozen.

A freeze that no window of ours explains is recorded as a window of its own (foreign.py has the rules), told when it is
an alarm, thawed where the operator wants that and it may be, and closed when it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from snapshot.errors import GuestRemovedError, JournalError, SafeSnapshotError, StillFrozenError
from snapshot.journal.book import JournalBook
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import WindowRecord
from snapshot.model import FreezeState, Guest, Say
from snapshot.pve.access import Access
from snapshot.pve.atwork import at_work
from snapshot.pve.routes import build_ladder
from snapshot.recovery import foreign
from snapshot.recovery.frozen import Round, look_at_guests
from snapshot.recovery.labels import look_at_labels
from snapshot.thaw.rescue import thaw_now

RECOVER_LIMIT_SECONDS = 20.0
"""How long `recover` tries one guest before it turns to the next; a guard of its own goes on where one can be had."""

LOOKED_NOTE = "every-guest-looked-at"
"""In the journal, once a recovery has looked at the guests since it was begun: the ids of those whose state has not
been known since. Until then a frozen guest may be our own, known to a journal that got lost."""


class Recovered(NamedTuple):
    """What became of one open window or one frozen guest."""

    vmid: int
    node: str
    outcome: str
    """``thawed``, ``was-thawed``, ``watched``, ``in-progress``, ``stuck``, ``foreign``, ``unreachable``, or
    ``not-known``."""
    detail: str
    window_id: str | None = None
    ok: bool = True
    why: str = ""
    """With ``not-known``: the reason, a fixed word; else empty."""

    @property
    def line(self) -> str:
        """The same in one line, for a person."""
        return f"guest {self.vmid} on {self.node}: {self.outcome} ({self.detail})"


class Strangers:
    """One look. ``trouble`` and ``blind`` say what went wrong with the journal, and with PVE's list of guests."""

    def __init__(self, access: Access, book: JournalBook, say: Say, tell: Say = lambda line, at=None: None) -> None:
        self._access = access
        self._config = access.config
        self._clock = access.clock
        self._book = book
        self._say = say
        self._tell = tell
        self.trouble: JournalError | None = None
        self.blind: SafeSnapshotError | None = None

    def look(self, earlier: dict[str, GuestLook], note: str | None) -> list[Recovered]:
        """Look at every guest; what somebody else's freeze, and what nobody could be asked, comes to."""
        windows = self._open_windows()
        strangers = {window.vmid: self._not_ahead(window) for window in windows if window.is_foreign}
        found = look_at_guests(
            self._access,
            earlier,
            leave_out={window.vmid for window in windows if not window.is_foreign},
            must_ask=strangers,
            is_first=note is None,
        )
        if found.problem is not None:
            if found.is_blind:
                self.blind = found.problem
            else:
                self._say(f"PVE cannot be asked for its guests ({found.problem.message}): asking those of this node")
        for oddity in found.oddities:
            self._say(f"warning: {oddity}")
        since = None if note is None else frozenset(note.split())
        done: list[Recovered] = []
        for look in found.looks:
            window = strangers.pop(look.vmid, None)
            is_lost = since is None or look.id in since
            if look.state == FreezeState.FROZEN.value:
                done.append(self._frozen(found.guests[look.id], look, window, earlier.get(look.id), is_lost=is_lost))
            elif window is not None:
                done += self._not_frozen(window, look)
        done += [self._gone(window, found) for window in strangers.values()]
        unsure = {look.id for look in (*found.unknown, *(row for row in found.looks if row.state == "frozen"))}
        unsure = unsure if since is None else unsure & since
        if not found.is_blind:
            self._remember(found, " ".join(sorted(unsure)), note)
        return done + [Recovered(r.vmid, r.node, "not-known", "", why=r.why) for r in found.unknown]

    def _not_ahead(self, window: WindowRecord) -> WindowRecord:
        """The clock was set back since: what lies ahead counts from now, or its alarm would wait for that long."""
        now = self._clock.time()
        if max(window.intent_at, window.frozen_at or 0.0) <= now:
            return window
        ahead = max(0.0, window.intent_at - now)
        frozen_at = min(now, window.frozen_at) if window.frozen_at is not None else None
        values = {
            "intent_at": window.intent_at - ahead,
            "deadline_at": window.deadline_at - ahead,
            "frozen_at": frozen_at,
        }
        self._write(self._book.update, window.id, **values)
        return window._replace(**values)  # type: ignore[arg-type]

    def _frozen(
        self, guest: Guest, look: GuestLook, window: WindowRecord | None, before: GuestLook | None, *, is_lost: bool
    ) -> Recovered:
        """A guest that is frozen, and by no window of ours."""
        settings, now = self._access.settings_for(guest), self._clock.time()
        work = at_work(self._access, guest)
        if window is None:
            window = foreign.first_seen(guest, settings, now, look, before, thawed_at=self._last_thaw(guest))
            window = window._replace(deadline_at=foreign.deadline_of(window.intent_at, settings, work, is_lost=is_lost))
            self._write(self._book.begin, window)
        else:
            is_lost = is_lost and window.deadline_at <= window.intent_at
            deadline_at = foreign.deadline_of(window.intent_at, settings, work, is_lost=is_lost)
            if deadline_at != window.deadline_at:
                window = window._replace(deadline_at=deadline_at)
                self._write(self._book.update, window.id, deadline_at=deadline_at)
        wait = foreign.thaw_wait_seconds(window, self._config, settings, now)
        if not work and foreign.may_thaw(settings) and (wait <= 0 or is_lost):
            return self._thaw_foreign(guest, window)
        span = f"for {foreign.span(now - window.intent_at)} at most"
        whom = f"PVE's {work} is at work on it" if work else "nobody known is at work on it"
        if now < window.deadline_at:
            text = f"frozen by somebody else {span}, {whom}: an alarm in {window.deadline_at - now:.0f} s"
            return self._told(Recovered(guest.vmid, guest.node, "foreign", text, window.id))
        how = f"in {wait:.0f} s" if foreign.may_thaw(settings) and not work else ""
        text = (
            f"GUEST {guest.vmid} IS FROZEN, by somebody else, {span}, {whom}: `safe-snapshot thaw {guest.vmid}` "
            "thaws it" + (f'; [freeze] foreign = "thaw" does {how}' if how else "")
        )
        return self._told(Recovered(guest.vmid, guest.node, "foreign", text, window.id, ok=False))

    def _last_thaw(self, guest: Guest) -> float | None:
        try:
            return foreign.last_thaw(self._book.journal, guest.vmid)
        except JournalError as error:
            self._keep(error)
            return None

    def _thaw_foreign(self, guest: Guest, window: WindowRecord) -> Recovered:
        try:
            limit = min(RECOVER_LIMIT_SECONDS, self._config.thaw.owner_limit_seconds)
            report = thaw_now(guest, self._access, limit, tell=self._tell)
        except StillFrozenError as error:
            return self._told(Recovered(guest.vmid, guest.node, "unreachable", str(error), window.id, ok=False))
        self._keep(
            foreign.close(
                self._book, window, f"thawed by us, {report.how}", self._clock, **foreign.thawed_values(report)
            )
        )
        return self._told(Recovered(guest.vmid, guest.node, "thawed", report.how, window.id))

    def _not_frozen(self, window: WindowRecord, look: GuestLook) -> list[Recovered]:
        """A guest that somebody else had frozen: thawed by now, or nobody knows."""
        if look.state == FreezeState.THAWED.value:
            return [self._ended(window, "whoever froze it thawed it")]
        now = self._clock.time()
        if now < window.deadline_at:
            return []  # told with those that are not known
        text = f"GUEST {window.vmid} MAY STILL BE FROZEN, by somebody else: it was, and nobody could ask it since"
        return [self._told(Recovered(window.vmid, window.node, "foreign", text, window.id, ok=False))]

    def _gone(self, window: WindowRecord, found: Round) -> Recovered:
        """A guest that somebody else had frozen, and that is not among the running ones of this node any more."""
        if found.problem is not None:
            text = f"it was frozen by somebody else, and PVE does not say where it is ({found.problem.message})"
            ok = self._clock.time() < window.deadline_at
            return self._told(Recovered(window.vmid, window.node, "foreign", text, window.id, ok))
        if window.vmid not in found.listed and not self._is_removed(window):
            text = "it was frozen by somebody else, and PVE does not list it for this token"
            ok = self._clock.time() < window.deadline_at
            return self._told(Recovered(window.vmid, window.node, "foreign", text, window.id, ok))
        return self._ended(window, "it is off, removed, or on another node")

    def _is_removed(self, window: WindowRecord) -> bool:
        """A list alone is no proof: the token may have lost its right to the guest."""
        try:
            build_ladder(self._access, window.guest).relocate()
        except GuestRemovedError:
            return True
        except SafeSnapshotError:
            pass
        return False

    def _ended(self, window: WindowRecord, how: str) -> Recovered:
        self._keep(foreign.close(self._book, window, how, self._clock))
        span = foreign.span(self._clock.time() - window.intent_at)
        text = f"it had been frozen by somebody else for {span} at most; {how}"
        return self._told(Recovered(window.vmid, window.node, "was-thawed", text, window.id))

    def _open_windows(self) -> list[WindowRecord]:
        try:
            return self._book.journal.open_windows()
        except JournalError as error:
            self._keep(error)
            return []

    def _remember(self, found: Round, note: str, earlier: str | None) -> None:
        try:
            journal = self._book.journal  # perhaps a new one, for the next window
            journal.put_looks(found.looks)
            if note != earlier:
                journal.set_note(LOOKED_NOTE, note, self._clock.time())
            if earlier is None:  # what they may have left frozen is an alarm by now, or among those of the note
                journal.close_lost_windows(self._clock.time())
            look_at_labels(self._access, journal, found.guests.values(), self._clock.time())
        except JournalError as error:
            self._keep(error)

    def _told(self, found: Recovered) -> Recovered:
        self._say(found.line)
        return found

    def _write(self, write: Callable[..., None], *values: Any, **columns: Any) -> None:
        try:
            write(*values, **columns)
        except JournalError as error:
            self._keep(error)

    def _keep(self, trouble: JournalError | None) -> None:
        self.trouble = self.trouble or trouble
