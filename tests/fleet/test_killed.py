"""Workers and their parent killed, interrupted and stopped at each stage: every guest is thawed and accounted for."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from snapshot.base.procfs import process_start
from snapshot.model import VerdictKind
from tests.engine.kit import snapshots
from tests.fleet import kit
from tests.lab.site import Site, Started, wait_for


@dataclass(frozen=True)
class Stage:
    """Where guest 100 stands: a call of its run that is held. ``is_frozen``: the guest is frozen then."""

    method: str
    path: str
    after: bool = False
    is_frozen: bool = False

    def hold(self, lab: Site) -> None:
        lab.node.fault(self.path, "hold", method=self.method, when="after" if self.after else "before")

    def __str__(self) -> str:
        return f"{self.method} {self.path}{' answered' if self.after else ''}"


LOOK = Stage("GET", "/qemu/100/config$")
PREFLIGHT = Stage("GET", "/qemu/100/agent/info$")
FREEZING = Stage("POST", "/qemu/100/agent/fsfreeze-freeze$")
FROZEN = Stage("POST", "/qemu/100/agent/fsfreeze-freeze$", after=True, is_frozen=True)
POINT = Stage("POST", "/qemu/100/snapshot$", is_frozen=True)
THAWED = Stage("PUT", "/snapshot/safe-.*/config$")
STAGES = (LOOK, PREFLIGHT, FREEZING, FROZEN, POINT, THAWED)
ONE_BY_ONE = ("--json", "all", "--at-once", "1")


def begun(lab: Site, stage: Stage, *arguments: str) -> Started:
    """A run whose guest 100 stands at this stage. In a process group of its own, as a shell has it: the kernel stops
    nobody in one that is orphaned.
    """
    stage.hold(lab)
    process = lab.start(*arguments, process_group=0)
    assert kit.held(lab), process.communicate()
    return process


# ------------------------------------------------------------------- workers


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_a_worker_that_is_killed_costs_its_own_guest_and_the_parent_says_what_became_of_it(stage: Stage) -> None:
    with kit.guests(3) as lab, begun(lab, stage, *ONE_BY_ONE) as process:
        (worker,) = kit.workers(process)
        kit.kill(worker)
        lab.node.release()
        run = kit.finished(process)
        found = kit.outcomes(run)
        assert wait_for(lambda: not kit.frozen(lab), kit.SOON)
        assert [found[vmid]["exit_code"] for vmid in (101, 102)] == [0, 0]
        error = found[100]["error"]
        assert "ended by signal 9 (SIGKILL)" in error["message"]
        assert run.exit_code == error["exit_code"]
        if stage in (LOOK, PREFLIGHT):
            assert "before anything was frozen" in error["message"]
            assert error["exit_code"] == 1
        elif stage is not THAWED:
            thawed = "the guest is thawed" in error["message"]
            assert error["exit_code"] == (1 if thawed else 8)
        else:
            assert "the journal calls it filesystem-consistent" in error["message"]


def test_a_worker_that_dies_while_its_guest_cannot_be_thawed_is_the_worst_that_can_be() -> None:
    with kit.guests(2) as lab:
        lab.write_config(thaw={"owner_limit_seconds": 2.0})
        lab.node.fault("/qemu/100/agent/fsfreeze-thaw$", "status", times=None, status=500, reason="got timeout")
        with begun(lab, POINT, *ONE_BY_ONE) as process:
            kit.kill(kit.workers(process)[0])
            lab.node.release()
            run = kit.finished(process)
        assert run.exit_code == 8
        assert kit.codes(run) == {100: 8, 101: 0}
        assert "safe-snapshot status" in kit.outcomes(run)[100]["error"]["remedy"]
        lab.node.clear_faults()
        assert wait_for(lambda: not kit.frozen(lab), kit.SOON)


# -------------------------------------------------------------------- parent


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_a_parent_that_is_killed_leaves_nobody_frozen_and_nobody_begins(stage: Stage) -> None:
    with kit.guests(3) as lab, begun(lab, stage, *ONE_BY_ONE) as process:
        (worker,) = kit.workers(process)
        start = process_start(worker) or 0
        kit.kill(process.pid)
        process.wait()
        lab.node.release()
        assert kit.gone(worker, start), "a worker outlives its parent's death and its own window"
        assert wait_for(lambda: not kit.frozen(lab), kit.SOON)
        windows = lab.windows() if lab.journal_path.exists() else []
        assert {window.vmid for window in windows} <= {100}, "the others were not begun"
        if stage in (LOOK, PREFLIGHT):
            assert not windows, "the one that was not in its window begins none"
            assert not snapshots(lab)
        else:
            assert [w.verdict for w in windows] == [VerdictKind.FILESYSTEM_CONSISTENT.value]
        assert lab.safe_snapshot("recover").exit_code == 0
        if windows:
            assert 'id="qemu/100"' in lab.metrics_path.read_text()


# ------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("stage", "number"),
    [(stage, signal.SIGINT) for stage in STAGES] + [(PREFLIGHT, signal.SIGTERM), (POINT, signal.SIGHUP)],
    ids=str,
)
def test_what_is_frozen_is_thawed_and_what_has_not_begun_does_not_begin(stage: Stage, number: signal.Signals) -> None:
    with kit.guests(3) as lab, begun(lab, stage, *ONE_BY_ONE) as process:
        os.kill(process.pid, number)
        lab.node.release()
        run = kit.finished(process)
        # A freeze that is still on its way when its worker is told comes late: its guard waits for it, and thaws.
        assert wait_for(lambda: not kit.frozen(lab), kit.SOON if stage is FREEZING else 0)
        found = kit.outcomes(run)
        assert run.exit_code == 128 + number
        for vmid in (101, 102):
            assert found[vmid]["exit_code"] == 128 + number
            assert f"was not begun: the run was ended by signal {number}" in found[vmid]["error"]["message"]
            assert not snapshots(lab, vmid)
        assert f"ended by signal {number}" in found[100]["error"]["message"]
        assert not lab.node.requests("/qemu/101/agent/")
        # A freeze whose answer was not waited for may still come: its guard watches for that, as for one guest.
        assert stage in (FREEZING, FROZEN) or lab.finds_nothing()


def test_a_second_ctrl_c_does_not_tear_a_thaw() -> None:
    with kit.guests(2) as lab:
        stage = Stage("POST", "/qemu/100/agent/fsfreeze-thaw$", is_frozen=True)
        with begun(lab, stage, "all", "--at-once", "1") as process:
            for count in range(1, 5):
                os.kill(process.pid, signal.SIGINT)
                assert process.stderr is not None
                said = ""
                while "waiting for 100 (in its window)" not in said:
                    said = process.stderr.readline()
                    assert said, count
            lab.node.release()
            process.wait(kit.SOON)
            process.communicate()
        assert process.returncode == 130
        assert not kit.frozen(lab)
        assert lab.finds_nothing()


def test_ctrl_c_ends_the_waiting_for_a_lock_at_once() -> None:
    with kit.guests(1) as lab:
        lab.node.set_config(100, lock="backup")
        with lab.start("all", "--wait", "1h") as process:
            assert process.stderr is not None
            while "tried again" not in process.stderr.readline():
                assert process.poll() is None
            os.kill(process.pid, signal.SIGINT)
            run = kit.finished(process)
        assert run.exit_code == 130
        assert "100  guest100  NOT DONE" in run.stdout


def test_ctrl_z_stops_the_run_once_no_guest_is_in_work_and_it_goes_on_when_it_may() -> None:
    with kit.guests(2) as lab, begun(lab, POINT, "all", "--at-once", "1") as process:
        os.kill(process.pid, signal.SIGTSTP)
        assert process.stderr is not None
        while "to be stopped: nothing more is begun, waiting for 100" not in (line := process.stderr.readline()):
            assert line
        assert kit.frozen(lab) == [100]
        assert not kit.stopped(process.pid), "the parent stops when its worker is done, not before"
        assert not kit.stopped(kit.workers(process)[0])
        lab.node.release()
        assert wait_for(lambda: kit.stopped(process.pid), kit.SOON)
        assert not kit.frozen(lab)
        assert not lab.node.requests("/qemu/101/agent/")
        os.kill(process.pid, signal.SIGCONT)
        run = kit.finished(process)
        assert run.stdout.splitlines()[-1] == "2 guests: 2 filesystem-consistent"


def test_a_run_that_ignores_hangups_goes_on_through_one() -> None:
    with kit.guests(1) as lab:
        PREFLIGHT.hold(lab)
        argv = ["nohup", *lab.command("--json", "all")]
        with Started(argv, stdin=-3, stdout=-1, stderr=-1, text=True, env={"PATH": os.environ["PATH"]}) as process:
            assert kit.held(lab)
            os.kill(process.pid, signal.SIGHUP)
            lab.node.release()
            assert kit.codes(kit.finished(process)) == {100: 0}
