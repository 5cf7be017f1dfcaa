"""The lab counts how a node's three pvedaemon workers are taken up, as tests of many guests judge it."""

from __future__ import annotations

import threading

from tests.lab.node.client import wait_for, with_scripted
from tests.lab.node.daemon import WORKERS

VMIDS = tuple(range(100, 104))


def test_a_node_nobody_asked_anything_of_has_three_idle_workers() -> None:
    with with_scripted() as lab:
        assert lab.node.workers()["pve1"].most_busy == 0


def test_freezes_that_hang_take_all_three_and_a_fourth_call_waits() -> None:
    with with_scripted(vmids=VMIDS, limits={"freeze": 1.0}) as lab:
        for vmid in VMIDS:
            lab.guests[vmid].set_knob("freeze_sleep", 3.0)
        threads = [
            threading.Thread(target=lab.agent, args=("fsfreeze-freeze",), kwargs={"vmid": vmid}) for vmid in VMIDS
        ]
        for thread in threads[:2]:
            thread.start()
        wait_for(lambda: lab.node.workers()["pve1"].most_busy == 2)
        assert lab.node.workers()["pve1"].longest_full == 0
        for thread in threads[2:]:
            thread.start()
        for thread in threads:
            thread.join()
        seen = lab.node.workers()["pve1"]
        assert seen.most_busy == WORKERS
        assert seen.calls == len(VMIDS)
        assert seen.longest_full > 0.5
        assert seen.longest_wait > 0.3
