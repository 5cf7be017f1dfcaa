"""A worker's look at its guest: what another worker was told a moment ago is not asked again, what is old is."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapshot.base.signals import NoGate
from snapshot.config.settings import Config
from snapshot.errors import NodeOfflineError, NoQuorumError, ReplyLostError, StorageFullError
from snapshot.fleet.guestwork import GuestWork, LookAhead
from snapshot.fleet.room import FRESH_SECONDS, Room, ask
from snapshot.model import GuestKind
from snapshot.preflight.preflight import FOUND_SECONDS, FoundAhead, Preflight
from snapshot.pve.access import Access
from snapshot.pve.storages import ClusterState
from snapshot.take.examine import wait_for_turn
from snapshot.take.request import Request
from tests.unit.kit import GUEST, ScriptedTransport, VirtualClock

LISTED = GUEST._replace(lock="backup", tags=("then",))
CONFIG = {"scsi0": "local:100/vm-100-disk-0.qcow2,size=64M", "tags": "now;here"}
WELL = [{"type": "cluster", "quorate": 1}, {"type": "node", "name": "pve1", "online": 1}]
NO_QUORUM = [{"type": "cluster", "quorate": 0}]
DEAD = [{"type": "cluster", "quorate": 1}, {"type": "node", "name": "pve1", "online": 0}]


def use(percent: int) -> list[dict[str, object]]:
    return [{"storage": "local", "node": "pve1", "disk": percent, "maxdisk": 100}]


class Parent:
    """The other end of a worker's link, which lets it go on after some time."""

    def __init__(self, clock: VirtualClock, seconds: float = 0.0) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._clock = clock
        self._seconds = seconds

    def tell(self, op: str, **values: Any) -> bool:
        self.heard.append((op, values))
        return True

    tell_whole = tell

    def wait(self, seconds: float | None = None) -> dict[str, str]:
        self._clock.sleep(self._seconds)
        return {"op": "go"}

    def rooms(self) -> list[Room | None]:
        return [Room.of(values) for op, values in self.heard if op == "room"]


class Site:
    """One look, with PVE's answers by script."""

    def __init__(self, answers: Mapping[str, object] | None = None, *, seconds: float = 0.0) -> None:
        self.clock = VirtualClock()
        well = {"cluster/status": WELL, "cluster/resources": use(10), "/config": CONFIG, "/snapshot": []}
        self.api = ScriptedTransport(well | dict(answers or {}))
        self.parent = Parent(self.clock, seconds)

    def look(self, room: Room | None = None) -> tuple[str, FoundAhead]:
        access = Access(Config(), self.clock, self.api, "")
        tools = SimpleNamespace(access=access, clock=self.clock, config=Config(), gate=NoGate())
        any_ = cast("Any", None)
        work = GuestWork(Request(GUEST.vmid), any_, LISTED, "", None, any_, any_, False, None, room)
        return LookAhead(work, cast("Any", tools), cast("Any", self.parent)).look()

    def asked(self, path: str) -> int:
        return sum(asked.endswith(path) for _, asked, _ in self.api.requests)


def known(at: float = 0.0) -> Room:
    return Room.of({"at": at, "state": [True, []], "uses": [["local", "pve1", "dir", False, 10, 100]]})  # type: ignore[return-value]


def test_what_another_worker_was_told_a_moment_ago_is_not_asked_again() -> None:
    site = Site()
    site.look(known())
    assert (site.asked("cluster/status"), site.asked("cluster/resources")) == (0, 0)
    assert site.parent.rooms() == []


def test_what_has_grown_old_is_asked_again_and_told_to_the_others() -> None:
    site = Site({"cluster/status": NO_QUORUM})
    site.clock.now = FRESH_SECONDS + 0.1
    with pytest.raises(NoQuorumError):
        site.look(known())
    assert site.parent.rooms() == [Room(site.clock.now, ClusterState(False), ask(site.api, site.clock).uses)]


def test_a_guest_that_waited_for_its_storages_goes_by_what_is_true_then() -> None:
    site = Site({"cluster/status": NO_QUORUM}, seconds=FRESH_SECONDS + 0.1)
    with pytest.raises(NoQuorumError):
        site.look(known())
    site = Site({"cluster/resources": use(99)}, seconds=FRESH_SECONDS + 0.1)
    with pytest.raises(StorageFullError):
        site.look(known())


def test_what_pve_does_not_say_is_told_nobody() -> None:
    site = Site({"cluster/status": ReplyLostError("silence")})
    site.look()
    assert site.parent.rooms() == []


def test_a_node_that_died_since_the_cluster_was_asked_is_named() -> None:
    site = Site({"/config": ReplyLostError("595 no route"), "cluster/status": DEAD})
    with pytest.raises(NodeOfflineError):
        site.look(known())
    site = Site({"/config": ReplyLostError("595 no route")})
    with pytest.raises(ReplyLostError):
        site.look(known())


def test_a_guests_lock_and_tags_are_those_of_its_configuration_and_not_of_an_old_list() -> None:
    _, found = Site().look()
    assert found.guest.tags == ("now", "here")
    assert found.guest.lock == ""
    assert found.config == CONFIG


@pytest.mark.parametrize(("age", "asked"), [(FOUND_SECONDS - 0.1, 0), (FOUND_SECONDS + 0.1, 1)])
def test_the_run_asks_again_only_for_what_has_grown_old(age: float, asked: int) -> None:
    guest = GUEST._replace(kind=GuestKind.LXC)
    site = Site(
        {
            "status/current": {"status": "running"},
            "feature": {"hasFeature": 1},
            "access/permissions": {"/": {"VM.Snapshot": 1}},
            "cluster/resources": [{"type": "lxc", "vmid": 100, "node": "pve1", "status": "running"}],
        }
    )
    found = FoundAhead(guest, site.clock.now, CONFIG, ("s1",))
    site.clock.now += age
    access = Access(Config(), site.clock, site.api, "")
    tools = SimpleNamespace(access=access, clock=site.clock, found=found, fence=SimpleNamespace(group_id=None))
    run = cast("Any", SimpleNamespace(tools=tools, request=Request(GUEST.vmid), found=None))
    wait_for_turn(run)
    Preflight(access).examine(GUEST.vmid, named=lambda taken: "s2", found=run.found)
    assert [site.asked(path) for path in ("cluster/resources", "/config", "/snapshot")] == [asked] * 3
