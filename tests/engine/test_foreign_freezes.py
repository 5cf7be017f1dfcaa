"""Freezes by others, and guests of which nobody knows: the minute's `recover`, `status` and `thaw`, as real commands.

Three answers, never two: frozen, thawed, not known.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapshot.base.procfs import TICKS, boot_id, process_start
from snapshot.journal.looks import GuestLook, Why
from snapshot.journal.store import Journal
from tests.engine import kit
from tests.engine.kit import FREEZE, QUICK_LIMITS, busy_agent, check
from tests.lab.guest.agentmodel import Faults
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import PRIVILEGES
from tests.lab.site import Run, Site, site
from tests.process.processes import guards
from tests.unit.kit import record

STATUS = "guest-fsfreeze-status"
THAW = "guest-fsfreeze-thaw"


@pytest.fixture
def node() -> Iterator[Site]:
    """Our commands on the node of guest 100, where a look has been."""
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.settings["local"] = {"task_folder": str(lab.run / "tasks")}
        (lab.run / "tasks").mkdir()
        lab.on_the_node()
        look(lab)
        yield lab


def look(lab: Site, *arguments: str) -> Run:
    """One round of the minute's look."""
    return check(lab, lab.safe_snapshot("recover", *arguments), thawed=False)


def looks(lab: Site) -> dict[int, GuestLook]:
    with contextlib.closing(Journal(lab.journal_path, read_only=True)) as journal:
        return {found.vmid: found for found in journal.looks().values()}


def asked(lab: Site, vmid: int = 100) -> int:
    guest = lab.guests[vmid]
    assert isinstance(guest, ScriptedGuest)
    with guest.held() as (model, _):
        return sum(command == STATUS for _, command in model.executed)


def limit(lab: Site, seconds: float, **freeze: object) -> None:
    lab.settings["freeze"] = {"foreign_limit_seconds": seconds, **freeze}
    lab.write_config()


# ---------------------------------------------------------------- freezes by others


def test_a_guest_that_somebody_else_froze_is_an_alarm_past_the_limit_and_not_before(node: Site) -> None:
    node.guest.ask(FREEZE)
    found = look(node)
    assert found.exit_code == 0, found
    assert "frozen by somebody else" in found.stdout, found
    (window,) = node.windows()
    assert (window.source, window.owner, window.state, window.closed_at) == ("foreign", "foreign", "frozen", None)
    assert window.deadline_at == pytest.approx(window.intent_at + 300)
    limit(node, 1e-6)
    found = look(node)
    assert found.exit_code == 8, found
    assert "GUEST 100 IS FROZEN" in found.stdout
    assert "safe-snapshot thaw 100" in found.stdout
    assert node.guest.is_frozen()
    assert len(node.windows()) == 1
    status = node.safe_snapshot("status")
    assert status.exit_code == 8
    assert "GUEST 100 IS FROZEN" in status.stdout


def test_a_freeze_by_somebody_else_that_ends_is_over_in_words(node: Site) -> None:
    node.guest.ask(FREEZE)
    look(node)
    node.guest.ask(THAW)
    found = look(node)
    assert found.exit_code == 0
    assert "it had been frozen by somebody else" in found.stdout
    (window,) = node.windows()
    assert window.closed_at is not None
    assert "frozen by somebody else for" in (window.reason or "")
    assert look(node).stdout == "no window was left open\n"


@pytest.mark.parametrize("by", ["thaw, with a window", "thaw, without one", "a run of ours"])
def test_a_freeze_by_somebody_else_has_not_lasted_since_before_a_thaw_that_was_confirmed(node: Site, by: str) -> None:
    with contextlib.closing(Journal(node.journal_path)) as journal:
        long_ago = [seen._replace(still_since_at=time.time() - 240, asked_at=None) for seen in journal.looks().values()]
        journal.put_looks(long_ago)
    if by != "a run of ours":
        node.guest.ask(FREEZE)
    if by == "thaw, with a window":
        look(node)
    began = time.time()
    assert check(node, node.safe_snapshot(*(["100"] if by == "a run of ours" else ["thaw", "100"]))).exit_code == 0
    with contextlib.closing(Journal(node.journal_path)) as journal:
        journal.put_looks(long_ago)
    node.guest.ask(FREEZE)
    found = look(node)
    (window,) = [window for window in node.windows() if window.closed_at is None]
    assert window.intent_at >= began, found
    assert re.search(r"frozen by somebody else for \d+ s at most, ", " ".join(found.stdout.split())), found
    status = " ".join(node.safe_snapshot("status").stdout.split())
    assert re.search(r"window \w+ frozen since \d+ s at most, frozen by somebody else", status), status


