"""What is decided without anybody being asked: waiting, names, and room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.config.labels import check_label
from snapshot.config.naming import SnapshotName, described, free_name
from snapshot.errors import NodeOfflineError, NoQuorumError, StorageFullError
from snapshot.fleet.room import places_of, refuse_by_state, refuse_by_use, storages_of
from snapshot.fleet.waiting import FIRST_SECONDS, SLOWEST_SECONDS, next_try
from snapshot.model import Guest, GuestKind, Node, Vmid, check_snapshot_name
from snapshot.pve.storages import ClusterState, StorageUse

GUEST = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU, name="web1", running=True)
POOL = StorageUse("local-lvm", Node("pve1"), "lvmthin", used=90, size=100)


# ------------------------------------------------------------------ waiting


@given(st.floats(0, 1e5), st.floats(0, 86400))
def test_a_locked_guest_is_tried_until_its_time_is_over_and_once_more_at_its_end(since: float, budget: float) -> None:
    now, tries, pauses = since, 0, []
    while True:
        tries += 1
        found = next_try(since, now, tries, budget)
        if found is None:
            break
        pauses.append(found - now)
        assert found > now or found == since + budget
        now = found
        assert tries < 10_000
    assert now == (since + budget if pauses else since), "the last look is at the end, neither before nor after"
    assert all(pause <= SLOWEST_SECONDS + 1e-3 for pause in pauses)
    assert pauses == [] or pauses[0] <= FIRST_SECONDS + 1e-3


def test_without_a_budget_it_is_not_tried_again() -> None:
    assert next_try(10.0, 10.0, 1, 0.0) is None


# -------------------------------------------------------------------- names


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_hour_that_comes_twice_gives_two_names(berlin: None) -> None:
    if not os.path.exists("/usr/share/zoneinfo/Europe/Berlin"):
        pytest.skip("no time zones here")
    first = 1792888200.0  # 2026-10-25 02:30 in summer time, and an hour later once more
    name = free_name("safe", "daily", first, ())
    again = free_name("safe", "daily", first + 3600, {name})
    assert (name, again) == ("safe-daily-20261025-023000", "safe-daily-20261025-023000-2")


@given(st.lists(st.floats(1.7e9, 1.7e9 + 3), min_size=1, max_size=30))
def test_no_two_snapshots_of_a_guest_get_one_name(instants: list[float]) -> None:
    taken: set[str] = set()
    for at in instants:
        name = check_snapshot_name(free_name("safe", "", at, taken))
        assert name not in taken
        taken.add(name)


@given(st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True), st.integers(1, 99), st.booleans())
def test_a_name_tells_its_parts_again(label: str, number: int, has_label: bool) -> None:
    name = SnapshotName("my-prefix", check_label(label) if has_label else "", "20260131-030005", number)
    assert SnapshotName.parse(str(name), "my-prefix") == name


@pytest.mark.parametrize(
    "text", ["safe", "before-upgrade", "safer-20260131-030005", "safe-20260131", "safe-A-20260131-030005"]
)
def test_another_name_is_none_of_ours(text: str) -> None:
    assert SnapshotName.parse(text, "safe") is None


def test_the_description_names_the_label() -> None:
    assert described("before the upgrade", "daily") == "before the upgrade\nlabel: daily"
    assert (described("", "daily"), described("", "")) == ("label: daily", "")


# --------------------------------------------------------------------- room


def test_the_storages_are_those_of_the_disks() -> None:
    config = {
        "scsi0": "local-lvm:vm-100-disk-0,size=8G",
        "scsi1": "ceph:vm-100-disk-1,size=8G",
        "ide2": "nfs:iso/debian.iso,media=cdrom",
        "scsi3": "/dev/sdb,size=8G",
        "unused0": "old:vm-100-disk-3",
        "net0": "virtio=00:11:22:33:44:55",
    }
    assert storages_of(GUEST, config) == ("ceph", "local-lvm")


def test_a_storage_at_its_bound_is_refused_with_its_name_and_how_full_it_is() -> None:
    with pytest.raises(StorageFullError) as caught:
        refuse_by_use(GUEST, ["local-lvm"], [POOL], 90.0)
    assert "local-lvm (lvmthin) on pve1 is 90 % full" in caught.value.message
    assert refuse_by_use(GUEST, ["local-lvm"], [POOL], 90.1) == []


def test_the_same_name_on_another_node_is_another_storage() -> None:
    full = POOL._replace(node=Node("pve2"), used=100)
    assert refuse_by_use(GUEST, ["local-lvm"], [POOL, full], 95.0) == []


@pytest.mark.parametrize(
    "silent", [[], [POOL._replace(used=None)], [POOL._replace(size=0)]], ids=["none", "no-use", "no-size"]
)
def test_what_pve_does_not_say_is_a_warning_and_no_refusal(silent: list[StorageUse]) -> None:
    (warning,) = refuse_by_use(GUEST, ["local-lvm"], silent, 1.0)
    assert "how full local-lvm on pve1 is not known" in warning
    assert ("Datastore.Audit" in warning) == (not silent)


def test_a_shared_storage_has_one_limit_for_all_nodes() -> None:
    uses = [
        POOL,
        StorageUse("ceph", Node("pve1"), "rbd", shared=True),
        StorageUse("ceph", Node("pve2"), "rbd", shared=True),
    ]
    assert places_of(["ceph", "local-lvm"], Node("pve2"), uses) == [("ceph", ""), ("local-lvm", "pve2")]


def test_without_quorum_nothing_is_begun() -> None:
    with pytest.raises(NoQuorumError, match="no quorum"):
        refuse_by_state(GUEST, ClusterState(quorate=False))
    with pytest.raises(NodeOfflineError, match="pve1 is offline"):
        refuse_by_state(GUEST, ClusterState(offline=frozenset({Node("pve1")})))
    refuse_by_state(GUEST, ClusterState(offline=frozenset({Node("pve2")})))
