"""The doctor's visit as a whole: it freezes nothing, changes nothing, and calls nothing well that it could not ask."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import MetricsConfig
from snapshot.doctor import cluster, examine, habits, rounds
from snapshot.doctor.examine import Surroundings
from snapshot.doctor.findings import NOT_EXAMINED
from snapshot.doctor.machine import Machine
from snapshot.doctor.worth import Best
from snapshot.model import Policy
from snapshot.preflight import checks
from snapshot.setup.accounts import USER
from tests.doctor.kit import HOOK, RIGHTS, Clinic, clinic
from tests.engine.kit import busy_agent, check
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec

HARMLESS = {"guest-info", "guest-fsfreeze-status", "guest-get-fsinfo", "guest-get-osinfo", "guest-get-host-name"}
HARMLESS |= {"guest-network-get-interfaces", "guest-sync-delimited", "guest-ping"}


@pytest.fixture
def well() -> Iterator[Clinic]:
    with clinic() as found:
        yield found


def test_where_all_is_well_nothing_is_found(well: Clinic) -> None:
    found = well.visit()
    assert found.findings == ()
    (row,) = found.guests
    assert (row.agent, row.freeze) == ("7.2.22", "yes")
    assert (row.snapshot.best, row.backup.best) == (Best.FILESYSTEM_CONSISTENT, Best.FILESYSTEM_CONSISTENT)


def test_a_broken_journal_is_told_and_left_to_the_next_run(well: Clinic) -> None:
    path = well.lab.journal_path
    path.write_bytes(b"no journal" * 1000)
    before = sorted(path.parent.iterdir())
    (found,) = [one for one in well.visit().findings if one.code == "journal-broken"]
    assert "file is not a database" in found.text
    assert "the next run sets it aside" in found.remedy
    assert path.read_bytes() == b"no journal" * 1000
    assert sorted(path.parent.iterdir()) == before


def files(folder: Path) -> Mapping[str, str]:
    kept = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in (".sqlite", ".conf", ".toml", ".prom"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@pytest.mark.parametrize("way", ["socket", "api", "pvesh", "elsewhere"])
def test_nothing_is_frozen_and_nothing_is_changed(well: Clinic, way: str) -> None:
    if way == "api":
        well.by_api()
    elif way == "pvesh":
        well.lab.node.token_file.unlink()
    elif way == "elsewhere":
        well.elsewhere()
    before = files(well.lab.run)
    with well.guest.held() as (model, _):
        model.executed.clear()
    well.visit()
    well.visit(100)
    assert files(well.lab.run) == before
    with well.guest.held() as (model, _):
        asked = {command for _, command in model.executed}
    assert "guest-info" in asked
    assert asked <= HARMLESS
    for request in well.lab.node.requests():
        is_question = request.method == "GET" or request.path.endswith("/agent/fsfreeze-status")
        assert is_question, f"{request.method} {request.path}"


def test_of_a_guest_that_is_on_a_node_that_is_off_nothing_is_called_known() -> None:
    with clinic(ScriptedGuest, ScriptedGuest, nodes=("pve1", "pve2")) as found:
        found.lab.node.move_guest(101, "pve2")
        found.lab.node.set_node_online("pve2", False)
        row = next(row for row in found.visit().guests if row.vmid == 101)
        assert (row.running, row.agent, row.freeze) == (None, "?", "?")
        assert (row.snapshot.best, row.backup.best) == (Best.NOT_KNOWN, Best.NOT_KNOWN)
        assert not found.lab.node.requests("/qemu/101/"), "a question would wait for the proxy's limit"


def test_without_a_word_on_the_script_a_backup_is_not_called_good(well: Clinic) -> None:
    well.elsewhere()  # the token may not read vzdump.conf
    (row,) = well.visit().guests
    assert (row.snapshot.best, row.backup.best) == (Best.FILESYSTEM_CONSISTENT, Best.NOT_KNOWN)
    well.well_elsewhere("pve1")
    (row,) = well.visit().guests
    assert row.backup.best is Best.FILESYSTEM_CONSISTENT


def test_where_vzdump_cannot_run_its_script_no_backup_is_called_good(well: Clinic) -> None:
    (well.root / HOOK.lstrip("/")).chmod(0o644)
    (row,) = well.visit().guests
    assert row.backup.best is Best.UNKNOWN


@pytest.mark.parametrize("by_socket", [True, False])
def test_a_guest_in_a_window_of_ours_is_not_asked(well: Clinic, by_socket: bool) -> None:
    """Its agent's one seat is somebody's, and what it is worth is not known meanwhile."""
    if not by_socket:
        well.elsewhere()
    well.open_window(owner=os.getppid())
    with well.guest.held() as (model, _):
        model.executed.clear()
    (row,) = well.visit(100).guests
    with well.guest.held() as (model, _):
        assert model.executed == []
    assert not well.lab.node.requests("/agent/")
    assert [one.code for one in row.findings] == ["in-a-window"]
    assert (row.agent, row.freeze) == ("?", "?")
    assert (row.snapshot.best, row.backup.best) == (Best.NOT_KNOWN, Best.NOT_KNOWN)


def test_a_busy_agent_is_not_called_well(well: Clinic) -> None:
    well.is_silent = True
    with busy_agent(well.guest):
        (row,) = well.visit().guests
    assert (row.agent, row.freeze) == ("silent", "no")
    assert row.snapshot.best is Best.CRASH_CONSISTENT


def test_a_frozen_guest_of_which_not_all_could_be_asked_is_worth_what_nobody_knows(well: Clinic) -> None:
    well.guest.ask("guest-fsfreeze-freeze")
    (row,) = well.visit().guests
    assert row.freeze == "FROZEN"
    assert (row.snapshot.best, row.backup.best) == (Best.NOT_KNOWN, Best.NOT_KNOWN)
    assert "`safe-snapshot thaw 100`" in row.findings[0].remedy
    well.guest.ask("guest-fsfreeze-thaw")


def test_a_guest_whose_examination_raises_anything_at_all_does_not_keep_the_others_from_theirs() -> None:
    with clinic(ScriptedGuest, ScriptedGuest) as found:
        found.lab.node.fault("/qemu/100/config", "body", body='{"data":{"scsi0":{"a":[1]},"agent":[1,{}]}}', times=None)
        found.lab.node.fault("/qemu/100/status/current", "body", body='{"data":[[]]}', times=None)
        rows = {row.vmid: row for row in found.visit().guests}
        assert {one.code for one in rows[100].findings} == {NOT_EXAMINED}
        assert rows[101].snapshot.best is Best.FILESYSTEM_CONSISTENT


def test_a_container_and_a_guest_that_is_off_need_no_agent(well: Clinic) -> None:
    well.lab.node.add_guest(GuestSpec(101, kind="lxc"))
    well.guest.stop()
    rows = {row.vmid: row for row in well.visit().guests}
    assert [(row.agent, row.freeze) for row in rows.values()] == [("-", "-")] * 2
    assert (rows[100].snapshot.best, rows[100].backup.best) == (Best.OFFLINE, Best.OFFLINE)
    assert (rows[101].snapshot.best, rows[101].backup.best) == (Best.CRASH_CONSISTENT, Best.CRASH_CONSISTENT)


def test_the_worst_stands_first_and_the_rest_by_vmid() -> None:
    with clinic(ScriptedGuest, ScriptedGuest, ScriptedGuest, ScriptedGuest) as found:
        found.lab.node.set_config(101, lock="migrate")
        found.lab.guests[103].kill_agent()
        assert [row.vmid for row in found.visit().guests] == [103, 101, 100, 102]


@pytest.mark.parametrize("what", ["config", "journal", "token", "api", "answers"])
def test_whatever_is_broken_the_doctor_says_so_in_lines(what: str) -> None:
    with clinic() as found:
        lab = found.lab
        if what == "config":
            lab.config_path.write_text("[api\nhost")
        elif what == "journal":
            lab.journal_path.unlink()
            lab.journal_path.symlink_to("/dev/zero")
        elif what == "token":
            lab.node.token_file.write_text("\0\0\0")
        elif what == "api":
            lab.node.stop_front()
        else:
            for path in ("/version", "/permissions", "/nodes", "/resources", "/backup", "/defaults", "/replication"):
                lab.node.fault(path, "body", body='{"data":[1,null,{"vmid":"²","node":[],"id":{}}]}', times=None)
        run = check(lab, lab.safe_snapshot("doctor"))
        assert run.exit_code == 14, run
        assert run.stdout.rpartition("\n\n")[2].startswith("doctor: "), "the last paragraph says it all"


def test_a_pve_that_answers_nothing_holds_the_visit_no_longer_than_its_limit(well: Clinic) -> None:
    is_over = threading.Event()
    with (
        mock.patch.object(rounds, "CUT_SECONDS", 0.01),
        mock.patch.object(cluster, "look", side_effect=lambda access: is_over.wait(30.0)),
    ):
        found = well.visit(within_seconds=0.01)
    assert not is_over.is_set()
    is_over.set()
    assert [one.code for one in found.findings] == ["api-failing"]
    assert "were used up before PVE had answered" in found.findings[0].text
    assert found.guests == ()


def test_many_guests_cost_one_list_and_few_requests_each(well: Clinic) -> None:
    well.elsewhere()
    for vmid in range(1000, 1040):
        well.lab.node.add_guest(GuestSpec(vmid))
    well.visit(100)
    well.lab.node.forget_requests()
    assert len(well.visit().guests) == 41
    assert len(well.lab.node.requests("/cluster/resources")) == 1
    assert len(well.lab.node.requests("/qemu/1001/")) == 3, "its configuration, its status, and whether it can"
    assert len(well.lab.node.requests()) <= 20 + 3 * 41 + 5


MENDED_BY_SETUP: dict[str, Callable[[Clinic], object]] = {
    "no-token": lambda found: found.lab.node.token_file.unlink(),
    "no-script": lambda found: (found.root / "etc/vzdump.conf").unlink(),
    "script-other": lambda found: (
        found.write("etc/vzdump.conf", "script: /bin/true\n") and found.write("bin/true", "", 0o755)
    ),
    "job-script-other": lambda found: found.jobs({"id": "backup-1", "all": 1, "script": "/root/hook.pl"}),
    "recover-not-run": lambda found: found.units("inactive", "disabled"),
    "textfile-folder": lambda found: found.config(metrics={"textfile": "/nonexistent/vzdump_hooks.prom"}),
    "nobody-told": lambda found: found.config(metrics={"textfile": ""}),
}


@pytest.mark.parametrize("code", MENDED_BY_SETUP)
def test_what_setup_makes_is_not_made_around_it(well: Clinic, code: str) -> None:
    """Setup notes what was there before, so `--undo` takes it back; and it says where a machine is no node."""
    MENDED_BY_SETUP[code](well)
    default = MetricsConfig(textfile=Path("/nonexistent/vzdump_hooks.prom"))
    with mock.patch.object(habits, "MetricsConfig", return_value=default):
        (found,) = [one for one in well.visit().findings if one.code == code]
    assert "`safe-snapshot setup" in found.remedy
    for around in ("echo", ">>", "sed -i", "pveum", "pvesh set", "systemctl enable"):
        assert around not in found.remedy


def test_of_another_node_setup_is_to_be_run_there() -> None:
    with clinic(nodes=("pve1", "pve2")) as found:
        found.well_elsewhere("pve2", script="")
        (one,) = [one for one in found.visit().findings if one.code == "no-script"]
    assert one.remedy == "on pve2: `safe-snapshot setup`"


@pytest.mark.parametrize("whose", ["setup's", "another's"])
def test_what_setups_own_user_lacks_setup_gives_it(well: Clinic, whose: str) -> None:
    node = well.lab.node
    entry = node.settings.tokens.pop(node.token_id)
    token_id = f"{USER}!hooks-pve1" if whose == "setup's" else "other@pve!hooks"
    rights = [right for right in RIGHTS if right != "VM.Snapshot"]
    node.set(tokens={token_id: {**entry, "acl": [["/", rights]]}})
    well.config(api={"token_id": token_id})
    node.token_file.write_text(node.token_secret)
    (found,) = [one for one in well.visit().findings if (one.code, one.subject) == ("privilege-missing", "token")]
    assert ("`safe-snapshot setup`" in found.remedy) == (whose == "setup's")
    assert ("pveum acl modify" in found.remedy) == (whose != "setup's")


def test_a_configuration_that_is_not_there_is_not_called_a_file(well: Clinic) -> None:
    assert well.visit().looks[0].text == str(well.lab.config_path)
    with mock.patch.object(examine, "DEFAULT_PATH", well.root / "none.toml"):
        found = examine.examine(None, Surroundings(SystemClock(), ProcessIdentity.own(), Machine(well.root)))
    assert found.looks[0].text == f"no file {well.root}/none.toml: the defaults hold"


def test_a_containers_note_does_not_advise_what_is_set(well: Clinic) -> None:
    well.lab.node.add_guest(GuestSpec(101, kind="lxc"))
    (found,) = [one for one in well.visit().findings if one.code == "container"]
    assert found.remedy == "a database in it needs a dump of its own: docs/containers.md"
    assert checks.container(Policy.REQUIRE).remedy == "use policy prefer or never for it"