def test_a_freeze_by_somebody_else_is_thawed_where_the_operator_wants_it_once_no_window_can_be_so_long(
    node: Site,
) -> None:
    node.guest.ask(FREEZE)
    limit(node, 1e-6, foreign="thaw")
    found = look(node)
    assert node.guest.is_frozen(), "another machine of ours may be about to prove that it was frozen throughout"
    assert found.exit_code == 8
    with contextlib.closing(Journal(node.journal_path)) as journal:
        journal.update(node.windows()[0].id, frozen_at=time.time() - 166, intent_at=time.time() - 166)
    found = look(node)
    assert found.exit_code == 0, found
    assert not node.guest.is_frozen()
    assert node.windows()[0].closed_at is not None


def test_a_guest_that_pve_is_at_work_on_is_no_alarm_and_is_not_thawed(node: Site) -> None:
    limit(node, 1e-6, foreign="thaw")
    with subprocess.Popen(["sleep", "60"]) as worker:
        try:
            start = process_start(worker.pid)
            assert start is not None
            upid = f"UPID:pve1:{worker.pid:08X}:{start:08X}:{int(time.time()):08X}:qmclone:100:root@pam:"
            (node.run / "tasks" / "active").write_text(f"{upid} 0\n")
            node.guest.ask(FREEZE)
            with contextlib.closing(Journal(node.journal_path)) as journal:
                journal.begin(foreign_window(node, 600))
            found = look(node)
            assert found.exit_code == 0, found
            assert "PVE's qmclone is at work on it" in found.stdout
            assert node.guest.is_frozen()
            assert node.safe_snapshot("status").exit_code == 0
        finally:
            worker.kill()
    found = look(node)  # the task was killed, and its thaw with it
    assert "qmclone" not in found.stdout
    assert not node.guest.is_frozen()


def foreign_window(lab: Site, seconds: float) -> object:
    at = time.time() - seconds
    values = {"source": "foreign", "owner": "foreign", "owner_pid": 0, "boot_id": "", "freeze_outcome": "acknowledged"}
    return record("foreign", 100, at=at, state="frozen", deadline_at=at + 300, frozen_at=at, **values)


def test_the_rescue_ends_the_record_of_a_freeze_by_somebody_else(node: Site) -> None:
    node.guest.ask(FREEZE)
    look(node)
    assert check(node, node.safe_snapshot("thaw", "100")).exit_code == 0
    assert node.windows()[0].closed_at is not None
    assert node.finds_nothing()


def test_a_guest_that_is_off_is_not_frozen_by_somebody_else_any_more(node: Site) -> None:
    node.guest.ask(FREEZE)
    look(node)
    node.guest.stop()
    found = look(node)
    assert found.exit_code == 0, found
    assert node.windows()[0].closed_at is not None


# ---------------------------------------------------------------- who is asked


def test_a_guest_that_writes_is_not_asked(node: Site) -> None:
    before = asked(node)
    for counter in (1000, 2000, 3000):
        node.node.set_diskwrite({100: counter})
        look(node)
    assert asked(node) == before
    assert looks(node)[100].state == "thawed"
    node.guest.ask(FREEZE)
    look(node)
    assert asked(node) == before + 2, "its counter stands still: a question, and the one that its sync brings"
    assert looks(node)[100].state == "frozen"


def test_a_guest_whose_agent_was_busy_is_asked_again(node: Site) -> None:
    assert isinstance(node.guest, ScriptedGuest)
    with busy_agent(node.guest):
        found = look(node)
        assert found.exit_code == 0
        assert "guest 100 on pve1: NOT KNOWN whether frozen: its agent does not answer" in found.stdout
    assert looks(node)[100].why == Why.AGENT_SILENT.value
    found = look(node)
    assert "NOT KNOWN" not in found.stdout
    assert looks(node)[100].state == "thawed"


def test_a_guest_that_nobody_could_ask_since_the_journal_is_new_may_be_frozen_by_us() -> None:
    """As far as is known: the journal before it may have known. So it is an alarm as soon as it is seen frozen."""
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.on_the_node()
        assert isinstance(lab.guest, ScriptedGuest)
        with busy_agent(lab.guest):
            assert "NOT KNOWN" in look(lab).stdout
        lab.guest.ask(FREEZE)
        assert look(lab).exit_code == 8


