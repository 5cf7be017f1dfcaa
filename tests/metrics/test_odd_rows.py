"""A valid file with a value that makes no sense: that row is told, and everything else works."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3

import pytest

from snapshot.journal import ODD_LINES, Journal
from snapshot.looks import GuestLook
from snapshot.record import check_value
from tests.hook.kit import back_up, hook_site, newest
from tests.lab.scripted import ScriptedGuest
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
    assert len(plain.splitlines()) == 2
    assert len(list(csv.reader(io.StringIO(rows, newline="")))) == 2
    assert json.loads(tree)["windows"][0]["node"].startswith("evil")


def test_a_value_of_the_wrong_type_is_refused_on_its_way_in(world: World) -> None:
    for column, value in (("intent_at", "x"), ("vmid", True), ("state", "melting"), ("reason", 5), ("vmid", None)):
        with pytest.raises(ValueError, match=f"{column} cannot be"):
            check_value(column, value)
    assert check_value("intent_at", 5) == 5
    assert check_value("reason", None) is None


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
