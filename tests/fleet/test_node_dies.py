"""A hundred guests on five nodes, one of which dies half-way: it costs its own guests, and each of them is named."""

from __future__ import annotations

import pytest

from tests.fleet import kit
from tests.lab.crowd import crowd
from tests.lab.site import wait_for

FOR_HANGS = 900.0
NODES = ("pve1", "pve2", "pve3", "pve4", "pve5")
DEAD = NODES[-1]


@pytest.mark.slow
@pytest.mark.timeout(FOR_HANGS)
def test_a_node_that_dies_amid_a_hundred_guests_costs_its_own_alone_and_each_is_named() -> None:
    with crowd(100, NODES, task_delays={"inside": 1.0}) as lab:
        lab.settings["fleet"] = {"at_once": 20, "at_once_per_node": 4, "at_once_per_storage": 20}
        lab.settings["thaw"] = {"owner_limit_seconds": 10}
        lab.write_config()
        with lab.start("--json", "all") as process:
            assert wait_for(lambda: len(lab.node.points()) >= 50, FOR_HANGS / 2)
            lab.node.set_node_online(DEAD, False)
            stdout, stderr = process.communicate(timeout=FOR_HANGS / 2)
        found = kit.outcomes(kit.Run(process.returncode, stdout, stderr, 0.0))
        theirs = [vmid for vmid in found if lab.node.config(vmid).node == DEAD]
        assert len(found) == 100
        assert len(theirs) == 20
        assert {vmid: one for vmid, one in found.items() if vmid not in theirs and one["exit_code"]} == {}
        failed = [found[vmid]["error"] for vmid in theirs if found[vmid]["exit_code"]]
        assert failed
        named = [one for one in failed if one["code"] != "not-recorded"]  # it died behind the thaw: the warnings say so
        assert [one for one in named if DEAD not in one["message"] + one["remedy"] or not one["remedy"]] == []
        assert "node-offline" in {one["code"] for one in failed}, "those that had not begun"
        lab.node.set_node_online(DEAD, True)
        assert wait_for(lambda: not kit.frozen(lab), kit.SOON * 5), "the guards go on"
