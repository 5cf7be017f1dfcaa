"""Many guests at once, on the lab: who is done, who is not, and why; nothing else is touched by what fails."""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from snapshot.base.clock import compact
from snapshot.report.boards import LiveBoard
from tests.engine.kit import FREEZE, NOT_ALLOWED, snapshots
from tests.fleet import kit
from tests.lab.site import MUTATED_TREE, environment, run_command, wait_for
from tests.unit.kit import GUEST, VirtualClock


def test_every_guest_is_done_and_told() -> None:
    with kit.guests(4, nodes=("pve1", "pve2")) as lab:
        run = kit.take(lab, "all")
        assert run.exit_code == 0, run
        lines = run.stdout.splitlines()
        assert [line.split()[0] for line in lines[1:5]] == ["100", "101", "102", "103"]
        assert all("filesystem-consistent" in line for line in lines[1:5])
        assert lines[-1] == "4 guests: 4 filesystem-consistent"
        assert all(len(snapshots(lab, vmid)) == 1 for vmid in lab.guests)
        assert "\x1b" not in run.text, "no terminal, no live lines"
        metrics = lab.metrics_path.read_text()
        assert all(f'id="qemu/{vmid}"' in metrics for vmid in lab.guests)


def test_one_guest_named_by_its_vmid_stays_as_it_was() -> None:
    with kit.guests(2) as lab:
        run = kit.take(lab, "--json", "100")
        assert run.json["vmid"] == 100
        assert "guests" not in run.json


def test_each_failure_is_its_own_guests_and_the_exit_code_is_that_of_the_worst() -> None:
    with kit.guests(5) as lab:
        kit.guest(lab, 101).faults.refuse[FREEZE] = NOT_ALLOWED
        lab.node.set_config(102, lock="backup")
        lab.node.set_config(103, scsi0="local:103/vm-103-disk-0.raw,size=64M")
        run = kit.take(lab, "--json", "all", "--policy", "require", "--wait", "0")
        assert kit.codes(run) == {100: 0, 101: 6, 102: 4, 103: 4, 104: 0}
        assert run.exit_code == 6
        assert run.json["error"]["message"].startswith("3 of 5 guests: guest 101: ")
        assert all(one["error"]["remedy"] for one in kit.outcomes(run).values() if one["error"])


def test_the_table_says_of_each_what_happened_and_what_to_do() -> None:
    with kit.guests(3) as lab:
        lab.node.set_config(101, lock="migrate")
        run = kit.take(lab, "all", "--wait", "0")
        assert run.exit_code == 4
        assert re.search(r"^ 101 +guest101 +NOT DONE +-\n    .*locked \(migrate\).*qm unlock 101", run.stdout, re.M), (
            run
        )
        assert "ERROR: 1 of 3 guests: guest 101: " in run.stderr
        quiet = kit.take(lab, "all", "--wait", "0", "--quiet")
        assert "guest100" not in quiet.text
        assert "guest101" in quiet.stdout


# ------------------------------------------------------------------- waiting


def test_a_locked_guest_is_tried_again_and_keeps_no_slot_meanwhile() -> None:
    with kit.guests(3) as lab:
        lab.node.set_config(100, lock="backup")
        with lab.start("--json", "all", "--at-once", "1", "--wait", "10m") as process:
            assert wait_for(lambda: all(snapshots(lab, vmid) for vmid in (101, 102)), kit.SOON)
            lab.node.set_config(100, lock=None)
            run = kit.finished(process)
        found = kit.outcomes(run)
        assert kit.codes(run) == {100: 0, 101: 0, 102: 0}
        assert found[100]["tries"] > 1
        assert found[100]["waited_seconds"] > 0


def test_one_that_stays_locked_is_named_when_its_time_is_over() -> None:
    with kit.guests(2) as lab:
        lab.node.set_config(100, lock="backup")
        run = kit.take(lab, "--json", "all", "--wait", "2.5s")
        found = kit.outcomes(run)
        assert kit.codes(run) == {100: 4, 101: 0}
        assert found[100]["tries"] >= 3
        assert "locked (backup)" in found[100]["error"]["message"]


