"""A valid file with a value that makes no sense: that row is told, and everything else works."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from collections.abc import Iterator

import pytest

from snapshot.journal.looks import GuestLook
from snapshot.journal.record import OPEN, check_value
from snapshot.journal.store import ODD_LINES, Journal
from tests.hook.kit import back_up, hook_site, newest, without_pvesh
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site
from tests.metrics.conftest import START, World
from tests.metrics.test_history import run
from tests.unit.kit import record

ODD_WINDOWS = {
    "a text for a time": ("intent_at", "yesterday"),
    "a blob for a time": ("closed_at", b"\x00\x01"),
    "a time beyond all calendars": ("intent_at", 1e300),
    "a time before there were any": ("thawed_at", -5.0),
    "no end of a time": ("intent_at", float("inf")),
    "an unknown kind": ("kind", "jail"),
    "an unknown state": ("state", "melting"),
    "an unknown owner": ("owner", "nobody"),
    "an unknown verdict": ("verdict", "fine"),
    "a text for a number": ("thaw_attempts", "three"),
    "a length beyond all": ("window_seconds", 1e300),
    "a text for a vmid": ("vmid", "x"),
    "a blob for a name": ("guest_name", b"\xff"),
}


def edit(world: World, sql: str, *values: object) -> None:
    """What an editor, a bug or another version may do."""
    with contextlib.closing(sqlite3.connect(world.config.journal.path)) as db:
        db.execute(sql, values)
        db.commit()


@pytest.mark.parametrize(("column", "value"), ODD_WINDOWS.values(), ids=ODD_WINDOWS)
def test_one_odd_window_is_told_and_the_others_are_shown(world: World, column: str, value: object) -> None:
    world.good_run(200)
    odd = world.good_run(100)
    world.clock.now += 60
    world.good_run(300)
    edit(world, f"UPDATE windows SET {column} = ? WHERE id = ?", value, odd)
    for arguments in (("history",), ("history", "--json"), ("history", "--csv"), ("report", "--html", "-")):
        result = run(world, *arguments)
        assert result.exception is None, (arguments, result.exception)
        assert "qemu/200" in result.stdout or '"vmid": 200' in result.stdout or ",200," in result.stdout, arguments
        assert "qemu/300" in result.stdout or '"vmid": 300' in result.stdout or ",300," in result.stdout, arguments
        if "report" in arguments:
            assert result.stderr.count("makes no sense") <= 1  # a page reads a few columns only
            continue
        assert result.stderr.count("makes no sense") == 1, (arguments, result.stderr)
        assert column in result.stderr, arguments
        assert odd in result.stderr, arguments
    assert world.value("pve_fsfreeze_last_run_timestamp_seconds", vmid="300") is not None
    assert world.publish() == []


def test_a_file_full_of_odd_windows_is_told_in_a_few_lines(world: World) -> None:
    for _ in range(3 * ODD_LINES):
        world.good_run(100)
    edit(world, "UPDATE windows SET state = 'melting'")
    assert run(world, "history").stderr.count("makes no sense") == ODD_LINES


ODD_SERIES = {
    "a text for a value": "UPDATE series SET value = 'many' WHERE id = 'qemu/100' AND name LIKE '%attempts%'",
    "no end of a value": "UPDATE series SET value = 9e999 WHERE id = 'qemu/100' AND name LIKE '%attempts%'",
    "labels that are no JSON": "UPDATE series SET labels = '{' WHERE id = 'qemu/100' AND labels <> ''",
    "labels of another kind": "UPDATE series SET labels = '{\"le\": 5}' WHERE id = 'qemu/100' AND name LIKE '%verdict'",
    "labels that are missing": "UPDATE series SET labels = '{}' WHERE id = 'qemu/100' AND name LIKE '%last_verdict'",
    "a text for a time": "UPDATE series SET seen_at = 'x' WHERE id = 'qemu/100'",
    "a text for a vmid": "UPDATE series SET vmid = 'x' WHERE id = 'qemu/100'",
}


@pytest.mark.parametrize("sql", ODD_SERIES.values(), ids=ODD_SERIES)
def test_one_odd_metric_is_told_once_and_the_others_are_there(
    world: World, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.good_run(100)
    world.good_run(200)
    edit(world, sql)
    assert world.publish() == []
    assert "makes no sense" in capsys.readouterr().err
    assert world.value("pve_fsfreeze_attempts_total", vmid="200") == 1
    with contextlib.closing(Journal(world.config.journal.path)) as journal:
        journal.series()
    assert "makes no sense" not in capsys.readouterr().err
    world.good_run(100)  # and what was taken away comes again
    assert (world.value("pve_fsfreeze_attempts_total", vmid="100") or 0) >= 1


def test_what_a_name_holds_is_fit_to_be_shown_everywhere(world: World) -> None:
    odd = "evil\x1b[2J\u202e\r\n\x9b"
    window = world.failed_run(100)
    columns = ("guest_name", "node", "source", "reason", "failure_reason", "upid", "thaw_detail")
    edit(
        world,
        f"UPDATE windows SET {', '.join(f'{c} = ?' for c in columns)} WHERE id = ?",
        *[odd] * len(columns),
        window,
    )
    edit(world, "UPDATE series SET node = ? WHERE id = 'qemu/100'", odd)
    plain, page, rows, tree = (
        run(world, *arguments).stdout
        for arguments in (("history",), ("report", "--html", "-"), ("history", "--csv"), ("history", "--json"))
    )
    for text in (plain, page, rows, tree, world.text()):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert [line[0] for line in plain.splitlines()] == ["T", "2", " "], "a head, one window, what stands below it"
    assert len(list(csv.reader(io.StringIO(rows, newline="")))) == 2
    assert json.loads(tree)["windows"][0]["node"].startswith("evil")


def test_a_value_of_the_wrong_type_is_refused_on_its_way_in(world: World) -> None:
    for column, value in (("intent_at", "x"), ("vmid", True), ("state", "melting"), ("reason", 5), ("vmid", None)):
        with pytest.raises(ValueError, match=f"{column} cannot be"):
            check_value(column, value)
    assert check_value("intent_at", 5) == 5
    assert check_value("reason", None) is None


ODD_ENDS = ["nonsense", b"\x00", -5.0, 1e300, float("inf"), ""]


@contextlib.contextmanager
def frozen_and_left(column: str, value: object, state: str = "frozen") -> Iterator[Site]:
    """A node whose guest 100 a run of ours left frozen, with one odd value in its row; a look has been before."""
    with hook_site(ScriptedGuest) as lab:
        assert lab.safe_snapshot("recover").exit_code == 0
        with contextlib.closing(Journal(lab.journal_path)) as journal:
            journal.begin(record("left", state=state, node="pve1"))
        with contextlib.closing(sqlite3.connect(lab.journal_path)) as db:
            if value is None:  # what the table itself refuses, an editor of its schema does not
                db.execute("PRAGMA writable_schema = ON")
                db.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'windows'")
                db.commit()
        with contextlib.closing(sqlite3.connect(lab.journal_path)) as db:
            db.execute(f"UPDATE windows SET {column} = ? WHERE id = 'left'", (value,))
            db.commit()
        lab.guest.ask("guest-fsfreeze-freeze")
        yield lab


@pytest.mark.parametrize("value", ODD_ENDS)
def test_an_end_that_makes_no_sense_closes_no_window(world: World, value: object) -> None:
    world.journal.begin(record("left", state="frozen"))
    edit(world, "UPDATE windows SET closed_at = ?", value)
    assert [window.closed_at for window in world.journal.open_windows()] == [None]
    assert [window.closed_at for window in world.journal.open_windows(100)] == [None]
    assert world.value("pve_fsfreeze_guest_frozen", vmid="100", source="snapshot") == 1


def test_a_guest_whose_window_has_an_odd_end_is_thawed() -> None:
    with frozen_and_left("closed_at", "nonsense") as lab:
        status = lab.safe_snapshot("status")
        assert status.exit_code == 8, status
        assert "LEFT OPEN" in status.stdout, status
        assert "closed_at cannot be" in status.text, status
        found = lab.safe_snapshot("recover")
        assert found.exit_code == 0, found
        assert not lab.guest.is_frozen()
        assert lab.finds_nothing()


def test_an_end_that_makes_no_sense_opens_no_window_that_is_thawed(world: World) -> None:
    window = world.good_run(100)
    edit(world, "UPDATE windows SET closed_at = 'x' WHERE id = ?", window)
    assert world.journal.open_windows() == []
    assert world.journal.open_windows(100) == []


@pytest.mark.parametrize(
    ("value", "has_api"), [("", True), ("../../access", True), (b"\xff", True), (None, True), ("pve1?x=1", False)]
)
def test_a_node_that_makes_no_sense_costs_no_thaw(value: object, has_api: bool) -> None:
    with frozen_and_left("node", value) as lab:
        if not has_api:
            lab.settings["api"] = {"port": 1}
            without_pvesh(lab)
        found = lab.safe_snapshot("recover")
        assert "node cannot be" in found.text, found
        assert not lab.guest.is_frozen(), found
        with contextlib.closing(Journal(lab.journal_path)) as journal:
            assert journal.open_windows() == []


@pytest.mark.parametrize(
    ("column", "value"), [*(("vmid", v) for v in ("x", b"\xff", 5, -1, 2**40, 100.5)), ("id", b"1")]
)
def test_a_window_that_does_not_say_whose_it_is_is_kept_apart(world: World, column: str, value: object) -> None:
    world.journal.begin(record("left", state="frozen"))
    world.journal.begin(record("other", vmid=200))
    edit(world, f"UPDATE windows SET {column} = ? WHERE id = 'left'", value)
    assert [window.id for window in world.journal.open_windows()] == ["other"]
    assert len(world.journal.lost_windows()) == 1
    world.journal.close_lost_windows(START + 5)
    assert world.journal.lost_windows() == []
    assert [window.id for window in world.journal.open_windows()] == ["other"]


@pytest.mark.parametrize("value", ["x", None])
def test_a_window_that_does_not_say_whose_it_is_has_every_guest_looked_at(value: object) -> None:
    with frozen_and_left("vmid", value) as lab:
        status = lab.safe_snapshot("status")
        assert "vmid cannot be" in status.text, status
        assert "window left: NOT KNOWN whose guest it may have left frozen" in status.stdout, status
        found = lab.safe_snapshot("recover")
        assert found.exit_code == 8, "its freeze may be ours, so it is an alarm at once"
        assert "GUEST 100 IS FROZEN" in found.stdout, found
        assert "left" not in lab.safe_snapshot("status").stdout, "once looked for, it is not looked for again"
        assert 'pve_fsfreeze_guest_frozen{id="qemu/100"' in lab.metrics_path.read_text()


def test_a_window_without_a_guest_stays_until_the_guests_were_looked_at() -> None:
    with frozen_and_left("vmid", "x") as lab:
        lab.guest.ask("guest-fsfreeze-thaw")
        status = lab.safe_snapshot("--json", "status")
        assert status.json["lost_windows"] == ["left"]
        assert "NOT KNOWN whose" in lab.safe_snapshot("status").stdout, "not: no open window, no frozen guest"
        assert lab.safe_snapshot("recover").exit_code == 0
        assert lab.finds_nothing()


def test_the_owner_of_a_row_that_became_odd_still_closes_it(world: World) -> None:
    world.journal.begin(record("live"))
    edit(world, "UPDATE windows SET vmid = 'x' WHERE id = 'live'")
    assert world.journal.update("live", closed_at=START + 5, state="thawed"), "not: there is no such window"
    assert world.journal.lost_windows() == []


def test_open_windows_are_found_by_their_index(world: World) -> None:
    for clause in (OPEN, f"{OPEN} AND vmid = 100"):
        (plan,) = world.journal.query(f"EXPLAIN QUERY PLAN SELECT id FROM windows WHERE {clause}")
        assert "windows_open" in plan["detail"], plan["detail"]


def test_odd_rows_cost_no_freeze_and_no_recovery() -> None:
    """Among the open windows, the looks, and the metrics of the very guest."""
    with hook_site(ScriptedGuest) as lab:
        assert lab.safe_snapshot("100").exit_code == 0
        with contextlib.closing(Journal(lab.journal_path)) as journal:
            for number, (column, value) in enumerate(ODD_WINDOWS.values()):
                journal.begin(record(f"odd{number}"))
                with journal.transaction("written") as db:
                    db.execute(f"UPDATE windows SET {column} = ? WHERE id = ?", (value, f"odd{number}"))
            looked = GuestLook("qemu/100", 100, "pve1", "db", running=True, seen_at=START)
            journal.put_looks([looked, looked._replace(id="qemu/101", vmid=101)])
            with journal.transaction("written") as db:
                db.execute("UPDATE looks SET seen_at = 'never', diskwrite = 1e300 WHERE vmid = 100")
                db.execute("UPDATE series SET value = 'x' WHERE name LIKE '%last%'")
            assert set(journal.looks()) == {"qemu/101"}
        run_ = lab.safe_snapshot("100", "--policy", "require", "--name", "s2")
        assert run_.exit_code == 0, run_.text
        assert newest(lab).verdict == "filesystem-consistent"
        assert back_up(lab, 100).log_lines[-1] == "TASK OK"
        for command in ("status", "recover", "history"):
            said = lab.safe_snapshot(command)
            assert said.exit_code in (0, 8), said.text
            assert "internal error" not in said.text, said.text
            assert "makes no sense" in said.text, said.text
        assert "pve_fsfreeze_last_verdict" in lab.metrics_path.read_text()