def test_a_guest_that_somebody_else_froze_and_nobody_could_ask_since_stays_an_alarm(node: Site) -> None:
    assert isinstance(node.guest, ScriptedGuest)
    with contextlib.closing(Journal(node.journal_path)) as journal:
        journal.begin(foreign_window(node, 600))
    with busy_agent(node.guest):
        found = look(node)
    assert found.exit_code == 8, found
    assert "GUEST 100 MAY STILL BE FROZEN, by somebody else" in found.stdout
    assert node.windows()[0].closed_at is None


def test_a_look_over_the_api_has_a_budget_of_pves_workers() -> None:
    with site(*[ScriptedGuest] * 6, limits={"ping": 3.0}) as lab:
        for vmid in range(101, 106):
            lab.guests[vmid].kill_agent()
        found = look(lab)
        assert found.seconds < 12
        assert found.exit_code == 0
        assert "NOT KNOWN whether frozen" in found.stdout
        assert looks(lab)[100].state == "thawed", "who answers is asked all the same"
        known = looks(lab)
        silent = [vmid for vmid, row in known.items() if row.why == Why.AGENT_SILENT.value]
        assert 1 <= len(silent) <= 3, known


# ---------------------------------------------------------------- not known


def test_a_guest_that_nobody_can_ask_is_never_called_well() -> None:
    blocked = functools.partial(ScriptedGuest, faults=Faults(blocked=frozenset({STATUS})))
    with site(ScriptedGuest, ScriptedGuest, blocked, limits=dict(QUICK_LIMITS)) as lab:
        lab.guests[101].kill_agent()
        for command in ("status", "recover"):
            run = check(lab, lab.safe_snapshot(command))
            assert run.exit_code == 0, run
            assert "guest 101" in run.stdout
            assert "guest 102" in run.stdout
            assert "fsfreeze-status is blocked" in run.stdout
            assert "guest 100" not in run.stdout
        assert [row["vmid"] for row in lab.safe_snapshot("--json", "status").json["unknown"]] == [101, 102]


def test_guests_of_a_node_that_is_offline_are_named_with_it() -> None:
    with site(ScriptedGuest, ScriptedGuest, nodes=("pve1", "pve2"), limits=dict(QUICK_LIMITS)) as lab:
        lab.node.move_guest(101, "pve2")
        lab.node.set_node_online("pve2", False)
        for command in ("status", "recover"):
            run = check(lab, lab.safe_snapshot(command))
            assert run.exit_code == 0, run
            assert "guest 101" in run.stdout
            assert "on pve2: NOT KNOWN whether frozen: its node is offline" in run.stdout
        run = check(lab, lab.safe_snapshot("thaw", "101"))
        assert run.exit_code == 8
        assert run.seconds < 12
        assert "its node pve2 is offline" in run.stderr
        assert "qm reset" not in run.stderr


def test_a_token_that_sees_no_guest_gives_no_all_clear() -> None:
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.guest.ask(FREEZE)
        secret = lab.node.add_token("lab@pve!blind", ())
        path = kit.write_secret(lab.run / "blind", f"lab@pve!blind={secret}\n")
        lab.write_config(api={"token_file": str(path)})
        for command in ("status", "recover"):
            run = check(lab, lab.safe_snapshot(command), thawed=False)
            assert run.exit_code == 5, run
            assert "VM.Audit" in run.text
            assert "no frozen guest" not in run.text


# ---------------------------------------------------------------- windows of ours


def test_a_stuck_window_whose_guard_lives_needs_help(node: Site) -> None:
    now = time.time()
    with subprocess.Popen(["sleep", "60"]) as guard:
        try:
            values = {"guard_pid": guard.pid, "guard_pid_start": process_start(guard.pid), "boot_id": boot_id()}
            with contextlib.closing(Journal(node.journal_path)) as journal:
                journal.begin(record("stuck", 100, at=now - 50, deadline_at=now - 20, state="stuck", **values))
            node.guest.ask(FREEZE)
            run = check(node, node.safe_snapshot("100"), thawed=False)
            assert run.exit_code == 8, "nobody's window ends by waiting"
            assert "wait" not in run.stderr
            assert "run `safe-snapshot thaw 100`" in run.stderr
            node.guest.thaw_from_inside()
            node.guest.kill_agent()
            for command in ("status", "recover"):
                run = check(node, node.safe_snapshot(command))
                assert run.exit_code == 8, run
                assert "GUEST 100 MAY STILL BE FROZEN" in run.stdout
                assert "`qm reset 100`" in run.stdout or "run `safe-snapshot thaw 100`" in run.stdout
        finally:
            guard.kill()


