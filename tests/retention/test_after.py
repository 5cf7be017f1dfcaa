"""What a run removes once its snapshot is taken, and how the options are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from snapshot.base.clock import SystemClock
from snapshot.cli.keeping import keep_options
from snapshot.config import reading
from snapshot.journal.store import Journal
from snapshot.pve.access import open_access
from snapshot.pve.guests import GuestApi
from snapshot.pve.snapshots import description_of, marked_run, tree_of
from snapshot.retention.keep import Rule
from snapshot.retention.prune import PruneTools
from snapshot.retention.rules import prune_after, rules_of
from tests.engine.test_console import on_a_terminal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site
from tests.retention.kit import CRASH, names, plant, rows
from tests.unit.kit import GUEST


@contextlib.contextmanager
def tools_of(lab: Site) -> Iterator[PruneTools]:
    clock = SystemClock()
    access = open_access(reading.load(lab.config_path), clock)
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        yield PruneTools(access, clock, journal, lambda line, at=None: None)
    access.main.close()


def test_a_run_prunes_its_own_label_by_the_rule_or_by_the_guests_tag(lab: Site) -> None:
    lab.node.set_config(100, tags="snap-daily-2")
    daily = [plant(lab, hours, label="daily") for hours in (72, 48, 24, 1)]
    plain = [plant(lab, hours) for hours in (9, 8)]
    with tools_of(lab) as tools:
        (guest,) = GuestApi(tools.access.main).list()
        assert not prune_after(guest, "", None, tools).removed, "without a label and a rule nothing is removed"
        assert not prune_after(guest, "weekly", None, tools).removed, "no tag says how many"
        assert names(lab) == {*daily, *plain}
        done = prune_after(guest, "daily", None, tools)
        assert [row.name for row in done.removed] == daily[:2]
        assert done.error is None
        assert [row.name for row in prune_after(guest, "daily", Rule(last=1), tools).removed] == daily[2:3]
        assert [row.name for row in prune_after(guest, "", Rule(last=1), tools).removed] == plain[:1]
        assert not prune_after(guest, "daily", Rule(), tools).removed, "a rule without a number keeps all"
        told = "the line's keep-last=1 goes before the guest's tag snap-daily-2"
        assert prune_after(guest, "daily", Rule(last=1), tools).warnings == (told,)
        assert prune_after(guest, "daily", Rule(last=2), tools).warnings == (), "they say the same"
    for command in (("list",), ("prune", "--dry-run")):
        said = lab.safe_snapshot(*command, "100", "--label", "daily", "--keep", "1").stdout
        assert f"warning: guest 100: {told}" in said, said


def test_what_a_run_takes_is_what_a_prune_knows() -> None:
    """No planted snapshots: three runs of ours, then a prune."""
    with site(ScriptedGuest) as lab:
        for _ in range(3):
            run = lab.safe_snapshot("100", "--label", "daily")
            assert run.exit_code == 0, run
        lab.safe_snapshot("100", "--name", "before-upgrade")
        taken = names(lab)
        listed = lab.safe_snapshot("list", "100", "--label", "daily", "--keep", "1", "--json")
        found = rows(listed)
        assert len(found) == 3
        assert all(row["ours"] and row["consistent"] and row["label"] == "daily" for row in found.values())
        assert [row["keeps"] for row in found.values()] == [False, False, True]
        assert lab.safe_snapshot("prune", "100", "--label", "daily", "--keep", "1").exit_code == 0
        assert names(lab) == {"before-upgrade", max(taken - {"before-upgrade"})}


def test_a_name_chosen_by_hand_hides_no_verdict(lab: Site) -> None:
    """Retention leaves it; what it is worth is in the journal all the same."""
    plant(lab, 50, name="before-upgrade")
    plant(lab, 49, name="worse", verdict=CRASH)
    plant(lab, 48, name="foreign", is_known=False)
    plant(lab, 47, name="copied", record_values={"snapshot_name": "another"})
    plant(lab, 46, name="not-over", record_values={"state": "frozen", "verdict": None, "closed_at": None})
    shown = lab.safe_snapshot("list", "100")
    lines = {line.split()[0]: line for line in shown.stdout.splitlines() if line.startswith("  ")}
    assert "filesystem-consistent" in lines["before-upgrade"]
    assert "left: its name is not one that we give" in lines["before-upgrade"] + shown.stdout
    assert "crash-consistent" in lines["worse"]
    for name in ("foreign", "copied", "not-over"):
        assert "consistent" not in lines[name]
    found = rows(lab.safe_snapshot("list", "100", "--json"))
    assert {name: row["verdict"] for name, row in found.items()} == {
        "before-upgrade": "filesystem-consistent",
        "worse": "crash-consistent",
        "foreign": None,
        "copied": None,
        "not-over": None,
    }
    assert not any(row["ours"] for row in found.values())
    said = lab.safe_snapshot("prune", "100", "--keep", "1").stdout
    words = " ".join(said.split())
    assert "left alone: before-upgrade, worse, foreign, copied, not-over: its name is not one that we give" in words
    assert "other-name" not in words


def test_the_columns_have_heads_on_a_terminal_alone(lab: Site) -> None:
    plant(lab, 100)
    heads = ["snapshot", "label", "age", "verdict", "what a prune does"]
    shown = on_a_terminal(lab, "list", "100").splitlines()
    assert re.split("  +", " ".join(shown[:2]).strip()) == heads
    assert shown[0].index("label") == shown[3].index("-       ")
    assert "what a prune does" not in lab.safe_snapshot("list", "100").stdout


def test_list_says_what_would_become_of_each_and_why(lab: Site) -> None:
    old, new, mine = plant(lab, 100), plant(lab, 1), plant(lab, 50, name="mine")
    plant(lab, 30, label="daily")
    shown = lab.safe_snapshot("list", "100", "--keep", "1")
    assert shown.exit_code == 0
    lines = {line.split()[0]: line for line in shown.stdout.splitlines() if line.startswith("  ")}
    assert "GOES: no option keeps it" in lines[old]
    assert "4 d" in lines[old]
    assert "kept: keep-last 1 of 1" in lines[new]
    assert "left: its name is not one that we give" in lines[mine]
    assert "without a label: keep-last=1" in shown.stdout.splitlines()[0]
    assert names(lab) >= {old, new, mine}


def test_rules_come_from_the_line_or_from_the_tags() -> None:
    guest = GUEST._replace(tags=("prod", "snap-daily-7", "snap-weekly-4"))
    assert rules_of(guest, None, "") == {"daily": Rule(last=7), "weekly": Rule(last=4)}
    assert rules_of(guest, None, "daily") == {"daily": Rule(last=7)}
    assert rules_of(guest, None, "hourly") == {}
    assert rules_of(guest, Rule(daily=3), "daily") == {"daily": Rule(daily=3)}
    assert rules_of(guest, Rule(last=3), "") == {"": Rule(last=3)}


@click.command()
@keep_options()
def shown(*, rule: Rule | None) -> None:
    click.echo(str(rule))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ((), "None"),
        (("--keep", "3"), "keep-last=3"),
        (("--keep-last", "3", "--keep-daily", "2"), "keep-last=3,keep-daily=2"),
        (
            ("--keep-hourly", "1", "--keep-weekly", "2", "--keep-monthly", "3", "--keep-yearly", "4"),
            "keep-hourly=1,keep-weekly=2,keep-monthly=3,keep-yearly=4",
        ),
        (("--keep-all",), "keep-all=1"),
        (("--keep-all", "--keep-daily", "0"), "keep-all=1"),
        (("--keep", "0"), "keep-all=1"),
    ],
)
def test_options_are_read_as_pve_reads_them(words: tuple[str, ...], rule: str) -> None:
    assert CliRunner().invoke(shown, words).output.strip() == rule


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--keep-all", "--keep-last", "1"), "cannot be set together"),
        (("--keep", "1", "--keep-last", "1"), "give it once"),
        (("--keep", "-1"), "not in the range"),
        (("--keep-daily", "many"), "not a valid integer"),
    ],
)
def test_options_that_contradict_are_refused(words: tuple[str, ...], why: str) -> None:
    done = CliRunner().invoke(shown, words)
    assert done.exit_code == 2
    assert why in done.output


RUN = "0123456789abcdef" * 2


def test_a_description_says_the_run_in_its_last_line_and_only_there() -> None:
    said = description_of(f"mine\nsafe-snapshot run {'f' * 32}", RUN, None, None, 0.0)
    assert said.splitlines()[-1] == f"safe-snapshot run {RUN}"
    assert marked_run(said) == RUN
    assert marked_run(said + "\n") == RUN, "PVE ends a description with a line's end"
    assert marked_run(said.replace("\n", "\r\n")) == RUN, "a browser sent it"
    assert marked_run("safe-snapshot: offline: it was shut down") == ""
    assert marked_run(f"a note: safe-snapshot run {RUN}") is None
    assert marked_run("") is None


def test_pves_list_is_read_with_the_guests_own_place_in_it() -> None:
    tree = tree_of(
        [
            {"name": "a", "snaptime": "17", "vmstate": 1, "description": "x"},
            {"name": "b", "snaptime": 18, "parent": "a", "snapstate": "delete"},
            {"name": "odd", "snaptime": {"no": "number"}},
            {"name": "current", "parent": "b", "description": "You are here!"},
            {"description": "without a name"},
        ]
    )
    assert tree.parent == "b"
    assert set(tree.snapshots) == {"a", "b", "odd"}
    assert (tree.snapshots["a"].taken_at, tree.snapshots["a"].holds_ram) == (17, True)
    assert not tree.snapshots["b"].is_whole
    assert tree.snapshots["odd"].taken_at == 0
