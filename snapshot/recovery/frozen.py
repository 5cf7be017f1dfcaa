"""The look at the guests: which of them are frozen, which are not, and of which nobody knows.

One request lists them all, with what their disks have been written. Who writes is not frozen, and is not asked. A
running guest whose counter stands still since the last look is asked for its status: over the agent's socket on its own
node, which costs PVE nothing; over the API elsewhere, where a silent agent occupies one of PVE's three workers for 3 to
8 s, so that all questions of a round together have PVE_SECONDS, and a silent agent is asked ever more seldom.

Nothing is thawed or recorded here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from snapshot.errors import ApiDeniedError, SafeSnapshotError
from snapshot.journal.looks import GuestLook, Why
from snapshot.model import FreezeState, Guest, GuestKind, Node
from snapshot.pve import agent
from snapshot.pve.access import Access, fastest_channel
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, ApiChannel, CommandNotSentError
from snapshot.pve.guests import AgentOption, GuestApi, Listed
from snapshot.pve.here import qemu_lives

T = TypeVar("T")
R = TypeVar("R")

PVE_SECONDS = 10.0
"""For how long the questions of one round may occupy a worker of PVE's, all together."""

QUESTION_SECONDS = 8.0
"""For how long one question can: PVE's ping, 3 s, and the status, 5 s (PVE::QMPClient)."""

SOCKETS_AT_ONCE = 32
"""How many agents are waited for at the same time over their sockets: silent ones take 3 s each."""

FIRST_BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS = 60.0, 600.0
"""An agent that did not answer twice in a row is asked again after two minutes, then four, then after ten."""

ODD_LINES = 3
"""How many things in PVE's list that make no sense are told one by one."""

CLOCK_MARGIN_SECONDS = 10.0
"""pvestatd counts every 10 s: an uptime may be so old."""


class Round(NamedTuple):
    """One look at every guest."""

    looks: tuple[GuestLook, ...]
    guests: Mapping[str, Guest]
    """The guests of ``looks``, by their id, as PVE lists them."""
    problem: SafeSnapshotError | None = None
    """Why PVE could not be asked which guests there are; then ``looks`` holds those that the node itself shows."""
    pve_seconds: float = 0.0
    """For how long questions occupied PVE's workers."""
    listed: Collection[int] = ()
    """Every vmid that PVE lists."""
    oddities: tuple[str, ...] = ()
    """What PVE's list holds that makes no sense, and was left out: a guest, perhaps, that nobody looks at."""

    @property
    def is_blind(self) -> bool:
        """Whether nobody could say which guests there are."""
        return self.problem is not None and not self.looks

    @property
    def frozen(self) -> tuple[Guest, ...]:
        """Guests whose agent says frozen, or said so when it was last heard."""
        return tuple(self.guests[look.id] for look in self.looks if look.state == FreezeState.FROZEN.value)

    @property
    def unknown(self) -> tuple[GuestLook, ...]:
        """Guests that could not be asked, or whose turn has not come; not those that nobody can freeze."""
        return tuple(look for look in self.looks if not look.state and look.why not in _NO_MATTER)


_NO_MATTER = frozenset({Why.AGENT_OFF.value, Why.OUR_WINDOW.value, ""})
"""Nobody can freeze it through an agent; or its owner and its guard see to it."""


def look_at_guests(
    access: Access,
    earlier: Mapping[str, GuestLook],
    *,
    leave_out: Collection[int] = (),
    must_ask: Collection[int] = (),
    is_first: bool = False,
    is_eager: bool = False,
) -> Round:
    """One round. ``earlier`` is what the round before saw. Never raises for what PVE or an agent may answer.

    ``leave_out``: vmids in a window of ours, whose agents are in use. ``must_ask``: vmids that were seen frozen.
    ``is_first``: ask also guests that were never seen before; ``is_eager``: and those that were silent a moment ago.
    """
    now = access.clock.time()
    listing, vmids, problem, oddities = _listing(access)
    guests = {listed.guest.id: listed.guest for listed in listing}
    rows = {listed.guest.id: _carry_over(listed, earlier.get(listed.guest.id), access, now) for listed in listing}
    rows = {
        identity: row._replace(run_limit_seconds=limit)
        for (identity, row), limit in zip(rows.items(), _run_limits(access, listing, earlier, problem), strict=True)
    }
    asked: list[GuestLook] = []
    for identity, row in rows.items():
        if row.vmid in leave_out:
            rows[identity] = row._replace(state="", why=Why.OUR_WINDOW.value)
        elif row.why in (Why.NODE_OFFLINE.value, Why.AGENT_OFF.value):
            continue
        elif row.vmid in must_ask or row.state == FreezeState.FROZEN.value:
            asked.append(row)
        elif row.still_since_at is None or not row.running:
            continue  # it writes
        elif is_eager or (is_first if identity not in earlier else _is_due(row, now)):
            asked.append(row)
    questions = _Questions(access, guests)
    for answered in questions.ask(sorted(asked, key=_order)):
        rows[answered.id] = answered
    return Round(tuple(rows.values()), guests, problem, questions.pve_seconds, vmids, oddities)