@pytest.mark.parametrize(
    ("values", "late", "exit_code"),
    [
        ({"state": "armed"}, 17, 8),
        ({"state": "armed"}, -300, 0),  # how long it is believed: tests/unit/test_overdue.py
        ({"state": "freezing", "owner": "vzdump"}, 17, 8),
        ({"state": "idle", "owner": "vzdump"}, 3000, 0),
        ({"state": "unknown", "thawed_at": 1.0}, 17, 0),
    ],
    ids=["late", "before its deadline", "vzdump's", "before vzdump's freeze", "thawed"],
)
def test_a_guest_that_may_be_frozen_past_its_deadline_is_told_though_its_owner_lives(
    node: Site, values: dict[str, object], late: float, exit_code: int
) -> None:
    """Its processors stand still, say: whoever sees to it can do nothing, and goes on."""
    now = time.time()
    with subprocess.Popen(["sleep", "60"]) as owner:
        try:
            start = process_start(owner.pid)
            alive = {"owner_pid": owner.pid, "owner_pid_start": start, "boot_id": boot_id()}
            if values["state"] == "idle":  # as VzdumpsWindow has it: its own guard, until another one is armed
                alive |= {"guard_pid": owner.pid, "guard_pid_start": start}
            with contextlib.closing(Journal(node.journal_path)) as journal:
                journal.begin(record("late", 100, at=now - late - 30, deadline_at=now - late, **alive, **values))
            node.guest.kill_agent()
            for command in ("status", "recover"):
                run = check(node, node.safe_snapshot(command))
                assert run.exit_code == exit_code, run
                assert exit_code == 8 or "in progress" in run.stdout or "in-progress" in run.stdout, run
            assert owner.poll() is None, "it goes on"
        finally:
            owner.kill()


def test_a_window_of_a_guest_that_was_started_again_since_ends(node: Site) -> None:
    long_ago = time.time() - 10 * 86400
    with contextlib.closing(Journal(node.journal_path)) as journal:
        journal.begin(record("old", 100, at=long_ago, state="armed", boot_id="another boot"))
    node.guest.kill_agent()  # so that nobody can ask it
    run = check(node, node.safe_snapshot("recover"))
    assert run.exit_code == 0, run
    assert "the guest was started again since" in run.stdout
    assert node.windows()[0].closed_at is not None


def test_a_clock_that_was_set_forward_ends_no_window_of_a_silent_guest(node: Site) -> None:
    node.settings["thaw"] = {"owner_limit_seconds": 1}
    node.write_config()
    node.guest.ask(FREEZE)
    just_now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)
    ours = {"boot_id": boot_id(), "owner_pid": 2**30, "guard_pid": 2**30, "guard_pid_start": just_now}
    left_behind(node, at=time.time() - 86400, freeze_outcome="acknowledged", **ours)
    node.guest.kill_agent()
    run = check(node, node.safe_snapshot("recover"), thawed=False)
    try:
        assert run.exit_code == 8, run
        assert node.windows()[0].closed_at is None
    finally:
        end_guards(node)


def test_a_guest_that_answers_gets_its_thaw_however_young_its_qemu_seems(node: Site) -> None:
    """The clock was set forward since: the window is old by it, and the guest's uptime is not."""
    node.guest.ask(FREEZE)
    left_behind(node, at=time.time() - 3600, state="frozen", freeze_outcome="acknowledged")
    run = check(node, node.safe_snapshot("recover"))
    assert (run.exit_code, not node.guest.is_frozen()) == (0, True), run
    assert node.windows()[0].closed_at is not None


