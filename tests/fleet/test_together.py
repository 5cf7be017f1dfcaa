"""A group on the lab: frozen one after the other, taken, and thawed in reverse; and what one that fails costs the rest.

The oracle is the lab's own: when each guest was frozen, and when PVE took each volume's snapshot, by one clock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import process_lives
from snapshot.base.slots import FOLDER, Slots
from snapshot.journal.record import WindowRecord
from snapshot.pve.turns import CALLS_AT_ONCE
from tests.engine.kit import FREEZE, NOT_ALLOWED, snapshots
from tests.fleet import kit
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, Started, wait_for

SOON = kit.SOON
VMIDS = (100, 101, 102)
NO_POINT = "not one point in time: "


def spans(lab: Site, vmid: int) -> list[tuple[float, float]]:
    """When the guest was frozen whole (monotonic)."""
    with kit.guest(lab, vmid).held() as (model, now):
        model.run_until(now)
        origin = time.monotonic() - now
        edges = [(at + origin, mounts) for at, mounts in model.transitions]
    found: list[tuple[float, float]] = []
    for (at, mounts), (until, _) in zip(edges, [*edges[1:], (float("inf"), 0)], strict=True):
        if mounts:
            found.append((at, until))
    return found


def window_of(lab: Site, vmid: int) -> WindowRecord:
    """The guest's newest row."""
    return next(row for row in lab.windows() if row.vmid == vmid)


def is_one_point(lab: Site, vmids: tuple[int, ...] = VMIDS) -> bool:
    """Whether every guest was frozen over every volume's snapshot."""
    points = [point for point in lab.node.points() if point["vmid"] in vmids]
    assert {point["vmid"] for point in points} == set(vmids)
    return all(
        any(since <= point["began"] and point["ended"] <= until for since, until in spans(lab, vmid))
        for point in points
        for vmid in vmids
    )


def nothing_is_left(lab: Site, vmids: tuple[int, ...] = VMIDS) -> bool:
    """No snapshot, and no task at work on one."""
    return not lab.node.running_tasks() and not any(snapshots(lab, vmid) for vmid in vmids)


def has_closed(lab: Site) -> bool:
    """Whether nobody is at work on a guest any more."""
    return all(row.closed_at is not None for row in lab.windows())


# -------------------------------------------------------------------- it goes well


def test_guests_are_frozen_in_order_taken_and_thawed_in_reverse() -> None:
    with kit.guests(3) as lab:
        run = kit.take(lab, "102", "100", "101", "--together")
        assert run.exit_code == 0, run
        began = {vmid: spans(lab, vmid)[0][0] for vmid in VMIDS}
        ended = {vmid: spans(lab, vmid)[0][1] for vmid in VMIDS}
        assert sorted(VMIDS, key=began.__getitem__) == [102, 100, 101]
        assert sorted(VMIDS, key=ended.__getitem__) == [101, 100, 102]
        assert is_one_point(lab)
        assert "group together: one point in time of guests 102, 100, 101 (freezes" in run.stdout
        names = {name for vmid in VMIDS for name in snapshots(lab, vmid)}
        assert len(names) == 1, "they have one name"
        for vmid in VMIDS:
            assert "one point in time of guests 102, 100, 101" in snapshots(lab, vmid)[next(iter(names))]["description"]
        groups = {row.group_id for row in lab.windows()}
        assert len(groups) == 1
        assert str(groups.pop()).startswith("together-")


def test_a_group_of_the_configuration_has_its_own_guests_order_and_limit() -> None:
    rules = '[[group]]\nname = "shop"\nguests = ["guest101", "100"]\nmax_window_seconds = 12\n'
    with kit.guests(3) as lab:
        lab.rules = rules
        lab.write_config()
        run = kit.take(lab, "--group", "shop", "--json")
        assert run.exit_code == 0, run
        told = run.json["group"]
        assert (told["name"], told["policy"], told["vmids"]) == ("shop", "all-or-none", [101, 100])
        assert told["is_one_point_in_time"]
        assert told["is_kept"]
        assert is_one_point(lab, (100, 101))
        assert not snapshots(lab, 102)
        assert window_of(lab, 101).group_id == told["id"]
        wrong = lab.safe_snapshot("--group", "shob")
        assert wrong.exit_code == 2
        assert "did you mean shop?" in wrong.stderr


def calls_left(lab: Site) -> int:
    """How many more calls of ours may go to the agents on pve1 now."""
    slots = Slots(lab.journal_path.parent / FOLDER, "call-pve1", CALLS_AT_ONCE, SystemClock())
    with contextlib.ExitStack() as stack, contextlib.suppress(TimeoutError):
        for count in range(CALLS_AT_ONCE + 1):
            found = count
            stack.enter_context(slots.take(0.0))
    return found