def _run_limits(
    access: Access, listing: Iterable[Listed], earlier: Mapping[str, GuestLook], problem: object
) -> Iterator[float | None]:
    """How old each guest's last guarded run may get. Tags and pools are PVE's to say: without it, as it was."""
    folds_tags = functools.cache(access.folds_tags)
    for guest in (listed.guest for listed in listing):
        before = earlier.get(guest.id)
        if problem is not None:
            yield before.run_limit_seconds if before is not None else None
        else:
            yield access.config.for_guest(guest.vmid, guest.tags, guest.pool, folds_tags).run_limit_seconds


def _carry_over(listed: Listed, before: GuestLook | None, access: Access, now: float) -> GuestLook:
    """What is known of a guest before anybody asks it."""
    guest, counter = listed.guest, listed.diskwrite
    row = GuestLook(guest.id, guest.vmid, guest.node, guest.name, guest.running, now, counter, why=Why.NOT_ASKED.value)
    if not guest.running:
        return row._replace(why=Why.NODE_OFFLINE.value)
    if access.is_local(guest) and access.socket(guest) is None:
        return row._replace(why=Why.AGENT_OFF.value)  # PVE makes the socket when a guest with an agent starts
    started_at = now - listed.uptime if listed.uptime is not None else None
    if before is not None and started_at is not None and started_at > before.seen_at + CLOCK_MARGIN_SECONDS:
        before = None  # another QEMU: what the one before wrote, and whether it was frozen, says nothing
    if before is None:
        return row._replace(still_since_at=now)
    row = row._replace(asked_at=before.asked_at, silent=before.silent)
    if counter is not None and before.diskwrite is not None and counter != before.diskwrite:
        if before.state == FreezeState.FROZEN.value:
            # What was on its way when it froze may have been counted later.
            return row._replace(state=before.state, why="", frozen_since_at=before.frozen_since_at)
        return row._replace(state=FreezeState.THAWED.value, why="")
    still_since_at = before.still_since_at if before.still_since_at is not None else before.seen_at
    row = row._replace(still_since_at=still_since_at, frozen_since_at=before.frozen_since_at)
    if before.state == FreezeState.FROZEN.value:
        return row._replace(state=before.state, why="")
    return row._replace(why=before.why if before.silent else Why.NOT_ASKED.value)


def _is_due(row: GuestLook, now: float) -> bool:
    if row.silent <= 1 or row.asked_at is None:
        return True
    wait = min(FIRST_BACK_OFF_SECONDS * 2.0 ** min(row.silent - 1, 10), LONGEST_BACK_OFF_SECONDS)
    return not row.asked_at <= now < row.asked_at + wait  # a clock that was set back must not silence us


def _order(row: GuestLook) -> tuple[bool, int, float]:
    """The frozen first, then who answers, then who was not asked for longest: time may not suffice for all."""
    return row.state != FreezeState.FROZEN.value, row.silent, row.asked_at or 0.0