def left_behind(lab: Site, vmid: int = 100, **values: Any) -> None:
    """A window of ours whose owner and guard are gone."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(record("left", vmid, **({"state": "frozen", "boot_id": "another boot"} | values)))


def sees_only(lab: Site, vmid: int) -> None:
    """The token keeps its rights on one guest alone."""
    tokens = json.loads((lab.node.root / "lab/settings.json").read_text())["tokens"]
    lab.node.set(tokens={name: held | {"acl": [[f"/vms/{vmid}", list(PRIVILEGES)]]} for name, held in tokens.items()})


@pytest.mark.parametrize("on_the_node", [False, True])
def test_a_list_that_lacks_the_guest_of_a_window_does_not_close_it(on_the_node: bool) -> None:
    with site(ScriptedGuest, ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.settings["thaw"] = {"owner_limit_seconds": 1}
        lab.write_config()
        if on_the_node:
            lab.on_the_node()
        lab.guest.ask(FREEZE)
        left_behind(lab, at=time.time() - 60, freeze_outcome="acknowledged")
        sees_only(lab, 101)
        run = check(lab, lab.safe_snapshot("recover"), thawed=on_the_node)
        window = next(w for w in lab.windows() if w.id == "left")
        if on_the_node:  # its socket is here
            assert (run.exit_code, lab.guest.is_frozen(), window.closed_at is None) == (0, False, False), run
        else:
            assert (run.exit_code, window.closed_at) == (8, None), run
            assert "PVE does not list it for this token" in run.stdout
        end_guards(lab)


def end_guards(lab: Site) -> None:
    for pid in guards(lab):
        os.kill(pid, signal.SIGKILL)


def test_a_list_that_lacks_a_guest_which_the_token_would_see_does() -> None:
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        left_behind(lab, 999, at=time.time() - 60, freeze_outcome="acknowledged")
        run = check(lab, lab.safe_snapshot("recover"))
        assert run.exit_code == 0, run
        assert "guest 999 does not exist in this cluster" in run.stdout
        assert lab.windows()[0].closed_at is not None


@contextlib.contextmanager
def stopped(*argv: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, object]]]:
    """A process that stands still, and what a window of its says."""
    with subprocess.Popen(argv or ("sleep", "60"), stdout=subprocess.PIPE) as process:
        try:
            if argv:
                assert process.stdout is not None
                process.stdout.readline()
            os.kill(process.pid, signal.SIGSTOP)
            start = process_start(process.pid)
            yield process, {"owner_pid": process.pid, "owner_pid_start": start, "boot_id": boot_id()}
        finally:
            process.kill()


@pytest.mark.parametrize("whose", ["owner", "guard"])
@pytest.mark.parametrize("thawed_at", [None, 1.0])
def test_who_stands_still_past_the_deadline_is_ended_also_where_the_guest_says_thawed(
    node: Site, whose: str, thawed_at: float | None
) -> None:
    """It would turn every later run away."""
    now = time.time()
    with stopped() as (process, owner):
        alive = {name.replace("owner", whose): value for name, value in owner.items()}
        left_behind(node, at=now - 60, state="armed", freeze_outcome="acknowledged", thawed_at=thawed_at, **alive)
        run = check(node, node.safe_snapshot("recover"))
        assert run.exit_code == 0, run
        assert process.wait(10) == -signal.SIGKILL
        assert node.windows()[0].closed_at is not None
        assert node.finds_nothing()


def test_a_paused_backup_whose_guest_is_thawed_is_not_ended(node: Site) -> None:
    with stopped() as (process, alive):
        values = {"source": "vzdump", "owner": "hook", "freeze_outcome": "acknowledged", "thawed_at": 1.0}
        left_behind(node, at=time.time() - 60, state="unknown", **(alive | values))
        assert check(node, node.safe_snapshot("recover")).exit_code == 0
        assert process.poll() is None


def test_who_stands_still_before_the_deadline_is_left_alone(node: Site) -> None:
    with stopped() as (process, alive):
        now = time.time()
        left_behind(node, at=now, deadline_at=now + 300.0, freeze_outcome="acknowledged", **alive)
        for command in (["recover"], ["thaw", "100"]):
            assert check(node, node.safe_snapshot(*command)).exit_code == 0
        assert process.poll() is None
        assert node.windows()[0].closed_at is None


SEATED = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as seat:
    seat.connect(sys.argv[1])
    print(flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("command", "seconds"), [("thaw 100", 60), ("recover", 60), ("recover", 7200)], ids=["thaw", "recover", "given up"]
)
def test_the_rescue_ends_who_stands_still_in_the_agents_seat(node: Site, command: str, seconds: float) -> None:
    node.guest.ask(FREEZE)
    with stopped(sys.executable, "-c", SEATED, str(node.guest.agent_socket)) as (process, alive):
        left_behind(node, at=time.time() - seconds, freeze_outcome="acknowledged", **alive)
        run = check(node, node.safe_snapshot(*command.split()))
        assert run.exit_code == 0, run
        assert process.wait(10) == -signal.SIGKILL
        assert node.windows()[0].closed_at is not None


def test_a_window_that_had_only_its_verdict_to_write_is_closed_and_anothers_freeze_is_left_alone(node: Site) -> None:
    """Its freeze was refused, since the guest was frozen already: a thaw would break somebody else's window."""
    node.guest.ask(FREEZE)
    left_behind(node, at=time.time() - 60, state="thawed", freeze_outcome="refused")
    assert look(node).exit_code == 0
    assert node.guest.is_frozen()
    windows = {window.owner: window.closed_at is not None for window in node.windows()}
    assert windows == {"snapshot": True, "foreign": False}