def test_a_lock_that_comes_between_the_look_and_the_snapshot_is_waited_for_too() -> None:
    with kit.guests(1) as lab:
        lab.node.fault("/agent/info", "hold")
        with lab.start("--json", "all") as process:
            assert kit.held(lab)
            lab.node.set_config(100, lock="backup")
            lab.node.release()
            assert wait_for(lambda: len(lab.node.requests("/qemu/100/config")) > 2, kit.SOON)
            lab.node.set_config(100, lock=None)
            run = kit.finished(process)
        assert kit.codes(run) == {100: 0}
        assert kit.outcomes(run)[100]["tries"] > 1
        assert not kit.frozen(lab)


def test_a_guest_that_is_hibernated_is_not_waited_for() -> None:
    with kit.guests(1) as lab:
        lab.node.set_config(100, lock="suspended")
        run = kit.take(lab, "--json", "all")
        assert kit.outcomes(run)[100]["tries"] == 1
        assert kit.codes(run) == {100: 4}


# ---------------------------------------------------------------------- room


def test_a_full_storage_is_named_and_costs_its_own_guests() -> None:
    with kit.guests(2) as lab:
        lab.node.set_config(101, scsi0="local-lvm:vm-101-disk-0,size=64M")
        usage = {"pve1": {"disk": 96, "maxdisk": 100}}
        lab.node.set(storages={**lab.node.settings.storages, "local-lvm": {"type": "lvmthin", "usage": usage}})
        run = kit.take(lab, "--json", "all")
        assert kit.codes(run) == {100: 0, 101: 4}
        error = kit.outcomes(run)[101]["error"]
        assert error["code"] == "storage-full"
        assert "local-lvm (lvmthin) on pve1 is 96 % full" in error["message"]
        assert not lab.node.requests("/qemu/101/agent/fsfreeze-freeze")
        lab.write_config(fleet={"storage_full_percent": 97})
        assert kit.take(lab, "101-101", "--label", "daily").exit_code in (0, 7)


def test_without_quorum_no_guest_is_frozen() -> None:
    with kit.guests(2, nodes=("pve1", "pve2"), quorate=False) as lab:
        run = kit.take(lab, "--json", "all")
        assert kit.codes(run) == {100: 7, 101: 7}
        assert {one["error"]["code"] for one in kit.outcomes(run).values()} == {"no-quorum"}
        assert not lab.node.requests("fsfreeze-freeze")


def test_what_the_token_may_not_see_is_a_warning() -> None:
    with kit.guests(2) as lab:
        secret = lab.node.add_token(
            "lab@pve!less",
            ("VM.Audit", "VM.Snapshot", "VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt", "VM.Config.Options"),
        )
        lab.node.token_file.write_text(f"lab@pve!less={secret}\n")
        run = kit.take(lab, "all")
        assert run.exit_code == 0, run
        assert "warning: guest 100, 101: how full local on pve1 is not known" in run.stdout


# --------------------------------------------------------------------- nodes


def test_a_node_that_is_offline_costs_its_own_guests_and_says_what_to_do() -> None:
    with kit.guests(4, nodes=("pve1", "pve2")) as lab:
        lab.node.set_node_online("pve2", False)
        run = kit.take(lab, "--json", "all")
        assert kit.codes(run) == {100: 0, 101: 5, 102: 0, 103: 5}
        assert kit.outcomes(run)[101]["error"]["code"] == "node-offline"
        assert "bring pve2 back" in kit.outcomes(run)[101]["error"]["remedy"]