def test_a_group_has_its_turn_at_a_node_before_any_guest_is_frozen() -> None:
    """A freeze that waited for it would keep frozen who was frozen before. On the node questions need none."""
    with kit.guests(3) as lab:
        lab.on_the_node()
        slots = Slots(lab.journal_path.parent / FOLDER, "call-pve1", CALLS_AT_ONCE, SystemClock())
        with slots.take(0.0), slots.take(0.0):
            run = kit.take(lab, "--json", "100", "101", "102", "--together")
        errors = {vmid: one["error"] for vmid, one in kit.outcomes(run).items()}
        assert errors[100]["code"] == "no-turn"
        assert "2 calls of ours to agents on pve1 are unanswered" in errors[100]["message"]
        assert {errors[vmid]["code"] for vmid in (101, 102)} == {"group-ended"}
        assert not lab.node.requests("fsfreeze-freeze")
        assert nothing_is_left(lab)


def test_a_group_keeps_its_turn_at_a_node_until_all_are_frozen() -> None:
    with kit.guests(3) as lab:
        lab.on_the_node()
        lab.node.fault("/qemu/102/agent/fsfreeze-freeze", "hold")
        with lab.start("100", "101", "102", "--together") as process:
            assert kit.held(lab)
            assert calls_left(lab) == CALLS_AT_ONCE - 1
            lab.node.fault("/qemu/102/snapshot$", "hold", method="POST")
            lab.node.release()
            assert wait_for(lambda: calls_left(lab) == CALLS_AT_ONCE, SOON)
            assert kit.frozen(lab) == [100, 101, 102]
            lab.node.release()
            assert kit.finished(process).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--group", "shop", "100"), "leave the guests and --together out"),
        (("100", "101", "--best-effort"), "give --group NAME or --together with it"),
        (("100", "101", "--together", "--vmstate"), "leave --vmstate out"),
        (("--together",), "which guests?"),
        (("--group", "shop"), "add a [[group]]"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(arguments: tuple[str, ...], says: str) -> None:
    with kit.guests(1) as lab:
        run = lab.safe_snapshot(*arguments)
        assert run.exit_code == 2
        assert says in run.stderr


def test_a_dry_run_freezes_nobody() -> None:
    with kit.guests(2) as lab:
        run = kit.take(lab, "100", "101", "--together", "--dry-run")
        assert run.exit_code == 0, run
        assert not lab.node.requests("/agent/fsfreeze-freeze")


# ----------------------------------------------------- guests that nobody freezes


def test_a_guest_that_is_off_stands_still_and_is_of_the_point_too() -> None:
    with kit.guests(3) as lab:
        kit.guest(lab, 101).stop()
        run = kit.take(lab, "100-102", "--together", "--json")
        assert run.exit_code == 0, run
        assert run.json["group"]["is_one_point_in_time"]
        assert "101 off" in run.json["group"]["words"]
        assert {one["vmid"]: one["verdict"] for one in run.json["guests"]}[101] == "offline"


def test_a_container_is_taken_with_the_others_and_is_of_no_point() -> None:
    with kit.guests(2) as lab:
        lab.node.add_guest(GuestSpec(200, kind="lxc"))
        run = kit.take(lab, "100", "101", "200", "--together", "--json")
        assert run.exit_code == 0, run
        told = run.json["group"]
        assert not told["is_one_point_in_time"]
        assert told["is_kept"]
        assert told["words"].startswith(f"{NO_POINT}guest 200 is a container")
        assert all(len(snapshots(lab, vmid)) == 1 for vmid in (100, 101, 200))


# -------------------------------------------------- one that cannot follow ends it


def refuse_freeze(lab: Site) -> None:
    kit.guest(lab, 101).faults.refuse[FREEZE] = NOT_ALLOWED


def lock(lab: Site) -> None:
    lab.node.set_config(101, lock="migrate")


def fail_disk(lab: Site) -> None:
    lab.node.fault("/qemu/101/snapshot$", "status", method="POST", status=500, reason="disk quota exceeded")


FAILURES = {"locked": (lock, 4), "its freeze is refused": (refuse_freeze, 6), "no snapshot": (fail_disk, 7)}
"""What is done to guest 101, and its exit code then."""


@pytest.mark.parametrize("what", FAILURES)
def test_one_that_fails_leaves_no_snapshot_of_the_others(what: str) -> None:
    spoil, code = FAILURES[what]
    with kit.guests(3) as lab:
        spoil(lab)
        run = kit.take(lab, "100-102", "--together", "--json")
        assert run.exit_code == max(code, 6), "the worst of them"
        codes = {one["vmid"]: one["exit_code"] for one in run.json["guests"]}
        assert codes == {100: 6, 101: code, 102: 6}
        assert nothing_is_left(lab)
        told = run.json["group"]
        assert not told["is_kept"]
        assert "guest 101 could not follow" in told["words"]
        errors = {one["vmid"]: one["error"]["code"] for one in run.json["guests"]}
        assert errors[100] == errors[102] == "group-ended"
        verdicts = {row.vmid: row.verdict for row in lab.windows()}
        assert set(verdicts.values()) <= {"unknown", "crash-consistent"}


@pytest.mark.parametrize("what", FAILURES)
def test_with_best_effort_the_others_are_kept_with_verdicts_of_their_own(what: str) -> None:
    spoil, _ = FAILURES[what]
    with kit.guests(3) as lab:
        spoil(lab)
        run = kit.take(lab, "100-102", "--together", "--best-effort", "--json")
        verdicts = {one["vmid"]: one["verdict"] for one in run.json["guests"]}
        assert verdicts[100] == verdicts[102] == "filesystem-consistent"
        assert all(len(snapshots(lab, vmid)) == 1 for vmid in (100, 102))
        told = run.json["group"]
        assert told["is_kept"]
        assert not told["is_one_point_in_time"]
        assert told["words"].startswith(f"{NO_POINT}guest 101")


def test_one_that_is_thawed_from_inside_takes_the_others_with_it() -> None:
    with kit.guests(3) as lab:
        lab.node.fault("/tasks/UPID[^/]*qmsnapshot(:|%3A)101.*/status$", "hold")
        with lab.start("100-102", "--together", "--json") as process:
            assert wait_for(lambda: lab.node.held() > 0, SOON)
            kit.guest(lab, 101).thaw_from_inside()
            lab.node.release()
            run = kit.finished(process)
        assert run.exit_code == 6, run
        assert nothing_is_left(lab)
        assert "guest 101" in run.json["group"]["words"]


# ------------------------------------------------------------ processes are killed


def workers(process: Started) -> dict[int, int]:
    """The worker of each guest: they were forked in the order of the guests."""
    return dict(zip(VMIDS, kit.workers(process), strict=True))


def kill_leader(lab: Site, process: Started) -> None:
    process.kill()


def kill_worker(lab: Site, process: Started) -> None:
    os.kill(workers(process)[101], signal.SIGKILL)


def kill_guard(lab: Site, process: Started) -> None:
    pid = window_of(lab, 101).guard_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


KILLS = {"leader": kill_leader, "worker": kill_worker, "guard": kill_guard}
HOLDS = {
    "while the last is being frozen": ("/qemu/102/agent/fsfreeze-freeze$", "before", [100, 101]),
    "with all frozen": ("/tasks/UPID[^/]*qmsnapshot(:|%3A)102.*/status$", "before", [100, 101, 102]),
}


@pytest.mark.parametrize("victim", KILLS)
@pytest.mark.parametrize("when", HOLDS)
def test_a_process_that_is_killed_leaves_nobody_frozen_and_no_part_of_a_group(victim: str, when: str) -> None:
    path, order, are_frozen = HOLDS[when]
    with kit.guests(3) as lab:
        lab.node.fault(path, "hold", when=order)
        with lab.start("100-102", "--together", "--json") as process:
            assert wait_for(lambda: lab.node.held() > 0, SOON)
            assert wait_for(lambda: kit.frozen(lab) == are_frozen, SOON)
            pids = workers(process)
            starts = {
                pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] for pid in pids.values()
            }
            KILLS[victim](lab, process)
            assert wait_for(lambda: not set(kit.frozen(lab)) & {100, 101}, SOON), "the call of 102 is still held"
            lab.node.release()
            kit.finished(process)
            assert wait_for(lambda: not any(process_lives(p, int(s)) for p, s in starts.items()), SOON)
        assert wait_for(lambda: not kit.frozen(lab), SOON)
        assert wait_for(lambda: nothing_is_left(lab), SOON), {vmid: snapshots(lab, vmid) for vmid in VMIDS}
        assert wait_for(lambda: has_closed(lab), SOON)
        assert not [row for row in lab.windows() if row.verdict == "filesystem-consistent"]


def test_ctrl_c_thaws_all_and_leaves_nothing() -> None:
    with kit.guests(3) as lab:
        lab.node.fault("/tasks/UPID[^/]*qmsnapshot(:|%3A)102.*/status$", "hold")
        with lab.start("100-102", "--together", "--json") as process:
            assert wait_for(lambda: kit.frozen(lab) == [100, 101, 102], SOON)
            assert wait_for(lambda: lab.node.held() > 0, SOON)
            process.send_signal(signal.SIGINT)
            assert wait_for(lambda: not kit.frozen(lab), SOON)
            lab.node.release()
            run = kit.finished(process)
        assert run.exit_code == 130, run
        assert wait_for(lambda: nothing_is_left(lab), SOON), {vmid: snapshots(lab, vmid) for vmid in VMIDS}