@pytest.mark.parametrize(("late", "answers"), [(2, False), (2, True), (17, True)])
def test_status_and_recover_say_the_same_of_a_stuck_window(node: Site, late: float, answers: bool) -> None:
    now = time.time()
    with subprocess.Popen(["sleep", "60"]) as guard:
        try:
            alive = {"guard_pid": guard.pid, "guard_pid_start": process_start(guard.pid), "boot_id": boot_id()}
            left_behind(node, at=now - 30, deadline_at=now - late, **(alive | {"state": "stuck"}))
            if not answers:
                node.guest.kill_agent()
            first = node.safe_snapshot("status").exit_code
            assert first == 8
            run = check(node, node.safe_snapshot("recover"))
            assert run.exit_code == (0 if answers and late > 10 else 8), run  # an acknowledged thaw ends it
            assert node.safe_snapshot("status").exit_code == run.exit_code
        finally:
            guard.kill()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("late_freezes", "x"),
        ("state", "melting"),
        ("owner", "nobody"),
        ("intent_at", -1.0),
        ("deadline_at", "soon"),
        ("frozen_at", 1e300),
        ("owner_pid", "x"),
    ],
)
def test_a_window_of_ours_with_one_value_that_makes_no_sense_is_thawed_and_closed(
    node: Site, column: str, value: object
) -> None:
    node.guest.ask(FREEZE)
    left_behind(node, at=time.time() - 60, freeze_outcome="acknowledged")
    with contextlib.closing(sqlite3.connect(node.journal_path)) as db:
        db.execute(f"UPDATE windows SET {column} = ?", (value,))
        db.commit()
    status = node.safe_snapshot("status")
    assert status.exit_code == 8, status
    run = check(node, node.safe_snapshot("recover"))
    assert run.exit_code == 0, run
    assert run.text.count("makes no sense") == 1, run
    with contextlib.closing(sqlite3.connect(node.journal_path)) as db:
        assert db.execute("SELECT count(*) FROM windows WHERE closed_at IS NULL").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM windows").fetchone() == (1,), "it is no stranger's"


def listed_as(lab: Site, **values: object) -> None:
    row: dict[str, object] = {"vmid": 100, "node": "pve1", "type": "qemu", "status": "running", "name": "lab-100"}
    row = {key: value for key, value in (row | values).items() if value != "missing"}
    lab.node.fault("cluster/resources", "body", body=json.dumps({"data": [row]}), times=None)


ODD_STATUSES = ["missing", "paused", "Running", None, ["running"]]


@pytest.mark.parametrize(
    "values", [{"status": status} for status in [*ODD_STATUSES, "stopped"]] + [{"node": "pve2"}], ids=repr
)
def test_what_lives_on_the_node_is_looked_at_whatever_the_list_says(node: Site, values: dict[str, object]) -> None:
    node.guest.ask(FREEZE)
    listed_as(node, **values)
    status = node.safe_snapshot("status")
    assert status.exit_code == 8, status
    assert "is FROZEN" in status.stdout
    assert "foreign" in look(node).stdout


@pytest.mark.parametrize("status", ODD_STATUSES, ids=repr)
def test_elsewhere_only_a_guest_that_is_stopped_is_not_looked_at(status: object) -> None:
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.guest.ask(FREEZE)
        listed_as(lab, status=status)
        assert lab.safe_snapshot("status").exit_code == 8
        assert "foreign" in look(lab).stdout


