"""What becomes of a window whose processes are gone once its guest is thawed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from snapshot.base.procfs import TICKS, ProcessIdentity
from snapshot.config.settings import Config, JournalConfig
from snapshot.errors import ApiUnreachableError
from snapshot.journal.book import JournalBook
from snapshot.journal.living import late_seconds
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.model import FreezeState, Guest, GuestKind, Node, ThawReport, Vmid
from snapshot.pve.access import Access
from snapshot.pve.guests import Listed
from snapshot.recovery import recover as recovering
from snapshot.recovery import settle as settling
from snapshot.recovery.recover import recover
from snapshot.recovery.settle import settle
from snapshot.thaw.thawer import CARRIED_OUT_SECONDS
from tests.campaign.kit import ManualClock
from tests.unit.kit import record

THAWED = ThawReport(confirmed=True, attempts=1, filesystems=1, route="route")

OWNER_START = 1000 * TICKS
"""When the window's owner was started: its machine had been up for 1000 s."""


@dataclass
class Agent:
    """What the guest's agent says when it is looked at, and what it was asked, and when."""

    state: FreezeState | None = FreezeState.THAWED
    asked: list[tuple[str, float]] = field(default_factory=list)

    def look(self, guest: Guest, access: Access) -> FreezeState | None:
        self.asked.append(("look", access.clock.monotonic()))
        return self.state

    def thaw(self, guest: Guest, access: Access, limit_seconds: float | None = None, tell: object = None) -> ThawReport:
        self.asked.append(("thaw", access.clock.monotonic()))
        return THAWED


@pytest.fixture(autouse=True)
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    agent = Agent()
    for module in (recovering, settling):
        monkeypatch.setattr(module, "guest_state", agent.look)
        monkeypatch.setattr(module, "thaw_now", agent.thaw)
    return agent


class Silence:
    """Transport to a PVE that nobody reaches."""

    name = "pve"

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        raise ApiUnreachableError("nobody answers")

    def close(self) -> None:
        """Nothing."""


def settled(tmp_path: Path, window: WindowRecord, report: ThawReport) -> tuple[float, WindowRecord]:
    clock = ManualClock()
    access = Access(Config(), clock, None, "")
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        window = window._replace(intent_at=clock.time() - 600.0)
        journal.begin(window)
        late = settle(JournalBook(lambda: journal), window, report, access, ProcessIdentity.own())
        found = journal.get(window.id)
    assert found is not None
    return late, found


@pytest.mark.parametrize("guest_gone", [False, True], ids=["thawed", "the guest is off"])
def test_a_window_whose_freeze_may_still_come_stays_open(tmp_path: Path, guest_gone: bool) -> None:
    """PVE may hold the freeze, and carry it out when the guest is on again."""
    late, found = settled(tmp_path, record(state="armed"), THAWED._replace(filesystems=0, guest_gone=guest_gone))
    assert late == pytest.approx(3000.0)
    assert (found.state, found.closed_at) == ("unknown", None)
    assert found.thawed_at is not None


@pytest.mark.parametrize(
    ("values", "report"),
    [
        ({"state": "armed", "freeze_outcome": "acknowledged"}, THAWED),
        ({"state": "armed"}, THAWED),
        ({"state": "idle"}, THAWED),
    ],
    ids=["the freeze was answered", "the thaw counted it", "no guard was armed"],
)
def test_a_window_whose_freeze_cannot_come_any_more_is_closed(
    tmp_path: Path, values: dict[str, str], report: ThawReport
) -> None:
    late, found = settled(tmp_path, record(**values), report)
    assert late == 0.0
    assert found.state == "thawed"
    assert found.closed_at is not None


@pytest.mark.parametrize(
    ("state", "then"),
    [(FreezeState.THAWED, []), (FreezeState.FROZEN, ["thaw"]), (None, ["thaw"])],
    ids=["it stays thawed", "it comes", "nobody knows"],
)
@pytest.mark.parametrize("by", ["settle", "recover"])
def test_a_counted_freeze_may_be_anothers_in_front_of_the_windows_own_so_that_one_is_waited_for(
    tmp_path: Path, agent: Agent, state: FreezeState | None, then: list[str], by: str
) -> None:
    """A guard watches for it; whoever closes the window without one does too."""
    agent.state = state
    clock = ManualClock()
    began = clock.monotonic()
    window = record(state="armed")._replace(intent_at=clock.time() - 600.0, deadline_at=clock.time() - 500.0)
    path = tmp_path / "journal.sqlite"
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(window)
        access = Access(Config()._replace(journal=JournalConfig(path=path)), clock, Silence(), "")
        if by == "settle":
            settle(
                JournalBook(lambda: journal), window, agent.thaw(window.guest, access), access, ProcessIdentity.own()
            )
        else:
            recover(access, ProcessIdentity.own(), lambda: journal, lambda line: None, everywhere=False)
        found = journal.get(window.id)
    assert [what for what, _ in agent.asked] == ["thaw", "look", *then]
    assert agent.asked[1][1] - began == CARRIED_OUT_SECONDS
    assert found is not None
    assert found.closed_at is not None