def test_a_node_that_dies_half_way_costs_its_own_guests_alone() -> None:
    with kit.guests(6, nodes=("pve1", "pve2")) as lab:
        lab.settings["thaw"] = {"owner_limit_seconds": 2}
        lab.write_config()
        lab.node.fault("/nodes/pve2/qemu/10[0-9]/snapshot$", "hold", method="POST", times=None)
        with lab.start("--json", "all", "--at-once", "6") as process:
            assert kit.held(lab, 2)
            victims = [vmid for vmid in kit.frozen(lab) if vmid in (101, 103, 105)]
            lab.node.set_node_online("pve2", False)
            lab.node.release()
            run = kit.finished(process)
        found = kit.codes(run)
        assert {vmid: found[vmid] for vmid in (100, 102, 104)} == {100: 0, 102: 0, 104: 0}
        assert all(found[vmid] == 8 for vmid in victims)
        assert all(found[vmid] in (5, 8) for vmid in (101, 103, 105))
        assert run.exit_code == 8
        assert "MAY STILL BE FROZEN" in kit.outcomes(run)[victims[0]]["error"]["message"]
        lab.node.set_node_online("pve2", True)
        assert wait_for(lambda: not kit.frozen(lab), kit.SOON), "the guards go on"


# -------------------------------------------------------------------- limits


def test_the_limits_hold_by_the_journals_word() -> None:
    with kit.guests(8, nodes=("pve1", "pve2")) as lab:
        run = kit.take(lab, "--json", "all")
        assert run.exit_code == 0
        windows = lab.windows()
        for node in ("pve1", "pve2"):
            assert kit.most_at_once([w for w in windows if w.node == node]) <= 2
        assert kit.most_at_once(windows) > 1


def test_a_storage_of_all_nodes_is_shared_by_at_most_so_many() -> None:
    with kit.guests(6, nodes=("pve1", "pve2", "pve3")) as lab:
        lab.node.set(storages={**lab.node.settings.storages, "local": {"type": "dir", "shared": 1}})
        lab.write_config(fleet={"at_once_per_storage": 1})
        run = kit.take(lab, "--json", "all")
        assert run.exit_code == 0
        assert kit.most_at_once(lab.windows()) == 1


# --------------------------------------------------------------------- names


def test_a_name_that_is_taken_gets_a_number() -> None:
    with kit.guests(1) as lab:
        now = time.time()
        for seconds in range(-1, 90):
            name = f"safe-daily-{compact(now + seconds)}"
            config = lab.node.config(100)
            with lab.node.store.locked(config.node, config.kind, 100, 10) as locked:
                locked.snapshots[name] = {"snaptime": "1", "description": "an earlier one"}
        run = kit.take(lab, "--json", "100", "--label", "daily")
        name = kit.outcomes(run)[100]["snapshot"]
        assert re.fullmatch(r"safe-daily-[0-9]{8}-[0-9]{6}-2", name)
        assert snapshots(lab)[name]["description"].startswith("label: daily\nsafe-snapshot: filesystem-consistent")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--label", "Daily"], "is not a label"),
        (["--label", "daily", "--name", "s1"], "leave --name out"),
        (["--wait", "soon"], "is not a time"),
        (["--at-once", "0"], "at-once"),
    ],
)
def test_a_wrong_line_is_refused_before_anything_begins(arguments: list[str], text: str) -> None:
    with kit.guests(1) as lab:
        run = kit.take(lab, "all", *arguments)
        assert run.exit_code == 2
        assert text in run.stderr
        assert not snapshots(lab)


def test_a_prefix_that_leaves_no_room_for_the_label_is_refused_before_anything_begins() -> None:
    with kit.guests(1) as lab:
        lab.write_config(snapshot={"name_prefix": "p" * 20})
        run = kit.take(lab, "all", "--label", "quarterly")
        assert run.exit_code == 2
        assert "take a shorter label" in run.stderr


# -------------------------------------------------------------------- output


