"""What a run says of a long wait for PVE: silence looks like a program that hangs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import NoGate
from snapshot.config.settings import Config
from snapshot.errors import SnapshotFailedError
from snapshot.model import Upid
from snapshot.pve.access import Access
from snapshot.take.pvesnapshot import PveSnapshot
from snapshot.take.request import Request, Tools
from snapshot.take.waiting import ThawNews
from tests.unit.kit import GUEST, ScriptedTransport, VirtualClock

UPID = "UPID:pve1:0003A5F1:00C4D9E2:68F0A1B7:qmsnapshot:100:root@pam!safe:"
RUNNING = {"status": "running"}
STOPPED = {"status": "stopped", "exitstatus": "OK"}


class StillWindow:
    """A window whose guest PVE may freeze; each wait goes to the task's end."""

    def __init__(self) -> None:
        self.looked = 0

    def watch_pve(self, has_ended: Any, is_harmless: Any) -> None:
        while not has_ended(float("inf"), self._look):
            pass

    def _look(self) -> None:
        self.looked += 1

    def look(self) -> None:
        return None

    def pve_has_ended(self, *, is_thawed: bool | None) -> None:
        pass


def tools_of(clock: VirtualClock, said: list[str], **answers: object) -> Tools:
    transport = ScriptedTransport(
        {"/log": [], "nodes": [], "/snapshot/s1": UPID} | {f"/{k}": v for k, v in answers.items()}, clock
    )
    config = Config()
    return Tools(
        config=config,
        access=Access(config, clock, transport, ""),
        clock=clock,
        me=ProcessIdentity.own(),
        open_journal=lambda: 1 / 0,  # type: ignore[arg-type, return-value]
        launcher=None,  # type: ignore[arg-type]
        gate=NoGate(),
        publish=lambda journal: [],
        say=lambda line, at=None: pytest.fail(f"by the thread that thaws: {line}"),
        tell=lambda line, at=None: said.append(line),
    )


def snapshot(clock: VirtualClock, said: list[str], **answers: object) -> PveSnapshot:
    tools = tools_of(clock, said, **answers)
    return PveSnapshot(GUEST, Request(GUEST.vmid), tools, name="s1", mark="w1", warnings=[])


def ends_after(clock: VirtualClock, seconds: float) -> Any:
    return lambda: RUNNING if clock.now < seconds else STOPPED


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_task_that_takes_long_is_heard_of_every_20_s(is_watched: bool) -> None:
    clock, said, window = VirtualClock(), list[str](), StillWindow()
    work = snapshot(clock, said, status=ends_after(clock, 70.0))
    work.upid = Upid.parse(UPID)
    work.finish(window if is_watched else None)  # type: ignore[arg-type]
    text = f"waiting for PVE's task {UPID}, {{}} s so far, at most 1800 s; Ctrl-C ends only the waiting"
    assert said == [text.format(seconds) for seconds in (20, 40, 60)]
    assert bool(window.looked) is is_watched, "the guard is looked after meanwhile"


def test_a_task_that_is_soon_over_is_not_heard_of() -> None:
    clock, said = VirtualClock(), list[str]()
    work = snapshot(clock, said, status=ends_after(clock, 19.0))
    work.upid = Upid.parse(UPID)
    work.finish()
    assert not said


def test_the_search_for_a_snapshot_whose_answer_was_lost_is_heard_of() -> None:
    clock, said = VirtualClock(), list[str]()
    work = snapshot(clock, said, snapshot=itertools.repeat([]).__next__)
    with pytest.raises(SnapshotFailedError, match="no such snapshot has appeared"):
        work.finish()
    assert said
    assert "the answer to its request was lost, 20 s so far, at most" in said[0]


def test_a_removal_that_takes_long_is_heard_of() -> None:
    clock, said = VirtualClock(), list[str]()
    assert snapshot(clock, said, status=ends_after(clock, 30.0)).remove() == ""
    assert [line.rpartition(UPID)[2][:9] for line in said] == [", 20 s so"]


def test_a_thaw_in_a_window_tells_each_way_once_and_then_every_20_s() -> None:
    clock, said = VirtualClock(), list[str]()
    thawing = ThawNews(GUEST.vmid, tools_of(clock, said))
    for _ in range(25):
        thawing.heard("socket", "busy")
        thawing.heard("api", "500")
        clock.sleep(1.0)
    about = "guest 100: no thaw confirmed yet, Ctrl-C does not end the trying: "
    assert said == [f"{about}socket: busy", f"{about}api: 500", f"{about}socket: busy; api: 500"]