@pytest.mark.parametrize("values", [{"freeze_outcome": "acknowledged"}, {"state": "idle"}])
def test_where_no_freeze_can_come_any_more_nobody_waits(tmp_path: Path, agent: Agent, values: dict[str, str]) -> None:
    settled(tmp_path, record(**({"state": "armed"} | values)), THAWED)
    assert not agent.asked


@pytest.mark.parametrize(
    ("lasted", "jumped", "values", "late"),
    [
        (600.0, 0.0, {}, 3000.0),
        (600.0, 86400.0, {}, 2990.0),
        (600.0, -600.0, {}, 3600.0),
        (3580.0, 86400.0, {}, 10.0),
        (3600.0, 86400.0, {}, 0.0),
        (600.0, 86400.0, {"owner_pid_start": OWNER_START + 10**6}, 3600.0),
        (600.0, 86400.0, {"owner_pid_start": 0}, 1990.0),
        (600.0, 86400.0, {"boot_id": "earlier"}, 0.0),
        (600.0, 86400.0, {"freeze_outcome": "acknowledged"}, 0.0),
    ],
    ids=[
        *("the clock is right", "the clock was set forward", "the clock was set back"),
        *("almost over", "over", "an owner younger than we", "an owner of nobody knows when"),
        *("the machine was started", "answered"),
    ],
)
def test_no_clock_that_was_set_forward_ends_the_watch_for_a_late_freeze(
    lasted: float, jumped: float, values: dict[str, Any], late: float
) -> None:
    """Its owner was started 10 s before its freeze: it cannot have been sent earlier."""
    clock = ManualClock()
    window = record(at=clock.time(), **({"state": "armed", "boot_id": "this", "owner_pid_start": OWNER_START} | values))
    clock.wall += lasted + jumped
    me = ProcessIdentity(1, OWNER_START + int((10.0 + lasted) * TICKS), "this")
    assert late_seconds(window, Config(), clock, me) == pytest.approx(late)


def test_where_nobody_knows_when_we_were_started_the_clock_is_believed() -> None:
    clock = ManualClock()
    window = record(at=clock.time() - 600.0, state="armed", owner_pid_start=OWNER_START)
    assert late_seconds(window, Config(), clock, ProcessIdentity(1, 0, "")) == pytest.approx(3000.0)


@pytest.mark.parametrize("by", ["settle", "recover"])
def test_a_clock_that_was_set_forward_closes_no_window_whose_freeze_may_still_come(tmp_path: Path, by: str) -> None:
    clock, path = ManualClock(), tmp_path / "journal.sqlite"
    access = Access(Config()._replace(journal=JournalConfig(path=path)), clock, Silence(), "")
    me = ProcessIdentity.own()
    began = {"owner_pid": 2**30, "owner_pid_start": me.start - 600 * TICKS, "boot_id": me.boot_id}
    with contextlib.closing(Journal(path)) as journal:
        window = record(at=clock.time() - 86400.0, state="unknown", thawed_at=clock.time() - 86000.0, **began)
        journal.begin(window)
        if by == "settle":
            settle(JournalBook(lambda: journal), window, THAWED._replace(filesystems=0), access, me)
        else:
            recover(access, me, lambda: journal, lambda line: None, everywhere=False)
        found = journal.get(window.id)
    assert found is not None
    assert (found.state, found.closed_at) == ("unknown", None)


SINCE = 1_000.0
"""When the window's guard was started, in seconds since the machine's boot. Its deadline is 30 s after its intent."""


@pytest.mark.parametrize(
    ("lasted", "uptime", "jumped", "values", "is_another"),
    [
        (7200.0, 3600, 0.0, {}, True),
        (7200.0, 7300, 0.0, {}, False),
        (120.0, 7300, 3600 * 24.0, {}, False),
        (20.0, 15, 3600.0, {}, False),
        (7200.0, 3600, -7200.0, {}, False),
        (7200.0, 3600, 0.0, {"guard_pid_start": None}, False),
        (7200.0, 3600, 0.0, {"node": "pve2"}, False),
        (7200.0, 3600, 0.0, {"boot_id": ""}, False),
        (7200.0, 3600, 0.0, {"boot_id": "earlier"}, True),
        (7200.0, 90_000, 0.0, {"boot_id": "earlier"}, False),
    ],
    ids=[
        *(
            "started since",
            "not started since",
            "the clock was set forward",
            "the clock was set forward, a young guest",
        ),
        *(
            "the clock was set back",
            "without a guard",
            "moved",
            "of nobody knows which boot",
            "the machine was started",
        ),
        "the machine was started, its guest was not",
    ],
)
def test_no_clock_that_was_set_makes_a_guest_one_that_was_started_since(
    lasted: float, uptime: int, jumped: float, values: dict[str, Any], is_another: bool
) -> None:
    """Where its agent is silent too, its window would be closed with the guest frozen."""
    start = int(SINCE * TICKS)
    window = record(**({"boot_id": "this", "guard_pid_start": start} | values))
    me = ProcessIdentity(1, start + int(lasted * TICKS), "this")
    listed = Listed(Guest(Vmid(100), Node("pve1"), GuestKind.QEMU), "running", uptime=uptime)
    assert recovering._started_since(window, listed, window.intent_at + lasted + jumped, me) == is_another
