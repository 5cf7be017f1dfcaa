"""Guests of which a run of many took no snapshot: what is found of them the next day."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.kit import FREEZE, NOT_ALLOWED
from tests.fleet import kit
from tests.lab.site import Site


def locked(lab: Site) -> None:
    lab.node.set_config(101, lock="backup")


def on_a_full_storage(lab: Site) -> None:
    lab.node.set_config(101, scsi0="local-lvm:vm-101-disk-0,size=64M")
    usage = {"pve1": {"disk": 96, "maxdisk": 100}, "pve2": {"disk": 96, "maxdisk": 100}}
    lab.node.set(storages={**lab.node.settings.storages, "local-lvm": {"type": "lvmthin", "usage": usage}})


def on_a_node_that_is_off(lab: Site) -> None:
    lab.node.set_node_online("pve2", False)


@pytest.mark.parametrize(
    ("happens", "reason"),
    [(locked, "guest-locked"), (on_a_full_storage, "storage-full"), (on_a_node_that_is_off, "node-offline")],
)
def test_one_that_was_not_begun_is_in_the_history_with_the_reason(happens: Callable[[Site], None], reason: str) -> None:
    with kit.guests(2, nodes=("pve1", "pve2")) as lab:
        happens(lab)
        assert kit.take(lab, "all", "--dry-run").exit_code != 0
        assert not lab.journal_path.exists(), "a dry run leaves nothing"
        run = kit.take(lab, "--json", "all", "--wait", "2.5s")
        error = kit.outcomes(run)[101]["error"]
        assert kit.codes(run)[100] == 0
        (row,) = [window for window in lab.windows() if window.vmid == 101]
        assert (row.failure_stage, row.failure_reason, row.verdict) == ("preflight", reason, "unknown")
        assert row.reason == f"no snapshot taken: {error['message']}"
        shown = " ".join(lab.safe_snapshot("history", "101", "--failed").stdout.split())
        assert f"[preflight: {reason}] no snapshot taken: " in shown


def test_without_quorum_each_guest_is() -> None:
    with kit.guests(2, nodes=("pve1", "pve2"), quorate=False) as lab:
        assert kit.take(lab, "all").exit_code == 7
        assert {(w.vmid, w.failure_reason) for w in lab.windows()} == {(100, "no-quorum"), (101, "no-quorum")}


def test_what_a_run_has_written_down_itself_is_there_once() -> None:
    with kit.guests(2) as lab:
        lab.node.set_config(100, agent=0)
        kit.guest(lab, 101).faults.refuse[FREEZE] = NOT_ALLOWED
        assert set(kit.codes(kit.take(lab, "--json", "all", "--policy", "require")).values()) == {6}
        assert sorted(window.vmid for window in lab.windows()) == [100, 101]