def test_a_dry_run_says_guest_by_guest_what_would_happen_and_changes_nothing() -> None:
    with kit.guests(4) as lab:
        lab.node.set_config(101, tags="prod")
        lab.node.set_config(102, template=1)
        lab.node.set_config(103, lock="backup")
        run = kit.take(lab, "all", "--dry-run", "--exclude", "tag:prod")
        assert "would take snapshot safe-" in run.stdout
        assert "101 guest101 is left out: --exclude tag:prod" in run.stdout
        assert "102 guest102 is left out: a template" in run.stdout
        assert "locked (backup)" in run.stdout
        assert run.exit_code == 4
        assert not any(snapshots(lab, vmid) for vmid in lab.guests)
        assert not lab.node.requests("fsfreeze-freeze")


def test_logfmt_has_a_line_a_guest_and_a_closing_one() -> None:
    with kit.guests(2) as lab:
        run = kit.take(lab, "--logfmt", "all")
        ends = [line for line in run.stdout.splitlines() if line.startswith("event=snapshot ")]
        assert sorted(line.split("vmid=")[1][:3] for line in ends) == ["100", "101"]
        assert run.stdout.splitlines()[-1].startswith("event=snapshots guests=2 done=2 not_done=0")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_gets_live_lines_within_its_width_and_a_dumb_one_plain_lines(term: str) -> None:
    with kit.guests(3) as lab:
        env = environment() | {"TERM": term, "NO_COLOR": "1", "COLUMNS": "80", "LINES": "24"}
        ours, theirs = pty.openpty()
        done = subprocess.run(
            lab.command("all"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=env,
            check=False,
            timeout=120,
        )
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # nobody has it open any more
            pass
        os.close(ours)
        text = shown.decode()
        assert done.returncode == 0
        assert ("\x1b[1A" in text) == (term == "xterm")
        assert not re.search(r"\x1b\[3[0-9]m", text), "NO_COLOR"
        plain = re.sub(r"\x1b\[[0-9]*[A-Za-z]", "", text)
        assert all(len(line) <= 80 for line in re.split(r"[\r\n]+", plain))
        assert "in its window" in text or term == "dumb"


def test_the_metrics_are_written_by_the_parent_and_one_ping_is_left(tmp_path: Path) -> None:
    with kit.guests(3) as lab:
        heartbeat = tmp_path / "ping"
        heartbeat.write_text("http://127.0.0.1:9/\n")
        heartbeat.chmod(0o600)
        lab.write_config(notify={"job_heartbeat_file": str(heartbeat)})
        run = kit.take(lab, "all")
        assert run.exit_code == 0
        with closing(sqlite3.connect(lab.journal_path)) as db:
            assert db.execute("SELECT count(*) FROM outbox").fetchone()[0] == 1


def test_no_worker_imports_anything(tmp_path: Path) -> None:
    """What a worker imports by itself it pays for in time and memory, each of them."""
    script = """
import os, sys
log, parent = sys.argv.pop(1), os.getpid()
class Recorder:
    def find_spec(self, name, path=None, target=None):
        if os.getpid() != parent:
            with open(log, "a") as file:
                file.write(name + chr(10))
sys.meta_path.insert(0, Recorder())
from snapshot.cli.main import main
main()
"""
    with kit.guests(2) as lab:
        log = tmp_path / "imports"
        tree = MUTATED_TREE or str(Path(__file__).resolve().parents[2])
        argv = [sys.executable, "-c", script, str(log), *lab.command("all")[-3:]]
        run = run_command(argv, env=environment() | {"PYTHONPATH": tree})
        assert run.exit_code == 0, run
        assert not log.exists(), log.read_text()


def test_why_a_guest_waits_stands_whole_above_its_live_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    board = LiveBoard(VirtualClock(), in_colour=False, total=2)
    why = "the guest is locked (backup): it is held by a task of PVE's; `qm unlock 101` once that is gone, not before"
    for _ in range(2):
        board.waits(GUEST, why, 29.0)
        board.note("")
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count("once that is gone, not before; tried again for as long as --wait says") == 1