def test_a_list_that_lacks_a_guest_that_somebody_else_froze_does_not_end_its_alarm() -> None:
    with site(ScriptedGuest, ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        look(lab)
        kit.seen_frozen(lab, 600)
        sees_only(lab, 101)
        run = look(lab)
        assert run.exit_code == 8, run
        assert "PVE does not list it for this token" in run.stdout
        assert lab.windows()[0].closed_at is None


def test_a_clock_that_was_set_back_does_not_postpone_the_alarm(node: Site) -> None:
    node.guest.ask(FREEZE)
    kit.seen_frozen(node, -7200)
    look(node)
    (window,) = node.windows()
    assert window.intent_at <= time.time()
    assert window.deadline_at <= time.time() + 300


# ---------------------------------------------------------------- the rescue always works


def test_the_rescue_on_the_node_asks_the_api_nothing_where_the_socket_answers(node: Site) -> None:
    node.guest.ask(FREEZE)
    node.node.forget_requests()
    run = check(node, node.safe_snapshot("thaw", "100"))
    assert run.exit_code == 0
    assert node.node.requests() == []


@pytest.mark.parametrize("command", [("status",), ("recover",), ("thaw", "100")])
def test_a_rescue_goes_on_with_a_configuration_that_is_broken(node: Site, command: tuple[str, ...]) -> None:
    with node.config_path.open("a") as file:
        file.write('[hook]\nowner = "nobody"\n')
    run = check(node, node.safe_snapshot(*command))
    assert run.exit_code == 0, run
    assert "warning: " in run.text
    assert "'hook.owner'" in run.text
    assert node.safe_snapshot("--json", *command).json["warnings"]
    assert node.safe_snapshot("check", "100").exit_code == 3


@pytest.mark.parametrize("make", ["fifo", "folder"])
def test_a_rescue_goes_on_with_a_journal_that_is_no_file(node: Site, make: str) -> None:
    node.guest.ask(FREEZE)
    node.journal_path.unlink()
    if make == "fifo":
        import os

        os.mkfifo(node.journal_path)
    else:
        node.journal_path.mkdir()
    assert check(node, node.safe_snapshot("status", timeout=20), thawed=False).exit_code == 8
    assert check(node, node.safe_snapshot("recover", timeout=20), thawed=False).exit_code == 9
    run = check(node, node.safe_snapshot("thaw", "100", timeout=20))
    assert run.exit_code == 0


@pytest.mark.parametrize("trouble", ["a folder of the kernel's", "a newer version", "a folder that is a file"])
def test_status_says_that_the_journal_cannot_be_read(node: Site, trouble: str) -> None:
    if trouble == "a newer version":
        with contextlib.closing(sqlite3.connect(node.journal_path)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        folder = node.journal_path.parent
        folder.rename(folder.with_name("elsewhere"))
        if trouble == "a folder that is a file":
            folder.write_text("")
        else:
            folder.symlink_to("/proc")
    for command in ("status", "recover"):
        run = check(node, node.safe_snapshot(command))
        assert run.exit_code == 9, run
        assert "the journal" in run.text


def test_ctrl_c_ends_the_rescue_at_once(node: Site) -> None:
    assert isinstance(node.guest, ScriptedGuest)
    node.guest.stop_agent()
    with node.start("thaw", "100") as run:
        assert kit.reaches(node, "fsfreeze-"), "the socket did not answer, so the API is asked"
        run.send_signal(signal.SIGINT)
        assert run.wait(5) == 130
    node.guest.continue_agent()


def test_what_is_left_to_do_is_true_for_the_place() -> None:
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.guest.ask(FREEZE)
        lab.guest.kill_agent()
        lab.settings["thaw"] = {"owner_limit_seconds": 1}
        lab.write_config()
        run = check(lab, lab.safe_snapshot("thaw", "100"), thawed=False)
        assert run.exit_code == 8
        assert "on its node pve1" in run.stderr
        assert "qm guest cmd 100 fsfreeze-thaw" in run.stderr
        lab.on_the_node()
        run = check(lab, lab.safe_snapshot("thaw", "100"), thawed=False)
        assert "on its node" not in run.stderr
        assert "fsfreeze --unfreeze" in run.stderr


@pytest.mark.parametrize("is_here", [True, False])
def test_a_thaw_that_the_agent_forbids_is_cured_inside_the_guest_and_that_ends_the_alarm(is_here: bool) -> None:
    faults = Faults(blocked=frozenset({THAW}))
    with site(functools.partial(ScriptedGuest, faults=faults), limits=dict(QUICK_LIMITS)) as lab:
        if is_here:
            lab.on_the_node()
        guest, now = kit.the_guest(lab), time.time()
        guest.ask(FREEZE)
        values = {"freeze_outcome": "acknowledged", "filesystems_frozen": 1, "boot_id": boot_id()}
        with contextlib.closing(Journal(lab.journal_path)) as journal:
            journal.begin(record("stuck", 100, at=now - 50, deadline_at=now - 20, state="stuck", **values))
        run = check(lab, lab.safe_snapshot("thaw", "100"), thawed=False)
        assert run.exit_code == 8, run
        assert run.seconds < 60, "it does not use up its 120 s"
        assert "fsfreeze --unfreeze" in run.stderr
        assert "safe-snapshot thaw" not in run.stderr, "that would be circular"
        assert "qm guest cmd" not in run.stderr
        run = check(lab, lab.safe_snapshot("check", "100"), thawed=False)
        assert "fsfreeze --unfreeze" in run.stdout
        assert "safe-snapshot thaw" not in run.stdout, "circular"
        assert "guest-fsfreeze-freeze" not in run.stdout, "that is off because the guest is frozen"
        guest.thaw_from_inside()
        guest.kill_agent()
        guest.start_agent(keep_state=False)
        run = check(lab, lab.safe_snapshot("thaw", "100"))
        assert run.exit_code == 8, f"the agent's word alone is no proof: {run}"
        with writing(lab):
            run = check(lab, lab.safe_snapshot("thaw" if is_here else "recover", *(["100"] if is_here else [])))
        assert run.exit_code == 0, run
        assert "thawed from inside: its agent says so and it writes again" in run.stdout
        assert lab.windows()[0].closed_at is not None
        assert check(lab, lab.safe_snapshot("status")).exit_code == 0


def test_a_recovery_in_vain_says_what_is_left_to_do(node: Site) -> None:
    guest = kit.the_guest(node)
    guest.faults.blocked = frozenset({THAW})
    guest.ask(FREEZE)
    left_behind(node, at=time.time() - 60, freeze_outcome="acknowledged")
    run = check(node, node.safe_snapshot("recover"), thawed=False)
    assert run.exit_code == 8, run
    assert "its agent does not let us" in run.stdout
    assert "`qm reset 100`" in run.stdout


@contextlib.contextmanager
def writing(lab: Site) -> Iterator[None]:
    """The guest's disks are written."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.1):
            lab.node.set_diskwrite({100: time.monotonic_ns() // 1000})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ---------------------------------------------------------------- a whole node


class LightGuest(ScriptedGuest):
    """An agent and nothing else: two hundred fit into one process."""

    def _monitors(self) -> tuple[Path, ...]:
        return ()


def test_the_look_at_a_node_of_two_hundred_guests() -> None:
    """20 silent agents, 5 frozen by others, 3 on a node that is offline; the rest writes, or is idle and answers."""
    everyone, silent, frozen, offline = range(100, 300), range(110, 130), (140, 151, 162, 173, 184), (297, 298, 299)
    with site(*[LightGuest] * len(everyone), nodes=("pve1", "pve2"), limits={"ping": 3.0}) as lab:
        for vmid in offline:
            lab.node.move_guest(vmid, "pve2")
            for left in ("qga", "pid"):  # its QEMU runs there
                (lab.run / f"{vmid}.{left}").unlink(missing_ok=True)
        lab.node.set_node_online("pve2", False)
        for vmid in silent:
            lab.guests[vmid].kill_agent()
        for vmid in frozen:
            lab.guests[vmid].ask(FREEZE)
        idle = {*silent, *frozen, *offline, *range(200, 220)}
        writing = [vmid for vmid in everyone if vmid not in idle]
        limit(lab, 1e-6)
        lab.on_the_node()
        look(lab)
        before = {vmid: asked(lab, vmid) for vmid in writing}
        lab.node.set_diskwrite(dict.fromkeys(writing, 4711))
        lab.node.forget_requests()
        found = look(lab)
        assert found.exit_code == 8
        for vmid in frozen:
            assert f"GUEST {vmid} IS FROZEN" in found.stdout, found
        assert {vmid: asked(lab, vmid) for vmid in writing} == before, "a guest that writes was asked"
        assert not lab.node.requests("/agent/"), "PVE's workers were asked"
        assert len(lab.node.requests("/cluster/resources")) == 1
        known = looks(lab)
        assert set(known) == set(everyone)
        assert {vmid for vmid, row in known.items() if row.state == "frozen"} == set(frozen)
        assert {vmid for vmid, row in known.items() if row.why == Why.AGENT_SILENT.value} == set(silent)
        assert {vmid for vmid, row in known.items() if row.why == Why.NODE_OFFLINE.value} == set(offline)
        vmids = ", ".join(map(str, silent))
        assert f"20 guests on pve1: NOT KNOWN whether frozen, each: its agent does not answer: {vmids}" in found.stdout


def test_what_makes_no_sense_in_pves_list_is_told_and_is_no_all_clear(node: Site) -> None:
    row = {"type": "qemu", "vmid": 100, "node": "pve1", "name": "guest100", "status": "running"}
    odd = [{**row, "vmid": 300 + number, "type": "jail\x1b"} for number in range(5)]
    node.node.fault("cluster/resources", "body", body=json.dumps({"data": [row, *odd]}), times=None)
    status = node.safe_snapshot("status")
    assert status.exit_code == 0, status
    assert status.stdout.count("NOT KNOWN whether it is a frozen guest") == 4, status
    assert "guest 300" in status.stdout
    assert "2 more" in status.stdout
    assert "no frozen guest" not in status.stdout
    assert len(node.safe_snapshot("--json", "status").json["warnings"]) == 4
    assert "guest 300" in look(node).stderr
