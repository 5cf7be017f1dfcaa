"""docs/retention.md: each command of the table keeps as many as it says, and the page tells all words and options."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from snapshot.cli.main import main_group
from snapshot.model import VerdictKind
from snapshot.pve.snapshots import Snapshot, Tree
from snapshot.retention.keep import Rule
from snapshot.retention.ours import Candidate, Left
from snapshot.retention.plan import plan
from snapshot.retention.rules import rules_of
from tests.retention.histories import local_of
from tests.unit.kit import GUEST

PAGE = (Path(__file__).parents[2] / "docs/retention.md").read_text()
EXAMPLES = [
    tuple(cell.strip() for cell in line.split(" | "))
    for line in PAGE.partition("| theirs | ours | stay |\n")[2].partition("\n\n")[0].splitlines()[1:]
]
NEWEST = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)
SERIES = {
    "": (730, timedelta(days=1)),
    "daily": (730, timedelta(days=1)),
    "hourly": (500, timedelta(hours=1)),
    "weekly": (110, timedelta(days=7)),
    "monthly": (40, timedelta(days=30.5)),
}


def two_years() -> list[Candidate]:
    found = []
    for label, (number, step) in SERIES.items():
        for n in range(number):
            taken_at = int((NEWEST - n * step).timestamp())
            one = Snapshot(f"safe-{label}-{n}", "", "", taken_at)
            found.append(Candidate(one, label, verdict=VerdictKind.FILESYSTEM_CONSISTENT))
    return found


def asked(command: str) -> tuple[str, Rule | None]:
    """The label and the rule of a command line, as the command itself understands it."""
    words = shlex.split(command)
    assert words[:2] == ["safe-snapshot", "prune"]
    given = main_group.commands["prune"].make_context("prune", words[2:]).params
    numbers = {name: given[f"keep_{name}"] for name in Rule._fields if given[f"keep_{name}"] is not None}
    if given["keep"] is not None:
        numbers["last"] = given["keep"]
    is_ruled = bool(numbers) or given["keep_all"]
    return str(given["label"]), Rule(**numbers) if is_ruled else None


@pytest.mark.parametrize(("theirs", "ours", "stay"), EXAMPLES, ids=[example[0].strip("| ") for example in EXAMPLES])
def test_an_example_keeps_as_many_as_the_page_says(theirs: str, ours: str, stay: str) -> None:
    (command,) = re.findall(r"`(safe-snapshot [^`]+)`", ours)
    label, rule = asked(command)
    guest = GUEST._replace(tags=tuple(re.findall(r"`(snap-[a-z]+-\d+)`", ours)))
    rules = rules_of(guest, rule, label)
    assert rules, theirs
    found = two_years()
    tree = Tree({one.snapshot.name: one.snapshot for one in found})
    rows = plan(guest, tree, found, rules, local_of("UTC"))
    assert sum(row.keeps for row in rows if row.found.label in rules) == int(stay.strip("| "))
    assert all(row.keeps for row in rows if row.found.label not in rules), "each label keeps to its own"


def test_there_are_examples_of_every_peer() -> None:
    shown = " ".join(example[0] for example in EXAMPLES)
    for peer in ("cv4pve-autosnap", "sanoid", "zfs-auto-snapshot", "vzdump", "restic", "borg"):
        assert peer in shown


def test_every_word_for_what_is_left_is_told_with_what_to_do() -> None:
    for left in Left:
        assert f"`{left.value}`" in PAGE


def test_every_option_is_told() -> None:
    for name in Rule._fields:
        assert f"--keep-{name}" in PAGE