class _Questions:
    """The questions of one round."""

    def __init__(self, access: Access, guests: Mapping[str, Guest]) -> None:
        self._access = access
        self._guests = guests
        self._api = GuestApi(access.main)
        self.pve_seconds = 0.0

    def ask(self, rows: Iterable[GuestLook]) -> Iterable[GuestLook]:
        """The rows with their answers; those that there was no time for are left as they were."""
        near: list[tuple[GuestLook, AgentChannel]] = []
        far: list[GuestLook] = []
        for row in rows:
            socket = self._access.socket(self._guests[row.id])
            if socket is None:
                far.append(row)
            else:
                near.append((row, socket))
        yield from _at_once(lambda pair: self._answer(*pair), near)
        for row in far:
            if self.pve_seconds and self.pve_seconds + QUESTION_SECONDS > PVE_SECONDS:
                return
            began = self._access.clock.monotonic()
            answer = self._answer(row, ApiChannel(self._access.main, self._guests[row.id]))
            if answer.why == Why.AGENT_SILENT.value and self._is_switched_off(row):
                answer = answer._replace(why=Why.AGENT_OFF.value)
            self.pve_seconds += max(0.0, self._access.clock.monotonic() - began)
            yield answer

    def _answer(self, row: GuestLook, channel: AgentChannel) -> GuestLook:
        now = self._access.clock.time()
        row = row._replace(asked_at=now)
        try:
            state = agent.status(channel, QUESTION_SECONDS)
        except AgentRefusedError:
            return _unanswered(row, Why.REFUSED)
        except CommandNotSentError as error:
            return _unanswered(row, Why.DENIED if error.denied else Why.AGENT_SILENT)
        except AgentReplyLostError:
            return _unanswered(row, Why.AGENT_SILENT)
        finally:
            channel.release()
        if state is FreezeState.THAWED:
            return row._replace(state=state.value, why="", silent=0, frozen_since_at=None)
        since = row.frozen_since_at if row.state == state.value else None
        return row._replace(state=state.value, why="", silent=0, frozen_since_at=now if since is None else since)

    def _is_switched_off(self, row: GuestLook) -> bool:
        try:
            option = AgentOption.parse(self._api.config(self._guests[row.id]).get("agent"))
        except SafeSnapshotError:
            return False
        return not option.enabled


def _unanswered(row: GuestLook, why: Why) -> GuestLook:
    """One that was frozen when it last answered is frozen until somebody knows better."""
    if row.state == FreezeState.FROZEN.value:
        return row._replace(silent=row.silent + 1, why=why.value)
    return row._replace(state="", why=why.value, silent=row.silent + 1)


def _at_once(ask: Callable[[T], R], items: list[T]) -> Iterable[R]:
    if len(items) < 2:
        return [ask(item) for item in items]

    with ThreadPoolExecutor(min(SOCKETS_AT_ONCE, len(items))) as pool:
        return list(pool.map(ask, items))


class _List(NamedTuple):
    """Guests to look at."""

    found: list[Listed]
    vmids: frozenset[int]
    """Every vmid that PVE lists."""
    problem: SafeSnapshotError | None
    oddities: tuple[str, ...]


def _listing(access: Access) -> _List:
    """Guests to look at: of this node where we are on one, and those of nodes that are offline; else of every node.

    On the node what lives here is looked at, whatever PVE's list says of it; elsewhere only ``stopped`` is off.
    """
    here = access.local_node
    problem: SafeSnapshotError | None = None
    found: dict[str, Listed] = {}
    vmids: set[int] = set()
    living = {guest.vmid: guest for guest in access.guests_here()}
    oddities: list[str] = []
    try:
        api = GuestApi(access.main)
        rows, oddities = api.listing(), api.oddities
        if not rows and not here:
            problem = ApiDeniedError(
                "the API lists no guest at all for this token: nobody was looked at",
                status=403,
                remedy="grant it VM.Audit (docs/privileges.md), or check that there are guests: `qm list`, `pct list`",
            )
        for listed in rows:
            guest = listed.guest
            vmids.add(guest.vmid)
            local = living.pop(guest.vmid, None)
            if guest.kind is not GuestKind.QEMU:
                continue
            is_here = bool(here) and guest.node == here
            is_as_listed = local is None or (is_here and listed.status == "running")
            if not is_as_listed and qemu_lives(access.config.local.socket_folder, guest.vmid) is not False:
                # A list that is old, or that makes no sense: its counters are no word on this QEMU.
                found[guest.id] = Listed(guest._replace(node=Node(here), running=True), "running")
                continue
            # Of a node whose pvestatd stands still PVE says ``unknown``, as of one that is offline.
            is_ours = is_here if here else listed.status != "unknown"
            is_ours = is_ours and listed.status != "stopped"
            if is_ours or listed.status == "unknown":
                found[guest.id] = listed._replace(guest=guest._replace(running=is_ours))
    except SafeSnapshotError as error:
        problem = error
    for guest in living.values():  # guests that PVE does not show to this token run here all the same
        found[guest.id] = Listed(guest, "running")
    return _List(list(found.values()), frozenset(vmids), problem, _few(oddities))


def _few(oddities: list[str]) -> tuple[str, ...]:
    more = len(oddities) - ODD_LINES
    return (
        *oddities[:ODD_LINES],
        *([f"PVE's answer has {more} more that make no sense: left out"] if more > 0 else []),
    )


def guest_state(guest: Guest, access: Access) -> FreezeState | None:
    """What the guest's agent says, over the fastest channel, else over the API; None when it does not answer."""
    for channel in (fastest_channel(access, guest), ApiChannel(access.main, guest)):
        try:
            return agent.status(channel)
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            continue
    return None
